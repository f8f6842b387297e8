"""Who may import whom, and what an import brings along.

Every import counts: those for type checkers, those in functions, and `import_module` calls, with f-strings too. The one
entry point, `fastprompt.framework` handing out the modules of a driver, does not.
"""

import ast
import re
import sys
from functools import cache
from pathlib import Path

from fastprompt.framework import DRIVER_MODULES
from fastprompt.methods.registry import METHODS, prompt_module

import pytest

pytestmark = pytest.mark.once

ROOT = Path(__file__).resolve().parents[1]
FRAMEWORKS = {"torch", "paddle", "jittor"}
ENTRY_POINT = "fastprompt.framework"

# From the ground up; who stands in a line imports from that line and from those above it.
LAYERS = [
    {"errors"},
    {"framework", "pretrained", "launch"},
    {"cloze", "backbones"},
    {"methods"},
    {"saving", "prompts"},
    {"data", "convert"},
    {"options", "models", "metrics", "drivers"},
    {"training", "inference"},
    {"commands"},
    {"compare"},
    {"cli"},
    {"__main__"},
]
HEIGHTS = {name: height for height, names in enumerate(LAYERS) for name in names}
HEIGHTS["fastprompt"] = len(LAYERS)  # its __init__, which names everything


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = ("fastprompt", *parts) if parts[0] == "drivers" else parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(p): p for folder in ("fastprompt", "drivers") for p in sorted((ROOT / folder).rglob("*.py"))}


# whose import_module calls are given names from elsewhere -> those names
BY_NAME = {
    "fastprompt": set(),  # its __init__ hands out the public names
    "fastprompt.methods.build": {name for kind in METHODS.values() if (name := prompt_module(kind()))},
}


def given_to_import_module(path, argument):
    if isinstance(argument, ast.Constant):
        return {argument.value}
    if isinstance(argument, ast.JoinedStr):
        parts = [re.escape(p.value) if isinstance(p, ast.Constant) else r"[\w.]+" for p in argument.values]
        return {name for name in FILES if re.fullmatch("".join(parts), name)}
    return BY_NAME[module_name(path)]


@cache
def imports(path):
    """The modules that a file imports by their dotted names, and of the entry point what it takes from there."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} has a relative import"
            whole = [f"{node.module}.{name.name}" for name in node.names]
            found |= {name if name in FILES or node.module == ENTRY_POINT else node.module for name in whole}
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) == "import_module":
            found |= given_to_import_module(path, node.args[0])
    return frozenset(found)


@cache
def edges(name):
    """The product's modules that one of them imports."""
    names = {ENTRY_POINT if other.startswith(f"{ENTRY_POINT}.") else other for other in imports(FILES[name])}
    if name == ENTRY_POINT:
        names = {other for other in names if not other.startswith("fastprompt.drivers.")}
    return frozenset(names & set(FILES) - {name})


def package(name):
    """errors, pretrained, drivers, ...: the part of the house that a module stands in."""
    return name.split(".")[1] if "." in name else "fastprompt"


def offenders(of, wrong):
    return sorted(
        f"{name} imports {other}" for name in FILES if of(name) for other in edges(name) if wrong(name, other)
    )


def frameworks_imported(name):
    return {x.split(".")[0] for x in imports(FILES[name])} & (FRAMEWORKS | {"transformers"})


def framework_of(name):
    found = re.match(r"fastprompt\.drivers\.(torch|paddle|jittor)\b", name)
    return found[1] if found else None


def test_every_package_has_a_layer():
    assert {package(name) for name in FILES} == set(HEIGHTS)


def test_no_import_runs_up_the_layers():
    assert offenders(lambda name: True, lambda name, other: HEIGHTS[package(other)] > HEIGHTS[package(name)]) == []


def test_nothing_imports_the_package_itself():
    """fastprompt/__init__ names everything: an import from it is one of everything."""
    assert offenders(lambda name: True, lambda _, other: other == "fastprompt") == []


@pytest.mark.parametrize("name", ["saving", "drivers", "data"])
def test_what_serves_models_imports_none(name):
    assert offenders(lambda module: package(module) == name, lambda _, other: package(other) == "models") == []


def reaches_a_framework(name):
    """Whether a module takes a driver's module from the entry point, or imports a framework."""
    return bool(
        frameworks_imported(name) or imports(FILES[name]) & {f"{ENTRY_POINT}.{module}" for module in DRIVER_MODULES}
    )


def test_what_is_read_before_a_framework_is_chosen_touches_none():
    """With whatever it imports itself."""
    names = [
        n
        for n in FILES
        if package(n) in ("pretrained", "cloze", "options", "errors")
        or re.fullmatch(r"fastprompt\.methods\..*config|fastprompt\.drivers\..*\.declaration", n)
    ]
    assert names
    found = []
    for name in names:
        seen, new = {name}, [name]
        while new:
            new = [other for module in new for other in edges(module) if other not in seen]
            seen |= set(new)
        found += [f"{name} needs {other}" for other in sorted(seen) if reaches_a_framework(other)]
    assert found == []


