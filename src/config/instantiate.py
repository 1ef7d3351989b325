"""Objects from configurations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import hydra
from omegaconf import DictConfig, ListConfig, OmegaConf

from src.config.targets import check


def instantiate(config: DictConfig, **arguments: Any) -> Any:
    """As Hydra's, with interpolations resolved and every `_target_` checked first.

    Raises:
        ConfigError: if no file of configs/ names a target.
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
