"""Which of a model's tensors are tuned, which a prompt file stores, and their names."""

from typing import Any

from fastprompt.errors import TrainingError
from fastprompt.framework import nn
from fastprompt.models.protocol import Model


def freeze(model: Model) -> None:
    """Leave to training what the method tunes, and nothing else.

    Raises:
        TrainingError: a method that trains finds nothing to train.
    """
    config = model.method_config
    for name, parameter in model.backbone.stock_parameters().items():
        (nn.unfreeze if config.tunes(name) else nn.freeze)(parameter)
    for name, parameter in nn.named_parameters(model.head).items():
        tuned = config.train_head and (config.tunes(name) or not model.is_frozen_head(name))
        (nn.unfreeze if tuned else nn.freeze)(parameter)
    if not config.trains or tuned_parameters(model):
        return
    if not config.train_head:
        raise TrainingError(f"{config.method} with train_head=False trains nothing; use train_head=True.")
    raise TrainingError(
        f"{config.method} finds nothing to train in {model.checkpoint.name} ({model.checkpoint.model_type}), whose "
        f"head is not trained; use another method."
    )


def named_tensors(model: Model) -> dict[str, Any]:
    """Every parameter by the name that transformers gives it ("bert.encoder...", "classifier.weight"); the prompt's
    stand after "prompt."."""
    whole_name = model.backbone.family.whole_name
    names = {whole_name(name): p for name, p in model.backbone.stock_parameters().items()}
    names.update({head_name(model, name): p for name, p in nn.named_parameters(model.head).items()})
    if model.prompt is not None:
        names.update({f"prompt.{name}": p for name, p in nn.named_parameters(model.prompt).items()})
    return names


def head_name(model: Model, name: str) -> str:
    """What transformers calls the tensor `name` of our head."""
    return model.backbone.family.whole_name(name) if in_base_model(model, name) else name


def in_base_model(model: Model, name: str) -> bool:
    """Whether a tensor of our head is one of the base model to transformers: its pooler's."""
    return name.startswith("pooler") and not model.backbone.family.pooler_in_head


def tuned_parameters(model: Model) -> dict[str, Any]:
    """The parameters that training changes, by name."""
    return {name: p for name, p in named_tensors(model).items() if nn.is_trainable(p)}


def fresh_tensors(model: Model) -> list[str]:
    """Names of the head's tensors that the checkpoint did not bring."""
    return sorted(head_name(model, name) for name in model.fresh)


def stored_parameters(model: Model) -> dict[str, Any]:
    """What a prompt file holds: the tuned parameters, and a fresh head even where it is frozen."""
    stored = {*tuned_parameters(model), *fresh_tensors(model)}
    return {name: p for name, p in named_tensors(model).items() if name in stored}


def trainable_share(tuned: int, total: int) -> str:
    """The line that PEFT's print_trainable_parameters prints."""
    return f"trainable params: {tuned:,} || all params: {total:,} || trainable%: {100 * tuned / total:.4f}"
