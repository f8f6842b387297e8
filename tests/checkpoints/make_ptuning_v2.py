"""Writes checkpoints in P-Tuning v2's published layout and the logits of a `past_key_values` reference:
make_ptuning_v2.py DIR BERT

A BertPrefixForSequenceClassification of its repository: `bert`, `classifier`, and `prefix_encoder` with an embedding of
2 * layers * hidden numbers a position, or one of `hidden` numbers and a network of Linear, Tanh, Linear after it.
"""

import json
import sys
from pathlib import Path

import numpy
import torch
from safetensors.torch import save_file
from transformers import BertModel, DynamicCache

PRE_SEQ_LEN, INNER, LABELS = 5, 7, ["no", "yes"]


def encoder(hidden, layers, projection):
    width = 2 * layers * hidden
    if not projection:
        return torch.nn.ModuleDict({"embedding": torch.nn.Embedding(PRE_SEQ_LEN, width)})
    network = torch.nn.Sequential(torch.nn.Linear(hidden, INNER), torch.nn.Tanh(), torch.nn.Linear(INNER, width))
    return torch.nn.ModuleDict({"embedding": torch.nn.Embedding(PRE_SEQ_LEN, hidden), "trans": network})


def past_key_values(made, config, batch):
    """As its get_prompt: a view with an axis of 2 * layers, permuted, in chunks of two."""
    rows = made["embedding"].weight[None].expand(batch, -1, -1)
    if "trans" in made:
        rows = made["trans"](rows)
    heads = config.num_attention_heads
    shape = (batch, PRE_SEQ_LEN, config.num_hidden_layers * 2, heads, config.hidden_size // heads)
    cache = DynamicCache()
    for layer, pair in enumerate(rows.view(shape).permute([2, 0, 3, 1, 4]).split(2)):
        cache.update(pair[0], pair[1], layer)
    return cache


def main(out, folder):
    bert = BertModel.from_pretrained(folder, attn_implementation="eager").eval()
    mask = (torch.arange(12) < torch.tensor([12, 7, 3, 9])[:, None]).long()
    ids = torch.randint(5, 60, (4, 12), generator=torch.Generator().manual_seed(1)) * mask
    for projection in (False, True):
        torch.manual_seed(3)
        made = encoder(bert.config.hidden_size, bert.config.num_hidden_layers, projection)
        classifier = torch.nn.Linear(bert.config.hidden_size, len(LABELS))
        wide = torch.cat([torch.ones(4, PRE_SEQ_LEN, dtype=torch.long), mask], dim=1)
        with torch.no_grad():
            made["embedding"].weight.mul_(0.3)
            cache = past_key_values(made, bert.config, 4)
            logits = classifier(bert(input_ids=ids, attention_mask=wide, past_key_values=cache).pooler_output)
        tensors = {f"bert.{name}": x for name, x in bert.state_dict().items()}
        tensors |= {f"classifier.{name}": x for name, x in classifier.state_dict().items()}
        tensors |= {f"prefix_encoder.{name}": x for name, x in made.state_dict().items()}
        config = {
            **json.loads((folder / "config.json").read_text()),
            "architectures": ["BertPrefixForSequenceClassification"],
            "pre_seq_len": PRE_SEQ_LEN,
            "prefix_projection": projection,
            "prefix_hidden_size": INNER,
            "id2label": {str(index): name for index, name in enumerate(LABELS)},
        }
        for form in ("safetensors", "bin"):
            target = out / f"{'projection' if projection else 'plain'}-{form}"
            target.mkdir()
            if form == "bin":  # with the buffer that transformers 4 saved
                torch.save(
                    {**tensors, "bert.embeddings.position_ids": torch.arange(9)[None]}, target / "pytorch_model.bin"
                )
            else:
                save_file({name: x.contiguous() for name, x in tensors.items()}, target / "model.safetensors")
            (target / "config.json").write_text(json.dumps(config))
            numpy.savez(target / "batch.npz", input_ids=ids.numpy(), attention_mask=mask.numpy())
            numpy.save(target / "logits.npy", logits.numpy())


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
