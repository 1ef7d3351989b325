"""Objects from configurations, through an allow-list: a configuration from a stranger cannot run code."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

ALLOWED = (
    "src.",
    "torch.optim.",
    "torch.nn.",
    "torchmetrics.",
    "lightning.pytorch.callbacks.",
    "lightning.pytorch.loggers.",
    "lightning.pytorch.strategies.",
    "lightning.pytorch.plugins.",
    "lightning.pytorch.profilers.",
)


class ConfigError(ValueError):
    """A configuration that cannot be honoured; the message says what to change."""


def instantiate(config: DictConfig, **arguments: Any) -> Any:
    """As Hydra's, with interpolations resolved and every `_target_` checked first.

    Raises:
        ConfigError: if a target is not on the allow-list, or leads out of it through an import.
    """
    container = OmegaConf.create(OmegaConf.to_container(config, resolve=True))
    for target in _targets(container):
        check(target)
    return hydra.utils.instantiate(container, **arguments, _convert_="all")


def _targets(node: Any) -> Iterator[str]:
    """Every `_target_` in a container."""
    if OmegaConf.is_dict(node):
        if "_target_" in node:
            yield str(node["_target_"])
        for key in node:
            yield from _targets(node[key])
    elif OmegaConf.is_list(node):
        for value in node:
            yield from _targets(value)


def locate(target: str) -> Any:
    """What an allowed target names, imported. Raises ConfigError, with the nearest that is there, if there is none."""
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
            raise ConfigError(f"`_target_` must name a class or function, but there is no {target}.{hint}")
        found, path = getattr(found, part), f"{path}.{part}"
    return found


def check(target: str) -> None:
    """Raises ConfigError unless the target is allowed by its name and by where it is defined."""
    if target.startswith(ALLOWED):
        # `src.module.os.system` has an allowed name, but is defined elsewhere.
        defined = f"{getattr(hydra.utils.get_object(target), '__module__', None) or ''}."
        if defined.startswith(ALLOWED):
            return
    raise ConfigError(
        f"`_target_` must be one of {', '.join(f'{prefix}*' for prefix in ALLOWED)}, defined there, but got "
        f"{target!r}; put a class of your own under src/."
    )
