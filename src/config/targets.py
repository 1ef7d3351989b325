"""Which classes a configuration may name: those that a file of configs/ names, and no others.

A run's folder can come from a stranger. What it names is built, and so must be nothing that runs commands, writes files
of its choice or imports anything: no functions, no modules, no other classes.
"""

from __future__ import annotations

import difflib
import inspect
import re
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


class ConfigError(ValueError):
    """A configuration that cannot be honoured; the message says what to change."""


def check(target: str) -> None:
    """Raises ConfigError unless a file of configs/ names the target, or names the same class of src otherwise."""
    named = _named(CONFIGS)
    if target in named:
        return
    if target.startswith("src.") and inspect.isclass(found := locate(target)):
        namesakes = (name for name in named if name.endswith(f".{found.__name__}"))
        if any(locate(name) is found for name in namesakes):
            return
    close = difflib.get_close_matches(target, named, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise ConfigError(
        f"`_target_` must be a class that a file of configs/ names, but got {target!r}.{hint} A class of your own, or "
        "another of a package, is named in a file of its own, such as configs/net/mine.yaml: see docs/extending.md."
    )


def locate(target: str) -> Any:
    """What a target names, imported. Raises ConfigError, with the nearest that is there, if there is none."""
    first, *rest = target.split(".")
    found, path = import_module(first), first
    for part in rest:
        if isinstance(found, ModuleType) and not hasattr(found, part):
            try:
                import_module(f"{path}.{part}")
            except ModuleNotFoundError as error:
                if error.name != f"{path}.{part}":
                    raise ConfigError(f"`_target_` {target} cannot be imported: {error}; install it.") from error
        if not hasattr(found, part):
            names = [f"{path}.{name}" for name in dir(found) if not name.startswith("_")]
            close = difflib.get_close_matches(f"{path}.{part}", names, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise ConfigError(f"`_target_` must name a class, but there is no {target}.{hint}")
        found, path = getattr(found, part), f"{path}.{part}"
    return found


@cache
def _named(configs: Path) -> frozenset[str]:
    """Every target that stands in a file, also in a comment that says what can be chosen."""
    texts = (path.read_text() for path in configs.rglob("*.yaml"))
    return frozenset(target for text in texts for target in re.findall(r"_target_: ([\w.]+)", text))
