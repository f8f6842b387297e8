"""What every prompt model does: load, freeze, run the backbone with its prompt, step for fastNLP, save."""

from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from fastprompt.backbones.loading import load_backbone
from fastprompt.data.frozen import FrozenStates, as_keyword
from fastprompt.errors import ConfigError
from fastprompt.framework import nn, ops
from fastprompt.methods.base import MethodConfig
from fastprompt.methods.build import make_prompt
from fastprompt.methods.checks import label_names as in_order
from fastprompt.methods.checks import whole_number
from fastprompt.methods.p_tuning_v2.config import PTuningV2Config
from fastprompt.methods.prompt import BuildContext
from fastprompt.methods.registry import check_config
from fastprompt.models import frozen, inputs, saving, starts, trainable
from fastprompt.models.first_step import check_first_step
from fastprompt.models.head_values import initialise_head
from fastprompt.models.heads import make_head
from fastprompt.models.indices import check_batch, check_indices
from fastprompt.models.outputs import Outputs, label_names_of
from fastprompt.models.pooling import pool, read_alone
from fastprompt.models.precision import Precision
from fastprompt.models.requirements import check_positions, dropout_rates, resolve_config
from fastprompt.pretrained.checkpoint import Checkpoint
from fastprompt.pretrained.tokenizer import load_tokenizer
from fastprompt.saving import prompt_file
from fastprompt.saving.remote import prompt_or_model

import numpy


