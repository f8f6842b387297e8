"""Writes what `torch.save` makes of tensors, in the format of today and in that before torch 1.6:
make_pickled.py DIR BERT BERT_MLM

tensors.bin, tensors-old.bin: every type of numbers, views, shared storages; beside them expected.npz.
bert-zip, bert-old, bert-sharded, bert-bf16: the checkpoint BERT with pytorch_model.bin in place of safetensors.
mlm-first-names: BERT_MLM as the first files of BERT have it, and with the second name of a tied tensor.
foreign-NAME.bin: files that hold more than tensors, or something else.
"""

import json
import shutil
import sys
from pathlib import Path

import numpy
import torch
from safetensors.torch import load_file, save_file


class Spy:
    """Would make a folder where a pickle's functions are run."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return Path.mkdir, (self.folder,)


def odd_tensors():
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6) / 7
    types = ("float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8", "bool")
    tensors = {name: (base * 3).to(getattr(torch, name)) for name in types}
    return {
        **tensors,
        "transposed": base.T,
        "part": base[1:3, 2:5],
        "every second": base[:, ::2],
        "expanded": base[:1, 3:4].expand(5, 7),
        "the same": base,
        "the same again": base,
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(base.clone()),
    }


def save_old(tensors, path):
    torch.save(tensors, path, _use_new_zipfile_serialization=False)


def copy(source, target):
    shutil.copytree(source, target)
    (target / "model.safetensors").unlink()
    return target


def main(out, bert, bert_mlm):
    tensors = odd_tensors()
    arrays = {name: tensor.detach().numpy() for name, tensor in tensors.items()}
    tensors["bfloat16"] = tensors["float32"].bfloat16()
    arrays["bfloat16"] = tensors["bfloat16"].view(torch.uint16).numpy()
    numpy.savez(out / "expected.npz", **arrays)
    torch.save(tensors, out / "tensors.bin")
    save_old(tensors, out / "tensors-old.bin")

    weights = load_file(bert / "model.safetensors")
    model = torch.nn.Module()  # its state dict is an OrderedDict with an attribute
    for name, tensor in weights.items():
        model.register_buffer(name.replace(".", "_"), tensor)
    state = model.state_dict()
    for name in list(weights):
        state[name] = state.pop(name.replace(".", "_"))
    torch.save(state, copy(bert, out / "bert-zip") / "pytorch_model.bin")
    save_old(state, copy(bert, out / "bert-old") / "pytorch_model.bin")
    half = {name: tensor.bfloat16() for name, tensor in weights.items()}
    torch.save(half, copy(bert, out / "bert-bf16") / "pytorch_model.bin")
    shutil.copytree(bert, out / "bert-bf16-safetensors")
    save_file(half, out / "bert-bf16-safetensors/model.safetensors", {"format": "pt"})

    sharded = copy(bert, out / "bert-sharded")
    where = {name: f"pytorch_model-0000{i % 3 + 1}-of-00003.bin" for i, name in enumerate(weights)}
    for shard in set(where.values()):
        torch.save({name: weights[name] for name in weights if where[name] == shard}, sharded / shard)
    index = {"metadata": {"total_size": 0}, "weight_map": where}
    (sharded / "pytorch_model.bin.index.json").write_text(json.dumps(index))

    whole = load_file(bert_mlm / "model.safetensors")
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    renamed = {"bert.embeddings.position_ids": torch.arange(160)[None]}
    for name, tensor in whole.items():
        for today, then in old.items():
            name = name.replace(today, then)
        renamed[name] = tensor
    renamed["cls.predictions.decoder.weight"] = renamed["bert.embeddings.word_embeddings.weight"]
    save_old(renamed, copy(bert_mlm, out / "mlm-first-names") / "pytorch_model.bin")

    one = torch.ones(2)
    foreign = {
        "code": {"a": one, "b": Spy(out / "ran")},
        "array": {"a": one, "b": numpy.ones(2)},
        "module": torch.nn.Linear(2, 2),
        "sparse": {"a": torch.eye(2).to_sparse()},
        "complex": {"a": torch.ones(2, dtype=torch.complex64)},
        "trainer": {"model": {"a": one}, "epoch": 3},
        "number": {"a": one, "epoch": 3},
        "list": [one],
    }
    for name, content in foreign.items():
        torch.save(content, out / f"foreign-{name}.bin")
        if name != "sparse":
            save_old(content, out / f"foreign-{name}-old.bin")
    torch.jit.script(torch.nn.Linear(2, 2)).save(out / "foreign-script.bin")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
