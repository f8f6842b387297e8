"""pytorch_model.bin is read as tensors alone, without torch: bit for bit what safetensors hold, and nothing else."""

import io
import json
import pickle
import shutil
import zipfile

import fastprompt as fp
from fastprompt.backbones.loading import load_backbone
from fastprompt.errors import CheckpointError
from fastprompt.framework import ops
from fastprompt.pretrained.checkpoint import Checkpoint
from fastprompt.pretrained.tensor_files import read_tensors

import numpy
import pytest

FORMS = ("bert-zip", "bert-old", "bert-sharded")


@pytest.fixture(scope="module")
def made(tmp_path_factory, run_python, tiny, request):
    folder = tmp_path_factory.mktemp("pickled")
    maker = request.path.parents[1] / "checkpoints" / "make_pickled.py"
    run_python("torch", maker, folder, tiny["bert"], tiny["bert-mlm"])
    return folder


def hidden(folder, portable=False):
    backbone = load_backbone(Checkpoint(folder), portable=portable)
    backbone.eval()
    ids = ops.tensor(numpy.array([[2, 7, 9, 11, 3]]))
    return ops.to_numpy(backbone(input_ids=ids, attention_mask=ids * 0 + 1)[-1])


def refused(path, *, message):
    with pytest.raises(CheckpointError, match=message) as caught:
        read_tensors(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@pytest.mark.once
@pytest.mark.parametrize("file", ["tensors.bin", "tensors-old.bin"])
def test_every_type_and_every_view_of_a_storage_is_read(made, file):
    found, expected = read_tensors(made / file), numpy.load(made / "expected.npz")
    assert found.keys() == set(expected)
    for name, array in found.items():
        if name == "bfloat16":
            assert array.dtype.name == "bfloat16"
            array = array.view("uint16")
        assert (array.dtype, array.shape) == (expected[name].dtype, expected[name].shape), name
        assert array.flags.c_contiguous and array.flags.aligned and array.flags.writeable
        numpy.testing.assert_array_equal(array, expected[name], err_msg=name)


@pytest.mark.once
def test_no_framework_is_imported_to_read_a_pickle(made, run_python):
    code = (
        "import sys; from fastprompt.pretrained.checkpoint import Checkpoint; print(len(Checkpoint(sys.argv[1])"
        ".tensors()), sorted({'torch', 'paddle', 'jittor'} & set(sys.modules)))"
    )
    output = run_python("paddle", "-c", code, made / "bert-zip").stdout
    assert output == f"{len(Checkpoint(made / 'bert-zip').tensors())} []\n"


def test_a_pickle_gives_the_tensors_and_states_of_the_same_weights_in_safetensors(made, tiny):
    expected, states = Checkpoint(tiny["bert"]).tensors(), hidden(tiny["bert"])
    for form in FORMS:
        found = Checkpoint(made / form).tensors()
        assert found.keys() == expected.keys()
        assert all(found[name].tobytes() == expected[name].tobytes() for name in expected)
        assert (hidden(made / form) == states).all()


def test_bfloat16_is_read_as_from_safetensors(made):
    pickled, other = (Checkpoint(made / f"bert-bf16{end}") for end in ("", "-safetensors"))
    assert {array.dtype.name for array in pickled.tensors().values()} == {"bfloat16"}
    assert pickled.fingerprint == other.fingerprint
    assert (hidden(made / "bert-bf16") == hidden(made / "bert-bf16-safetensors")).all()


@pytest.mark.parametrize("portable", [True, False])
def test_first_names_old_buffers_and_tied_heads_are_understood(made, tiny, portable):
    old, today = made / "mlm-first-names", tiny["bert-mlm"]
    assert any(name.endswith("gamma") for name in read_tensors(old / "pytorch_model.bin"))
    assert (hidden(old, portable) == hidden(today, portable)).all()
    assert Checkpoint(old).fingerprint == Checkpoint(today).fingerprint
    found, expected = Checkpoint(old).tensors(), Checkpoint(today).tensors()
    assert set(found) - set(expected) == {"head:cls.predictions.decoder.weight"}
    assert all(numpy.array_equal(found[name], expected[name]) for name in expected)


def test_a_prompt_tuned_over_safetensors_answers_over_the_same_weights_in_a_pickle(made, tiny, tmp_path):
    ids = ops.tensor(numpy.array([[2, 7, 9, 11, 3]]))
    model = fp.PromptForSequenceClassification.from_pretrained(tiny["bert"], fp.PTuningV2Config(pre_seq_len=3))
    model.save_pretrained(tmp_path / "prompt")
    model.eval()
    expected = ops.to_numpy(model(input_ids=ids, attention_mask=ids * 0 + 1).logits)
    for form in FORMS:
        again = fp.load_prompt_model(tmp_path / "prompt", backbone=made / form)
        again.eval()
        assert (ops.to_numpy(again(input_ids=ids, attention_mask=ids * 0 + 1).logits) == expected).all()
    with pytest.raises(CheckpointError, match="whose weights are not"):
        fp.load_prompt_model(tmp_path / "prompt", backbone=made / "bert-bf16")


@pytest.mark.once
def test_a_tensor_with_several_names_counts_once_in_the_fingerprint(tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    shared = torch.arange(6.0).reshape(2, 3)
    whole = {"shared.weight": shared, "encoder.block.0.weight": shared + 1, "lm_head.weight": shared + 2}
    tied = {f"{part}.embed_tokens.weight": shared for part in ("encoder", "decoder")}
    for name in ("pickle", "safetensors"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text('{"model_type": "t5"}')
    torch.save({**tied, **whole}, tmp_path / "pickle/pytorch_model.bin")
    save_file(whole, tmp_path / "safetensors/model.safetensors")
    pickled = Checkpoint(tmp_path / "pickle")
    assert pickled.fingerprint == Checkpoint(tmp_path / "safetensors").fingerprint
    assert pickled.tensors().keys() == {*tied, *whole} - {"lm_head.weight"} | {"head:lm_head.weight"}


def test_safetensors_are_taken_where_both_are_there(made, tiny, tmp_path):
    both = shutil.copytree(tiny["bert"], tmp_path / "both")
    shutil.copy(made / "foreign-code.bin", both / "pytorch_model.bin")
    assert (hidden(both) == hidden(tiny["bert"])).all()


# -- what is refused --------------------------------------------------------------------------------------------------


NAMES = {
    "code": "(getattr|mkdir|PosixPath)",
    "array": r"numpy\.(_core|core)\.multiarray\._reconstruct",
    "module": r"torch\.nn\.modules\.linear\.Linear",
    "sparse": r"torch\._utils\._rebuild_sparse_tensor",
    "complex": r"torch\.ComplexFloatStorage",
    "script": r"__torch__\..*Linear",
}


@pytest.mark.once
@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_tensor_is_refused_by_name_and_not_run(made, name):
    for path in made.glob(f"foreign-{name}*.bin"):
        message = refused(path, message=f"holds more than tensors .*{NAMES[name]}.* and is not read")
        assert "save its state dict alone" in message
    assert not (made / "ran").exists()


@pytest.mark.once
def test_a_pickle_that_is_no_state_dict_is_refused(made):
    for end in ("", "-old"):
        refused(made / f"foreign-trainer{end}.bin", message="under 'model' it has a dict, not a tensor")
        refused(made / f"foreign-number{end}.bin", message="under 'epoch' it has a int, not a tensor")
        refused(made / f"foreign-list{end}.bin", message="holds a list, not a state dict")


def test_a_backbone_with_code_in_it_is_refused_under_every_framework(made, tmp_path):
    folder = shutil.copytree(made / "bert-zip", tmp_path / "copy")
    shutil.copy(made / "foreign-code.bin", folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="holds more than tensors"):
        fp.PromptForSequenceClassification.from_pretrained(folder)
    assert not (made / "ran").exists()


@pytest.mark.parametrize("form", ["bert-zip", "bert-old"])
def test_a_file_that_is_cut_is_refused_wherever_it_ends(made, tmp_path, form):
    folder = shutil.copytree(made / form, tmp_path / "copy")
    path = folder / "pytorch_model.bin"
    whole = path.read_bytes()
    for length in (0, 1, 10, 100, 1000, len(whole) // 2, len(whole) - 100, len(whole) - 1):
        path.write_bytes(whole[:length])
        refused(path, message="is cut short or no torch file")
    with pytest.raises(CheckpointError, match="is cut short or no torch file"):
        load_backbone(Checkpoint(folder))


@pytest.mark.once
def test_a_damaged_number_is_found_by_the_files_checksum(made, tmp_path):
    path = made / "bert-zip/pytorch_model.bin"
    with zipfile.ZipFile(path) as archive:
        record = max(archive.infolist(), key=lambda record: record.file_size)
    content = bytearray(path.read_bytes())
    content[record.header_offset + 200] ^= 1
    (tmp_path / "damaged.bin").write_bytes(content)
    refused(tmp_path / "damaged.bin", message="is damaged: .* has another checksum")


def test_a_missing_shard_is_named(made, tmp_path):
    folder = shutil.copytree(made / "bert-sharded", tmp_path / "copy")
    shard = sorted(folder.glob("*-of-*"))[-1]
    shard.unlink()
    with pytest.raises(CheckpointError, match=f"{shard.name} is missing"):
        load_backbone(Checkpoint(folder))


@pytest.mark.once
def test_a_tensor_that_the_index_names_and_no_shard_has_is_named(made, tmp_path):
    folder = shutil.copytree(made / "bert-sharded", tmp_path / "copy")
    index = folder / "pytorch_model.bin.index.json"
    content = json.loads(index.read_text())
    content["weight_map"]["extra.weight"] = sorted(content["weight_map"].values())[0]
    index.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=r"lacks the tensor extra\.weight"):
        Checkpoint(folder).tensors()


class Forged:
    """A tensor with sizes that torch would not write."""

    def __init__(self, *sizes):
        self.sizes = sizes  # offset, shape, stride

    def __reduce__(self):
        from torch._utils import _rebuild_tensor_v2

        return _rebuild_tensor_v2, (_STORAGE, *self.sizes, False, {})


_STORAGE = object()


def forge(path, sizes, count=4, entry=zipfile.ZIP_STORED, key="0", kind="storage", content=bytes(16)):
    """What torch.save writes of {"a": a tensor of `sizes` in a storage of `count` float32}, with any of it changed."""
    import torch

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj):
            return (kind, torch.FloatStorage, key, "cpu", count) if obj is _STORAGE else None

    stream = io.BytesIO()
    Pickler(stream, protocol=2).dump({"a": Forged(*sizes)})
    with zipfile.ZipFile(path, "w", entry) as archive:
        archive.writestr("archive/data.pkl", stream.getvalue(), zipfile.ZIP_STORED)
        archive.writestr("archive/data/0", content)
    return path


@pytest.mark.once
def test_sizes_that_reach_beyond_a_storage_or_the_file_are_refused(tmp_path):
    path = tmp_path / "forged.bin"
    assert read_tensors(forge(path, (0, (2, 2), (2, 1))))["a"].shape == (2, 2)
    larger = "a tensor that is larger than its storage"
    for sizes in ((1, (2, 2), (2, 1)), (0, (5,), (1,)), (4, (), ()), (0, (2,), (4,))):
        refused(forge(path, sizes), message=larger)
    for sizes in ((-1, (2,), (1,)), (0, (-2,), (1,)), (2, (2,), (-1,)), (0.0, (2,), (1,)), (0, ("2",), (1,))):
        refused(forge(path, sizes), message="a tensor with the sizes")
    refused(forge(path, (0, (2, 2), (1,))), message="a tensor without a storage")
    refused(forge(path, (0, (2,), (1,)), count=5), message="a storage that is shorter than its tensors")
    refused(forge(path, (0, (2,), (1,)), key="../1"), message="cut short or no torch file")
    refused(forge(path, (0, (2,), (1,)), kind="module"), message="holds more than tensors .a module.")
    refused(forge(path, (0, (2,), (1,)), entry=zipfile.ZIP_DEFLATED), message="is compressed")


@pytest.mark.once
def test_a_pickle_cannot_change_what_reads_it(tmp_path):
    """BUILD, which sets attributes, on a function's and on a dict's stand-in."""
    for named in (b"ctorch._utils\n_rebuild_tensor_v2\n", b"ccollections\nOrderedDict\n", b"ctorch\nFloatStorage\n"):
        for state in (b"}U\x05itemsNs", b"N}U\x05itemsNs\x86"):  # for __dict__, and for slots
            path = tmp_path / "changes.bin"
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("archive/data.pkl", b"\x80\x02" + named + state + b"b.")
            refused(path, message="is cut short or no torch file")


@pytest.mark.once
def test_a_hub_model_with_safetensors_is_fetched_without_its_pickle(made, tiny, tmp_path, monkeypatch):
    asked = []

    def snapshot_download(name, allow_patterns):
        asked.append(allow_patterns)
        folder = tmp_path / name.replace("/", "-")
        source = {"a/pickle": made / "bert-sharded", "a/both": tiny["bert"]}[name]
        folder.mkdir(exist_ok=True)
        for path in source.iterdir():
            if any(path.match(pattern) for pattern in allow_patterns):
                shutil.copy(path, folder)
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    assert Checkpoint("a/both").fingerprint == Checkpoint(tiny["bert"]).fingerprint
    assert len(asked) == 1 and not any(".bin" in pattern for pattern in asked[0])
    assert Checkpoint("a/pickle").fingerprint == Checkpoint(tiny["bert"]).fingerprint
    assert asked[1:] == [asked[0], ["pytorch_model*.bin"]]
