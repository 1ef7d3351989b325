"""What README and docs promise is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from src.config.compose import CONFIGS, _flatten, compose_config

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
OPTIONS = (ROOT / "docs" / "options.md").read_text()


def test_python_in_the_readme_runs() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGES[0].read_text(), re.DOTALL)
    names: dict = {}
    exec(code, names)
    assert tuple(names["logits"].shape) == (4, 10)
    assert tuple(names["field"].values.shape) == (4, 8, 8, 28, 28)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        assert target.startswith("http") or (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_doors_and_recipes_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    recipes = {path.stem for path in (CONFIGS / "experiment").glob("*.yaml")}
    text = page.read_text()
    assert set(re.findall(r"\bmake ([a-z-]+)\b(?=[ `\n])", text)) - {"sure"} <= targets
    assert set(re.findall(r"EXP=([a-z0-9_]+)", text)) - {"name", "recipe"} <= recipes


def test_every_recipe_is_listed() -> None:
    pages = PAGES[0].read_text() + (ROOT / "docs" / "datasets.md").read_text()
    for path in (CONFIGS / "experiment").glob("*.yaml"):
        assert f"`{path.stem}`" in pages, path.stem


@pytest.mark.parametrize(
    "group",
    [
        *("group", "kernel", "mask", "implementation", "net", "dataset", "augment"),
        *("optimizer", "scheduler", "callbacks", "observers", "logger"),
    ],
)
def test_every_choice_is_listed(group: str) -> None:
    (row,) = (line for line in OPTIONS.splitlines() if line.startswith(f"| `{group}=` |"))
    assert set(re.findall(r"`([^`]+)`", row)) - {f"{group}="} == {
        path.stem for path in (CONFIGS / group).glob("[!_]*.yaml")
    }


def test_every_listed_key_exists() -> None:
    keys = set()
    for choice in (
        "optimizer=sgd",
        "scheduler=multistep",
        "mask=smooth_disc",
        "group=sim2",
        "dataset=mnist_rot",
        "dataset=h5",
    ):
        keys |= set(_flatten(compose_config([choice])))
    tables = "\n".join(line for line in OPTIONS.splitlines() if line.startswith("|"))
    groups = {path.name for path in CONFIGS.iterdir() if path.is_dir()}
    listed = {key for key in re.findall(r"`([a-z_]+\.[a-z0-9_.]+)", tables) if key.split(".")[0] in groups | {"train"}}
    assert len(listed) > 30
    missing = {key.rstrip(".") for key in listed} - keys - {"trainer."}
    assert not missing, missing
