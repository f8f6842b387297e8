"""Several prompts on one backbone: each row gets what its prompt's own model gives."""

import sys
import threading

import fastprompt as fp
from fastprompt.errors import CheckpointError, ConfigError
from fastprompt.framework import nn, ops

import numpy
import pytest

# name -> its method and its labels: kinds, lengths, positions, poolings and numbers of classes all differ
PROMPTS = {
    "long": (fp.PTuningV2Config(pre_seq_len=7, init_std=1.0), ["bad", "good"]),
    "short": (fp.PTuningV2Config(pre_seq_len=2, init_std=1.0, pooling="mean"), ["no", "maybe", "yes"]),
    "shifted": (fp.PTuningV2Config(pre_seq_len=4, init_std=1.0, shift_positions=True), ["a", "b"]),
    "projected": (fp.PTuningV2Config(pre_seq_len=3, prefix_projection=True, init_std=1.0), ["a", "b"]),
    "shallow": (fp.ShallowPrefixConfig(pre_seq_len=5, pooling="mean"), ["a", "b", "c", "d"]),
    "tutorial": (fp.ShallowPrefixConfig(pre_seq_len=2, pooling="prompt"), ["a", "b"]),
    "tuning": (fp.PromptTuningConfig(num_virtual_tokens=3), ["a", "b"]),
    "probe": (fp.LinearProbeConfig(), ["a", "b"]),
    "last": (fp.PTuningV2Config(pre_seq_len=3, init_std=1.0, prefix_layers="last:1"), ["a", "b"]),
    "last-too": (fp.PTuningV2Config(pre_seq_len=5, init_std=1.0, prefix_layers=[2]), ["a", "b", "c"]),
    "last-two": (fp.PTuningV2Config(pre_seq_len=3, init_std=1.0, prefix_layers="last:2"), ["a", "b"]),
    "last-shifted": (
        fp.PTuningV2Config(pre_seq_len=2, init_std=1.0, prefix_layers="last:1", shift_positions=True),
        ["a", "b"],
    ),
}
MIXES = {
    "deep": ["long", "short", "projected", "long"],
    "deep-shifted": ["shifted", "short", "long", "probe"],
    "shallow": ["tuning", "shallow", "tutorial", "shallow"],
    "chosen": ["last", "last-two", "last-too", "last"],
    "chosen-shifted": ["last-shifted", "last-two", "long", "last", "probe"],
    "all": ["tutorial", "long", "probe", "shallow", "shifted", "long", "short", "tuning"],
}
FAMILIES = ["bert", "roberta", "distilbert"]


@pytest.fixture(scope="session")
def saved(tiny, tmp_path_factory):
    """saved(family): {name: folder} of that backbone's prompts, each from its own seed."""
    made = {}

    def save(family):
        if family not in made:
            made[family] = {}
            for seed, (name, (config, labels)) in enumerate(PROMPTS.items()):
                model = fp.PromptForSequenceClassification.from_pretrained(
                    tiny[family], config, label_names=labels, seed=seed
                )
                made[family][name] = tmp_path_factory.mktemp(name)
                model.save_pretrained(made[family][name])
        return made[family]

    return save


def batch(rows, padded=True, width=9, in_front=False):
    """Rows of unequal lengths with two segments; RoBERTa's padding is 1 and no other id is below 5."""
    random = numpy.random.default_rng(rows)
    lengths = random.integers(3, width + 1, rows) if padded else numpy.full(rows, width)
    mask = (numpy.arange(width) < lengths[:, None]).astype("int64")
    mask = mask[:, ::-1].copy() if in_front else mask
    arrays = {
        "input_ids": numpy.where(mask, random.integers(5, 60, (rows, width)), 1),
        "attention_mask": mask,
        "token_type_ids": mask * (numpy.arange(width) > 4),
    }
    return {name: ops.tensor(array) for name, array in arrays.items()}


def logits_alone(folder, inputs, row):
    """What the prompt's own model says to that row of the batch."""
    model = fp.PromptForSequenceClassification.from_pretrained(folder)
    model.eval()
    return ops.to_numpy(model(**inputs).logits)[row]


def check_mix(folders, mix, inputs):
    bank = fp.PromptBank.from_pretrained({name: folders[name] for name in dict.fromkeys(mix)})
    found = bank(**inputs, prompts=mix).logits
    assert len(found) == len(mix)
    for row, name in enumerate(mix):
        expected = logits_alone(folders[name], inputs, row)
        assert tuple(found[row].shape) == (len(PROMPTS[name][1]),)
        numpy.testing.assert_allclose(ops.to_numpy(found[row]), expected, atol=1e-5, rtol=0, err_msg=name)


@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_row_of_a_mixed_batch_gets_its_own_models_logits(saved, family, mix):
    check_mix(saved(family), MIXES[mix], batch(len(MIXES[mix])))


@pytest.mark.skipif(fp.backend() != "torch", reason="stock transformers models run on torch")
@pytest.mark.parametrize("family", ["xlm-roberta", "electra", "ernie", "albert", "modernbert"])
def test_mixed_batches_on_families_of_transformers(saved, family):
    check_mix(saved(family), MIXES["all"], batch(len(MIXES["all"])))


