"""What `fastprompt train` takes."""

from dataclasses import dataclass, field
from typing import Any

from fastprompt.cloze.verbalizer import read_verbalizer
from fastprompt.data.chat import CHAT_TEMPLATES
from fastprompt.errors import ConfigError
from fastprompt.framework import BACKENDS
from fastprompt.methods.base import POOLINGS
from fastprompt.methods.p_tuning.config import ENCODERS
from fastprompt.methods.registry import METHODS, method_config

STRATEGIES = ("no", "steps", "epoch")


def option(default: Any, text: str, **settings: Any) -> Any:
    return field(default=default, metadata={"help": text, **settings})


@dataclass
class TrainOptions:
    """What `fastprompt train` takes; the names are those of P-Tuning v2's run.py where it has one."""

    model_name_or_path: str = option("", "hub id, model folder, or saved prompt")
    task_name: str = option(
        "",
        "glue, superglue, qa, ner, srl, lama, instruction, reviews (embedded), or classification and regression of "
        "your own texts",
    )
    dataset_name: str | None = option(None, "the task's data set: sst2, rte, copa, squad, ...")
    data_dir: str | None = option(
        None, "folder with the data set's own files, of instructions a file too; without it the hub's copy is taken"
    )
    text_columns: str | None = option(None, "your own texts' columns: one, or two for pairs, with a comma between")
    label_column: str = option("label", "your own labels' column")
    tag_column: int | None = option(None, "a column file's tags, counted from 1; default: the last")
    template: str | None = option(
        None, "cloze of a masked language model: text with [X], [MASK] and pseudo tokens [P], or numbers as (3,3,3)"
    )
    verbalizer: str | None = option(None, "words for a cloze's labels: JSON, or a file of it")
    chat_template: str = option(CHAT_TEMPLATES[0], "how instructions are written", choices=CHAT_TEMPLATES)
    max_new_tokens: int = option(128, "tokens of an answer at most")
    relations: tuple | None = option(None, "lama's relations: P36 P103 ...; default: all that have facts", many=True)
    lama_vocab: str | None = option(None, "file of lama's candidate words, one a line; default: the vocabulary's words")
    backend: str | None = option(None, "framework to run on", choices=BACKENDS)
    num_processes: int | None = option(None, "train in so many processes on this machine; default: one")
    device: str | None = option(None, "cpu, cuda or cuda:N; default: a GPU where there is one")
    backbone: str | None = option(None, "where a saved prompt's backbone lies, if not where its file says")
    output_dir: str = option("runs/last", "folder for the prompt, metrics and history")
    overwrite_output_dir: bool = option(False, "replace the run that output_dir holds")
    method: str = option("p-tuning-v2", "what is tuned", choices=tuple(METHODS))
    prefix: bool = option(False, "the same as --method p-tuning-v2")
    prompt: bool = option(False, "the same as --method shallow-prefix")
    pre_seq_len: int | None = option(None, "length of the prompt; default: 20, or the template's [P]")
    prefix_projection: bool = option(False, "make the prefix with a two-layer network")
    prefix_hidden_size: int = option(512, "that network's inner width")
    prompt_encoder: str | None = option(None, "the network of p-tuning; default: lstm", choices=ENCODERS)
    encoder_hidden_size: int | None = option(None, "its inner width; default: the backbone's embedding size")
    prefix_parts: tuple | None = option(
        None, "an encoder-decoder's attention that has a prefix: encoder decoder cross; default: all", many=True
    )
    shift_positions: bool = option(False, "count the tokens' positions from pre_seq_len, as past_key_values does")
    init_std: float | None = option(None, "standard deviation of the prompt's initial values; default: the method's")
    init: str | None = option(
        None, "initial values: random, text, or (prompt tuning) vocabulary; default: the method's"
    )
    init_text: str | None = option(None, "the text of --init text")
    pooling: str | None = option(None, "what the head reads; default: the method's", choices=POOLINGS)
    learning_rate: float | None = option(None, "peak learning rate; default: the method's")
    lr_scheduler_type: str = option("linear", "linear, constant or exponential (per epoch)")
    max_grad_norm: float | None = option(None, "scale the gradients of a step down to this norm; default: as they are")
    warmup_ratio: float = option(0.06, "share of the steps over which the rate rises")
    weight_decay: float = option(0.0, "AdamW's decoupled weight decay")
    num_train_epochs: int | None = option(None, "passes over the training data; default: 1, of lama 30 at most")
    early_stop: int = option(5, "lama: stop after so many epochs without a better development score")
    per_device_train_batch_size: int = option(32, "examples a step, of every process")
    per_device_eval_batch_size: int = option(64, "examples a step of evaluation, of every process")
    gradient_accumulation_steps: int = option(1, "batches a step")
    gradient_checkpointing: bool = option(False, "compute activations again instead of keeping them")
    max_seq_length: int = option(128, "cut texts to so many tokens")
    doc_stride: int | None = option(None, "tokens that a passage's windows share; default: a third of max_seq_length")
    max_query_length: int = option(64, "cut questions to so many tokens")
    max_train_samples: int | None = option(None, "use so many training examples only")
    max_eval_samples: int | None = option(None, "use so many evaluation examples only")
    hidden_dropout_prob: float | None = option(
        None, "dropout of hidden states, prefix, head; default: 0 beside a frozen backbone"
    )
    attention_probs_dropout_prob: float | None = option(None, "dropout of attention; default: the checkpoint's")
    bf16: bool = option(False, "keep the frozen backbone in bfloat16")
    fp16: bool = option(False, "train in mixed precision, the loss scaled (torch; paddle on a GPU)")
    load_in_8bit: bool = option(False, "keep the frozen backbone's linear layers in 8 bits (torch, bitsandbytes)")
    load_in_4bit: bool = option(False, "keep them in 4 bits, as QLoRA does")
    fsdp: bool = option(False, "share the frozen backbone's blocks out among the processes (torch)")
    seed: int = option(11, "seeds initial values, batches and dropout")
    logging_steps: int = option(50, "a line of history every so many steps")
    do_train: bool = option(False, "train; with none of the three --do_..., train and evaluate")
    do_eval: bool = option(False, "score the evaluation split")
    do_predict: bool = option(False, "answer the test split, into predictions.jsonl")
    evaluation_strategy: str = option("no", "when to evaluate during the training", choices=STRATEGIES)
    eval_steps: int = option(500, "evaluate every so many steps, with --evaluation_strategy steps")
    save_strategy: str | None = option(
        None, "when to write checkpoints; default: no, or steps where --save_steps is given", choices=STRATEGIES
    )
    save_steps: int | None = option(None, "a checkpoint every so many steps; default: 500")
    save_total_limit: int | None = option(None, "keep so many checkpoints, the newest; default: all")
    resume_from_checkpoint: str | None = option(None, "go on from a checkpoint's folder, or from the last one: last")
    load_best_model_at_end: bool = option(False, "keep the prompt of the best evaluation, not the last one")
    metric_for_best_model: str | None = option(None, "the score that is best; default: the task's first")
    selection_samples: int | None = option(
        None, "training examples set apart to choose the best by; default: the evaluation split chooses"
    )
    n_best_size: int = option(20, "spans of a passage that are weighed")
    max_answer_length: int = option(30, "longest answer in tokens")
    null_score_diff_threshold: float = option(0.0, "how much better no answer must score (SQuAD 2.0)")

    def __post_init__(self) -> None:
        if self.prefix and self.prompt:
            raise ConfigError("--prefix and --prompt name two methods; give one.")
        if self.prefix or self.prompt:
            self.method = "p-tuning-v2" if self.prefix else "shallow-prefix"
        if not self.model_name_or_path:
            raise ConfigError("--model_name_or_path is missing: a hub id, a model folder, or a saved prompt.")
        if self.num_train_epochs is None:
            self.num_train_epochs = 30 if self.task_name == "lama" else 1
        if self.learning_rate is None:
            self.learning_rate = method_config(self.method, **self.method_options()).default_learning_rate
        if not self.learning_rate > 0:
            raise ConfigError(f"learning_rate is {self.learning_rate}; it must be above 0.")
        for name in (
            "num_train_epochs",
            "per_device_train_batch_size",
            "per_device_eval_batch_size",
            "gradient_accumulation_steps",
            "logging_steps",
            "max_new_tokens",
            "early_stop",
            "max_train_samples",
            "max_eval_samples",
            "eval_steps",
            "selection_samples",
            "save_steps",
            "save_total_limit",
            "n_best_size",
            "max_answer_length",
            "num_processes",
        ):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} is {value}; it is a whole number from 1 on.")
        if self.max_grad_norm is not None and not self.max_grad_norm > 0:
            raise ConfigError(f"max_grad_norm is {self.max_grad_norm}; it must be above 0.")
        if self.bf16 and self.fp16:
            raise ConfigError("--bf16 and --fp16 are two half precisions; choose one.")
        if self.fsdp and (self.load_in_8bit or self.load_in_4bit):
            raise ConfigError("--fsdp shares out no quantized backbone; leave it or --load_in_8bit/4bit off.")
        for name in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1:
                raise ConfigError(f"{name} is {value}; it lies from 0 up to, but not including, 1.")

        if not (self.do_train or self.do_eval or self.do_predict):
            self.do_train = self.do_eval = True
        if self.save_strategy is None:
            self.save_strategy = "no" if self.save_steps is None else "steps"
        if self.save_steps is not None and self.save_strategy != "steps":
            raise ConfigError(f"--save_steps goes with --save_strategy steps, not {self.save_strategy}.")
        if self.load_best_model_at_end and self.evaluation_strategy == "no":
            raise ConfigError("--load_best_model_at_end wants evaluations: --evaluation_strategy epoch or steps.")
        if self.selection_samples and not self.load_best_model_at_end:
            raise ConfigError("--selection_samples goes with --load_best_model_at_end, which chooses by them.")

    def method_options(self) -> dict[str, Any]:
        """What a method's configuration is made from; each method takes what it has."""
        given = {
            "pre_seq_len": self.pre_seq_len,
            "num_virtual_tokens": self.pre_seq_len,
            "prefix_projection": self.prefix_projection,
            "prefix_hidden_size": self.prefix_hidden_size,
            "encoder": self.prompt_encoder,
            "encoder_hidden_size": self.encoder_hidden_size,
            "prefix_parts": self.prefix_parts,
            "shift_positions": self.shift_positions,
            "init_std": self.init_std,
            "init": self.init,
            "init_text": self.init_text,
            "pooling": self.pooling,
            "template": self.template,
            "verbalizer": read_verbalizer(self.verbalizer) if self.verbalizer else None,
        }
        return {name: value for name, value in given.items() if value is not None}
