"""Prompts of several tasks on one backbone, which is held in memory once; rows of one batch may take different ones."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fastprompt.backbones.loading import load_backbone
from fastprompt.backbones.portable import PortableBackbone, positions
from fastprompt.backbones.prefix import Prefix
from fastprompt.errors import CheckpointError, ConfigError
from fastprompt.framework import nn, ops, runtime
from fastprompt.models.base import PromptModel
from fastprompt.models.outputs import ModelOutput, Outputs
from fastprompt.models.pooling import read_alone
from fastprompt.models.sequence_classification import PromptForSequenceClassification
from fastprompt.models.token_classification import PromptForTokenClassification
from fastprompt.pretrained.checkpoint import Checkpoint
from fastprompt.saving import prompt_file

_TOGETHER = 32  # rows of several prompts in one run
TASKS = {kind.task: kind for kind in (PromptForSequenceClassification, PromptForTokenClassification)}


class PromptBank(nn.Module):
    """Saved prompts of classifiers and taggers by name, in evaluation mode; `from_pretrained` makes one."""

    def __init__(self, checkpoint: Checkpoint, portable: bool = False) -> None:
        super().__init__()
        self.checkpoint = checkpoint
        self.backbone = load_backbone(checkpoint, portable=portable, hidden_dropout_prob=0.0)
        self.models = nn.ModuleList()
        self._index: dict[str, int] = {}

    @classmethod
    def from_pretrained(cls, prompts: Mapping[str, str | Path], *, backbone: str | Path | None = None) -> "PromptBank":
        """Load prompts that were tuned on the same backbone.

        Where one has a prefix in chosen layers, the backbone is the portable definition, which computes the layers
        before them once a text.

        Args:
            prompts: name -> a saved prompt's folder.
            backbone: where the backbone lies, if not where the first prompt's file says.

        Raises:
            CheckpointError: a prompt or the backbone is missing or cut, or a prompt is of another backbone or task.
            ConfigError: there is no prompt, or one that tunes the backbone.
        """
        if not prompts:
            raise ConfigError("A bank needs a prompt: PromptBank.from_pretrained({name: folder, ...}).")
        saved = [prompt_file.read_description(directory) for directory in prompts.values()]
        checkpoint = saved[0].open_backbone(backbone)
        chosen = any(one.config.prefix_layers for one in saved)
        bank = cls(checkpoint, portable=chosen and checkpoint.family.portable is not None)
        for name, directory in prompts.items():
            bank.add(name, directory)
        return bank

    def add(self, name: str, directory: str | Path) -> None:
        """Load one more prompt; raises what `from_pretrained` raises."""
        if name in self._index:
            raise ConfigError(f"This bank has a prompt {name!r} already; give the one in {directory} another name.")
        saved = prompt_file.read_prompt(directory)
        if saved.task not in TASKS:
            raise CheckpointError(
                f"{name!r} ({directory}) was tuned for {saved.task}; a bank takes prompts for {' and '.join(TASKS)}."
            )
        if saved.config.tunes_backbone:
            raise ConfigError(
                f"{name!r} ({directory}) is {saved.config.described}, which changes the backbone; "
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
            model = TASKS[saved.task](
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

    def _model(self, name: str) -> PromptModel:
        if name not in self._index:
            raise ConfigError(f"This bank has no prompt {name!r}; it holds {', '.join(self._index)}.")
        return self.models[self._index[name]]

    def forward(
        self,
        input_ids: Any,
        attention_mask: Any = None,
        token_type_ids: Any = None,
        *,
        prompts: str | Sequence[str | Sequence[str]],
    ) -> ModelOutput:
        """Read a batch, all rows with one prompt, or each row with its own or with several.

        Several threads may call a bank at once; under jittor they run in turn.

        Args:
            input_ids: (B, T) token ids; attention_mask: (B, T), 1 for real tokens; token_type_ids: (B, T).
            prompts: a name for all rows, or for each row a name or several.

        Returns:
            Logits as that prompt's model gives them: (B, num_labels) for one name, of a tagger (B, T, num_labels); for
            a name a row a list of B tensors (num_labels of the row's prompt,) or (T, num_labels), in the rows' order;
            for several names a row in place of each tensor a list of them, in the names' order.

        Raises:
            ConfigError: a name is unknown, a row has none, or there are not as many as rows.
        """
        inputs = (input_ids, attention_mask, token_type_ids)
        with runtime.one_thread():
            if isinstance(prompts, str):
                return self._model(prompts)(*inputs)
            asked = [[names] if isinstance(names, str) else list(names) for names in prompts]
            found = self._forward_mixed(asked, inputs)
            single = [isinstance(names, str) for names in prompts]
            return ModelOutput(None, [row[0] if one else row for row, one in zip(found, single, strict=True)])

    def _forward_mixed(self, prompts: list[list[str]], inputs: tuple[Any, Any, Any]) -> list[list[Any]]:
        """The logits of every row, by each of its prompts."""
        batch = inputs[0].shape[0]
        if len(prompts) != batch:
            raise ConfigError(
                f"prompts= has {len(prompts)} names for {batch} rows; give one name per row, or one string for all."
            )
        if not all(prompts):
            raise ConfigError(f"prompts= has no name for row {prompts.index([])}; each row takes one or more.")
        rows_of: dict[str, list[int]] = {}
        for row, names in enumerate(prompts):
            for name in names:
                rows_of.setdefault(name, []).append(row)
        shared = _SharedLayers(self.backbone, inputs)
        logits: dict[tuple[str, int], Any] = {}
        for layers, names in self._runs(rows_of):
            models = [self._model(name) for name in names]
            parts = []
            for model, rows in zip(models, names.values(), strict=True):
                part = model.backbone_inputs(*(None if x is None else ops.take_rows(x, rows) for x in inputs))
                if layers and isinstance(self.backbone, PortableBackbone):
                    part["frozen_states"] = ops.take_rows(shared.before(layers[0], model), rows)
                parts.append(part)
            alone = [read_alone(model) for model in models]
            together = alone[0] if all(one == alone[0] for one in alone) else {}
            last = self.backbone(**_merge(parts, self.backbone), **together)[-1]
            start = 0
            for (name, rows), model, part in zip(names.items(), models, parts, strict=True):
                mask = part["attention_mask"]
                states = last[start : start + len(rows), : mask.shape[1]]
                found = model.head(model.pool(states, mask))  # (rows of this prompt, ...)
                logits |= {(name, row): found[index] for index, row in enumerate(rows)}
                start += len(rows)
        return [[logits[name, row] for name in names] for row, names in enumerate(prompts)]

    def _runs(self, rows_of: dict[str, list[int]]) -> list[tuple[tuple[int, ...] | None, dict[str, list[int]]]]:
        """Which prompts, with their rows, run together: of the same layers, and few enough rows that merging their
        prefixes costs less than a run of its own. What enters a later layer goes on from an earlier one."""
        runs: list[tuple[tuple[int, ...] | None, dict[str, list[int]]]] = []
        of_layers = {name: self._model(name).method_config.prefix_layers for name in rows_of}
        for name in sorted(rows_of, key=lambda name: of_layers[name] or ()):
            layers, rows = of_layers[name], rows_of[name]
            last, names = runs[-1] if runs else (None, {})
            if not names or last != layers or sum(map(len, names.values())) + len(rows) > _TOGETHER:
                runs.append((layers, names := {}))
            names[name] = rows
        return runs


class _SharedLayers:
    """What the layers without a prefix give of a batch, each computed once."""

    def __init__(self, backbone: Any, inputs: tuple[Any, Any, Any]) -> None:
        self._backbone = backbone
        self._inputs = inputs
        self._found: dict[int, dict[int, Any]] = {}  # position_shift -> layer -> states

    def before(self, layer: int, model: PromptModel) -> Any:
        """(B, T, hidden) that enters this layer with the positions of `model`."""
        found = self._found.setdefault(model.method_config.position_shift, {})
        if layer not in found:
            inputs = model.backbone_inputs(*self._inputs)
            inputs.pop("prefix", None)
            earlier = max((one for one in found if one < layer), default=None)
            before = None if earlier is None else (earlier, found[earlier])
            found[layer] = self._backbone.frozen_states(layer, **inputs, before=before)
        return found[layer]


def _merge(parts: list[dict[str, Any]], backbone: Any) -> dict[str, Any]:
    """The `backbone_inputs` of groups of rows -> those of one batch, the rows of the first group first.

    Shorter inputs are padded at the end, where no position of theirs moves, and shorter prefixes likewise; neither
    padding is seen.
    """
    if len(parts) == 1:
        return parts[0]
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
    _, heads, width = prefix_shape
    given = [prefix for prefix in prefixes if prefix]
    length, layers = max(prefix.length for prefix in given), given[0].key.shape[0]
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
    if len(given) == len(prefixes) and all(prefix.length == length for prefix in given):
        masks = None  # all is seen
    return Prefix(
        ops.cat(keys, axis=1), ops.cat(values, axis=1), masks and ops.cat(masks, axis=0), layers=given[0].layers
    )


def _pad(x: Any, length: int, axis: int) -> Any:
    """`x` with zeros after it up to `length` along `axis`."""
    missing = length - x.shape[axis]
    if not missing:
        return x
    shape = list(x.shape)
    shape[axis] = missing
    return ops.cat([x, ops.cast_like(ops.zeros(shape, like=x), x)], axis=axis)