@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("family", ["mpnet", "deberta", "deberta-v2", "deberta-v3"])
def test_mixed_batches_on_families_with_an_attention_of_their_own(saved, family, padded):
    check_mix(saved(family), MIXES["deep"], batch(len(MIXES["deep"]), padded=padded))


@pytest.mark.parametrize("mix", ["deep", "all"])
def test_a_batch_without_padding_may_be_mixed(saved, mix):
    """transformers drops the mask of such a batch, and the shorter prefixes' padding must stay unseen."""
    check_mix(saved("bert"), MIXES[mix], batch(len(MIXES[mix]), padded=False))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_padded_in_front_may_be_mixed(saved, family):
    """RoBERTa's positions skip padding where there are token ids, and not under a shallow prompt."""
    check_mix(saved(family), ["long", "tuning", "short", "shallow"], batch(4, in_front=True))


def test_a_batch_without_a_mask_may_be_mixed(saved):
    inputs = batch(4, padded=False)
    check_mix(saved("bert"), MIXES["deep"], {"input_ids": inputs["input_ids"]})


@pytest.mark.parametrize("name", ["long", "shifted", "tutorial", "probe"])
def test_one_name_gives_that_models_output(saved, name):
    inputs = batch(3)
    bank = fp.PromptBank.from_pretrained(saved("bert"))
    output = bank(**inputs, prompts=name)
    # The bank's definition: one of its prompts stands in chosen layers.
    model = fp.PromptForSequenceClassification.from_pretrained(saved("bert")[name], portable=True)
    model.eval()
    assert output.loss is None
    assert (ops.to_numpy(output.logits) == ops.to_numpy(model(**inputs).logits)).all()


@pytest.mark.parametrize("mix", ["chosen-shifted", "all"])
def test_a_row_may_ask_several_prompts(saved, mix):
    folders, names = saved("bert"), list(dict.fromkeys(MIXES[mix]))
    bank, inputs = fp.PromptBank.from_pretrained({name: folders[name] for name in names}), batch(3)
    found = bank(**inputs, prompts=[names, names[:2], names[0]]).logits
    for row, asked in enumerate([names, names[:2]]):
        assert len(found[row]) == len(asked)
        for name, logits in zip(asked, found[row], strict=True):
            expected = logits_alone(folders[name], inputs, row)
            numpy.testing.assert_allclose(ops.to_numpy(logits), expected, atol=1e-5, rtol=0, err_msg=name)
    expected = logits_alone(folders[names[0]], inputs, 2)
    numpy.testing.assert_allclose(ops.to_numpy(found[2]), expected, atol=1e-5, rtol=0)


def test_layers_that_prompts_share_run_once_a_text(saved, monkeypatch):
    names = ["last", "last-too", "last-two"]
    bank = fp.PromptBank.from_pretrained({name: saved("bert")[name] for name in names})
    layer = type(bank.backbone.layer_modules()[0])
    calls, run = [], layer.forward

    def counted(self, hidden, *others, **named):
        calls.append((bank.backbone.layer_modules().index(self), int(hidden.shape[0])))
        return run(self, hidden, *others, **named)

    monkeypatch.setattr(layer, "forward", counted)
    bank(**batch(4), prompts=[names] * 4)
    assert sorted(calls) == [(0, 4), (1, 4), (1, 4), (2, 4), (2, 8)]


def test_taggers_and_classifiers_share_a_bank(tiny, saved, tmp_path):
    config = fp.PTuningV2Config(pre_seq_len=4, init_std=1.0, prefix_layers="last:1")
    tagger = fp.PromptForTokenClassification.from_pretrained(tiny["bert"], config, label_names=["O", "B", "I"])
    tagger.save_pretrained(tmp_path)
    inputs = batch(3)
    bank = fp.PromptBank.from_pretrained({"tags": tmp_path, "mood": saved("bert")["last"]})
    tagger.eval()
    expected = ops.to_numpy(tagger(**inputs).logits)
    numpy.testing.assert_allclose(ops.to_numpy(bank(**inputs, prompts="tags").logits), expected, atol=1e-5)
    found = bank(**inputs, prompts=["tags", "mood", ["mood", "tags"]]).logits
    numpy.testing.assert_allclose(ops.to_numpy(found[0]), expected[0], atol=1e-5)
    numpy.testing.assert_allclose(ops.to_numpy(found[2][1]), expected[2], atol=1e-5)
    numpy.testing.assert_allclose(ops.to_numpy(found[1]), logits_alone(saved("bert")["last"], inputs, 1), atol=1e-5)


def test_the_backbone_is_held_once(saved):
    folders = saved("bert")
    bank = fp.PromptBank.from_pretrained(folders)
    held = sum(int(numpy.prod(tuple(p.shape))) for p in nn.named_parameters(bank).values())
    models = [fp.PromptForSequenceClassification.from_pretrained(folder) for folder in folders.values()]
    backbone = sum(int(numpy.prod(tuple(p.shape))) for p in nn.named_parameters(models[0].backbone).values())
    assert held == backbone + sum(model.count_parameters()[1] - backbone for model in models)


