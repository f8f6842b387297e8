"""Conversion from and to the prompts of other tools. No framework is needed."""

import importlib
from collections.abc import Callable
from pathlib import Path

from fastprompt.convert.common import unsupported
from fastprompt.errors import CheckpointError, ConfigError
from fastprompt.pretrained.checkpoint import Checkpoint
from fastprompt.saving import prompt_file
from fastprompt.saving.files import make_folder, refuse_to_replace, same_folder, write_whole

KINDS = {"peft": "peft", "p-tuning-v2": "ptuning_v2", "paddlenlp": "paddlenlp"}


def import_prompt(
    kind: str, source: str | Path, output: str | Path, model_name_or_path: str | Path, *, overwrite: bool = False
) -> Path:
    """Read another tool's prompt and write it as a prompt file.

    Args:
        kind: "peft" (an adapter of prefix tuning, prompt tuning or p-tuning), "p-tuning-v2" (a checkpoint of its own
            code) or "paddlenlp" (a prefix model's folder).
        source: its folder.
        model_name_or_path: the backbone that it was tuned on.
        overwrite: replace a prompt that `output` holds.

    Raises:
        ConfigError: there is no such kind, or `output` holds a prompt.
        CheckpointError: a file is missing, cut, of another kind, or does not fit the backbone.
    """
    source, output = _folders(source, output)
    refuse_to_replace(output, (prompt_file.CONFIG_FILE, prompt_file.TENSOR_FILE), overwrite)
    saved = _converter(kind, "read")(source, Checkpoint(model_name_or_path))
    prompt_file.write_saved(saved, output)
    return output


def export_prompt(
    kind: str,
    source: str | Path,
    output: str | Path,
    *,
    backbone: str | Path | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a prompt file in another tool's form; see `import_prompt` for the kinds.

    Args:
        source: a saved prompt's folder.
        backbone: where its backbone lies, if not where its file says.

    Raises:
        ConfigError: there is no such kind, or `output` holds one of its files.
        CheckpointError: the prompt cannot be read, or has what the other tool cannot express.
    """
    source, output = _folders(source, output)
    saved = prompt_file.read_prompt(source)
    checkpoint = saved.open_backbone(backbone)
    saved.check_backbone(checkpoint)
    if same_folder(output, checkpoint.directory):
        raise ConfigError(f"{output} is the backbone's own folder; choose another folder.")
    write = _converter(kind, "write")
    if saved.config.has_prompt and saved.config.tunes_backbone:
        raise unsupported(saved, kind, f"backbone of its own, which {saved.config.described} trains")
    if saved.config.prefix_layers:
        raise unsupported(saved, kind, f"prefix in chosen layers {saved.config.prefix_layers}")
    files = write(saved, checkpoint)
    refuse_to_replace(output, tuple(files), overwrite)
    make_folder(output)
    write_whole({output / name: content for name, content in files.items()})
    return output


def _converter(kind: str, name: str) -> Callable:
    if kind not in KINDS:
        raise ConfigError(f"Prompts of {kind!r} cannot be converted; known tools are {', '.join(KINDS)}.")
    return getattr(importlib.import_module(f"fastprompt.convert.{KINDS[kind]}"), name)


def _folders(source: str | Path, output: str | Path) -> tuple[Path, Path]:
    source, output = Path(source).expanduser(), Path(output).expanduser()
    if not source.is_dir():
        raise CheckpointError(f"There is no folder {source}; --input names the folder to convert.")
    return source, output
