"""`fastprompt train --task_name lama`: a prompt for each relation, the best by its development set, and the means.

A relation's scores are a file of their own in the run's folder, so that a run that was stopped goes on after the last
relation it finished.
"""

import hashlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from fastprompt.cloze.template import written
from fastprompt.commands.request import check_inputs
from fastprompt.commands.serving import check_precision, choose_device
from fastprompt.commands.setup import describe
from fastprompt.data.dataloader import make_dataloader
from fastprompt.data.readers.lama import Facts, Relation, candidate_words, read_facts, read_relations
from fastprompt.drivers.common.accumulation import steps_taken
from fastprompt.errors import ConfigError
from fastprompt.framework import backend, runtime
from fastprompt.inference.reading import print_notes
from fastprompt.methods.base import MethodConfig
from fastprompt.metrics.tasks import scores_of
from fastprompt.models.masked_lm import PromptForMaskedLM
from fastprompt.options.train import TrainOptions
from fastprompt.pretrained.checkpoint import Checkpoint, locate, read_json
from fastprompt.pretrained.tokenizer import Tokenizer, load_tokenizer
from fastprompt.saving.files import as_json, write_whole
from fastprompt.saving.run_folder import BEST, EVALUATIONS_FILE, HISTORY_FILE, METRICS_FILE, RUN_FILES, make_run_folder
from fastprompt.training.evaluation import BestPrompt, Evaluations
from fastprompt.training.progress import RunLog
from fastprompt.training.trainer import evaluate, make_schedule, make_trainer

from rich.console import Console
from rich.table import Table

RUN_FILE = "lama.json"  # the options that its relations were run with
_LAMA = scores_of("lama")
SCORES = _LAMA.names
_PSEUDO_TOKENS = "(3, 3, 3)"  # P-Tuning's template for every relation


def main(options: TrainOptions, results: TextIO) -> int:
    rows, metrics = run(options)
    table = Table("relation", "", "P@1", "P@10", "MRR", "facts", "left out")
    for row in rows:
        scores = (f"{row[name]:.3f}" for name in SCORES)
        counts = (row["test_facts"], row["test_several_tokens"] + row["test_no_candidates"])
        table.add_row(row["relation"], row["label"], *scores, *map(str, counts), end_section=row is rows[-1])
    means = (f"{metrics[name]:.3f}" for name in SCORES)
    table.add_row("mean", "", *means, str(metrics["eval_samples"]), str(metrics["several_tokens"]))
    Console(file=results, markup=False, highlight=False, width=100).print(table)
    return 0


def run(options: TrainOptions) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Tune and test a prompt for every relation; returns what is known of each, and the means as metrics.json has them.

    Without `--template` a shallow prompt stands in P-Tuning's (3, 3, 3); every other method uses the relation's own
    words, and "manual" does nothing else. A causal model is asked for what comes last, in P-Tuning's templates too.

    Raises:
        ConfigError: an option cannot work, or the folder holds relations that were run with other options.
        DataError: the facts cannot be read.
    """
    data, model = options.data, options.model
    check_inputs(options)
    splits = ("train", "dev", "test") if options.config.trains else ("test",)
    relations = read_relations(data.data_dir, data.relations, splits)
    output = Path(options.run.output_dir).expanduser()
    _open_folder(output, options)
    tokenizer = load_tokenizer(locate(model.model_name_or_path))
    candidates, notes = candidate_words(tokenizer, data.lama_vocab)
    print_notes([*notes, *options.config.notes])
    device = choose_device(options.hardware.device)
    check_precision(model, device)
    rows = []
    for relation in relations:
        path = output / f"{relation.name}.json"
        if path.exists():
            _check_facts(relation, path)
            print_notes([f"{relation.name} is finished; its scores are read from {path}."])
        else:
            relation_run = _RelationRun(options, relation, tokenizer, candidates, device)
            write_whole({path: as_json(relation_run.run(output / relation.name))})
        rows.append(read_json(path))
    metrics = {
        **{name: sum(row[name] for row in rows) / len(rows) for name in SCORES},
        "relations": len(rows),
        "eval_samples": sum(row["test_facts"] for row in rows),
        "several_tokens": sum(row["test_several_tokens"] for row in rows),
        "train_seconds": round(sum(row["train_seconds"] for row in rows), 3),
        **{name: rows[-1][name] for name in ("trainable_parameters", "total_parameters", "backend", "method")},
        "learning_rate": options.training.learning_rate,
        "seed": options.model.seed,
    }
    write_whole({output / METRICS_FILE: as_json(metrics)})
    return rows, metrics


def _fingerprint(relation: Relation) -> str:
    """A hash of the relation's template and of its files."""
    digest = hashlib.sha256(relation.template.encode())
    for split in sorted(relation.files):
        digest.update(split.encode() + relation.files[split].read_bytes())
    return digest.hexdigest()[:16]


def _check_facts(relation: Relation, path: Path) -> None:
    """Raises: ConfigError: the finished relation of `path` was run on other facts."""
    saved = read_json(path).get("data_fingerprint")
    if saved not in (None, _fingerprint(relation)):  # earlier versions wrote none
        raise ConfigError(
            f"{path} holds the scores of a run with data_fingerprint {saved}, and the facts of {relation.name} have "
            f"changed since ({_fingerprint(relation)}); choose another folder or add --overwrite_output_dir."
        )


