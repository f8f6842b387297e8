"""Who may import whom, and what an import brings along."""

import ast
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.once

ROOT = Path(__file__).resolve().parents[1]
FRAMEWORKS = {"torch", "paddle", "jittor"}


def imported_modules(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")


def breaches(folder, forbidden):
    return [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        for name in imported_modules(path)
        if forbidden(path, name)
    ]


def test_fastprompt_imports_no_framework():
    assert breaches("fastprompt", lambda path, name: name.split(".")[0] in FRAMEWORKS | {"transformers"}) == []


def test_a_driver_imports_no_other_framework():
    def foreign(path, name):
        own = path.relative_to(ROOT / "drivers").parts[0]
        parts = set(name.replace("fastprompt.drivers", "").split(".")) if "drivers" in name else {name.split(".")[0]}
        return bool(parts & (FRAMEWORKS - {own}))

    assert breaches("drivers", foreign) == []


def test_nothing_imports_a_top_level_drivers():
    for folder in ("fastprompt", "drivers", "tests", "examples"):
        assert breaches(folder, lambda path, name: name.split(".")[0] == "drivers") == []


def test_methods_reach_a_framework_through_its_one_door():
    for folder in ("fastprompt/prompts", "fastprompt/backbones", "fastprompt/models"):
        assert breaches(folder, lambda path, name: name.startswith("fastprompt.drivers")) == []


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


def public_names(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) == "__all__":
            return set(ast.literal_eval(node.value))
    names = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {leaf.id for target in node.targets for leaf in ast.walk(target) if isinstance(leaf, ast.Name)}
    return {name for name in names if not name.startswith("_")}


@pytest.mark.parametrize("module", ["nn", "ops", "optim", "driver", "loader", "runtime"])
def test_the_three_drivers_offer_the_same_names(module):
    """What torch's has, the others have; theirs may hold helpers of their own."""
    ours = public_names(ROOT / "drivers" / "torch" / f"{module}.py")
    assert ours
    for framework in ("paddle", "jittor"):
        missing = ours - public_names(ROOT / "drivers" / framework / f"{module}.py")
        assert not missing, f"{framework}/{module}.py lacks {missing}"
