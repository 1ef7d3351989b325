"""Write again what the docs list of configs/, and the formulas of configs/implementation: python scripts/docs.py.

On a page, a list stands between `<!-- name -->` and `<!-- /name -->`, where the name is one of `_LISTS`. It is made of
the names of files, and of the comment that each of them opens with. Formulas are those of `src.models.IMPLEMENTATIONS`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import yaml

from src.config.compose import CONFIGS
from src.config.targets import ConfigError
from src.models import IMPLEMENTATIONS
from src.runs.checkpoints import write_text
from src.runs.tables import markdown_table
from src.training.commands import parser, user_errors

_ROOT = Path(__file__).resolve().parents[1]
_PAGES = ("README.md", "docs/options.md", "docs/datasets.md")
_MORE = {"protocol": "datasets.md", "dataset": "datasets.md", "observers": "observing.md", "sweep": "sweeps.md"}
"""Pages of docs/ that say more of a config group."""


class _Recipe(NamedTuple):
    """A file of configs/experiment, and what it chooses: null where it has keys of its own instead."""

    path: Path
    protocol: str | None
    method: str | None


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the files that are stale, and print which."""
    parser(__doc__).parse_args(arguments)
    with user_errors():
        for path, text in _stale().items():
            write_text(path, text)
            print(f"written: {path.relative_to(_ROOT)}")


def _stale() -> dict[Path, str]:
    """The files that are not as they should be, with their text. Raises ConfigError if one opens with no comment."""
    texts = {_ROOT / page: _with_lists((_ROOT / page).read_text()) for page in _PAGES}
    for name, formula in IMPLEMENTATIONS.items():
        path = CONFIGS / "implementation" / f"{name}.yaml"
        texts[path] = f"# {_title(path) if path.exists() else name}\nformula: {formula}\n"
    return {path: text for path, text in texts.items() if not path.exists() or path.read_text() != text}


def _with_lists(page: str) -> str:
    """A page with its lists as they should be."""
    return re.sub(r"(<!-- (\w+) -->\n).*?(?=<!-- /\2 -->)", lambda part: part[1] + _LISTS[part[2]](), page, flags=re.S)


def _groups() -> str:
    """What can be chosen of each config group."""
    rows = []
    for group in _config_groups():
        names = " ".join(_code(path) for path in _files(group))
        rows.append((f"`{group}=`", f"{names}: [{_MORE[group]}]({_MORE[group]})" if group in _MORE else names))
    return _table(("choose", "from"), rows)


def _options() -> str:
    """What each file of each config group is."""
    rows = [(f"`{group}={path.stem}`", _title(path)) for group in _config_groups() for path in _files(group)]
    return _table(("choice", "what it is"), rows)


def _recipes() -> str:
    """Of each method the recipe with the shortest name, and how many others there are."""
    every = _read_recipes()
    first = {recipe.method: recipe for recipe in sorted(every, key=lambda recipe: -len(recipe.path.stem))}
    shown = sorted(first.values(), key=lambda recipe: (recipe.protocol or "", recipe.path.stem))
    rows = [(_code(recipe.path), _title(recipe.path)) for recipe in shown]
    more = (f"and {len(every) - len(shown)} more", "on other data: [all of them](docs/datasets.md#recipes)")
    return _table(("recipe", "what it is"), [*rows, more])


def _protocols() -> str:
    """The recipes of each protocol."""
    recipes = {path.stem: [] for path in _files("protocol")}
    for recipe in _read_recipes():
        recipes.setdefault(recipe.protocol or "", []).append(_code(recipe.path))
    rows = [(_code(path), _title(path), ", ".join(recipes.pop(path.stem))) for path in _files("protocol")]
    rows += [("", "of their own", ", ".join(names)) for names in recipes.values()]
    return _table(("`protocol=`", "data", "recipes"), rows)


_LISTS = {"groups": _groups, "options": _options, "recipes": _recipes, "protocols": _protocols}


def _config_groups() -> list[str]:
    """Those of a run in the order of configs/train.yaml, and what `make sweep` has beside them; recipes are apart."""
    defaults = yaml.safe_load((CONFIGS / "train.yaml").read_text())["defaults"]
    groups = [group for entry in defaults if isinstance(entry, dict) for group in entry if (CONFIGS / group).is_dir()]
    return [*(group for group in groups if group != "experiment"), "sweep"]


def _files(group: str) -> list[Path]:
    """The files of a config group that can be chosen, by name."""
    return sorted((CONFIGS / group).glob("[!_]*.yaml"), key=lambda path: path.stem)


def _title(path: Path) -> str:
    """The line of comment that a file opens with, after its package."""
    line = path.read_text().removeprefix("# @package _global_\n").partition("\n")[0]
    if not line.startswith("# "):
        raise ConfigError(
            f"{path.relative_to(CONFIGS.parent)} must open with a line of comment that says what it is; add one."
        )
    return line[2:]


def _code(path: Path) -> str:
    """The name of a choice, as Markdown."""
    return f"`{path.stem}`"


def _read_recipes() -> list[_Recipe]:
    """Every recipe."""
    recipes = []
    for path in _files("experiment"):
        entries = yaml.safe_load(path.read_text()).get("defaults", [])
        chosen = {key: value for entry in entries if isinstance(entry, dict) for key, value in entry.items()}
        recipes.append(_Recipe(path, chosen.get("override /protocol"), chosen.get("override /method")))
    return recipes


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Rows as Markdown, in which `<` would begin a tag."""
    return markdown_table(head, ([cell.replace("<", r"\<") for cell in row] for row in rows))


if __name__ == "__main__":
    main()