def _open_folder(output: Path, options: TrainOptions) -> None:
    """Make the folder of a new run, or see that it holds one with the same options."""
    model, data = options.model.model_name_or_path, options.data.data_dir
    given = {"backend": backend(), **options.numbers(), "model_name_or_path": model, "data_dir": data}
    path = output / RUN_FILE
    if path.exists() and not options.run.overwrite_output_dir:
        saved = read_json(path)
        for name, value in given.items():
            if saved.get(name) != value:
                raise ConfigError(
                    f"{output} holds relations that were run with {name} {saved.get(name)}, not {value}; "
                    f"choose another folder or add --overwrite_output_dir."
                )
        return
    make_run_folder(output, RUN_FILES, options.run.overwrite_output_dir)
    for old in output.glob("*.json"):
        old.unlink()
    write_whole({path: as_json(given)})


@dataclass
class _RelationRun:
    """The tuning of one relation's prompt, and its test."""

    options: TrainOptions
    relation: Relation
    tokenizer: Tokenizer
    candidates: list[int]
    device: str

    def run(self, folder: Path) -> dict[str, Any]:
        """What is known of the relation then; the prompt is left in `folder`."""
        options = self.options
        runtime.seed(options.model.seed)
        causal = Checkpoint(options.model.model_name_or_path).family.causal
        config = self._configure(causal)
        model = PromptForMaskedLM.from_pretrained(options.model.model_name_or_path, config, **options.model.loading())
        splits = ("train", "dev", "test") if config.trains else ("test",)
        facts = {split: read_facts(self.relation, split, self.tokenizer, set(self.candidates)) for split in splits}
        print_notes([_counts(self.relation, split, found) for split, found in facts.items()])
        # Now: what cannot be tested is found before the training.
        loaders = {split: self._loader(model, found, split == "train") for split, found in facts.items()}
        row = {"relation": self.relation.name, "label": self.relation.label, "template": config.template}
        row |= {"train_seconds": 0.0, "data_fingerprint": _fingerprint(self.relation)}
        if config.trains:
            folder.mkdir(parents=True, exist_ok=True)
            row |= self._train(model, loaders["train"], loaders["dev"], folder)
            model.save_pretrained(folder)
        scores = self._score(model, loaders["test"])
        counts = {f"{split}_facts": len(found) for split, found in facts.items()}
        left_out = {f"{split}_several_tokens": found.several for split, found in facts.items()}
        left_out |= {f"{split}_no_candidates": found.outside for split, found in facts.items()}
        return {**scores, **row, **counts, **left_out, **describe(model, self.device), "method": config.method}

    def _configure(self, causal: bool) -> MethodConfig:
        config = self.options.config
        own = _PSEUDO_TOKENS if config.takes_pseudo_tokens else self.relation.template
        return self.options.method.config(template=written(config.template or own, causal))

    def _loader(self, model: PromptForMaskedLM, facts: Facts, shuffle: bool) -> Any:
        options, limit = self.options, model.max_length
        count = options.data.max_train_samples if shuffle else options.data.max_eval_samples
        train_size, size = options.training.per_device_train_batch_size, options.evaluation.per_device_eval_batch_size
        notes: list[str] = []
        loader = make_dataloader(
            facts.in_template(model.method_config.template, count, model.backbone.family.causal),
            self.tokenizer,
            batch_size=train_size if shuffle else size,
            shuffle=shuffle,
            max_length=min(options.data.max_seq_length, limit or options.data.max_seq_length),
            seed=options.model.seed,
            notes=notes,
            model=model,
        )
        print_notes(notes)
        return loader

    def _score(self, model: PromptForMaskedLM, loader: Any) -> dict[str, float]:
        return evaluate(model, loader, self.device, _LAMA.make(self.candidates))

    def _train(self, model: PromptForMaskedLM, train_loader: Any, dev_loader: Any, folder: Path) -> dict[str, Any]:
        """Train, and give the model the epoch that scored best on the development facts; what the training was like."""
        options, training = self.options, self.options.training
        schedule = make_schedule(training)
        log = RunLog(folder / HISTORY_FILE, schedule, options.run.logging_steps)
        best = BestPrompt(model, folder / BEST, _LAMA.main, tie_breaker="mrr", patience=training.early_stop)
        score = partial(self._score, model, dev_loader)
        callbacks = [log, Evaluations(score, folder / EVALUATIONS_FILE, None, log, best)]
        trainer = make_trainer(model, train_loader, options, self.device, callbacks, schedule)
        trainer.run(catch_KeyboardInterrupt=False)
        best.restore()
        return {
            **{f"dev_{name}": best.scores[name] for name in SCORES},
            "best_step": best.step,
            "steps": steps_taken(trainer),
            "epochs": trainer.cur_epoch_idx,
            "train_seconds": round(log.train_seconds, 3),
        }


def _counts(relation: Relation, split: str, facts: Facts) -> str:
    left_out = [f"{facts.several} objects of several tokens left out"] if facts.several else []
    left_out += [f"{facts.outside} objects that are no candidates left out"] if facts.outside else []
    return f"{relation.name}, {split}: {len(facts)} facts{''.join(f', {text}' for text in left_out)}."
