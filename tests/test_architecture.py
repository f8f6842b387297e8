"""docs/architecture.md names what is there: its paths exist, and it leaves out no package."""

import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.once

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def test_every_path_in_the_page_exists():
    paths = re.findall(r"`((?:fastprompt|drivers|tests|docs|examples)/[\w./]*)`", TEXT)
    assert len(paths) > 20
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_every_package_is_in_its_table():
    packages = {f"fastprompt/{path.parent.name}/" for path in (ROOT / "fastprompt").glob("*/__init__.py")}
    assert sorted(package for package in packages if f"`{package}`" not in TEXT) == []


def test_the_base_classes_it_names_are_defined():
    code = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "fastprompt").rglob("*.py"))
    for name in ("DeepConfig", "ShallowConfig", "DeepPrompt", "ShallowPrompt", "PortableBackbone", "CausalBackbone"):
        assert f"`{name}`" in TEXT
        assert f"class {name}(" in code
