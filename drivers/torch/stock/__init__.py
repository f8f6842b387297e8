"""Stock `transformers` models as backbones, prompts entering at their attention."""

from fastprompt.drivers.torch.stock.loading import load_backbone

__all__ = ["load_backbone"]
