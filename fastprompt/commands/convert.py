"""The command `fastprompt convert`: a prompt from another tool's form, or to it."""

import argparse
from typing import Any, TextIO

from fastprompt.convert import KINDS, export_prompt, import_prompt
from fastprompt.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument("--from", dest="source_kind", choices=tuple(KINDS), help="the tool that wrote --input")
    group.add_argument("--to", dest="target_kind", choices=tuple(KINDS), help="the tool that --output is for")
    parser.add_argument("--input", required=True, metavar="DIR")
    parser.add_argument("--output", required=True, metavar="DIR")
    parser.add_argument("--model_name_or_path", metavar="BACKBONE", help="the backbone; --from needs it")
    parser.add_argument("--backbone", metavar="DIR", help="where a prompt's backbone lies, if not where its file says")
    parser.add_argument("--overwrite_output_dir", action="store_true", help="replace what --output holds")


def main(arguments: dict[str, Any], results: TextIO) -> int:
    source, output, overwrite = (arguments[name] for name in ("input", "output", "overwrite_output_dir"))
    backbone, model = arguments["backbone"], arguments["model_name_or_path"]
    if kind := arguments["source_kind"]:
        if model is None:
            raise ConfigError("--model_name_or_path is missing: the backbone that the prompt was tuned on.")
        if backbone is not None:
            raise ConfigError("--backbone goes with --to; with --from it is --model_name_or_path.")
        written = import_prompt(kind, source, output, model, overwrite=overwrite)
    else:
        if backbone is not None and model is not None:
            raise ConfigError("--backbone and --model_name_or_path both name the prompt's backbone; give one.")
        written = export_prompt(
            arguments["target_kind"], source, output, backbone=backbone or model, overwrite=overwrite
        )
    print(written, file=results)
    return 0
