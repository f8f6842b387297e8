"""LAMA: one prompt per relation, the best by its development set, and the means over relations.

A relation's scores are a file of their own in the run's folder, so that a run that was stopped goes on behind the last
relation it finished.
"""

import dataclasses
import sys
from functools import partial
from pathlib import Path
from typing import Any

from fastprompt.cloze.template import written
from fastprompt.commands.setup import choose_device, describe
from fastprompt.data.dataloader import make_dataloader
from fastprompt.data.readers.lama import Facts, Relation, candidate_words, read_facts, read_relations
from fastprompt.errors import ConfigError
from fastprompt.framework import backend, runtime
from fastprompt.methods.base import MethodConfig
from fastprompt.methods.registry import METHODS, method_config
from fastprompt.metrics.ranks import WordRanks
from fastprompt.models.masked_lm import PromptForMaskedLM
from fastprompt.options.train import TrainOptions
from fastprompt.pretrained.checkpoint import Checkpoint, locate, read_json
from fastprompt.pretrained.tokenizer import Tokenizer, load_tokenizer
from fastprompt.saving.files import as_json, write_whole
from fastprompt.saving.run_folder import BEST, EVALUATIONS_FILE, HISTORY_FILE, METRICS_FILE, RUN_FILES, make_run_folder
from fastprompt.training.evaluation import BestPrompt, Evaluations
from fastprompt.training.optimization import LearningRateSchedule
from fastprompt.training.progress import RunLog
from fastprompt.training.trainer import evaluate, make_trainer

RUN_FILE = "lama.json"  # the options that its relations were run with
SCORES = ("p_at_1", "p_at_10", "mrr")
_PSEUDO_TOKENS = "(3, 3, 3)"  # P-Tuning's template for every relation
_NO_MATTER = (
    *("output_dir", "overwrite_output_dir", "relations", "logging_steps", "per_device_eval_batch_size", "config"),
    *("prefix", "prompt"),  # other words for --method
)


