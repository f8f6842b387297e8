"""A tuned model as an ONNX graph for serving, the values of its prompt being constants."""

import contextlib
import importlib.metadata
import json
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from fastprompt.drivers.torch.nn import device_of
from fastprompt.errors import BackendError, CheckpointError, ConfigError

import torch
from torch import Tensor, nn

# A protocol buffer ends at 2 GiB: weights above this, which leaves room for the graph, lie in a file beside it.
ONE_FILE_BYTES = 2**31 - 2**27


class Exportable(Protocol):
    """A torch module that `export` can trace; see `fastprompt.models.base.PromptModel` for its attributes."""

    task: str
    fills_blanks: bool
    method_config: Any
    checkpoint: Any
    backbone: Any
    prompt: Any
    problem_type: str | None
    label_names: list[str]
    max_length: int | None

    def __call__(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Any: ...


@contextlib.contextmanager
def _baked(prompt: nn.Module, device: torch.device) -> Iterator[None]:
    """`prompt` with constants in place of what makes its values: a projection or an encoder is not run again."""
    values = {f"_baked_{name}": torch.from_numpy(value).to(device) for name, value in prompt.collapse().items()}
    for name, value in values.items():  # key and value, or embedding
        prompt.register_buffer(name, value)
    prompt.forward = lambda: tuple(values.values()) if len(values) > 1 else next(iter(values.values()))
    try:
        yield
    finally:
        del prompt.forward
        for name in values:
            delattr(prompt, name)


class _Served(nn.Module):
    """`model` with tensors in and logits out."""

    def __init__(self, model: Exportable) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        return self.model(input_ids, attention_mask, token_type_ids).logits


def export(model: Exportable, path: str | Path, overwrite: bool) -> None:
    """See `PromptModel.export`."""
    path = Path(path).expanduser()
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise BackendError(f"Export needs {error.name} ({error}): pip install 'fastprompt[export]'.") from error
    if path.is_dir():
        raise ConfigError(f"{path} is a folder; name a file in it.")
    if not path.parent.is_dir():
        raise ConfigError(f"{path} cannot be written: there is no folder {path.parent}; make it first.")
    if model.backbone.family.encoder_decoder:
        raise ConfigError(f"{model.task} has no exported form: its decoder is run again for every token.")
    if model.fills_blanks:
        raise ConfigError(f"{model.task} has no exported form: its graph cannot know where the blanks are.")
    if any(parameter.dtype is not torch.float32 for parameter in model.parameters()):
        raise ConfigError("An exported model computes in float32; load the prompt without bf16 and load_in_...bit.")
    size = sum(tensor.numel() * tensor.element_size() for tensor in (*model.parameters(), *model.buffers()))
    external = size > ONE_FILE_BYTES
    for target in (path, path.with_name(f"{path.name}.data"))[: 1 + external]:
        if target.exists() and not overwrite:
            raise ConfigError(f"{target} exists; export(..., overwrite=True) replaces it.")
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
            _trace(model).save(Path(folder) / path.name, external_data=external)
            written = sorted(Path(folder).iterdir(), reverse=True)  # the weights before the graph that names them
            for file in written:
                with file.open("rb+") as handle:
                    os.fsync(handle.fileno())
            for file in written:
                file.replace(path.parent / file.name)
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be written ({error.strerror or error}); nothing was changed there."
        ) from error


def _trace(model: Exportable) -> torch.onnx.ONNXProgram:
    """The graph of `model` in evaluation mode, its batch and length left open."""
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass  # comes with onnxscript

    # 2 rows of 3: a size of 1 would be taken for a constant, and a padded row keeps the mask from being one
    mask = torch.tensor([[1, 1, 1], [1, 1, 0]], device=device_of(model))
    names = ["batch", "length"]
    if model.task == "multiple_choice":
        mask, names = torch.stack([mask, mask]), ["batch", "choices", "length"]
    inputs = {"input_ids": mask * 2, "attention_mask": mask}
    if model.backbone.takes_token_types:
        inputs["token_type_ids"] = mask * 0
    limits = {"length": model.max_length}
    sizes = {axis: torch.export.Dim(name, max=limits.get(name)) for axis, name in enumerate(names)}
    with _served(model) as served, _quiet(), torch.no_grad():
        try:
            program = torch.onnx.export(
                served,
                kwargs=inputs,
                input_names=list(inputs),
                output_names=["logits"],
                dynamic_shapes=dict.fromkeys(inputs, sizes),
                dynamo=True,
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            reason = str(error).strip().splitlines()[0]
            raise CheckpointError(f"This {model.checkpoint.model_type} model has no ONNX form: {reason}") from error
    ClearMetadataAndDocStringPass()(program.model)  # every node names the source lines, and so the folders, it is from
    program.model.metadata_props.update(_description(model))
    return program


def _description(model: Exportable) -> dict[str, str]:
    """What the graph does not say of the model; ONNX takes strings only."""
    return {
        "task": model.task,
        "method": model.method_config.method,
        "problem_type": json.dumps(model.problem_type),
        "labels": json.dumps(model.label_names, ensure_ascii=False),
        "max_length": json.dumps(model.max_length),
        "backbone": model.checkpoint.name,
        "backbone_fingerprint": model.checkpoint.fingerprint,
        "fastprompt_version": importlib.metadata.version("fastprompt"),
    }


@contextlib.contextmanager
def _served(model: Exportable) -> Iterator[_Served]:
    """`model` in evaluation mode with its prompt baked in; as it was before in the end."""
    modes = {module: module.training for module in model.modules()}
    try:
        model.eval()
        with contextlib.nullcontext() if model.prompt is None else _baked(model.prompt, device_of(model)):
            yield _Served(model).eval()
    finally:
        for module, training in modes.items():
            module.training = training


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's warnings: of torchvision, which is not needed, and of names that two inputs share."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
