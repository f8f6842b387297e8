"""How fastprompt's drivers write and read `trainer.save_checkpoint`'s folders."""

import random
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from fastprompt.errors import CheckpointError
from fastprompt.framework import runtime
from fastprompt.launch.world import is_first
from fastprompt.saving.trainer_state import read_state, write_state


@runtime_checkable
class TunedModel(Protocol):
    """A model that writes and reads what was tuned of it, as `fastprompt.models.base.PromptModel` does."""

    def save_pretrained(self, directory: str | Path) -> None: ...

    def load_prompt(self, directory: str | Path) -> None: ...


class CheckpointFiles:
    """A fastNLP driver whose checkpoints are a saved prompt, JSON and safetensors, without the backbone.

    It stands before the driver's own class. `Trainer.save_checkpoint`, `Trainer.load_checkpoint` and
    `CheckpointCallback` use it without knowing. A checkpoint is a point of new seeds: what is drawn after it is the
    same whether the run goes on or starts again from there.

    Attributes:
        loaders: those that know their position in the data, for a message.
    """

    loaders = "fastprompt.make_dataloader or a sampler of fastNLP's (ReproducibleSampler, ReproducibleBatchSampler)"

    def save_checkpoint(
        self,
        folder: Path,
        states: dict[str, Any],
        dataloader: Any,
        only_state_dict: bool = True,
        should_save_model: bool = True,
        **_: Any,
    ) -> None:
        """Write model (unless a `model_save_fn` did), optimizers, position in the data and `states`.

        Raises:
            CheckpointError: the model is no prompt model, or the folder cannot be written.
        """
        folder = Path(folder)
        consumed = states.pop("num_consumed_batches")
        if should_save_model and is_first():
            self._prompt_model().save_pretrained(folder)
        seed = random.randrange(2**31)
        runtime.seed(seed)
        sampler, size = self._sampler_of(dataloader)
        progress = sampler.state_dict()
        if "consumed" in progress:
            # Not the sampler's own count: a loader may have asked it for batches ahead.
            trained = states["trainer_state"]
            progress |= {"epoch": trained["cur_epoch_idx"], "consumed": trained["batch_idx_in_epoch"]}
        elif size is not None:
            progress["num_consumed_samples"] = getattr(sampler, "num_replicas", 1) * size * consumed
        if is_first():
            states |= {"seed": seed, "sampler": progress, "optimizers": self.get_optimizer_state()}
            if hasattr(self, "grad_scaler"):
                states["grad_scaler"] = self.grad_scaler.state_dict()
            write_state(folder, states)

    def load_checkpoint(
        self,
        folder: Path,
        dataloader: Any,
        only_state_dict: bool = True,
        should_load_model: bool = True,
        **_: Any,
    ) -> dict[str, Any]:
        """Bring back what `save_checkpoint` wrote; `states`, the loader and its position are returned.

        Raises:
            CheckpointError: the checkpoint is not whole, or not of this model.
        """
        states = read_state(Path(folder))
        if should_load_model:
            self._prompt_model().load_prompt(folder)
        try:
            self.load_optimizer_state(states.pop("optimizers"))
        except (ValueError, KeyError, AssertionError) as error:
            raise CheckpointError(f"{folder} has the state of another optimizer ({error}).") from error
        if scaler := states.pop("grad_scaler", None):
            self.grad_scaler.load_state_dict(scaler)
        progress = states.pop("sampler")
        runtime.seed(states.pop("seed"))
        if dataloader is not None:
            sampler, size = self._sampler_of(dataloader)
            sampler.load_state_dict(progress)
            if hasattr(sampler, "batch_idx_in_epoch"):
                consumed = sampler.batch_idx_in_epoch
            else:
                consumed = -(-len(sampler) // size) - -(-sampler.num_left_samples // size)
            states |= {"dataloader": dataloader, "batch_idx_in_epoch": consumed}
        return states

    def _prompt_model(self) -> TunedModel:
        model = self.unwrap_model()
        if not isinstance(model, TunedModel):
            raise CheckpointError(
                f"{type(model).__name__} is no prompt model; give save_checkpoint and load_checkpoint a model_save_fn "
                f"and a model_load_fn."
            )
        return model

    def _sampler_of(self, dataloader: Any) -> tuple[Any, int | None]:
        """(what knows a loader's position in the data, the loader's batch size)"""
        of_loader = self.get_dataloader_args(dataloader)
        own = getattr(dataloader, "batch_sampler", None)
        for sampler in (own, of_loader.batch_sampler, of_loader.sampler):
            if callable(getattr(sampler, "state_dict", None)):
                return sampler, of_loader.batch_size
        raise CheckpointError(f"The loader's sampler does not know its position in the data; take {self.loaders}.")
