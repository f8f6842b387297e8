"""fastNLP's tutorial E2 (SST-2 by BERT and a prompt), step by step as there, but for its model, which is ours.

Usage: tutorial_e2.py MODEL; its last line of output is the evaluator's result.
"""

import sys

import fastprompt as fp  # before fastNLP

import datasets
import fastNLP
import torch
import transformers
from fastNLP.core.metrics import Accuracy

checkpoint = sys.argv[1]
model = fp.PromptForSequenceClassification.from_pretrained(checkpoint, fp.PTuningV2Config(pre_seq_len=20), num_labels=2)
optimizers = torch.optim.AdamW(params=model.parameters(), lr=1e-2)

reviews = {"train": fp.load_reviews("train").head(64), "validation": fp.load_reviews("validation").head(48)}
columns = {name: {"sentence": part.texts, "label": part.labels} for name, part in reviews.items()}
raw = datasets.DatasetDict({name: datasets.Dataset.from_dict(part) for name, part in columns.items()})
tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint, use_fast=True)
encoded = raw.map(lambda rows: tokenizer(rows["sentence"], truncation=True, max_length=64), batched=True)


class Rows(torch.utils.data.Dataset):
    """Tuples, whose names the collate function gives."""

    def __init__(self, table):
        super().__init__()
        self.table = table

    def __len__(self):
        return len(self.table)

    def __getitem__(self, place):
        row = self.table[place]
        return row["input_ids"], row["attention_mask"], row["label"]


def collate(rows):
    ids, masks, labels = zip(*rows, strict=True)
    pad = torch.nn.utils.rnn.pad_sequence
    return {
        "input_ids": pad([torch.tensor(row) for row in ids], batch_first=True),
        "attention_mask": pad([torch.tensor(row) for row in masks], batch_first=True),
        "labels": torch.tensor(labels),
    }


loaders = {
    name: torch.utils.data.DataLoader(Rows(table), batch_size=16, shuffle=name == "train", collate_fn=collate)
    for name, table in encoded.items()
}
trainer = fastNLP.Trainer(
    model=model,
    driver="torch",
    device="cpu",
    n_epochs=2,
    optimizers=optimizers,
    train_dataloader=loaders["train"],
    evaluate_dataloaders=loaders["validation"],
    metrics={"acc": Accuracy()},
)
trainer.run(num_eval_batch_per_dl=2)
print(trainer.evaluator.run())
