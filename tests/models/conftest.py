"""Fixtures of this package."""

import json

import pytest


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Small random encoder-decoders with a word-level tokenizer, as transformers writes them; under torch alone."""
    import torch
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    from support.seq2seq import CONFIGS, SEEDS

    folder = tmp_path_factory.mktemp("seq2seq")
    words = ["<pad>", "</s>", "<s>", "<unk>", *(f"word{number}" for number in range(4, 60))]
    made = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>", eos_token="</s>")
    for name, config in CONFIGS.items():
        torch.manual_seed(SEEDS[name])
        model = transformers.AutoModelForSeq2SeqLM.from_config(config)
        if name in ("flan-t5", "mt5"):  # as published: a vocabulary head of its own
            model.lm_head.weight = torch.nn.Parameter(torch.zeros(60, 32))
        with torch.no_grad():
            for key, tensor in model.named_parameters():
                if tensor.ndim == 1:
                    tensor.add_(torch.randn_like(tensor) * 0.1)
                else:
                    size = {"shared": 0.3, "embed_positions": 1.0, "relative_attention_bias": 1.0}
                    tensor.copy_(torch.randn_like(tensor) * size.get(key.split(".")[-2], 0.5))
            if name == "bart":
                model.final_logits_bias.normal_(std=0.1)
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    settings = json.loads((folder / "flan-t5" / "config.json").read_text())
    del settings["scale_decoder_outputs"]  # as published: this goes by the other, which transformers 5 would change
    (folder / "flan-t5" / "config.json").write_text(json.dumps(settings | {"tie_word_embeddings": False}))
    return {path.name: path for path in folder.iterdir()}


@pytest.fixture
def rows(tmp_path):
    """The folder of instructions to say a word again, in three splits."""
    for name, count in (("train", 48), ("dev", 7), ("test", 5)):
        words = [f"word{4 + (7 * i) % 50}" for i in range(count)]
        given = [{"instruction": f"{'word9 ' * (i % 3)}{word}", "output": word} for i, word in enumerate(words)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in given))
    return tmp_path
