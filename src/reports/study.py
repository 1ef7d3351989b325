"""Studies: variants of a recipe side by side, each with several seeds, and how they do on moved images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor

from src.analysis.look import untouched
from src.analysis.moving import outputs_under, relative_error
from src.config.compose import CONFIGS, compose_config, nearest
from src.config.targets import ConfigError
from src.data import ImageDataModule
from src.data.io.store import digest
from src.data.poses import turns
from src.data.samples import Samples, samples
from src.data.warp import sharpest
from src.groups import Dilation
from src.models.tasks import Score
from src.reports.curves import scalars
from src.runs.identity import NOT_PART_OF_IDENTITY, is_within, key_of
from src.runs.record import read
from src.runs.status import read_status
from src.training.recipe import Recipe, build, load_recipe
from src.training.run import Request, Result, train

_EIGHTH = 45.0
"""Degrees by which images are turned to see how outputs change: nothing is farther from quarter turns."""
_NEEDED = {"debug": False, "train.do": True, "trainer.devices": 1, "trainer.num_nodes": 1}
"""What a study is made of: whole runs, one after the other."""


@dataclass(frozen=True)
class Study:
    """What is compared: a file of configs/study.

    Args:
        title: of the table and the picture.
        common: overrides of all runs.
        variants: further overrides, by what the table calls them; they replace those of the same key in `common`.
        name: of the file.
        seeds: of each variant.
        angles: degrees that test images are turned by, counter-clockwise as a picture is seen.
        scales: factors that they are magnified by.
    """

    title: str
    common: list[str]
    variants: dict[str, list[str]]
    name: str = ""
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    angles: list[float] = field(default_factory=list)
    scales: list[float] = field(default_factory=list)

    def restricted(self, seeds: Sequence[int] | None, variants: Sequence[str] | None) -> Study:
        """To some seeds and variants, or all. Raises ConfigError if there is no such variant."""
        for name in variants or ():
            if name not in self.variants:
                raise ConfigError(
                    f"`variants` must be among the study's, but got {name!r}. {nearest(name, self.variants)}"
                )
        kept = {name: own for name, own in self.variants.items() if variants is None or name in variants}
        return replace(self, seeds=list(seeds or self.seeds), variants=kept)

    def changed(self, overrides: Sequence[str]) -> Study:
        """By overrides of all runs, but of what a variant sets itself: there it stays as it is.

        Raises ConfigError if no variant is changed by one of them.
        """
        chosen = {name: {key_of(item) for item in own} for name, own in self.variants.items()}
        free = {
            item: [name for name, keys in chosen.items() if not is_within(key_of(item), keys)] for item in overrides
        }
        for item, names in free.items():
            if not names or key_of(item) == "seed":
                raise ConfigError(
                    f"`{key_of(item)}` is what the runs of the study differ in, and cannot be changed to {item!r}; "
                    "--variants and --seeds choose among them, and a file of your own in configs/study has others."
                )
        variants = {
            name: [*own, *(item for item, names in free.items() if name in names)]
            for name, own in self.variants.items()
        }
        told = " ".join(item for item in overrides if not is_within(key_of(item), NOT_PART_OF_IDENTITY))
        return replace(self, title=f"{self.title} ({told})" if told else self.title, variants=variants)

    def overrides(self, variant: str, seed: int) -> list[str]:
        """Of a run; of those of one key, the last."""
        words = [*self.common, *self.variants[variant], f"seed={seed}"]
        return list({key_of(item): item for item in words}.values())

    def moves(self, d: int = 2) -> dict[str, tuple[Sequence[float], Tensor]]:
        """By kind, "angles" or "scales": its values, and the matrices (k, d, d) that move images by them."""
        turned = turns(torch.tensor(self.angles, dtype=torch.float64).deg2rad(), d)
        scaled = Dilation(space=d).matrix(torch.tensor(self.scales, dtype=torch.float64).log()[:, None])
        moves = {"angles": (self.angles, turned), "scales": (self.scales, scaled)}
        return {kind: found for kind, found in moves.items() if found[0]}


@dataclass(frozen=True)
class Outcome:
    """What a run came to, on the test set."""

    unmoved: float
    """The task's primary metric on images as they are."""
    moved: dict[str, list[float]]
    """The same on images moved as the study says, by kind."""
    change: float
    """Of the outputs where images are turned by 45 degrees: ||after - before|| / ||before||."""
    losses: list[float]
    """Of training, by epoch."""
    parameters: int
    seconds: float
    """Of training."""
    run: str
    """Its folder."""


