"""A plain CNN of as many parameters, or multiply-adds, as the net of a configuration: what nets are compared with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from functools import cache
from itertools import permutations
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

from src.analysis.costs import costs
from src.config.compose import compose_config, plain
from src.config.instantiate import instantiate
from src.config.targets import ConfigError
from src.models.exactness import sides_in

_PLAIN = {"kernel": "lattice", "mask": "none", "implementation": "nonseparable"}
"""What a plain CNN is made of, beside the trivial group."""
_OF_GROUPS = {"relaxed", "boundary"}
"""Keys of `conv` that a plain CNN has none of."""
_WITHIN = {"params": 0.02, "compute": 0.05}
"""What a match may be off by, by what is matched."""
_MOST = 1024.0
"""What widths are multiplied by at the most."""


def matched(cfg: DictConfig) -> DictConfig:
    """A configuration in which `net.match` was carried out.

    `params` and `compute` are replaced by what was chosen: the group is trivial, kernels are free, the widths are
    multiplied so that there are as many parameters, or multiply-adds of an image, and `net.match` says so. All else of
    the net stays, and so do null and a match that was carried out before.

    Raises:
        ConfigError: if there is something else in `net.match`, or no net comes near enough.
    """
    how = (cfg.get("net") or {}).get("match")
    if how is None or isinstance(how, Mapping):
        return cfg
    if how not in _WITHIN:
        raise ConfigError(f"`net.match` must be null, params or compute, but got {how!r}.")
    if not {"conv", "hidden_sizes"} <= cfg.net.keys():
        raise ConfigError(f"`net.match` must be null for {cfg.net._target_}, which has no `conv` or no `hidden_sizes`.")
    widths, space = plain(cfg.net)["hidden_sizes"], instantiate(cfg.group.H).space
    original, candidate = _Measured(cfg, space), _plain(cfg, space)

    @cache
    def count(own: tuple[int, ...]) -> int:
        return getattr(_Measured(_with_widths(candidate, widths, own), space), how)

    wanted = getattr(original, how)
    chosen = _search(_flat(widths), count, wanted, _WITHIN[how])
    if abs(count(chosen) / wanted - 1) > _WITHIN[how]:
        raise ConfigError(
            f"`net.match` {how} must come within {100 * _WITHIN[how]:g} % of {wanted:,}, but the nearest plain CNN "
            f"has {count(chosen):,}; use larger `net.hidden_sizes`."
        )
    candidate = _with_widths(candidate, widths, chosen)
    found = _Measured(candidate, space)
    with_record = {
        "by": how,
        "hidden_sizes": widths,
        "parameters": [original.params, found.params],
        "multiply_adds": [original.compute, found.compute],
    }
    OmegaConf.update(candidate, "net.match", with_record, force_add=True)
    return candidate


def without_match(cfg: DictConfig) -> DictConfig:
    """A copy to be built: `net.match` is no argument of a net."""
    result = deepcopy(cfg)
    if OmegaConf.is_dict(result.get("net")) and "match" in result.net:
        OmegaConf.set_struct(result, False)
        del result.net["match"]
    return result


def check_match(cfg: DictConfig, net: nn.Module) -> None:
    """Raises ConfigError if a net is not the one that `net.match` says was chosen."""
    record = (cfg.get("net") or {}).get("match")
    if not isinstance(record, Mapping):
        return
    found = sum(parameter.numel() for parameter in net.parameters())
    if record.get("parameters", [0, 0])[1] != found:
        raise ConfigError(
            f"`net.match` says that a plain CNN was chosen, {plain(record)}, but the net has {found:,} parameters; set "
            "it to params or compute to match again, or to null."
        )


def written_match(cfg: Mapping[str, Any]) -> dict[str, str]:
    """What was chosen, as a row of a table; nothing where nothing was matched."""
    record = (cfg.get("net") or {}).get("match")
    if not isinstance(record, Mapping):
        return {}
    (parameters, own), (operations, others) = record["parameters"], record["multiply_adds"]
    text = (
        f"a plain CNN of widths {cfg['net']['hidden_sizes']} for {record['hidden_sizes']}: {own:,} parameters for "
        f"{parameters:,}, {others:,} multiply-adds for {operations:,}"
    )
    return {f"matched by {record['by']}": text}


class _Measured:
    """The parameters and multiply-adds of the net of a configuration."""

    def __init__(self, cfg: DictConfig, space: int) -> None:
        with torch.random.fork_rng(devices=[]):
            net = instantiate(without_match(cfg).net)
        sides = sides_in(space, plain(cfg.dataset)["size"])
        self._net, self._image = net.eval().requires_grad_(False), torch.zeros(1, cfg.dataset.channels, *sides)

    @property
    def params(self) -> int:
        return sum(parameter.numel() for parameter in self._net.parameters())

    @property
    def compute(self) -> int:
        return costs(self._net, self._image).total.multiply_adds


def _plain(cfg: DictConfig, space: int) -> DictConfig:
    """The same net over the trivial group, with free kernels."""
    choices = {"group": f"r{space}", **_PLAIN}
    there = compose_config(["~experiment", "name=plain", *(f"{group}={name}" for group, name in choices.items())])
    result = deepcopy(cfg)
    for group in choices:
        result[group] = there[group]
    for key in _OF_GROUPS & result.conv.keys():
        result.conv[key] = there.conv[key]
    return result


def _search(
    widths: Sequence[int], count: Callable[[tuple[int, ...]], int], wanted: int, within: float
) -> tuple[int, ...]:
    """Widths times a factor, then some of them wider or narrower by one, so that they count for as much as wanted.

    Widths that are equal stay so, unless nothing comes near enough then.
    """

    def at(factor: float) -> tuple[int, ...]:
        return tuple(max(1, round(width * factor)) for width in widths)

    def error(own: tuple[int, ...]) -> float:
        return abs(count(own) / wanted - 1)

    low, high = 0.0, 1.0
    while count(at(high)) < wanted and high < _MOST:
        low, high = high, 2 * high
    while at(low) != at(high) and high - low > 1e-4 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if count(at(middle)) < wanted else (low, middle)
    best = min(at(low), at(high), key=error)
    equal = [[n for n, own in enumerate(widths) if own == width] for width in dict.fromkeys(widths)]
    for groups, enough in ((equal, within / 4), ([[n] for n in range(len(widths))], within)):
        while error(best) > enough and error(nearer := min(_beside(best, groups), key=error)) < error(best):
            best = nearer
    return best


def _beside(widths: tuple[int, ...], groups: Sequence[Sequence[int]]) -> Iterator[tuple[int, ...]]:
    """Those in which one group is wider or narrower by one, or one is wider and another is narrower."""

    def changed(wider: Sequence[int], narrower: Sequence[int]) -> tuple[int, ...]:
        return tuple(max(1, width + (n in wider) - (n in narrower)) for n, width in enumerate(widths))

    yield from (changed(*pair) for pair in permutations([*groups, ()], 2))


def _flat(widths: Sequence[Any]) -> list[int]:
    """The numbers of nested lists."""
    return [number for own in widths for number in (_flat(own) if isinstance(own, list) else [own])]


def _with_widths(cfg: DictConfig, widths: Sequence[Any], changed: Sequence[int]) -> DictConfig:
    """A copy with other widths, in lists that are nested alike."""
    numbers = iter(changed)

    def of(own: Any) -> Any:
        return [of(each) for each in own] if isinstance(own, list) else next(numbers)

    result = deepcopy(cfg)
    result.net.hidden_sizes = of(widths)
    return result