def test_only_drivers_import_frameworks_and_each_its_own():
    allowed = {"torch": {"torch", "transformers"}, "paddle": {"paddle"}, "jittor": {"jittor"}, None: set()}
    found = {name: frameworks_imported(name) - allowed[framework_of(name)] for name in FILES if name != "fastprompt"}
    assert {name: names for name, names in found.items() if names} == {}


def test_no_driver_imports_another():
    assert (
        offenders(
            lambda name: framework_of(name),
            lambda name, other: framework_of(other) not in (None, framework_of(name)),
        )
        == []
    )


def test_methods_backbones_and_models_reach_a_driver_through_the_entry_point_alone():
    assert (
        offenders(
            lambda name: package(name) in ("methods", "backbones", "models"),
            lambda _, other: package(other) == "drivers",
        )
        == []
    )


def strings(tree):
    """Every string of a file but its docstrings."""
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    bodies = (node.body for node in ast.walk(tree) if isinstance(node, documented) and node.body)
    docs = {id(body[0].value) for body in bodies if isinstance(body[0], ast.Expr)}
    return {
        n.value
        for n in ast.walk(tree)
        if isinstance(n, ast.Constant) and isinstance(n.value, str) and id(n) not in docs
    }


def test_nothing_outside_the_drivers_names_a_framework():
    """No list of frameworks, no question which one runs, no path into a driver."""
    found = []
    for name, path in FILES.items():
        if package(name) not in ("drivers", "framework", "fastprompt"):
            named = {
                x
                for x in strings(ast.parse(path.read_text()))
                if x in FRAMEWORKS or re.match(r"fastprompt\.drivers\.(torch|paddle|jittor|\w*$)", x)
            }
            found += [f"{name} names {x}" for x in sorted(named)]
    assert found == []


def test_nothing_imports_a_top_level_drivers():
    paths = [
        path for folder in ("fastprompt", "drivers", "tests", "examples") for path in (ROOT / folder).rglob("*.py")
    ]
    assert [str(path) for path in paths if any(x.split(".")[0] == "drivers" for x in imports(path))] == []


def circles():
    """The groups of modules that import each other, by Tarjan's algorithm."""
    index, low, stack, found = {}, {}, [], []

    def visit(name):
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in sorted(edges(name)):
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            at = stack.index(name)
            group = stack[at:]
            del stack[at:]
            if len(group) > 1:
                found.append(sorted(group))

    for name in FILES:
        if name not in index:
            visit(name)
    return found


def test_no_modules_import_each_other():
    assert circles() == []


def test_the_top_level_stays_small():
    assert len(list((ROOT / "fastprompt").glob("*.py"))) <= 1 + 6  # with __init__


def test_no_file_is_longer_than_400_lines():
    lengths = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in FILES.items()}
    assert {name: length for name, length in lengths.items() if length > 400} == {}


# -- what an import brings along ---------------------------------------------------------------------------------------


def loaded_after(run_python, backend, code):
    done = run_python(backend, "-c", code + "; import sys; print(*sorted(m for m in sys.modules if '.' not in m))")
    return set(done.stdout.split("\n")[-2].split())


def test_importing_fastprompt_imports_no_framework(run_python):
    loaded = loaded_after(run_python, None, "import fastprompt")
    assert not loaded & (FRAMEWORKS | {"fastNLP", "transformers", "datasets"})


@pytest.mark.parametrize("backend", ["paddle", "jittor"])
def test_training_under_paddle_and_jittor_never_loads_torch(run_python, backend, minilm):
    code = (
        "import fastprompt as fp, fastNLP; "
        f"model = fp.PromptForSequenceClassification.from_pretrained({str(minilm)!r}); "
        f"fp.load_tokenizer({str(minilm)!r})(['one'])"
    )
    loaded = loaded_after(run_python, backend, code)
    assert backend in loaded
    assert not loaded & ((FRAMEWORKS - {backend}) | {"transformers"})


def test_the_installed_copy_is_the_one_under_test():
    import fastprompt
    from fastprompt import drivers

    assert Path(fastprompt.__file__).parents[1] == ROOT
    assert Path(drivers.__file__).parent == ROOT / "drivers"
    assert "drivers" not in sys.modules


def test_every_public_name_is_there(run_python):
    run_python("torch", "-c", "import fastprompt as fp; [getattr(fp, name) for name in fp.__all__]")


def test_an_unknown_name_is_an_attribute_error():
    import fastprompt

    with pytest.raises(AttributeError, match="no attribute 'PromptForNothing'"):
        _ = fastprompt.PromptForNothing


def test_examples_import_public_modules_alone():
    public = re.compile(r"fastprompt(\.(cli|prompts|framework)(\.\w+)?)?")
    found = {(path.name, name) for path in sorted((ROOT / "examples").glob("*.py")) for name in imports(path)}
    assert [pair for pair in found if pair[1].startswith("fastprompt") and not public.fullmatch(pair[1])] == []
