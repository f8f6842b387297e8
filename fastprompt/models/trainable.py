"""Which of a model's tensors are tuned, which a prompt file stores, and their names."""

from typing import Any

from fastprompt.errors import ConfigError, TrainingError
from fastprompt.framework import nn
from fastprompt.methods.baselines import FineTuningConfig
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


def parameter_groups(
    model: Model, learning_rate: float | None = None, backbone_learning_rate: float | None = None
) -> list[dict[str, Any]]:
    """What training changes, as groups for an optimizer: prompt and head, and the backbone where it is trained too.

    Args:
        learning_rate: of prompt and head; None: the method's.
        backbone_learning_rate: of the backbone under a prompt; None: fine-tuning's.

    Raises:
        ConfigError: there is a rate for a backbone, and no backbone that is trained together with a prompt.
    """
    config = model.method_config
    rate = config.default_learning_rate if learning_rate is None else learning_rate
    if not (config.has_prompt and config.tunes_backbone):
        if backbone_learning_rate is not None:
            raise ConfigError("backbone_learning_rate goes with a prompt's use_lm_finetune=True; leave it off.")
        return [{"params": list(tuned_parameters(model).values()), "lr": rate}]
    own = {f"prompt.{name}" for name in nn.named_parameters(model.prompt)}
    own |= {head_name(model, name) for name in nn.named_parameters(model.head) if not model.is_frozen_head(name)}
    tuned = tuned_parameters(model)
    backbone_rate = FineTuningConfig.learning_rate if backbone_learning_rate is None else backbone_learning_rate
    return [
        {"params": [p for name, p in tuned.items() if name in own], "lr": rate},
        {"params": [p for name, p in tuned.items() if name not in own], "lr": backbone_rate},
    ]


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
