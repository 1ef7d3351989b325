"""What a module does not offer to others begins with an underscore."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOADED_BY_FILE = {"doctor": {"all_checks", "examine"}, "docs": {"stale"}}
"""Modules that a script loads by their file, as they must work where their package cannot be imported; what it uses."""


def sources() -> dict[str, str]:
    """The text of every module of src and scripts, by its dotted name."""
    files = [*(ROOT / "src").rglob("*.py"), *(ROOT / "scripts").glob("*.py")]
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path.read_text()
        for path in files
    }


def defined(source: str) -> Iterator[str]:
    """Public functions, classes and constants at the top level of a module."""
    for node in ast.parse(source).body:
        names: list[str] = []
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names = [node.name]
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [each.id for target in targets for each in ast.walk(target) if isinstance(each, ast.Name)]
        yield from (name for name in names if not name.startswith("_"))


def used(source: str, modules: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """(module, name) of everything that a source takes from other modules of the project."""
    tree = ast.parse(source)
    alias = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            for each in node.names:
                if f"{node.module}.{each.name}" in modules:
                    alias[each.asname or each.name] = f"{node.module}.{each.name}"
                else:
                    yield node.module, each.name
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in alias:
            yield alias[node.value.id], node.attr


def shown() -> Iterator[tuple[str, str]]:
    """(module, name) of everything that the documentation imports; a notebook's lines are strings."""
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "docs").glob("*.ipynb")):
        text = page.read_text().replace('\\n",\n    "', "\n")
        for module, names, one in re.findall(r"^ *\"?from (src[\w.]*) import (?:\(([^)]*)\)|(.*))", text, re.MULTILINE):
            yield from ((module, name) for name in re.findall(r"\w+", names or one))


def configured() -> set[str]:
    """Names of classes and functions that configurations name as targets."""
    texts = (path.read_text() for path in (ROOT / "configs").rglob("*.yaml"))
    return {target.rpartition(".")[2] for text in texts for target in re.findall(r"_target_: ([\w.]+)", text)}


def at_home(modules: Mapping[str, str], targets: set[str]) -> list[str]:
    """Public names that only their own module uses."""
    found = {pair for name, source in modules.items() for pair in used(source, modules) if pair[0] != name} | {*shown()}
    return [
        f"{module}.{name}"
        for module, source in modules.items()
        for name in dict.fromkeys(defined(source))
        if (module, name) not in found
        and name not in targets
        and name not in LOADED_BY_FILE.get(module.rpartition(".")[2], ())
        and not (module.startswith("scripts.") and name == "main")
    ]


def test_what_only_its_own_module_uses_begins_with_an_underscore() -> None:
    assert at_home(sources(), configured()) == []


def test_the_test_sees_a_name_that_stays_at_home() -> None:
    modules = {
        "src.a": "def f(): ...\ndef g(): f()\nX = 1\ndef _h(): ...\nclass T: ...",
        "src.b": "from src.a import g\nfrom src import a\na.X",
    }
    assert at_home(modules, {"T"}) == ["src.a.f"]
