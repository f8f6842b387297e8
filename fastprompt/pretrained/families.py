"""Every family that fastprompt knows, one record each.

Adding a family takes a record here and, to run under every framework, a module under `fastprompt.backbones`.
"""

import itertools
from collections.abc import Iterable
from dataclasses import replace

from fastprompt.pretrained.family import Family, Heads, MaskedLMLayout

_BERT = Family(
    "bert",
    heads=Heads("PooledHead", multiple_choice="PooledHead", layers=("classifier",), pooler="pooler.dense"),
    masked_lm=MaskedLMLayout(
        dense="cls.predictions.transform.dense",
        norm="cls.predictions.transform.LayerNorm",
        bias="cls.predictions.bias",
        activation="hidden_act",
    ),
    portable="bert",
)
_ROBERTA = Family(
    "roberta",
    heads=Heads(
        "DenseTanhHead", multiple_choice="RobertaChoiceHead", layers=("classifier.dense", "classifier.out_proj")
    ),
    masked_lm=MaskedLMLayout("lm_head.dense", "lm_head.layer_norm", "lm_head.bias"),
    portable="roberta",
    positions_follow_padding=True,
    token_types=False,
)
_DEBERTA = Family(
    "deberta",
    heads=Heads("DebertaHead", multiple_choice="DebertaHead"),
    masked_lm=replace(
        _BERT.masked_lm,
        newer=MaskedLMLayout(
            "lm_predictions.lm_head.dense",
            "lm_predictions.lm_head.LayerNorm",
            "lm_predictions.lm_head.bias",
            activation="hidden_act",
        ),
    ),
    portable="deberta",
    hidden_dropout=("hidden_dropout_prob", "classifier_dropout", "pooler_dropout", "cls_dropout"),
    pooler_in_head=True,
)
_CAUSAL = Heads("ScoreHead")
_LLAMA = Family(
    "model",
    heads=_CAUSAL,
    portable="llama",
    hidden_dropout=("classifier_dropout",),
    attention_dropout=("attention_dropout",),
    token_types=False,
    causal=True,
    tied=False,
)
_T5 = Family(
    "",
    portable="t5",
    hidden_dropout=("dropout_rate", "classifier_dropout"),
    attention_dropout=(),
    token_types=False,
    encoder_decoder=True,
    distances=True,
)

FAMILIES: dict[str, Family] = {
    "bert": _BERT,
    "ernie": replace(_BERT, prefix="ernie", portable="ernie"),
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "mpnet": replace(_ROBERTA, prefix="mpnet", portable="mpnet"),
    "distilbert": Family(
        "distilbert",
        heads=Heads(
            "DistilBertHead",
            "DistilBertTokenHead",
            "DistilBertSpanHead",
            "DistilBertHead",
            layers=("pre_classifier", "classifier"),
        ),
        masked_lm=MaskedLMLayout(
            "vocab_transform", "vocab_layer_norm", "vocab_projector.bias", activation="activation", eps=1e-12
        ),
        portable="distilbert",
        hidden_dropout=("dropout", "seq_classif_dropout", "qa_dropout"),
        attention_dropout=("attention_dropout",),
        token_types=False,
    ),
    "electra": Family(
        "electra",
        heads=Heads("DenseGeluHead", multiple_choice="SummaryHead", layers=("classifier.dense", "classifier.out_proj")),
        masked_lm=MaskedLMLayout(
            "generator_predictions.dense", "generator_predictions.LayerNorm", "generator_lm_head.bias"
        ),
        portable="electra",
        hidden_dropout=("hidden_dropout_prob", "classifier_dropout", "summary_last_dropout"),
    ),
    "albert": Family(
        "albert",
        heads=Heads(
            "AlbertHead", "AlbertTokenHead", multiple_choice="AlbertHead", layers=("classifier",), pooler="pooler"
        ),
        masked_lm=MaskedLMLayout(
            "predictions.dense", "predictions.LayerNorm", "predictions.bias", activation="hidden_act"
        ),
        portable="albert",
        hidden_dropout=("hidden_dropout_prob", "classifier_dropout_prob"),
    ),
    "modernbert": Family(
        "model",
        heads=Heads("ModernBertHead", "ModernBertHead", "ModernBertHead", "ModernBertHead"),
        masked_lm=MaskedLMLayout(
            "head.dense",
            "head.norm",
            "decoder.bias",
            activation="classifier_activation",
            eps="norm_eps",
            biases={"dense": ("classifier_bias", False), "norm": ("norm_bias", False), "bias": ("decoder_bias", True)},
        ),
        portable="modernbert",
        hidden_dropout=("embedding_dropout", "mlp_dropout", "classifier_dropout"),
        attention_dropout=("attention_dropout",),
        token_types=False,
    ),
    "deberta": _DEBERTA,
    "deberta-v2": replace(_DEBERTA, portable="deberta_v2"),  # and -v3
    "llama": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "mistral": _LLAMA,
    "gemma": replace(_LLAMA, portable="gemma", tied=True),
    "gemma2": replace(_LLAMA, portable=None, tied=True),
    "phi3": replace(_LLAMA, portable="phi3", hidden_dropout=("resid_pdrop", "classifier_dropout")),
    "gpt2": Family(
        "transformer",
        heads=_CAUSAL,
        portable="gpt2",
        hidden_dropout=("embd_pdrop", "resid_pdrop", "classifier_dropout"),
        attention_dropout=("attn_pdrop",),
        token_types=False,
        causal=True,
    ),
    "bloom": Family(
        "transformer",
        heads=_CAUSAL,
        portable="bloom",
        hidden_dropout=("hidden_dropout", "classifier_dropout"),
        attention_dropout=("attention_dropout",),
        token_types=False,
        causal=True,
        alibi=True,
    ),
    "t5": replace(_T5, scales_states=True),
    "mt5": _T5,
    "bart": Family(
        "model",
        portable="bart",
        hidden_dropout=("dropout", "activation_dropout", "classifier_dropout"),
        attention_dropout=("attention_dropout",),
        token_types=False,
        encoder_decoder=True,
    ),
}


def family_of(model_type: str) -> Family:
    """The family of a config.json's model_type.

    One that is not in the table runs on torch only and has the common defaults; its dropout rates may have any name
    that a known family uses.
    """
    return FAMILIES.get(model_type) or Family(
        model_type.split("-")[0],
        hidden_dropout=_every(family.hidden_dropout for family in FAMILIES.values()),
        attention_dropout=_every(family.attention_dropout for family in FAMILIES.values()),
    )


def _every(names: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    """Each name once, in order."""
    return tuple(dict.fromkeys(itertools.chain.from_iterable(names)))
