"""The demonstration: an equivariant and a plain net learn upright images, and are tested on images turned by any angle.

The G-CNN is invariant by construction: to rounding at quarter turns, and between them as far as its sampled rotations
and the pixels allow. The plain CNN knows an image only as it was shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from src.analysis.equivariance import score_under
from src.config.compose import compose_config
from src.config.instantiate import ConfigError
from src.data import ImageDataModule
from src.groups import SO2
from src.runs.status import read_status
from src.training.recipe import build, load_recipe
from src.training.run import Request, train

ANGLES = tuple(range(0, 360, 10))
"""In degrees, counter-clockwise as a picture is seen."""
_SHARED = ("augment=none", "dataset.rotate=false", "train.epochs=15", "optimizer.lr=1.0e-3")
_GCNN, _CNN = "G-CNN", "plain CNN"
_NETS: Mapping[str, Sequence[str]] = {
    _GCNN: ("name=demo_gcnn", "group.sampling=random"),  # kernels are seen at all angles in training, not at eight
    _CNN: (
        "name=demo_cnn",
        "group=r2",
        "kernel=lattice",
        "mask=none",
        "implementation=nonseparable",
        "net.hidden_sizes=[26,26,52]",  # as many parameters as the G-CNN, within 5 %
    ),
}
"""The overrides of the quickstart recipe that make each net, besides `_SHARED`."""
_EQUIVARIANT = ("group", "kernel", "mask", "implementation")
"""Overrides of these are for the G-CNN alone: a CNN with them is no plain one."""
_NEEDED = {"debug": False, "train.do": True, "trainer.devices": 1, "trainer.num_nodes": 1}


@dataclass(frozen=True)
class Outcome:
    """How well the net of a run does on turned images."""

    accuracies: list[float]
    """In [0, 1], on test images turned by each of `ANGLES`."""
    parameters: int
    seconds: float
    """Of training."""
    run: str
    """Its folder."""

    @property
    def mean(self) -> float:
        """Accuracy over all angles."""
        return sum(self.accuracies) / len(self.accuracies)

    @property
    def worst(self) -> tuple[float, int]:
        """The lowest accuracy, and its angle."""
        return min(zip(self.accuracies, ANGLES, strict=True))


@dataclass(frozen=True)
class Demonstration:
    """How well both nets do, and on what data."""

    outcomes: Mapping[str, Outcome]
    """By net."""
    data: ImageDataModule
    folder: Path
    """Where its files belong."""

    @property
    def upright(self) -> bool:
        """Whether training has seen images only as they are."""
        return not (self.data.augmentation.rotate or self.data.source.rotate["train"])

    def numbers(self) -> dict[str, Any]:
        """All of them, in plain containers."""
        nets = {
            net: {"upright": own.accuracies[0], "mean": own.mean, "worst": own.worst[0], "worst_angle": own.worst[1]}
            | vars(own)
            for net, own in self.outcomes.items()
        }
        return {"data": self.data.fingerprint, "chance": 1 / self.data.classes, "angles": list(ANGLES), "nets": nets}


def demonstrate(overrides: Sequence[str] = ()) -> Demonstration:
    """Train both nets, or go on with them, or find that they are trained; and test them on turned images.

    Args:
        overrides: of both nets; those of the group, kernel, mask and implementation of the G-CNN alone.

    Raises:
        ConfigError: if a value cannot be honoured, before anything is trained.
    """
    common = [item for item in overrides if _key_of(item).partition(".")[0] not in _EQUIVARIANT]
    changes = {_GCNN: list(overrides), _CNN: common}
    configurations = {net: _configuration(net, own) for net, own in changes.items()}
    outcomes = {net: _outcome(cfg, changes[net]) for net, cfg in configurations.items()}
    run = Path(outcomes[_GCNN].run)
    folder = Path(configurations[_GCNN].paths.logs) / "demo" / run.name
    return Demonstration(outcomes, load_recipe(run=run).datamodule, folder)


def _configuration(net: str, changes: Sequence[str] = ()) -> DictConfig:
    """What a run is made of; a change replaces its key or group. Raises ConfigError if it cannot be demonstrated."""
    given = tuple(f"{_key_of(override)}." for override in changes)
    own = [override for override in (*_SHARED, *_NETS[net]) if not f"{_key_of(override)}.".startswith(given)]
    cfg = compose_config([*own, *changes])
    for key, needed in _NEEDED.items():
        if (value := OmegaConf.select(cfg, key)) != needed:
            raise ConfigError(
                f"`{key}` must be {needed} in the demonstration, which is two whole runs one after the other, but got "
                f"{value}; leave it out, and for a quick look use train.epochs=2."
            )
    if build(cfg).datamodule.source.rotate["test"]:
        raise ConfigError(
            "`dataset.rotate` must leave the test images upright, as the demonstration turns them itself, but got "
            f"{cfg.dataset.rotate}; use dataset.rotate=false, and augment=rotate to train on turned ones."
        )
    return cfg


def _key_of(override: str) -> str:
    """What an override changes: `optimizer.lr` of `optimizer.lr=0.01`."""
    return override.partition("=")[0].lstrip("+~")


def _outcome(cfg: DictConfig, changes: Sequence[str]) -> Outcome:
    """Train a net, or find that it is trained, and test its best weights on turned images."""
    result = train(cfg, Request(changes))
    recipe = load_recipe(run=result.folder)
    accuracies = _accuracy_by_angle(recipe.model, recipe.datamodule).tolist()
    seconds = read_status(result.folder)["seconds"]
    return Outcome(accuracies, int(result.metrics["parameters"]), seconds, str(result.folder))


def _accuracy_by_angle(net: nn.Module, data: ImageDataModule) -> Tensor:
    """On all test images, which are upright, turned by each of `ANGLES`, (k,)."""
    test = data.datasets["test"]
    images, labels = test.finish(test[0, torch.arange(len(test))], torch.device("cpu"))
    return score_under(net, images, labels, turns(ANGLES), data.border)


def turns(degrees: Sequence[int]) -> Tensor:
    """Matrices of rotations, (k, 2, 2)."""
    return SO2().matrix(torch.tensor(degrees, dtype=torch.float64).deg2rad()[:, None])
