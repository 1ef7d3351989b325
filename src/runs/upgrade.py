"""Configurations of older runs, in today's terms."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from src.config.compose import CONFIGS

_Config = Mapping[str, Any]

_OBSERVERS = (
    "progress",
    "summary",
    "learning_rate",
    "throughput",
    "redundancy",
    "equivariance",
    "figures",
    "dashboard",
)
"""What was in `callbacks`, and is in `observers`."""


def upgrade(config: _Config) -> _Config:
    """A run's configuration, resolved or not, as it would be composed today; the given one is not changed."""
    for step in _STEPS:
        config = step(config)
    return config


def load_config(path: Path) -> DictConfig:
    """A run's recipe.yaml or config.yaml in today's terms."""
    return OmegaConf.create(upgrade(OmegaConf.to_container(OmegaConf.load(path), resolve=False)))


def _move_observers(config: _Config) -> _Config:
    """Callbacks that only look on have a group of their own."""
    callbacks = config.get("callbacks")
    if "observers" in config or not isinstance(callbacks, Mapping):
        return config
    observers = {name: _observer(name, callbacks[name]) for name in _OBSERVERS if name in callbacks}
    rest = {name: value for name, value in callbacks.items() if name not in _OBSERVERS}
    return {**config, "callbacks": rest, "observers": observers}


def _observer(name: str, node: Any) -> Any:
    """One such callback, as it is configured today; null stays null."""
    if not isinstance(node, Mapping):
        return node
    if name == "learning_rate":  # Lightning's own refuses to train without a logger
        return {**node, "_target_": "src.callbacks.LearningRate"}
    if name == "dashboard" and isinstance(shown := node.get("hparams"), Mapping):
        return {**node, "hparams": _keys_of(shown)}
    return node


def _keys_of(shown: Mapping[str, Any]) -> dict[str, str]:
    """`lr: ${optimizer.lr}` as `lr: optimizer.lr`; a value that is no interpolation is no key, and is left out."""
    found = {name: re.fullmatch(r"\$\{([\w.]+)\}", value) for name, value in shown.items() if isinstance(value, str)}
    return {name: match[1] for name, match in found.items() if match}


def _give_task(config: _Config) -> _Config:
    """The LightningModule takes a task, and only classified before; the metric that selects is the task's."""
    model = config.get("model")
    if not isinstance(model, Mapping) or model.get("_target_") != "src.models.classifier.Classifier":
        return config
    rest = {name: value for name, value in model.items() if name != "classes"}
    model = {**rest, "_target_": "src.models.learner.Learner", "task": "${task}"}
    callbacks = config.get("callbacks")
    checkpoint = (callbacks or {}).get("checkpoint") or {}
    if (checkpoint.get("monitor"), checkpoint.get("mode")) == ("val/acc", "max"):
        callbacks = {**callbacks, "checkpoint": {**checkpoint, "monitor": "val/${task.primary}", "mode": None}}
    return {**config, "callbacks": callbacks, "model": model, "task": _classification()}


@cache
def _classification() -> _Config:
    """The task that all runs had; its interpolations lead somewhere in every configuration."""
    return OmegaConf.to_container(OmegaConf.load(CONFIGS / "task" / "classification.yaml"), resolve=False)


def _say_what_was_default(config: _Config) -> _Config:
    """Options that older runs did not have, with what was done without them."""
    conv = config.get("conv")
    if isinstance(conv, Mapping) and conv.get("_target_") == "src.models.GConv" and "low_pass" not in conv:
        config = {**config, "group": {"low_pass": 0.0, **(config.get("group") or {})}}
    if isinstance(pretrained := config.get("pretrained"), Mapping):
        config = {**config, "pretrained": {"project": False, "fit_steps": 100, **pretrained}}

    def complete(node: Any) -> Any:
        if not isinstance(node, Mapping):
            return node
        node = {**_DEFAULTS.get(node.get("_target_"), {}), **node}
        if node.get("_target_") == "src.models.GConv":
            # Without strides it changes nothing, and the same command should find the same run.
            node.setdefault("antialias", node.get("stride") == 1)
        return node

    return _mapped(config, complete)


_DEFAULTS: Mapping[Any, _Config] = {
    "src.models.GConv": {
        "low_pass": "${oc.select:group.low_pass,0.6}",
        "init": "unit",
        "fft": "auto",
        "resolution": 1,
        "relaxed": 0,
        "boundary": "zeros",
    },
    "src.models.kernels.Siren": {"phases": "all"},
    "src.models.kernels.Fourier": {"lr_factor": 1.0},
    "src.models.kernels.Lattice": {"degree": 1, "lr_factor": 1.0},
    "src.models.nets.CKGResNet": {"block": "residual", "border": "zeros", "last_kernel_size": 3, "match": None},
    "src.models.nets.ResidualNet": {"match": None},
    "src.models.optimisation.ParameterGroups": {"constant_lr": 1.0},
    "src.models.learner.Learner": {"penalty": None},
}
"""Options that older runs lack, by the target of their node."""


def _rename_targets(config: _Config) -> _Config:
    """Classes that have other names now."""
    return _mapped(config, lambda node: _TARGETS.get(node, node) if isinstance(node, str) else node)


def _mapped(node: Any, change: Callable[[Any], Any]) -> Any:
    """A copy in which every value was changed, those within a container before the container."""
    if isinstance(node, Mapping):
        node = {name: _mapped(value, change) for name, value in node.items()}
    elif isinstance(node, list):
        node = [_mapped(value, change) for value in node]
    return change(node)


_TARGETS = {
    "src.models.masks.ScaleWindow": "src.models.masks.SmoothInterval",
    "src.data.mnist_rot": "src.data.MnistRot",
}
_STEPS: tuple[Callable[[_Config], _Config], ...] = (_move_observers, _give_task, _rename_targets, _say_what_was_default)
"""From the oldest to the newest. A change of the configuration that older runs lack adds a step at the end."""
