"""What the portable causal definitions share."""

from typing import Any

from fastprompt.backbones.portable import PassInputs, PortableBackbone, causal_mask


class CausalBackbone(PortableBackbone):
    """A decoder: no token sees one after it."""

    def make_mask(self, inputs: PassInputs) -> Any:
        cached = inputs.cache.length if inputs.cache else 0
        return causal_mask(inputs.attention_mask, inputs.prefix, inputs.inputs_embeds, cached)
