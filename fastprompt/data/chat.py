"""Chat templates: how an instruction is written before the answer to it."""

from collections.abc import Callable

CHAT_TEMPLATES = ("human-assistant", "alpaca")


def _human_assistant(instruction: str, context: str) -> str:
    """As in the Chinese tutorials of instruction tuning with PEFT."""
    return "\n".join([f"Human: {instruction}", context]).strip() + "\n\nAssistant: "


def _alpaca(instruction: str, context: str) -> str:
    """As Stanford Alpaca was trained (Taori et al., 2023)."""
    if context:
        parts = [
            "Below is an instruction that describes a task, paired with an input that provides further context. "
            "Write a response that appropriately completes the request.",
            f"### Instruction:\n{instruction}",
            f"### Input:\n{context}",
        ]
    else:
        parts = [
            "Below is an instruction that describes a task. Write a response that appropriately completes the request.",
            f"### Instruction:\n{instruction}",
        ]
    return "\n\n".join([*parts, "### Response:\n"])


_WRITERS: dict[str, Callable[[str, str], str]] = dict(zip(CHAT_TEMPLATES, (_human_assistant, _alpaca), strict=True))


def write_instruction(template: str, instruction: str, context: str) -> str:
    """What stands before the answer.

    Args:
        template: one of CHAT_TEMPLATES.
        context: what the instruction is about; "" for none.
    """
    return _WRITERS[template](instruction, context)
