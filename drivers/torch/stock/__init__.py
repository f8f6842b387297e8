"""Stock `transformers` models as backbones, prompts entering at their attention."""

from typing import Any

from fastprompt.drivers.torch.stock import backbone, encoder_decoder
from fastprompt.pretrained.checkpoint import Checkpoint


def load_backbone(checkpoint: Checkpoint, config: dict[str, Any]) -> backbone.StockBackbone:
    """A checkpoint's stock model, with dropout and the rest as `config` has them.

    Raises:
        CheckpointError: the weights are missing, cut, or of other shapes.
    """
    module = encoder_decoder if checkpoint.family.encoder_decoder else backbone
    return module.load_backbone(checkpoint, config)
