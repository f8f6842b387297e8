"""What every prompt model does: load, freeze, run the backbone with its prompt, step for fastNLP, save."""

import dataclasses
import importlib
from pathlib import Path
from typing import Any, ClassVar

from fastprompt.backbones.loading import load_backbone
from fastprompt.backbones.portable import positions
from fastprompt.backbones.prefix import Prefix
from fastprompt.errors import BackendError, CheckpointError, ConfigError, DataError, TrainingError
from fastprompt.framework import backend, nn, ops
from fastprompt.methods import deep, shallow
from fastprompt.methods.base import MethodConfig
from fastprompt.methods.build import make_prompt
from fastprompt.methods.initial_values import normal
from fastprompt.methods.p_tuning_v2.config import PTuningV2Config
from fastprompt.models.heads import make_head
from fastprompt.models.inputs import causal_positions
from fastprompt.models.outputs import label_names_of
from fastprompt.models.pooling import pool
from fastprompt.models.saving import write_prompt
from fastprompt.models.trainable import TunedTensors
from fastprompt.pretrained.checkpoint import Checkpoint
from fastprompt.saving import prompt_file

import numpy


class PromptModel(TunedTensors, nn.Module):
    """A backbone, a prompt, and a head; a subclass is a task.

    Make one with `from_pretrained`.

    Attributes:
        task: its name, in prompt files and in `models.heads.HEADS`.
        pools: whether its head reads one vector of an example; else it reads every token's.
        outputs: the names of the head's outputs where the task fixes them.
        fills_blanks: whether its texts stand in templates with a blank.
        causal: whether it is for backbones whose tokens see only those before them; None: for all.
        encoder_decoder: whether it is for those with an encoder and a decoder.
        first_step_checked: whether its first training step has looked at the prompt's gradient.
    """

    task: ClassVar[str]
    pools: ClassVar[bool] = True
    fills_blanks: ClassVar[bool] = False
    causal: ClassVar[bool | None] = False
    encoder_decoder: ClassVar[bool] = False
    outputs: ClassVar[tuple[str, ...] | None] = None

    def __init__(
        self,
        checkpoint: Checkpoint,
        backbone: Any,
        config: MethodConfig,
        *,
        num_labels: int,
        label_names: list[str],
        problem_type: str | None = None,
        seed: int = 0,
        bf16: bool = False,
        bits: int | None = None,
        gradient_checkpointing: bool = False,
        collapsed: bool = False,
    ) -> None:
        super().__init__()
        self.method_config = self._settled(config, checkpoint)
        self.num_labels = num_labels
        self.label_names = label_names
        self.problem_type = problem_type
        self.checkpoint = checkpoint
        self.backbone = backbone
        self._check_direction()
        self._check_positions()
        self._check_template()
        self.head = self._make_head(self.backbone.geometry.hidden_size)
        self._fresh = self._initialise_head(seed)
        self.has_encoder = config.has_encoder and not collapsed
        if config.prompt_kind is not None:
            self.prompt = make_prompt(self.method_config, checkpoint, backbone, collapsed, seed)
        if gradient_checkpointing:
            self.backbone.gradient_checkpointing = True
        self._freeze()
        self._sizes = {name: int(numpy.prod(tuple(p.shape))) for name, p in self.named_tensors().items()}
        self._bf16 = bf16
        if bf16 or bits:
            self._make_smaller(bits)
        self.first_step_checked = False

    # -- making ------------------------------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(
        cls,
        model_name_or_path: str | Path,
        config: MethodConfig | None = None,
        *,
        num_labels: int | None = None,
        label_names: list[str] | None = None,
        problem_type: str | None = None,
        backbone: str | Path | None = None,
        seed: int = 0,
        bf16: bool = False,
        load_in_8bit: bool = False,
        load_in_4bit: bool = False,
        gradient_checkpointing: bool = False,
        portable: bool = False,
        hidden_dropout_prob: float | None = None,
        attention_probs_dropout_prob: float | None = None,
    ) -> "PromptModel":
        """A model ready to train, or a saved prompt ready for use.

        Args:
            model_name_or_path: a hub id, a folder in Hugging Face form, or a saved prompt's folder.
            config: the method; P-Tuning v2 where none is given. A saved prompt brings its own.
            num_labels: number of classes; 2, or as many as there are names, or 1 for a regression.
            label_names: their names, in order of their indices.
            problem_type: sequence classification's, as transformers names it: "single_label_classification",
                "multi_label_classification" or "regression". None: a regression where num_labels is 1, else the first.
            backbone: where the backbone of a saved prompt lies, if not where its file says.
            seed: seeds the initial values of prompt and head.
            bf16: keep a frozen backbone in bfloat16; prompt and head stay in float32.
            load_in_8bit, load_in_4bit: keep a frozen backbone's linear layers in so many bits (torch, bitsandbytes).
            gradient_checkpointing: compute activations again in the backward pass instead of keeping them.
            portable: on torch, take the portable definition instead of the stock transformers model.
            hidden_dropout_prob: dropout of hidden states, prefix and head. None: 0 where the backbone is frozen, for
                there it only blurs the prompt's gradient, else the checkpoint's rates.
            attention_probs_dropout_prob: replaces the checkpoint's rate for attention probabilities.

        Raises:
            CheckpointError: something of backbone or prompt is missing, cut, or does not fit the other.
            ConfigError: an option's value cannot work.
        """
        if load_in_8bit and load_in_4bit:
            raise ConfigError("load_in_8bit and load_in_4bit exclude each other; choose one.")
        saved = prompt_file.read_prompt(model_name_or_path) if prompt_file.is_prompt(model_name_or_path) else None
        if saved is not None:
            if config is not None:
                raise ConfigError(f"{model_name_or_path} is a saved prompt and brings its own configuration.")
            saved.check_task(cls.task)
            config = saved.config
            num_labels, label_names, problem_type = saved.num_labels, saved.label_names, saved.problem_type
            checkpoint = Checkpoint(backbone or saved.backbone_name)
            saved.check_backbone(checkpoint)
        else:
            if backbone is not None:
                raise ConfigError(f"backbone= goes with a saved prompt; {model_name_or_path} holds none.")
            checkpoint = Checkpoint(model_name_or_path)
            config = config or PTuningV2Config()
        if hidden_dropout_prob is not None and isinstance(config, PTuningV2Config):
            config = dataclasses.replace(config, prefix_dropout=hidden_dropout_prob)
        elif hidden_dropout_prob is None and not config.tunes_backbone:
            hidden_dropout_prob = 0.0
        label_names, problem_type = cls.describe_outputs(num_labels, label_names, problem_type)
        loaded = load_backbone(
            checkpoint,
            portable=portable,
            hidden_dropout_prob=hidden_dropout_prob,
            attention_probs_dropout_prob=attention_probs_dropout_prob,
        )
        model = cls(
            checkpoint,
            loaded,
            config,
            num_labels=len(label_names),
            label_names=label_names,
            problem_type=problem_type,
            seed=seed,
            bf16=bf16,
            bits=8 if load_in_8bit else 4 if load_in_4bit else None,
            gradient_checkpointing=gradient_checkpointing,
            collapsed=saved is not None and saved.collapsed,
        )
        if saved is not None:
            model.load_tuned(saved)
        return model

    @classmethod
    def describe_outputs(
        cls, num_labels: int | None, label_names: list[str] | None, problem_type: str | None
    ) -> tuple[list[str], str | None]:
        """The names of the head's outputs and the type of problem, from what the caller says of them.

        Raises:
            ConfigError: the task takes no such outputs.
        """
        if problem_type is not None:
            raise ConfigError(f"problem_type is a matter of sequence classification; leave it off for {cls.task}.")
        if cls.outputs is None:
            return label_names_of(num_labels, label_names, default=2), None
        fixed = list(cls.outputs)
        if num_labels not in (None, len(fixed)) or label_names not in (None, fixed):
            raise ConfigError(f"The outputs of {cls.task} are fixed; leave num_labels and label_names off.")
        return fixed, None

    @classmethod
    def _settled(cls, config: MethodConfig, checkpoint: Checkpoint) -> MethodConfig:
        """`config` with what it leaves to the checkpoint."""
        if getattr(config, "prefix_parts", None) and not checkpoint.family.encoder_decoder:
            raise ConfigError(
                f"prefix_parts are an encoder-decoder's, and {checkpoint.name} ({checkpoint.model_type}) is none; "
                f"leave them off."
            )
        if cls.pools:
            if checkpoint.family.causal and config.pooling in ("first", "prompt"):
                raise ConfigError(
                    f"pooling={config.pooling!r} reads a place of {checkpoint.name} that sees nothing of the text "
                    f"behind it; a causal model takes 'last' or 'mean'."
                )
            return config if config.pooling else dataclasses.replace(config, pooling=checkpoint.pooling)
        if config.pooling:
            raise ConfigError(f"{cls.task} reads every token and pools none; leave pooling={config.pooling!r} off.")
        return config

    def _check_direction(self) -> None:
        if self.backbone.family.encoder_decoder != self.encoder_decoder:
            kind = "no encoder-decoder" if self.encoder_decoder else "an encoder-decoder"
            mend = "take one, such as T5 or BART" if self.encoder_decoder else "there is PromptForSeq2SeqLM for it"
            raise ConfigError(
                f"{self.checkpoint.name} ({self.checkpoint.model_type}) is {kind}, which {self.task} does not go with; "
                f"{mend}."
            )
        if self.causal is not None and self.backbone.family.causal != self.causal:
            kind = "a causal" if self.backbone.family.causal else "no causal"
            mend = "there is PromptForCausalLM for it" if self.backbone.family.causal else "take one, such as Llama"
            raise ConfigError(
                f"{self.checkpoint.name} ({self.checkpoint.model_type}) is {kind} language model, which "
                f"{self.task} does not go with; {mend}."
            )

    def _check_template(self) -> None:
        config = self.method_config
        if not self.fills_blanks and (config.template or config.verbalizer):
            raise ConfigError(f"Template and verbalizer are a masked language model's; leave them off for {self.task}.")
        if not self.fills_blanks and not config.trains:
            raise ConfigError(
                f"{config.method} trains nothing, and {self.task} has a head to train; use another method."
            )

    def _make_head(self, hidden_size: int) -> Any:
        return make_head(self.task, self.backbone.family.head, self.backbone.config, hidden_size, self.num_labels)

    def _check_positions(self) -> None:
        limit = self.backbone.geometry.max_positions
        length = self.method_config.length if self.method_config.prompt_kind == "shallow" else self._shift
        if limit and length and length + 2 > limit:
            raise ConfigError(
                f"A prompt of {length} leaves no room in the backbone's {limit} positions; "
                f"shorten it{' or leave shift_positions off' if self._shift else ''}."
            )

    @property
    def _shift(self) -> int:
        return self.method_config.pre_seq_len if getattr(self.method_config, "shift_positions", False) else 0

    def _positions_taken(self) -> int:
        """How many of the backbone's positions the prompt uses up; in a template they count as the input's."""
        return self.method_config.length_before or self._shift

    @property
    def max_length(self) -> int | None:
        """The longest input in tokens, beside the prompt; None where the backbone sets no limit."""
        limit = self.backbone.geometry.max_positions
        return None if limit is None else limit - self._positions_taken()

    def _initialise_head(self, seed: int) -> set[str]:
        """Give the head its checkpoint's values where it has them; the names of those that are fresh."""
        head = nn.named_parameters(self.head)
        stored = self.checkpoint.tensors(only={key for name in head for key in (name, f"head:{name}")})
        std = self.backbone.geometry.initializer_range
        fresh = set()
        for name, parameter in head.items():
            shape = tuple(parameter.shape)
            value = next((stored[key] for key in (name, f"head:{name}") if key in stored), None)
            if value is None or value.shape != shape:
                fresh.add(name)
                if "norm." in name.lower() and name.endswith("weight"):
                    value = numpy.ones(shape)
                else:
                    value = normal(seed, f"head.{name}", shape, 0.0 if name.endswith("bias") else std)
            nn.set_value(parameter, value.astype("float32"))
        return fresh

    def _make_smaller(self, bits: int | None) -> None:
        if self.method_config.tunes_backbone:
            named = f"load_in_{bits}bit" if bits else "bf16"
            raise ConfigError(
                f"{self.method_config.method} trains the backbone, which {named} keeps frozen; leave {named} off."
            )
        if self._bf16:
            nn.to_bf16(self.backbone)
        if bits:
            nn.quantize(self.backbone, bits)

    # -- running -----------------------------------------------------------------------------------------------------

    def encode(
        self,
        input_ids: Any,
        attention_mask: Any = None,
        token_type_ids: Any = None,
        output_hidden_states: bool = False,
        pseudo_tokens: Any = None,
    ) -> tuple[Any, list[Any]]:
        """The backbone with its prompt.

        Returns what the head reads, as `pool` gives it, and the hidden states of prompt and tokens.
        """
        inputs = self.backbone_inputs(input_ids, attention_mask, token_type_ids, pseudo_tokens)
        states = self.backbone(**inputs, output_hidden_states=output_hidden_states)
        return self.pool(states[-1], inputs["attention_mask"]), states

    def backbone_inputs(
        self, input_ids: Any, attention_mask: Any = None, token_type_ids: Any = None, pseudo_tokens: Any = None
    ) -> dict[str, Any]:
        """What the backbone is called with for a batch (B, T) and the prompt; an attention mask is always in it.

        Args:
            pseudo_tokens: (B, T), where a template has the prompt among its words: which pseudo token stands at a
                place, counted from 1, and 0 for the others.

        Raises:
            ConfigError: the input is longer than the backbone's positions allow.
            DataError: pseudo_tokens are missing.
        """
        config = self.method_config
        if self.max_length is not None and input_ids.shape[1] > self.max_length:
            raise ConfigError(
                f"The input has {input_ids.shape[1]} tokens, the backbone's positions leave room for "
                f"{self.max_length}; lower max_length (--max_seq_length)."
            )
        if attention_mask is None:
            attention_mask = input_ids * 0 + 1
        inputs = {"attention_mask": attention_mask}
        if token_type_ids is not None and self.backbone.takes_token_types:
            inputs["token_type_ids"] = token_type_ids
        if config.prompt_kind == "shallow":
            words = self.backbone.word_embeddings()(input_ids)  # (B, T, embedding_size)
            if config.length_before:
                inputs = shallow.lengthen(words, inputs, self.prompt())
            elif pseudo_tokens is None:
                raise DataError("pseudo_tokens are missing: the template's places for the prompt.")
            else:
                inputs["inputs_embeds"] = shallow.fill_in(words, self.prompt(), pseudo_tokens)
        else:
            inputs["input_ids"] = input_ids
        if config.prompt_kind == "deep":
            inputs["prefix"] = self._deep_prefix(input_ids.shape[0])
        inputs.update(self.position_ids(inputs, input_ids))
        return inputs

    def _deep_prefix(self, batch: int) -> Any:
        return self._spread(*self.prompt(), batch)

    def _spread(self, key: Any, value: Any, batch: int) -> Prefix:
        """Keys and values [layers, heads_kv, pre_seq_len, head_dim] as the backbone takes them."""
        dropout = self.method_config.prefix_dropout if self.training else 0.0
        return deep.deep_prefix(key, value, batch, dropout, self._bf16, self.method_config.shift_positions)

    def position_ids(self, inputs: dict[str, Any], input_ids: Any) -> dict[str, Any]:
        """{"position_ids"} where the backbone would count others by itself: of all that the attention mask of `inputs`
        is of."""
        family = self.backbone.family
        if family.causal and not family.alibi:
            return {"position_ids": causal_positions(inputs["attention_mask"], self._shift)}
        if self._shift and not family.causal:
            return {"position_ids": positions(self.backbone.config, input_ids, input_ids, self._shift)}
        return {}

    def pool(self, last: Any, attention_mask: Any) -> Any:
        """The last hidden states and the mask of `backbone_inputs` -> what the head reads, in float32: (B, hidden), or
        (B, T, hidden) of all tokens where the task does not pool."""
        last = ops.cast(last, "float32") if self._bf16 else last
        return pool(last, attention_mask, self.method_config.pooling, self.method_config.length_before)

    def train_step(self, input_ids: Any, attention_mask: Any, labels: Any, token_type_ids: Any = None) -> dict:
        """fastNLP's training step: {"loss"}.

        Raises:
            TrainingError: at the first step, where the prompt gets no gradient and so would silently not train.
        """
        return self._train_on(
            {
                "input_ids": input_ids,
                "attention_mask": attention_mask,
                "token_type_ids": token_type_ids,
                "labels": labels,
            }
        )

    def evaluate_step(self, input_ids: Any, attention_mask: Any, labels: Any, token_type_ids: Any = None) -> dict:
        """fastNLP's evaluation step: {"pred", "target": the labels, "loss": scalar}; pred as `predictions` gives it."""
        output = self(input_ids, attention_mask, token_type_ids, labels)
        return {"pred": self.predictions(output.logits), "target": labels, "loss": output.loss}

    def predictions(self, logits: Any) -> Any:
        """The class, choice or tag (...) that logits (..., C) put first."""
        return ops.argmax(logits, axis=-1)

    def _train_on(self, inputs: dict[str, Any]) -> dict:
        loss = self(**inputs).loss
        if not self.first_step_checked:
            self._check_first_step(loss)
        return {"loss": loss}

    def _check_first_step(self, loss: Any) -> None:
        if self.method_config.prompt_kind is None:
            self.first_step_checked = True
            return
        prompt = [p for name, p in self.tuned_parameters().items() if name.startswith("prompt.")]
        if prompt and not ops.to_numpy(loss).any():  # no label of the batch counts; the next one will tell
            return
        self.first_step_checked = True
        if prompt and any(g.any() for g in ops.gradients(loss, prompt, keep_graph=True)):
            return
        reason = "the model is in evaluation mode: call model.train()" if not self.training else "it reaches no loss"
        raise TrainingError(f"The prompt gets no gradient under {backend()} ({reason}); nothing would be tuned.")

    # -- saving ------------------------------------------------------------------------------------------------------

    def save_pretrained(self, directory: str | Path) -> None:
        """Write what was tuned, and not the backbone, as `prompt_config.json` and `prompt.safetensors`.

        Both are written whole or not at all; an earlier prompt in the folder is replaced.
        """
        write_prompt(self, directory)

    def export(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write the model as ONNX for serving, its prompt baked in as constants; on torch only.

        The graph takes input_ids, attention_mask and, where the family has them, token_type_ids, int64 (B, T) with B
        and T free, of multiple choice (B, C, T), and gives logits; its metadata name task, problem_type, method,
        labels, max_length and backbone. Weights above 2 GiB go to `path` + ".data" beside it. Both are written whole
        or not at all.

        Raises:
            BackendError: another framework than torch, or the exporter's packages are missing.
            ConfigError: the file exists already, its folder does not, or the backbone is kept in bf16.
            CheckpointError: the file cannot be written, or the model has no ONNX form.
        """
        if backend() != "torch":
            raise BackendError(
                f"export runs on torch, this process on {backend()}: save the prompt, start again with "
                f"FASTNLP_BACKEND=torch, and load the same folder there."
            )
        importlib.import_module("fastprompt.drivers.torch.export").export(self, path, overwrite)

    def load_prompt(self, directory: str | Path) -> None:
        """Replace what was tuned by a saved prompt of the same method and backbone.

        Raises:
            CheckpointError: the prompt is of another backbone, or its tensors do not fit.
        """
        saved = prompt_file.read_prompt(directory)
        saved.check_task(self.task)
        saved.check_backbone(self.checkpoint)
        self.load_tuned(saved)

    def load_tuned(self, saved: "prompt_file.SavedPrompt") -> None:
        """Put a saved prompt's tensors in place.

        Raises:
            CheckpointError: a tensor is missing, left over, or of another shape, or the prompt has lost the encoder
                that this model's has.
        """
        if saved.collapsed and self.has_encoder:
            raise CheckpointError(
                f"{saved.directory} holds a prompt without the encoder that this model makes its own with; "
                f"open it with from_pretrained."
            )
        names = prompt_file.prompt_tensors(self.method_config)
        stored = {name: array for name, array in saved.tensors.items() if name not in names}
        if names and not self.has_encoder:
            if missing := [name for name in names if name not in saved.tensors]:
                raise CheckpointError(f"{saved.directory} lacks the tensor {missing[0]}; save the prompt again.")
            rows = self.prompt.expand_from(saved.tensors)
            stored.update({f"prompt.{name}": value for name, value in rows.items()})
        targets = self.named_tensors()
        if missing := sorted(set(self.kept_parameters()) - set(stored)):
            raise CheckpointError(f"{saved.directory} lacks the tensor {missing[0]}; save the prompt again.")
        if unknown := sorted(set(stored) - set(targets)):
            raise CheckpointError(f"{saved.directory} has a tensor {unknown[0]} that this model has no place for.")
        for name, value in stored.items():
            if tuple(targets[name].shape) != value.shape:
                raise CheckpointError(
                    f"{saved.directory}: {name} has the shape {value.shape}, the model {tuple(targets[name].shape)}."
                )
            nn.set_value(targets[name], value)
