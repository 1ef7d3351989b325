"""Values of a configuration against what their readers say of them, before anything is built: kinds, and no NaN."""

from __future__ import annotations

import inspect
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from math import isfinite
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from src.config.arguments import has_target
from src.config.targets import locate

_WORDS: dict[Any, str] = {
    bool: "true or false",
    int: "an integer",
    float: "a number",
    str: "a text",
    type(None): "null",
    Path: "a text",
}
"""Kinds of values that can be told apart, in words."""


def wrong_values(key: str, node: Mapping[str, Any], target: Any) -> Iterator[tuple[str, str]]:
    """Keys of a node whose values are of none of the kinds that annotations of its target allow, and why.

    Annotations that are of no plain kind allow everything; so do arguments that have none.

    Args:
        key: of the node.
        node: resolved.
        target: a function or a class, whose options may go on to a `_partial_` target in the node.
    """
    annotations = _annotations(target)
    for child in node.values():
        if has_target(child) and child.get("_partial_"):
            annotations = {**_annotations(locate(child["_target_"])), **annotations}
    for name, value in node.items():
        # What is null may be known later, as the folder of a run is.
        if value is not None and name in annotations and not _fits(value, annotations[name]):
            full = f"{key}.{name}" if key else str(name)
            yield full, f"`{full}` must be {_words(annotations[name])}, but got {value!r}."


def not_finite(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Numbers of a resolved configuration that are infinite or none at all."""
    if isinstance(value, Mapping):
        for name, child in value.items():
            yield from not_finite(child, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        for child in value:
            yield from not_finite(child, key)
    elif isinstance(value, float) and not isfinite(value):
        yield key, f"`{key}` must be a finite number, but got {value}."


@cache
def _annotations(target: Any) -> dict[str, Any]:
    """Of the arguments of a function, or of the `__init__`s of a class, those of its own before those of its bases."""
    owners = target.__mro__[:-1] if inspect.isclass(target) else ()
    functions = [vars(owner)["__init__"] for owner in owners if "__init__" in vars(owner)] or [target]
    found: dict[str, Any] = {}
    for function in functions:
        for name, annotation in getattr(function, "__annotations__", {}).items():
            found.setdefault(name, _evaluated(annotation, function))
    return found


def _evaluated(annotation: Any, function: Callable[..., Any]) -> Any:
    """An annotation that may be text; anything is allowed where it cannot be read here."""
    if not isinstance(annotation, str):
        return annotation
    try:
        return eval(annotation, vars(sys.modules[function.__module__]))
    except Exception:  # names that are only there for type checkers
        return Any


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value is of a kind that an annotation allows."""
    origin, members = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, member) for member in members)
    if origin is Literal:
        return any(type(value) is type(member) and value == member for member in members)
    if hint is float:
        return type(value) in (int, float)
    if hint in (bool, int, str):
        return type(value) is hint
    if hint is Path:
        return type(value) is str
    if hint in (None, type(None)):
        return value is None
    if inspect.isclass(origin) and issubclass(origin, Sequence):
        if not isinstance(value, list):
            return False
        of_each = origin is not tuple or members[-1:] == (...,)
        kinds = members[:1] * len(value) if of_each else members
        return len(kinds) in (0, len(value)) and all(map(_fits, value, kinds))
    if inspect.isclass(origin) and issubclass(origin, Mapping):
        return isinstance(value, Mapping)
    if hint is Any or isinstance(value, Mapping) or not (inspect.isclass(hint) or origin is Callable):
        return True
    # Objects of other classes are built from nodes; a plain value is none.
    return not isinstance(value, bool | int | float | str) or isinstance(value, hint if inspect.isclass(hint) else ())


def _words(hint: Any) -> str:
    """An annotation in words."""
    origin, members = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_words(member) for member in members))
    if origin is Literal:
        return " or ".join(map(str, members))
    if inspect.isclass(origin) and issubclass(origin, Sequence):
        return "a list" if not members else f"a list, each {_words(members[0])}"
    if inspect.isclass(origin) and issubclass(origin, Mapping):
        return "keys with values"
    return _WORDS.get(hint, f"a node whose _target_ makes {getattr(hint, '__name__', hint)}")
