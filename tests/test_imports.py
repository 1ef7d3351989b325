"""Imports run groups -> models -> data, callbacks -> training -> scripts, and never back."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAY_IMPORT = {
    "groups": {"groups"},
    "models": {"groups", "models"},
    "data": {"groups", "data"},
    "callbacks": {"groups", "models", "data", "callbacks"},
    "training": {"groups", "models", "data", "callbacks", "training"},
}
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


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_layers(package: str) -> None:
    files = list((ROOT / "src" / package).rglob("*.py"))
    assert files
    for path in files:
        back = layers(imported(path.read_text())) - MAY_IMPORT[package]
        assert not back, f"{path.relative_to(ROOT)} imports {back}"


@pytest.mark.parametrize("folder", TORCH_ONLY)
def test_torch_only(folder: str) -> None:
    standard = {"__future__", "abc", "collections", "dataclasses", "functools", "itertools", "math", "typing", "src"}
    for path in (ROOT / folder).rglob("*.py"):
        assert {name.split(".")[0] for name in imported(path.read_text())} <= standard | {"torch"}, path


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