class Findings(NamedTuple):
    """What a study came to."""

    study: Study
    outcomes: Mapping[str, Sequence[Outcome]]
    """By variant, in the order of the seeds."""
    score: Score
    """What is measured on moved images."""
    samples: Samples
    """The test set."""
    folder: Path
    """Where what is written of it belongs."""

    def numbers(self) -> dict[str, Any]:
        """All of them, in plain containers."""
        outcomes = {name: [asdict(each) for each in own] for name, own in self.outcomes.items()}
        return {"study": asdict(self.study), "metric": self.score.title, "outcomes": outcomes}


def load_study(name: str) -> Study:
    """A file of configs/study. Raises ConfigError if there is none, or if it is none."""
    files = {path.stem: path for path in (CONFIGS / "study").glob("*.yaml")}
    if name not in files:
        raise ConfigError(f"`study` must be a file of configs/study, but got {name!r}. {nearest(name, files)}")
    try:
        return OmegaConf.to_object(
            OmegaConf.merge(OmegaConf.structured(Study), OmegaConf.load(files[name]), {"name": name})
        )
    except OmegaConfBaseException as error:
        raise ConfigError(f"{files[name]} cannot be used: {str(error).splitlines()[0]}") from error


def run_study(study: Study) -> Findings:
    """Train what is not trained yet, a run for each seed of each variant, and test it on moved images.

    Raises:
        ConfigError: if a run cannot be, before any is trained.
    """
    words = {name: [study.overrides(name, seed) for seed in study.seeds] for name in study.variants}
    configurations = {name: [_configuration(each) for each in own] for name, own in words.items()}
    for first, *_ in configurations.values():
        _check_images(study, first)
    outcomes = {
        name: [_outcome(study, train(cfg, Request(own))) for cfg, own in zip(runs, words[name], strict=True)]
        for name, runs in configurations.items()
    }
    last = list(study.variants)[-1]
    recipe = load_recipe(run=outcomes[last][-1].run)
    folder = Path(configurations[last][-1].paths.logs) / "studies" / f"{study.name}-{digest(asdict(study), 8)}"
    return Findings(study, outcomes, recipe.model.task.score, _test_set(recipe), folder)


def _configuration(overrides: Sequence[str]) -> DictConfig:
    """What a run is made of. Raises ConfigError if it cannot be one of a study, or not be at all."""
    cfg = compose_config(overrides)
    for key, needed in _NEEDED.items():
        if (value := OmegaConf.select(cfg, key)) != needed:
            raise ConfigError(
                f"`{key}` must be {needed} in a study, which is whole runs one after the other, but got {value}; leave "
                "it out, and for a quick look use train.epochs=2."
            )
    return cfg


def _check_images(study: Study, cfg: DictConfig) -> None:
    """Raise ConfigError if a run cannot be built, or if the study moves test images that are moved already."""
    data = build(cfg).datamodule
    if study.angles and isinstance(data, ImageDataModule) and data.source.rotate["test"]:
        raise ConfigError(
            "`dataset.rotate` must leave the test images upright, as the study turns them itself, but got "
            f"{cfg.dataset.rotate}; use dataset.rotate=false, and augment=rotate to train on turned ones."
        )


def _outcome(study: Study, result: Result) -> Outcome:
    """Test the best weights of a run on moved images."""
    recipe = load_recipe(run=result.folder)
    net, task, found = recipe.model.net, recipe.model.task, _test_set(recipe)
    wanted, d = replace(study, angles=list(dict.fromkeys([0.0, _EIGHTH, *study.angles]))), found.images.dim() - 2
    moves, mode = wanted.moves(d), sharpest(d)
    with untouched(net):
        outputs = {
            kind: [outputs_under(net, found.images, matrix, found.border, mode) for matrix in matrices]
            for kind, (_, matrices) in moves.items()
        }
    scores = {
        kind: {value: task.measured(own, found.targets) for value, own in zip(values, outputs[kind], strict=True)}
        for kind, (values, _) in moves.items()
    }
    upright, eighth, *_ = outputs["angles"]
    return Outcome(
        unmoved=scores["angles"][0.0],
        moved={kind: [scores[kind][value] for value in values] for kind, (values, _) in study.moves().items()},
        change=relative_error(eighth, upright),
        losses=[value for _, value in scalars(read(result.folder))["train/loss"]],
        parameters=int(result.metrics["parameters"]),
        seconds=read_status(result.folder)["seconds"],
        run=str(result.folder),
    )


def _test_set(recipe: Recipe) -> Samples:
    """All of it."""
    recipe.datamodule.setup("test")
    return samples(recipe.datamodule, "test", 10**9, torch.device("cpu"), 0)
