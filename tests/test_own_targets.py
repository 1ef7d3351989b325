"""Classes, labels and values in files of one's own, and the task that each needs."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from composing import composed
from short_fits import BRIEF, QUIET, UNSEEN

from src.config.targets import ConfigError
from src.training import train
from src.training.recipe import build

pytestmark = QUIET
TARGETS = {
    "class": (np.arange(40) % 3, "classification", ("0", "1", "2")),
    "column": (np.arange(40)[:, None] % 3, "classification", ("0", "1", "2")),
    "labels": (
        (np.arange(120) % 7 < 3).reshape(40, 3).astype(np.uint8),
        "multilabel",
        ("label 0", "label 1", "label 2"),
    ),
    "booleans": ((np.arange(120) % 7 < 3).reshape(40, 3), "multilabel", ("label 0", "label 1", "label 2")),
    "value": (np.linspace(0, 1, 40), "regression", ("value 0",)),
    "values": (np.linspace(0, 1, 80, dtype=np.float32).reshape(40, 2), "regression", ("value 0", "value 1")),
}
TASKS = {"classification": "class", "multilabel": "labels", "regression": "values"}


def own(folder: Path, kind: str, labels: np.ndarray) -> list[str]:
    """A file with images of noise and these labels, and the overrides that choose it."""
    images = np.random.default_rng(0).integers(0, 256, (len(labels), 12, 12), dtype=np.uint8)
    path = folder / f"my.{kind}"
    if kind == "npz":
        np.savez(path, images=images, labels=labels)
    else:
        with h5py.File(path, "w") as file:
            file.update({"images": images, "labels": labels})
    return ["protocol=digits", "method=cnn_baseline", f"dataset={kind}", f"dataset.path={path}", "net.exact=off"]


@pytest.mark.parametrize("kind", ["npz", "h5"])
@pytest.mark.parametrize("name", TARGETS)
def test_targets_of_own_files(tmp_path: Path, kind: str, name: str) -> None:
    labels, task, names = TARGETS[name]
    words = [*own(tmp_path, kind, labels), "conv.kernel_size=3", f"task={task}", f"paths.cache={tmp_path}/cache"]
    data = build(composed(*words)).datamodule
    assert (data.targets, tuple(data.source.labels)) == (TASKS[task], names)
    split = data.datasets["train"].split
    wanted = torch.from_numpy(labels)[split.ids]
    assert torch.equal(
        split.labels, wanted.flatten() if task == "classification" else wanted.to(split.labels).view_as(split.labels)
    )
    for other, targets in TASKS.items():
        if other != task:
            says = (
                f"`task` must be one for {TASKS[task]}, as dataset {kind} has them.*for {targets}; choose task={task}"
            )
            with pytest.raises(ConfigError, match=says):
                build(composed(*words, f"task={other}"))


@pytest.mark.parametrize(("kind", "name"), [("npz", "labels"), ("h5", "labels"), ("npz", "value"), ("h5", "values")])
def test_own_files_are_trained_on(tmp_path: Path, kind: str, name: str) -> None:
    labels, task, _ = TARGETS[name]
    words = [*own(tmp_path, kind, labels), *BRIEF, f"task={task}", "net.hidden_sizes=[4,4]", "train.epochs=1"]
    words += [f"dataset.limit_{split}=null" for split in ("train", "val", "test")]
    words += [word for word in UNSEEN if "figures" not in word]
    result = train(composed(*words, f"paths.logs={tmp_path}/logs", f"paths.cache={tmp_path}/cache"))
    assert {f"test/{composed(f'task={task}').task.primary}", "test/loss"} <= set(result.metrics)


def test_names_of_own_columns(tmp_path: Path) -> None:
    words = [*own(tmp_path, "npz", TARGETS["values"][0]), "conv.kernel_size=3", "task=regression"]
    assert build(composed(*words, "dataset.names=[a,b]")).datamodule.source.labels == ("a", "b")
    with pytest.raises(ConfigError, match="names must be 2, one for each of the labels or values, but are 3"):
        build(composed(*words, "dataset.names=[a,b,c]"))