class PromptModel(nn.Module):
    """A backbone, a prompt, and a head; a subclass is a task.

    Make one with `from_pretrained`.

    Attributes:
        task: its name, in prompt files and in a family's record.
        pools: whether its head reads one vector of an example; else it reads every token's.
        outputs: the names of the head's outputs where the task fixes them.
        reads_padding: whether its loss depends on the states of padding.
        fills_blanks: whether its texts stand in templates with a blank.
        causal: whether it is for backbones whose tokens see only those before them; None: for all.
        encoder_decoder: whether it is for those with an encoder and a decoder.
        prompt: the module of the method's prompt; None where it has none.
        has_encoder: whether a network makes the prompt, so that its weights are trained.
        fresh: names of the head's tensors that the checkpoint did not bring.
        bf16: whether the backbone is in bfloat16.
        text_settings: how its texts became tokens (max_seq_length, ...), as the dataloader that trained it says; a
            prompt file stores them.
        first_step_checked: whether its first training step has checked the prompt's gradient.
        vocabulary_size: how many words its backbone has embeddings of.
        indices_checked: whether a batch's indices were checked.
    """

    task: ClassVar[str]
    pools: ClassVar[bool] = True
    fills_blanks: ClassVar[bool] = False
    causal: ClassVar[bool | None] = False
    encoder_decoder: ClassVar[bool] = False
    outputs: ClassVar[tuple[str, ...] | None] = None
    reads_padding: ClassVar[bool] = False
    bf16 = False

    def __init__(
        self,
        checkpoint: Checkpoint,
        backbone: Any,
        config: MethodConfig,
        outputs: Outputs,
        *,
        seed: int = 0,
        collapsed: bool = False,
    ) -> None:
        super().__init__()
        self.method_config = resolve_config(type(self), config, checkpoint)
        check_positions(self.method_config, backbone)
        self.label_names, self.problem_type = outputs
        self.num_labels = len(self.label_names)
        self.checkpoint = checkpoint
        self.backbone = backbone
        self.head = self.make_head()
        self.fresh = initialise_head(self.head, checkpoint, backbone.geometry.initializer_range, seed)
        self.has_encoder = config.has_encoder and not collapsed
        context = BuildContext(backbone, lambda text: load_tokenizer(checkpoint.directory).plain_ids(text), seed)
        self.prompt = make_prompt(self.method_config, context, collapsed)
        self.method_config.prepare(backbone)
        trainable.freeze(self)
        self._sizes = {name: int(numpy.prod(tuple(p.shape))) for name, p in self.named_tensors().items()}
        self.text_settings = {}
        self.first_step_checked = False
        self.vocabulary_size = int(backbone.word_embeddings().weight.shape[0])
        self.indices_checked = False

    @classmethod
    def from_pretrained(
        cls,
        model_name_or_path: str | Path,
        config: MethodConfig | None = None,
        *,
        num_labels: int | None = None,
        label_names: list[str] | None = None,
        problem_type: str | None = None,
        backbone: str | Path | None = None,
        revision: str | None = None,
        seed: int = 0,
        bf16: bool = False,
        load_in_8bit: bool = False,
        load_in_4bit: bool = False,
        gradient_checkpointing: bool = False,
        portable: bool = False,
        hidden_dropout_prob: float | None = None,
        attention_probs_dropout_prob: float | None = None,
        init_prompt: str | Path | None = None,
    ) -> "PromptModel":
        """A model ready to train, or a saved prompt ready for use.

        Args:
            model_name_or_path: a folder in Hugging Face form or a saved prompt's, or the hub id of either.
            config: the method; P-Tuning v2 where none is given. A saved prompt brings its own.
            num_labels: number of classes; 2, or as many as there are names, or 1 for a regression.
            label_names: their names, in order of their indices; or a dict between indices and names, as transformers'
                id2label and label2id.
            problem_type: sequence classification's, as transformers names it: "single_label_classification",
                "multi_label_classification" or "regression". None: a regression where num_labels is 1, else the first.
            backbone: where the backbone of a saved prompt lies, if not where its file says.
            revision: of a saved prompt on the hub, a branch, a tag or a commit.
            seed: seeds the initial values of prompt and head.
            bf16: hold a frozen backbone in bfloat16; prompt and head stay in float32.
            load_in_8bit, load_in_4bit: hold a frozen backbone's linear layers in so many bits (torch, bitsandbytes).
            gradient_checkpointing: compute activations again in the backward pass instead of keeping them.
            portable: on torch, take the portable definition instead of the stock transformers model.
            hidden_dropout_prob: dropout of hidden states, prefix and head. None: 0 where the backbone is frozen, for
                there it only adds noise to the prompt's gradient, else the checkpoint's rates.
            attention_probs_dropout_prob: dropout of attention probabilities. None: likewise.
            init_prompt: a saved prompt that a new one starts with: see `fastprompt.models.starts`.

        Raises:
            CheckpointError: something of backbone or prompt is missing, cut, or does not fit the other.
            ConfigError: an option's value cannot work.
        """
        precision = Precision(bf16, load_in_8bit, load_in_4bit)
        seed = whole_number("seed", seed, least=0)
        num_labels = None if num_labels is None else whole_number("num_labels", num_labels)
        label_names = None if label_names is None else in_order(label_names)
        if config is not None:
            check_config(config)
        model_name_or_path = prompt_or_model(model_name_or_path, revision)
        saved = prompt_file.read_prompt(model_name_or_path) if prompt_file.is_prompt(model_name_or_path) else None
        if saved is not None:
            if config is not None:
                raise ConfigError(f"{model_name_or_path} is a saved prompt and brings its own configuration.")
            starts.check_new(saved, init_prompt)
            saved.check_task(cls.task)
            saved.check_outputs(num_labels=num_labels, label_names=label_names, problem_type=problem_type)
            config = saved.config
            num_labels, label_names, problem_type = saved.num_labels, saved.label_names, saved.problem_type
            checkpoint = saved.open_backbone(backbone)
            saved.check_backbone(checkpoint)
        else:
            if backbone is not None:
                raise ConfigError(f"backbone= goes with a saved prompt; {model_name_or_path} holds none.")
            checkpoint = Checkpoint(model_name_or_path)
            config = config or PTuningV2Config()
        start = None if init_prompt is None else starts.read_start(init_prompt, config, checkpoint)
        if hidden_dropout_prob is not None:
            config = config.with_dropout(hidden_dropout_prob)
        outputs = cls.describe_outputs(num_labels, label_names, problem_type)
        rates = dropout_rates(config, checkpoint, hidden_dropout_prob, attention_probs_dropout_prob)
        loaded = load_backbone(checkpoint, portable=portable, **rates)
        if gradient_checkpointing:
            loaded.gradient_checkpointing = True
        model = cls(checkpoint, loaded, config, outputs, seed=seed, collapsed=saved is not None and saved.collapsed)
        precision.apply(model)
        if saved is not None:
            model.load_tuned(saved)
        if start is not None:
            starts.start_from(model, start)
        return model

    @classmethod
    def describe_outputs(
        cls, num_labels: int | None, label_names: list[str] | None, problem_type: str | None
    ) -> Outputs:
        """The head's outputs, from what the caller says of them.

        Raises:
            ConfigError: the task takes no such outputs.
        """
        if problem_type is not None:
            raise ConfigError(f"problem_type is a matter of sequence classification; leave it off for {cls.task}.")
        if cls.outputs is None:
            return Outputs(label_names_of(num_labels, label_names, default=2))
        fixed = list(cls.outputs)
        if num_labels not in (None, len(fixed)) or label_names not in (None, fixed):
            raise ConfigError(f"The outputs of {cls.task} are fixed; leave num_labels and label_names off.")
        return Outputs(fixed)

    def make_head(self) -> Any:
        """The module that makes the task's outputs of the backbone's states."""
        return make_head(self.task, self.backbone.config, self.backbone.geometry.hidden_size, self.num_labels)

    def is_frozen_head(self, name: str) -> bool:
        """Whether a tensor of the head is pretrained and no more to be tuned than the backbone.

        A pooler that came with the checkpoint is part of the backbone; a fresh one must learn.
        """
        return trainable.in_base_model(self, name) and name not in self.fresh

    # -- running -----------------------------------------------------------------------------------------------------

    def encode(
        self,
        input_ids: Any,
        attention_mask: Any = None,
        token_type_ids: Any = None,
        output_hidden_states: bool = False,
        pseudo_tokens: Any = None,
        frozen_states: FrozenStates | None = None,
    ) -> tuple[Any, list[Any]]:
        """The backbone with its prompt.

        Returns what the head reads, as `pool` gives it, and the hidden states of prompt and tokens.
        """
        called = self.backbone_inputs(input_ids, attention_mask, token_type_ids, pseudo_tokens, frozen_states)
        alone = {} if output_hidden_states else read_alone(self)
        states = self.backbone(**called, **alone, output_hidden_states=output_hidden_states)
        return self.pool(states[-1], called["attention_mask"]), states

    def backbone_inputs(self, *given: Any, **named: Any) -> dict[str, Any]:
        """See `fastprompt.models.inputs.backbone_inputs`."""
        return inputs.backbone_inputs(self, *given, **named)

    @cached_property
    def frozen_source(self) -> str:
        """Names what frozen states of this model are computed from, see `fastprompt.models.frozen`."""
        return frozen.source_of(self)

    @property
    def max_length(self) -> int | None:
        """The longest input in tokens, beside the prompt; None where the backbone sets no limit."""
        return inputs.max_length(self)

    def in_float32(self, states: Any) -> Any:
        """States as the head reads them, whatever the backbone computes in."""
        return ops.cast(states, "float32") if self.bf16 else states

    def pool(self, last: Any, attention_mask: Any) -> Any:
        """The last hidden states and the mask of `backbone_inputs` -> what the head reads, in float32: (B, hidden), or
        (B, T, hidden) of all tokens where the task does not pool."""
        config = self.method_config
        return pool(self.in_float32(last), attention_mask, config.pooling, config.length_before)

    def tensor(self, array: numpy.ndarray) -> Any:
        """An array as a tensor on the model's device."""
        return ops.tensor(array, like=self.backbone.word_embeddings().weight)

    def train_step(
        self,
        input_ids: Any,
        attention_mask: Any,
        labels: Any,
        token_type_ids: Any = None,
        frozen_states: FrozenStates | None = None,
    ) -> dict:
        """fastNLP's training step: {"loss"}.

        Raises:
            TrainingError: at the first step, where the prompt gets no gradient and so would silently not train.
        """
        return self._train_on(
            {
                "input_ids": input_ids,
                "attention_mask": attention_mask,
                "token_type_ids": token_type_ids,
                "labels": labels,
                **as_keyword(frozen_states),
            }
        )

    def evaluate_step(
        self,
        input_ids: Any,
        attention_mask: Any,
        labels: Any,
        token_type_ids: Any = None,
        frozen_states: FrozenStates | None = None,
    ) -> dict:
        """fastNLP's evaluation step: {"pred", "target": the labels, "loss": scalar}; pred as `predictions` gives it."""
        inputs = {"input_ids": input_ids, "token_type_ids": token_type_ids, "labels": labels}
        check_batch(self, inputs)
        output = self(attention_mask=attention_mask, **inputs, **as_keyword(frozen_states))
        return {"pred": self.predictions(output.logits), "target": labels, "loss": output.loss}

    def predictions(self, logits: Any) -> Any:
        """The class, choice or tag (...) that logits (..., C) put first."""
        return ops.argmax(logits, axis=-1)

    def check_indices(self, batch: dict[str, numpy.ndarray]) -> None:
        """Check a batch as `PadBatch` makes it; `make_dataloader(..., model=...)` does so with all its data.

        Raises:
            DataError: a token, token type, label or position has no row in the model.
        """
        check_indices(self, batch)

    def _train_on(self, inputs: dict[str, Any]) -> dict:
        check_batch(self, inputs)
        loss = self(**inputs).loss
        if not self.first_step_checked:
            check_first_step(self, loss)
        return {"loss": loss}

    # -- what is tuned -----------------------------------------------------------------------------------------------

    def named_tensors(self) -> dict[str, Any]:
        """See `fastprompt.models.trainable.named_tensors`."""
        return trainable.named_tensors(self)

    def tuned_parameters(self) -> dict[str, Any]:
        """The parameters that training changes, by name."""
        return trainable.tuned_parameters(self)

    def trainable_parameters(self) -> list[Any]:
        """The parameters to hand to an optimizer."""
        return list(self.tuned_parameters().values())

    def parameter_groups(self, *given: float | None, **named: float | None) -> list[dict[str, Any]]:
        """The same as groups with rates of their own: see `fastprompt.models.trainable.parameter_groups`."""
        return trainable.parameter_groups(self, *given, **named)

    def fresh_tensors(self) -> list[str]:
        """Names of the head's tensors that the checkpoint did not bring."""
        return trainable.fresh_tensors(self)

    def stored_parameters(self) -> dict[str, Any]:
        """What a prompt file holds: the tuned parameters, and a fresh head even where it is frozen."""
        return trainable.stored_parameters(self)

    def count_parameters(self) -> tuple[int, int]:
        """(tuned, total) numbers of parameters."""
        return sum(self._sizes[name] for name in self.tuned_parameters()), sum(self._sizes.values())

    def print_trainable_parameters(self) -> None:
        """Print the tuned and the total numbers of parameters, as PEFT's models do."""
        print(trainable.trainable_share(*self.count_parameters()))

    # -- saving ------------------------------------------------------------------------------------------------------

    def save_pretrained(self, directory: str | Path) -> None:
        """Write what was tuned, and not the backbone, as `prompt_config.json` and `prompt.safetensors`.

        Both are written whole or not at all; an earlier prompt in the folder is replaced. A model card, `README.md`,
        stands beside them, unless the folder has another file of that name.
        """
        saving.write_prompt(self, directory)

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Upload what `save_pretrained` writes; `options` and the result are those of `fp.push_to_hub`."""
        return saving.push(self, repo_id, **options)

    def export(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write the model as ONNX for serving, its prompt baked in as constants; on torch only.

        The graph takes input_ids, attention_mask and, where the family has them, token_type_ids, int64 (B, T) with B
        and T free, of multiple choice (B, C, T), and gives logits; its metadata name task, problem_type, method,
        labels, max_length and backbone. Weights above 2 GiB go to `path` + ".data" beside it. Both are written whole
        or not at all.

        Raises:
            BackendError: another framework than torch, or the exporter's packages are missing.
            ConfigError: the file exists already, its folder does not, or the backbone is in bf16.
            CheckpointError: the file cannot be written, or the model has no ONNX form.
        """
        saving.export(self, path, overwrite)

    def load_prompt(self, directory: str | Path) -> None:
        """Replace what was tuned by a saved prompt of the same method and backbone.

        Raises:
            CheckpointError: the prompt is of another backbone, or its tensors do not fit.
        """
        saved = prompt_file.read_prompt(directory)
        saved.check_task(self.task)
        saved.check_backbone(self.checkpoint)
        self.load_tuned(saved)

    def load_tuned(self, saved: prompt_file.SavedPrompt) -> None:
        """Put a saved prompt's tensors in place; see `fastprompt.models.saving.load_tuned`."""
        saving.load_tuned(self, saved)
