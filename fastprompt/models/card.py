"""The model card of a saved prompt: README.md as the hub reads it, rewritten only where fastprompt wrote it."""

import json
from pathlib import Path
from typing import Any

from fastprompt.metrics.tasks import SCORE_NAMES
from fastprompt.saving.files import write_whole
from fastprompt.saving.prompt_file import SavedPrompt

CARD_FILE = "README.md"
MARK = "<!-- fastprompt writes this file anew with every save; remove this line to keep it as it is -->"

# a prompt's task -> the hub's name of what such a model does
_PIPELINES = {
    "sequence_classification": "text-classification",
    "token_classification": "token-classification",
    "question_answering": "question-answering",
    "multiple_choice": "multiple-choice",
    "masked_lm": "fill-mask",
    "causal_lm": "text-generation",
    "seq2seq_lm": "text-generation",
}


def is_ours(content: bytes) -> bool:
    return MARK.encode() in content


def write_card(saved: SavedPrompt, directory: Path, metrics: dict[str, Any]) -> None:
    """Write the card of a prompt into its folder, unless a card of somebody else's is there.

    Args:
        metrics: what its run found, as metrics.json holds it; {} where nothing is known of it.

    Raises:
        CheckpointError: the disk is full or the folder cannot be written.
    """
    path = directory / CARD_FILE
    if not path.exists() or is_ours(path.read_bytes()):
        write_whole({path: make_card(saved, metrics).encode()})


def make_card(saved: SavedPrompt, metrics: dict[str, Any], repo_id: str = "USER/NAME") -> str:
    """The card's text; no path of this machine is in it: a backbone in a local folder is not named."""
    base = None if saved.has_local_backbone else saved.backbone_name
    data = " ".join(str(metrics[name]) for name in ("task_name", "dataset_name") if metrics.get(name))
    tags = ["fastprompt", "prompt-tuning", saved.config.method, *([metrics["backend"]] if "backend" in metrics else [])]
    # JSON's strings and lists are YAML's
    head = {
        "library_name": "fastprompt",
        "base_model": base,
        "pipeline_tag": _PIPELINES.get(saved.task),
        "tags": tags,
    }
    front = [f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in head.items() if value is not None]
    rows = {
        "backbone": f"{base or 'in a local folder'} ({saved.model_type})",
        "backbone's fingerprint": saved.fingerprint,
        "task": saved.task,
        "labels": ", ".join(map(str, saved.label_names)),
        "data set": data,
        "trained under": " ".join(str(metrics[name]) for name in ("backend", "backend_version") if name in metrics),
        "steps": str(metrics.get("steps", "")),
        "learning rate": str(metrics.get("learning_rate", "")),
        "seed": str(metrics.get("seed", "")),
    }
    scores = {name: value for name, value in metrics.items() if name in SCORE_NAMES}
    lines = [
        "---",
        *front,
        "---",
        MARK,
        "",
        f"# A prompt of {saved.config.method} for {saved.task}",
        "",
        "| | |",
        "|---|---|",
    ]
    lines += [f"| {name} | {value} |" for name, value in rows.items() if value]
    if scores:
        seed = f" (seed {metrics['seed']}; one run)" if "seed" in metrics else ""
        lines += ["", f"Scores on {metrics.get('eval_samples', 'the')} evaluation examples{seed}:", ""]
        lines += ["| score | value |", "|---|---|", *(f"| {name} | {value:.4f} |" for name, value in scores.items())]
    where = "" if base else ', backbone="FOLDER"'
    lines += [
        *("", "It holds what was tuned, and not the backbone. It runs under PyTorch, PaddlePaddle and Jittor:", ""),
        *("```python", "import fastprompt as fp", "", f'model = fp.load_prompt_model("{repo_id}"{where})', "```", ""),
        *("```bash", f'echo "a text" | fastprompt predict --model_name_or_path {repo_id}', "```", ""),
    ]
    return "\n".join(lines)
