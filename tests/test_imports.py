"""Imports run from groups to scripts through the rooms of src, one way, and never back."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("groups", "models", "data", "analysis", "callbacks", "config", "runs", "training", "sweeps", "reports")
"""In the order in which they may import each other: each from itself and from those before it."""
BESIDE = ("require",)
"""Modules that are no rooms, and import nothing of src."""
TORCH_ONLY = ("src/groups", "src/models/kernels")


def imported(source: str) -> set[str]:
    """The modules that a source imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def layers(names: set[str]) -> set[str]:
    """The packages of src among them."""
    return {name.split(".")[1] for name in names if name.startswith("src.")}


def test_every_folder_is_a_room() -> None:
    assert {path.name for path in (ROOT / "src").iterdir() if path.is_dir() and path.name != "__pycache__"} == {*ROOMS}


@pytest.mark.parametrize("room", ROOMS)
def test_layers(room: str) -> None:
    files = list((ROOT / "src" / room).rglob("*.py"))
    assert files
    for path in files:
        back = layers(imported(path.read_text())) - {*ROOMS[: ROOMS.index(room) + 1], *BESIDE}
        assert not back, f"{path.relative_to(ROOT)} imports {back}"


@pytest.mark.parametrize("name", BESIDE)
def test_what_all_rooms_import_imports_none(name: str) -> None:
    assert not layers(imported((ROOT / "src" / f"{name}.py").read_text()))


@pytest.mark.parametrize("folder", TORCH_ONLY)
def test_torch_only(folder: str) -> None:
    standard = {"__future__", "abc", "collections", "dataclasses", "functools", "itertools", "math", "typing", "src"}
    for path in (ROOT / folder).rglob("*.py"):
        assert {name.split(".")[0] for name in imported(path.read_text())} <= standard | {"torch", "jaxtyping"}, path


def test_the_test_sees_an_import_that_goes_back() -> None:
    assert layers(imported("from src.models import GConv\nimport src.data.loader")) == {"models", "data"}
    assert layers(imported("def f():\n    from src.training import train")) == {"training"}


def test_importing_does_nothing_but_define() -> None:
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            assert isinstance(
                node,
                ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef | ast.Assign | ast.AnnAssign | ast.Expr,
            ), path
            assert not (isinstance(node, ast.Expr) and not isinstance(node.value, ast.Constant)), (
                f"{path}: {ast.unparse(node)}"
            )
