"""What the portable causal definitions share."""

from typing import Any

from fastprompt.backbones.portable import ForwardPass, PortableBackbone, causal_mask


class CausalBackbone(PortableBackbone):
    """A decoder: no token sees one after it."""

    def make_mask(self, given: ForwardPass) -> Any:
        cached = given.cache.length if given.cache else 0
        return causal_mask(given.attention_mask, given.prefix, given.inputs_embeds, cached)
