"""A page of sections with pictures and tables: one HTML file that needs nothing else, and its pictures beside it."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, StrictUndefined
from matplotlib.figure import Figure

from src.analysis.drawing import png
from src.data.io.files import replacing

_UNKNOWN = "-"
_TEMPLATE = Path(__file__).with_name("template.html")
_NAME = "report.html"


class _Picture(NamedTuple):
    """A PNG within the page, and beside it under its name."""

    name: str
    """Of the file, without `.png`."""
    says: str
    """What stands for it where it is not seen."""
    content: bytes

    @property
    def data(self) -> str:
        """The content as text."""
        return b64encode(self.content).decode()


class Table(NamedTuple):
    """Rows of cells; the first cell of a row is its name."""

    rows: Sequence[Sequence[str]]
    head: Sequence[str] = ()


class Code(NamedTuple):
    """Text in which every space counts."""

    text: str


Item = _Picture | Table | Code | str
"""What a section is made of; a text is a paragraph."""


class Section(NamedTuple):
    """A part of a page."""

    title: str
    says: str
    """What one sees, and how it was computed."""
    items: Sequence[Item] = ()

    @property
    def anchor(self) -> str:
        """Its name within the page."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")


def picture(name: str, says: str, drawn: Figure) -> _Picture:
    """A figure as it is now."""
    return _Picture(name, says, png(drawn))


def known(value: Any, form: str = "{}") -> str:
    """A value as a format has it; a dash if there is none."""
    return _UNKNOWN if value in (None, "") else form.format(value)


def table(runs: Mapping[str, Mapping[str, str]]) -> Table:
    """Values by their titles: a row for each run, or for each value of a run that is alone and has no name."""
    if "" in runs:
        return Table(list(runs[""].items()))
    titles = list(dict.fromkeys(title for values in runs.values() for title in values))
    rows = [[name, *(values.get(title, _UNKNOWN) for title in titles)] for name, values in runs.items()]
    return Table(rows, ["", *titles])


def _html(title: str, sections: Sequence[Section]) -> str:
    """The page. Whatever a text has in it is shown and never obeyed."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(title=title, sections=sections)


def write(folder: Path, title: str, sections: Sequence[Section]) -> Path:
    """Write the pictures and then the page, each whole or not at all.

    Args:
        folder: made if it is not there; what it has of the same names is replaced.
        title: of the page.
        sections: in their order.

    Returns:
        The page's file.

    Raises:
        OSError: if the folder cannot be written to.
    """
    pictures = [item for section in sections for item in section.items if isinstance(item, _Picture)]
    contents = {f"{item.name}.png": item.content for item in pictures} | {_NAME: _html(title, sections).encode()}
    for name, content in contents.items():
        with replacing(folder / name) as file:
            file.write(content)
    return folder / _NAME
