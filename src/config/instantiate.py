"""Objects from configurations, through an allow-list: a configuration from a stranger cannot run code."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any

import hydra
from omegaconf import DictConfig, ListConfig, OmegaConf

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
    for _, node in nodes(container):
        check(str(node["_target_"]))
    return hydra.utils.instantiate(container, **arguments, _convert_="all")


def nodes(value: Any, key: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every node of a container, OmegaConf's or a plain one, that has a `_target_`, with its full key."""
    if isinstance(value, Mapping):
        if "_target_" in value:
            yield key, value
        for name in value:
            yield from nodes(value[name], f"{key}.{name}" if key else str(name))
    elif isinstance(value, list | ListConfig):
        for i, child in enumerate(value):
            yield from nodes(child, f"{key}[{i}]")


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
