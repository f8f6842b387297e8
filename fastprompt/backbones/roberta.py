"""RoBERTa (Liu et al., 2019, arXiv:1907.11692) and XLM-R, portable: BERT's layers; its positions, which skip padding,
are a matter of the family table."""

from fastprompt.backbones.bert import Backbone

__all__ = ["Backbone"]
