"""Drivers are held to one contract: whatever torch's modules offer, the others offer with the same signature."""

import ast
import inspect
from functools import cache
from pathlib import Path

import fastprompt as fp
from fastprompt import framework
from fastprompt.errors import BackendError
from fastprompt.framework import BACKENDS, CAPABILITIES, DRIVER_MODULES, declaration, driver_module, frameworks_with

import pytest

DRIVERS = Path(__file__).resolve().parents[2] / "drivers"


@cache
def tree(backend, module):
    return ast.parse((DRIVERS / backend / f"{module}.py").read_text(encoding="utf-8"))


def public_names(backend, module):
    body = tree(backend, module).body
    assigned = [node for node in body if isinstance(node, ast.Assign)]
    for node in assigned:
        if getattr(node.targets[0], "id", None) == "__all__":
            return set(ast.literal_eval(node.value))
    names = {node.name for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    names |= {x.id for node in assigned for target in node.targets for x in ast.walk(target) if isinstance(x, ast.Name)}
    return {name for name in names if not name.startswith("_")}


def own_signature(backend, module, name):
    """The parameters of a function, or of a class's constructor, with their defaults, that a driver defines itself."""
    for node in tree(backend, module).body:
        if getattr(node, "name", None) == name and isinstance(node, ast.ClassDef):
            node = next((x for x in node.body if getattr(x, "name", None) == "__init__"), None)
        elif not (isinstance(node, ast.FunctionDef) and node.name == name):
            continue
        if node is None:
            return None
        taken = ast.parse(ast.unparse(node)).body[0].args
        for argument in ast.walk(taken):
            if isinstance(argument, ast.arg):
                argument.annotation = None
        taken.args = [argument for argument in taken.args if argument.arg != "self"]
        return ast.unparse(taken)
    return None


def contract(module):
    """{public name: its signature, None where no driver defines it itself}"""
    found = {}
    for name in sorted(public_names("torch", module)):
        signatures = [own_signature(backend, module, name) for backend in BACKENDS]
        found[name] = next((signature for signature in signatures if signature is not None), None)
    return found


@pytest.mark.once
@pytest.mark.parametrize("module", DRIVER_MODULES)
def test_the_drivers_offer_the_same_names(module):
    """They may hold helpers of their own."""
    ours = public_names("torch", module)
    assert ours
    for backend in BACKENDS:
        assert ours - public_names(backend, module) == set(), f"{backend}/{module}.py lacks them"


@pytest.mark.once
@pytest.mark.parametrize("module", DRIVER_MODULES)
def test_what_drivers_define_has_one_signature(module):
    different = {}
    for name in public_names("torch", module):
        found = {backend: own_signature(backend, module, name) for backend in BACKENDS}
        if len({signature for signature in found.values() if signature is not None}) > 1:
            different[name] = found
    assert different == {}


@pytest.mark.parametrize("module", DRIVER_MODULES)
def test_what_a_driver_takes_from_its_framework_can_be_called_by_the_contract(module):
    """By position where there is no default, by name where there is one."""
    for name, signature in contract(module).items():
        offered = getattr(getattr(framework, module), name)
        if signature is None or not callable(offered) or own_signature(fp.backend(), module, name) is not None:
            continue
        try:
            parameters = inspect.signature(offered).parameters
        except ValueError:  # compiled
            continue
        wanted = ast.parse(f"def f({signature}): ...").body[0].args
        with_default = wanted.args[len(wanted.args) - len(wanted.defaults) :]
        named = {a.arg: d for a, d in zip(with_default, wanted.defaults, strict=True)}
        named |= {a.arg: d for a, d in zip(wanted.kwonlyargs, wanted.kw_defaults, strict=True) if d is not None}
        for argument, default in named.items():
            # one that makes the whole of a call is given by position
            taken = next(iter(parameters.values())) if len(wanted.args) == 1 else parameters[argument]
            assert taken.default == ast.literal_eval(default), f"{module}.{name}({argument}=)"
        required = [p for p in parameters.values() if p.default is p.empty and p.kind < p.VAR_POSITIONAL]
        assert len(required) <= len(wanted.args) - len(wanted.defaults), f"{module}.{name}"


# -- declarations -----------------------------------------------------------------------------------------------------


def test_a_driver_has_what_it_declares_and_refuses_the_rest():
    assert declaration().capabilities <= set(CAPABILITIES)
    for name in ("stock", "export"):
        if framework.has(name):
            assert driver_module(name).__name__ == f"fastprompt.drivers.{fp.backend()}.{name}"
            continue
        with pytest.raises(BackendError, match=f"{name} runs on torch, not on {fp.backend()}"):
            driver_module(name)
    module, driver, nn = framework.nn.Linear(2, 2), framework.driver, framework.nn
    asked = {
        "fsdp": lambda: driver.get_driver(module, fsdp=True),
        "fp16": lambda: driver.get_driver(module, fp16=True),
        "bf16": lambda: nn.to_bf16(module),
        "quantization": lambda: nn.quantize(module, 8),
    }
    for capability in asked.keys() - declaration().capabilities:
        having = " and ".join(frameworks_with(capability))
        with pytest.raises(BackendError, match=f"(load_in_8bit|{capability}) runs on {having}; leave it off"):
            asked[capability]()


@pytest.mark.once
def test_launchers_and_line_styles_are_distinct():
    launchers, lines = ([getattr(declaration(name), part) for name in BACKENDS] for part in ("launcher", "line_style"))
    for found in (
        *([x.rank for x in launchers], [x.command for x in launchers]),
        *([x.light for x in lines], [x.dark for x in lines], [x.dashes for x in lines]),
    ):
        assert len(set(found)) == len(BACKENDS)


@pytest.mark.once
def test_declarations_import_no_framework(run_python):
    code = "from fastprompt.framework import declaration, BACKENDS; [declaration(name) for name in BACKENDS]; "
    done = run_python(None, "-c", code + "import sys; print(*sys.modules)")
    assert not {"torch", "paddle", "jittor", "fastNLP"} & set(done.stdout.split())
