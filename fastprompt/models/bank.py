"""Prompts of several tasks on one backbone, which is held in memory once; rows of one batch may take different ones."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fastprompt.backbones.loading import load_backbone
from fastprompt.backbones.portable import positions
from fastprompt.backbones.prefix import Prefix
from fastprompt.errors import CheckpointError, ConfigError
from fastprompt.framework import nn, ops, runtime
from fastprompt.models.outputs import ModelOutput, Outputs
from fastprompt.models.sequence_classification import PromptForSequenceClassification
from fastprompt.pretrained.checkpoint import Checkpoint
from fastprompt.saving import prompt_file


class PromptBank(nn.Module):
    """Saved classification prompts by name, in evaluation mode; `from_pretrained` makes one."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        self.checkpoint = checkpoint
        self.backbone = load_backbone(checkpoint, hidden_dropout_prob=0.0)
        self.models = nn.ModuleList()
        self._index: dict[str, int] = {}

    @classmethod
    def from_pretrained(cls, prompts: Mapping[str, str | Path], *, backbone: str | Path | None = None) -> "PromptBank":
        """Load prompts that were tuned on the same backbone.

        Args:
            prompts: name -> a saved prompt's folder.
            backbone: where the backbone lies, if not where the first prompt's file says.

        Raises:
            CheckpointError: a prompt or the backbone is missing or cut, or a prompt is of another backbone or task.
            ConfigError: there is no prompt, or one that tunes the backbone.
        """
        if not prompts:
            raise ConfigError("A bank needs a prompt: PromptBank.from_pretrained({name: folder, ...}).")
        bank = cls(prompt_file.read_prompt(next(iter(prompts.values()))).open_backbone(backbone))
        for name, directory in prompts.items():
            bank.add(name, directory)
        return bank

    def add(self, name: str, directory: str | Path) -> None:
        """Load one more prompt; raises what `from_pretrained` raises."""
        if name in self._index:
            raise ConfigError(f"This bank has a prompt {name!r} already; give the one in {directory} another name.")
        saved = prompt_file.read_prompt(directory)
        saved.check_task(PromptForSequenceClassification.task)
        if saved.config.tunes_backbone:
            raise ConfigError(
                f"{name!r} ({directory}) is {saved.config.method}, which changes the backbone; "
                f"a bank's prompts share one that stays as it is."
            )
        if self.checkpoint.family.alibi and saved.config.position_shift:
            raise ConfigError(
                f"{name!r} ({directory}) stands before its text (shift_positions), which {self.checkpoint.model_type} "
                f"measures; a bank's prompts share a batch, where their lengths differ."
            )
        if saved.fingerprint != self.checkpoint.fingerprint:
            raise CheckpointError(
                f"{name!r} ({directory}) was tuned on {saved.backbone_name}, whose weights are not those of "
                f"{self.checkpoint.name}; a bank's prompts share one backbone."
            )
        with runtime.one_thread():
            model = PromptForSequenceClassification(
                self.checkpoint,
                self.backbone,
                saved.config,
                Outputs(saved.label_names, saved.problem_type),
                collapsed=saved.collapsed,
            )
            model.load_tuned(saved)
            nn.move(model, nn.device_of(self.backbone))
            self.models.append(model)
            self.eval()
        self._index[name] = len(self._index)  # last: other threads may be using the bank meanwhile

    @property
    def names(self) -> list[str]:
        """The prompts' names, in the order in which they were added."""
        return list(self._index)

    @property
    def label_names(self) -> dict[str, list[str]]:
        """Every prompt's label names, in order of their indices."""
        return {name: self._model(name).label_names for name in self._index}

    def _model(self, name: str) -> PromptForSequenceClassification:
        if name not in self._index:
            raise ConfigError(f"This bank has no prompt {name!r}; it holds {', '.join(self._index)}.")
        return self.models[self._index[name]]

    def forward(
        self,
        input_ids: Any,
        attention_mask: Any = None,
        token_type_ids: Any = None,
        *,
        prompts: str | Sequence[str],
    ) -> ModelOutput:
        """Classify a batch, all rows by one prompt or each row by its own, in one pass through the backbone.

        Several threads may call a bank at once; under jittor they run in turn.

        Args:
            input_ids: (B, T) token ids; attention_mask: (B, T), 1 for real tokens; token_type_ids: (B, T).
            prompts: a name for all rows, or a name per row.

        Returns:
            Logits as that prompt's model gives them: (B, num_labels) for one name; for a name per row a list of B
            tensors (num_labels of the row's prompt,), in the rows' order.

        Raises:
            ConfigError: a name is unknown, or there are not as many as rows.
        """
        inputs = (input_ids, attention_mask, token_type_ids)
        with runtime.one_thread():
            if isinstance(prompts, str):
                return self._model(prompts)(*inputs)
            return ModelOutput(None, self._forward_mixed(list(prompts), inputs))

    def _forward_mixed(self, prompts: list[str], inputs: tuple[Any, Any, Any]) -> list[Any]:
        """The logits of every row, by its own prompt."""
        batch = inputs[0].shape[0]
        if len(prompts) != batch:
            raise ConfigError(
                f"prompts= has {len(prompts)} names for {batch} rows; give one name per row, or one string for all."
            )
        groups = {name: [row for row in range(batch) if prompts[row] == name] for name in dict.fromkeys(prompts)}
        models = [self._model(name) for name in groups]
        parts = [
            model.backbone_inputs(*(None if x is None else ops.take_rows(x, rows) for x in inputs))
            for model, rows in zip(models, groups.values(), strict=True)
        ]
        last = self.backbone(**_merge(parts, self.backbone))[-1]
        logits: list[Any] = [None] * batch
        start = 0
        for model, part, rows in zip(models, parts, groups.values(), strict=True):
            mask = part["attention_mask"]
            states = last[start : start + len(rows), : mask.shape[1]]
            found = model.head(model.pool(states, mask))  # (rows of this prompt, its num_labels)
            for index, row in enumerate(rows):
                logits[row] = found[index]
            start += len(rows)
        return logits