def test_prompts_are_added_while_the_bank_is_in_use(saved):
    folders = saved("bert")
    bank = fp.PromptBank.from_pretrained({"sst2": folders["long"]})
    inputs = batch(2)
    before = ops.to_numpy(bank(**inputs, prompts="sst2").logits)
    bank.add("rte", folders["short"])
    assert bank.names == ["sst2", "rte"]
    assert bank.label_names == {"sst2": ["bad", "good"], "rte": ["no", "maybe", "yes"]}
    mixed = bank(**inputs, prompts=["rte", "sst2"]).logits
    numpy.testing.assert_allclose(ops.to_numpy(mixed[1]), before[1], atol=1e-5)
    with pytest.raises(ConfigError, match=r"has a prompt 'rte' already"):
        bank.add("rte", folders["long"])


@pytest.fixture
def eager_switches():
    """Threads take turns as often as they can."""
    usual = sys.getswitchinterval()
    yield lambda: sys.setswitchinterval(1e-6)
    sys.setswitchinterval(usual)


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_threads_that_ask_one_bank_get_their_own_answers(tiny, causal, tmp_path, eager_switches, family):
    for seed, (name, length) in enumerate({"long": 7, "short": 2}.items()):
        config = fp.PTuningV2Config(pre_seq_len=length, init_std=1.0)
        model = fp.PromptForSequenceClassification.from_pretrained({**tiny, **causal}[family], config, seed=seed)
        model.save_pretrained(tmp_path / name)
    bank = fp.PromptBank.from_pretrained({name: tmp_path / name for name in ("long", "short")})
    asked = [("long", 2, 9), ("short", 3, 6), ("long", 3, 5), ("short", 2, 8)]  # prompt, rows, width

    def answer(prompt, rows, width):
        inputs = batch(rows, width=width)
        return ops.to_numpy(bank(inputs["input_ids"], inputs["attention_mask"], prompts=prompt).logits)

    alone = [answer(*each) for each in asked]
    differences = []

    def ask(number):
        for _ in range(20):
            differences.append(numpy.abs(answer(*asked[number]) - alone[number]).max())

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(asked))]
    eager_switches()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(differences) == 20 * len(asked)  # none of them raised
    assert max(differences) <= 1e-5


def test_the_backbones_folder_may_be_named(saved, tiny):
    folder = saved("bert")["long"]
    bank = fp.PromptBank.from_pretrained({"long": folder}, backbone=tiny["bert-sharded"])  # the same weights
    expected = logits_alone(folder, batch(1), 0)
    numpy.testing.assert_allclose(ops.to_numpy(bank(**batch(1), prompts=["long"]).logits[0]), expected, atol=1e-5)
    with pytest.raises(
        CheckpointError, match=r"'long' .* was tuned on .*bert, whose weights are not those of .*roberta"
    ):
        fp.PromptBank.from_pretrained({"long": folder}, backbone=tiny["roberta"])


def test_a_prompt_of_another_backbone_is_refused_by_name(saved):
    mixed = {"sst2": saved("bert")["long"], "rte": saved("distilbert")["long"]}
    with pytest.raises(CheckpointError, match=r"'rte' .* was tuned on .*distilbert.* share one backbone"):
        fp.PromptBank.from_pretrained(mixed)


@pytest.mark.parametrize(
    "config", [fp.FineTuningConfig(), fp.BitFitConfig(), fp.PTuningV2Config(pre_seq_len=2, use_lm_finetune=True)]
)
def test_a_method_that_tunes_the_backbone_is_refused_by_name(tiny, saved, tmp_path, config):
    fp.PromptForSequenceClassification.from_pretrained(tiny["bert"], config).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=f"'mine' .* is {config.described}, which changes the backbone"):
        fp.PromptBank.from_pretrained({"sst2": saved("bert")["long"], "mine": tmp_path})


def test_bad_calls_are_refused(saved, tmp_path):
    bank = fp.PromptBank.from_pretrained({name: saved("bert")[name] for name in ("long", "short")})
    with pytest.raises(ConfigError, match="no prompt 'sst2'; it holds long, short"):
        bank(**batch(2), prompts="sst2")
    with pytest.raises(ConfigError, match="no prompt 'sst2'; it holds long, short"):
        bank(**batch(2), prompts=["long", "sst2"])
    with pytest.raises(ConfigError, match="3 names for 2 rows"):
        bank(**batch(2), prompts=["long"] * 3)
    with pytest.raises(ConfigError, match="leave room for 160"):
        bank(**batch(2, width=161), prompts=["long", "short"])
    with pytest.raises(ConfigError, match="needs a prompt"):
        fp.PromptBank.from_pretrained({})
    with pytest.raises(CheckpointError, match=r"holds no prompt \(prompt_config.json\)"):
        bank.add("mine", tmp_path)
