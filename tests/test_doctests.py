"""Every public name of groups and models shows how it is used, in an example that runs with the tests."""

from __future__ import annotations

from doctest import DocTestFinder, DocTestParser
from typing import Any

import pytest

import src.data
import src.groups
import src.models
import src.models.kernels

PUBLIC = [(room, name) for room in (src.groups, src.models, src.models.kernels) for name in room.__all__]
PUBLIC += [(src.data, name) for name in ("Augmentation", "Digits", "Lazy", "rotate", "stratified", "warp")]


def examples(found: Any) -> list[str]:
    """What is typed in the documentation of a class, a function or a module, without that of its members."""
    (test,) = DocTestFinder(recurse=False, parser=DocTestParser(), exclude_empty=False).find(found, "name")
    return [example.source for example in test.examples]


@pytest.mark.parametrize(("room", "name"), PUBLIC, ids=lambda value: getattr(value, "__name__", value))
def test_public_names_have_examples(room: Any, name: str) -> None:
    found = getattr(room, name)
    # A constant has no documentation of its own: its module shows it.
    lines = examples(found) if callable(found) else [line for line in examples(room) if name in line]
    assert lines, f"{room.__name__}.{name}"
    assert any(name in line for line in lines), f"the example of {name} does not use it"


def test_the_check_sees_what_has_no_example() -> None:
    def bare() -> None:
        """Nothing is shown."""

    assert not examples(bare)

    class Class:
        """Its method has an example, the class has none."""

        def method(self) -> None:
            """
            >>> 1
            1
            """

    assert not examples(Class)
    assert examples(Class.method) == ["1\n"]