def _merge(parts: list[dict[str, Any]], backbone: Any) -> dict[str, Any]:
    """The `backbone_inputs` of groups of rows -> those of one batch, the rows of the first group first.

    Shorter inputs are padded at the end, where no position of theirs moves, and shorter prefixes likewise; neither
    padding is seen.
    """
    parts = [dict(part) for part in parts]
    prefixes = [part.pop("prefix", None) for part in parts]
    embedded = any("inputs_embeds" in part for part in parts)
    shifted = any("position_ids" in part for part in parts)
    for part in parts:
        ids = part.get("input_ids")
        if shifted or (embedded and backbone.family.positions_follow_padding):
            part.setdefault("position_ids", positions(backbone.config, part["attention_mask"], ids, shift=0))
        if embedded and ids is not None:
            part["inputs_embeds"] = backbone.word_embeddings()(part.pop("input_ids"))
    width = max(part["attention_mask"].shape[1] for part in parts)
    merged = {name: ops.cat([_pad(part[name], width, axis=1) for part in parts], axis=0) for name in parts[0]}
    if any(prefixes):
        counts = [part["attention_mask"].shape[0] for part in parts]
        merged["prefix"] = _merge_prefixes(prefixes, counts, backbone.prefix_shape, merged["attention_mask"])
    return merged


def _merge_prefixes(
    prefixes: list[Prefix | None], counts: list[int], prefix_shape: tuple[int, int, int], like: Any
) -> Prefix:
    """The prefixes of groups of counts[i] rows -> one whose mask hides what a row's own has not; `like`: any tensor."""
    layers, heads, width = prefix_shape
    length = max(prefix.length for prefix in prefixes if prefix)
    merged = []
    for prefix, rows in zip(prefixes, counts, strict=True):
        if prefix is None:
            empty = ops.zeros((layers, rows, heads, length, width), like=like)
            merged.append((empty, empty, ops.zeros((rows, length), like=like)))
        else:
            shape = (layers, rows, heads, prefix.length, width)
            key, value = (_pad(ops.expand(x, shape), length, axis=3) for x in (prefix.key, prefix.value))
            merged.append((key, value, _pad(ops.ones((rows, prefix.length), like=like), length, axis=1)))
    keys, values, masks = zip(*merged, strict=True)
    return Prefix(ops.cat(keys, axis=1), ops.cat(values, axis=1), ops.cat(masks, axis=0))


def _pad(x: Any, length: int, axis: int) -> Any:
    """`x` with zeros after it up to `length` along `axis`."""
    missing = length - x.shape[axis]
    if not missing:
        return x
    shape = list(x.shape)
    shape[axis] = missing
    return ops.cat([x, ops.cast_like(ops.zeros(shape, like=x), x)], axis=axis)
