"""P-Tuning v2 on SST-2 in a plain fastNLP script: `FASTNLP_BACKEND=paddle python examples/sst2_trainer.py MODEL`.

Usage: sst2_trainer.py MODEL [--data_dir GLUE_FOLDER] [--output_dir DIR] [--n_epochs N] [--max_train_samples N]
"""

import argparse

import fastprompt as fp  # before fastNLP: it makes fastNLP importable on today's frameworks

from fastNLP import Accuracy, CheckpointCallback, EarlyStopCallback, LoadBestModelCallback, Trainer

parser = argparse.ArgumentParser()
parser.add_argument("model", help="hub id or folder, e.g. bert-base-uncased")
parser.add_argument("--data_dir", help="folder with GLUE's train.tsv and dev.tsv; default: the hub's copy")
parser.add_argument("--output_dir", default="runs/sst2_trainer")
parser.add_argument("--n_epochs", type=int, default=1)
parser.add_argument("--max_train_samples", type=int)
options = parser.parse_args()

tokenizer = fp.load_tokenizer(options.model)
train_set = fp.load_sst2("train", options.data_dir).head(options.max_train_samples)
dev_set = fp.load_sst2("validation", options.data_dir)
model = fp.PromptForSequenceClassification.from_pretrained(
    options.model, fp.PTuningV2Config(pre_seq_len=20), label_names=train_set.label_names
)

trainer = Trainer(
    model=model,
    driver=fp.backend(),
    device="cpu",
    n_epochs=options.n_epochs,
    optimizers=fp.AdamW(model.trainable_parameters(), lr=3e-2, weight_decay=0.0),
    train_dataloader=fp.make_dataloader(train_set, tokenizer, batch_size=32, shuffle=True),
    evaluate_dataloaders=fp.make_dataloader(dev_set, tokenizer, batch_size=64),
    metrics={"acc": Accuracy()},
    monitor="acc#acc",
    callbacks=[
        fp.LearningRateSchedule(3e-2, "linear", warmup_ratio=0.06),
        # the prompt alone is saved, not the backbone
        CheckpointCallback(options.output_dir, last=True, model_save_fn=model.save_pretrained),
        LoadBestModelCallback(
            save_folder=options.output_dir, model_save_fn=model.save_pretrained, model_load_fn=model.load_prompt
        ),
        EarlyStopCallback(patience=3),
    ],
    progress_bar="rich",
)
trainer.run()
print(trainer.evaluator.run())
