"""What README and docs promise is there."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from scripts import docs
from src.config.compose import CONFIGS, _keys, compose_config
from src.config.targets import ConfigError

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
    recipes |= set(re.findall(r"^`configs/experiment/(\w+)\.yaml`$", text, re.MULTILINE))  # those that it makes
    assert set(re.findall(r"\bmake ([a-z-]+)\b(?=[ `\n])", text)) - {"sure"} <= targets
    assert set(re.findall(r"EXP=([a-z0-9_]+)", text)) - {"name", "recipe"} <= recipes


def test_lists_are_up_to_date() -> None:
    names = ", ".join(path.name for path in docs._stale())
    assert not names, f"run `make docs`, which writes what {names} should list of configs/"


def test_every_recipe_is_listed() -> None:
    listed = docs._with_lists("<!-- protocols -->\n<!-- /protocols -->")
    for path in (CONFIGS / "experiment").glob("*.yaml"):
        assert f"`{path.stem}`" in listed, path.stem


@pytest.mark.parametrize(
    "group", sorted({path.name for path in CONFIGS.iterdir() if path.is_dir()} - {"experiment", "study"})
)
def test_every_choice_is_listed(group: str) -> None:
    listed = docs._with_lists("<!-- groups -->\n<!-- /groups -->\n<!-- options -->\n<!-- /options -->").splitlines()
    names = {path.stem for path in (CONFIGS / group).glob("[!_]*.yaml")}
    (row,) = (line for line in listed if line.startswith(f"| `{group}=` |"))
    assert set(re.findall(r"`([^`]+)`", row)) - {f"{group}="} == names
    rows = [line for line in listed if line.startswith(f"| `{group}=") and line != row]
    assert {re.findall(r"`[a-z]+=([^`]+)`", line)[0] for line in rows} == names


def test_what_is_stale_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docs, "CONFIGS", shutil.copytree(CONFIGS, tmp_path / "configs"))
    form, own = tmp_path / "configs" / "implementation", tmp_path / "configs" / "mask" / "own.yaml"
    right = (form / "separable.yaml").read_text()
    (form / "separable.yaml").write_text(right.replace("oi h, o x", "oi h, oi x"))
    own.write_text("# One of < my | own.\n")
    stale = docs._stale()
    assert {path.name for path in stale} == {"options.md", "separable.yaml"}
    assert stale[form / "separable.yaml"] == right
    assert r"| `mask=own` | One of \< my \| own. |" in stale[docs._ROOT / "docs" / "options.md"]
    own.write_text("slope: 1\n")
    with pytest.raises(ConfigError, match=r"configs.mask.own.yaml must open with a line of comment"):
        docs._stale()


def test_every_listed_key_exists() -> None:
    keys = set()
    for choice in (
        "optimizer=sgd",
        "kernel=siren",
        "scheduler=multistep",
        "mask=smooth_disc",
        "group=sim2",
        "dataset=mnist_rot",
        "dataset=h5",
        "kernel=lattice",
        "mask=gaussian",
        "dataset=smnist",
        "net=residual",
        "net=stacked",
        "net=preactivation",
        "dataset=moebius_mnist",
        "net=moebius",
        "net=ckgcnn",
    ):
        keys |= set(_keys(compose_config([choice])))
    tables = "\n".join(line for line in OPTIONS.splitlines() if line.startswith("|"))
    groups = {path.name for path in CONFIGS.iterdir() if path.is_dir()}
    listed = {key for key in re.findall(r"`([a-z_]+\.[a-z0-9_.]+)", tables) if key.split(".")[0] in groups | {"train"}}
    assert len(listed) > 30
    missing = {key.rstrip(".") for key in listed} - keys - {"trainer."}
    assert not missing, missing