def run(options: TrainOptions) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Tune and test a prompt for every relation; returns what is known of each, and the means as metrics.json has them.

    Without `--template` a shallow prompt stands in P-Tuning's (3, 3, 3); every other method asks in the relation's own
    words, and "manual" does nothing else. A causal model is asked for what comes last, in P-Tuning's templates too.

    Raises:
        ConfigError: an option cannot work, or the folder holds relations that were run with other options.
        DataError: the facts cannot be read.
    """
    if options.data_dir is None:
        raise ConfigError("lama needs --data_dir, the folder with relations.jsonl.")
    if options.verbalizer or options.dataset_name:
        raise ConfigError("lama takes neither --verbalizer nor --dataset_name: its blanks are filled with words.")
    trains = METHODS[options.method].trains
    relations = read_relations(options.data_dir, options.relations, ("train", "dev", "test") if trains else ("test",))
    output = Path(options.output_dir).expanduser()
    _open_folder(output, options)
    tokenizer = load_tokenizer(locate(options.model_name_or_path))
    candidates, notes = candidate_words(tokenizer, options.lama_vocab)
    for note in notes:
        _tell(note)
    rows = []
    for relation in relations:
        path = output / f"{relation.name}.json"
        if path.exists():
            _tell(f"{relation.name} is finished; its scores are read from {path}.")
        else:
            row = _run_relation(options, relation, tokenizer, candidates, output / relation.name)
            write_whole({path: as_json(row)})
        rows.append(read_json(path))
    metrics = {
        **{name: sum(row[name] for row in rows) / len(rows) for name in SCORES},
        "relations": len(rows),
        "eval_samples": sum(row["test_facts"] for row in rows),
        "several_tokens": sum(row["test_several_tokens"] for row in rows),
        "train_seconds": round(sum(row["train_seconds"] for row in rows), 3),
        **{name: rows[-1][name] for name in ("trainable_parameters", "total_parameters", "backend", "method")},
        "learning_rate": options.learning_rate,
        "seed": options.seed,
    }
    write_whole({output / METRICS_FILE: as_json(metrics)})
    return rows, metrics


def _tell(note: str) -> None:
    print(f"note: {note}", file=sys.stderr)


def _open_folder(output: Path, options: TrainOptions) -> None:
    """Make the folder of a new run, or see that it holds one with the same options."""
    given = {name: value for name, value in dataclasses.asdict(options).items() if name not in _NO_MATTER}
    given["backend"] = backend()
    path = output / RUN_FILE
    if path.exists() and not options.overwrite_output_dir:
        held = read_json(path)
        for name, value in given.items():
            if held.get(name) != value:
                raise ConfigError(
                    f"{output} holds relations that were run with {name} {held.get(name)}, not {value}; "
                    f"choose another folder or add --overwrite_output_dir."
                )
        return
    make_run_folder(output, RUN_FILES, options.overwrite_output_dir)
    for old in output.glob("*.json"):
        old.unlink()
    write_whole({path: as_json(given)})


def _configure(options: TrainOptions, relation: Relation, causal: bool) -> MethodConfig:
    template = options.template
    if template is None:
        template = _PSEUDO_TOKENS if METHODS[options.method].takes_pseudo_tokens else relation.template
    return method_config(options.method, **{**options.method_options(), "template": written(template, causal)})


def _run_relation(
    options: TrainOptions, relation: Relation, tokenizer: Tokenizer, candidates: list[int], folder: Path
) -> dict[str, Any]:
    device = choose_device(options.device)
    runtime.seed(options.seed)
    causal = Checkpoint(options.model_name_or_path).family.causal
    config = _configure(options, relation, causal)
    model = PromptForMaskedLM.from_pretrained(
        options.model_name_or_path,
        config,
        seed=options.seed,
        bf16=options.bf16,
        load_in_8bit=options.load_in_8bit,
        load_in_4bit=options.load_in_4bit,
        gradient_checkpointing=options.gradient_checkpointing,
        hidden_dropout_prob=options.hidden_dropout_prob,
        attention_probs_dropout_prob=options.attention_probs_dropout_prob,
    )
    allowed = set(candidates)
    splits = ("train", "dev", "test") if config.trains else ("test",)
    facts = {split: read_facts(relation, split, tokenizer, allowed) for split in splits}
    for split, found in facts.items():
        _tell(_counts(relation, split, found))

    def loader(split: str) -> Any:
        shuffle = split == "train"
        return make_dataloader(
            facts[split].in_template(
                config.template, options.max_train_samples if shuffle else options.max_eval_samples, causal
            ),
            tokenizer,
            batch_size=options.per_device_train_batch_size if shuffle else options.per_device_eval_batch_size,
            shuffle=shuffle,
            max_length=min(options.max_seq_length, model.max_length or options.max_seq_length),
            seed=options.seed,
        )

    test_loader = loader("test")  # now: what cannot be tested is found before the training
    row = {"relation": relation.name, "label": relation.label, "template": config.template, "train_seconds": 0.0}
    if config.trains:
        folder.mkdir(parents=True, exist_ok=True)
        row |= _train(options, model, loader("train"), loader("dev"), candidates, device, folder)
        model.save_pretrained(folder)
    scores = evaluate(model, test_loader, device, {"ranks": WordRanks(candidates)})
    counts = {f"{split}_facts": len(found) for split, found in facts.items()}
    lost = {f"{split}_several_tokens": found.several for split, found in facts.items()}
    lost |= {f"{split}_no_candidates": found.outside for split, found in facts.items()}
    return {**scores, **row, **counts, **lost, **describe(model, device), "method": config.method}


def _counts(relation: Relation, split: str, facts: Facts) -> str:
    lost = [f"{facts.several} objects of several tokens left out"] if facts.several else []
    lost += [f"{facts.outside} objects that are no candidates left out"] if facts.outside else []
    return f"{relation.name}, {split}: {len(facts)} facts{''.join(f', {text}' for text in lost)}."


def _train(
    options: TrainOptions,
    model: PromptForMaskedLM,
    train_loader: Any,
    dev_loader: Any,
    candidates: list[int],
    device: str,
    folder: Path,
) -> dict[str, Any]:
    """Train, and give the model the epoch that scored best on the development facts; returns what there is to tell."""
    schedule = LearningRateSchedule(options.learning_rate, options.lr_scheduler_type, options.warmup_ratio)
    log = RunLog(folder / HISTORY_FILE, schedule, options.logging_steps)
    best = BestPrompt(model, folder / BEST, "p_at_1", then="mrr", patience=options.early_stop)
    score = partial(evaluate, model, dev_loader, device, {"ranks": WordRanks(candidates)})
    callbacks = [log, Evaluations(score, folder / EVALUATIONS_FILE, None, log, best)]
    trainer = make_trainer(model, train_loader, options, device, callbacks, schedule)
    trainer.run(catch_KeyboardInterrupt=False)
    best.restore()
    return {
        **{f"dev_{name}": best.scores[name] for name in SCORES},
        "best_step": best.step,
        "steps": trainer.global_forward_batches,
        "epochs": trainer.cur_epoch_idx,
        "train_seconds": round(log.train_seconds, 3),
    }
