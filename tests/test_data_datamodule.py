"""The data module: without a trainer, under a trainer, from its configuration."""

import re
from pathlib import Path
from typing import Any

import hydra
import lightning.pytorch as lightning
import numpy as np
import pytest
import torch
from composing import composed

from src.config.compose import CONFIGS
from src.config.instantiate import instantiate
from src.data import Digits, ImageDataModule, Pool, Pools, Source

# Of the trainer, about itself and about what is meant: a batch is a slice in memory and needs no workers.
TRAINER_WARNINGS = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers", "ignore:.*LeafSpec.* is deprecated:FutureWarning"
)
SPACES = {"smnist": 1, "psmnist": 1, "scifar10": 1, "sdigits": 1, "digits3d": 3}
"""Dimension of the data that are no images."""
OWN = ("images", "npz", "h5")


def choices(group: str) -> list[str]:
    """The names of a config group; those that begin with _ are parts of others."""
    return [path.stem for path in sorted((CONFIGS / group).glob("[!_]*.yaml"))]


class Toy(Source):
    """A source in a dozen lines: what another data set needs."""

    name, labels, channels, native = "toy", ("even", "odd"), 3, (4, 5)
    recommended = (20, 20, 20)

    def __init__(self, *, wrong: str | None = None, **drawing: Any) -> None:
        super().__init__(**drawing)
        self.wrong, self.reads = wrong, 0

    def pools(self) -> Pools:
        self.reads += 1
        random = torch.Generator().manual_seed(0)
        images = torch.randint(256, (60, 1 if self.wrong == "channels" else 3, 4, 5), generator=random)
        return Pools(Pool(images.to(torch.uint8), torch.arange(60) % (3 if self.wrong == "labels" else 2)))


class Overlapping(Toy):
    def splits(self) -> Any:
        splits = super().splits()
        return splits._replace(val=splits.train)


def module(**options: Any) -> ImageDataModule:
    return ImageDataModule(**{"reader": Toy, "batch_size": 6} | options)


def test_known_before_anything_is_read() -> None:
    toy = module()
    assert (toy.classes, toy.channels, toy.size) == (2, 3, (4, 5))
    assert toy.source.reads == 0


def test_works_without_a_trainer() -> None:
    toy = module(eval_batch_size=20)
    assert len(list(toy.train_dataloader())) == toy.train_batches == 4
    toy.prepare_data()
    toy.setup("fit")
    (images, labels), *rest = toy.val_dataloader()
    assert images.shape == (20, 3, 4, 5)
    assert not rest
    assert torch.equal(labels, torch.cat([labels for _, labels in toy.val_dataloader()]))
    assert toy.source.reads == 1


def test_evaluation_is_not_augmented() -> None:
    plain, augmented = module(), module(augment={"flip": True})
    for name in ("val", "test"):
        a, b = (next(iter(getattr(toy, f"{name}_dataloader")()))[0] for toy in (plain, augmented))
        assert torch.equal(a, b)
    a, b = (next(iter(toy.train_dataloader()))[0] for toy in (plain, augmented))
    assert not torch.equal(a, b)


def test_limits_are_stratified_and_fixed_by_the_data_seed() -> None:
    def subset(**options: Any) -> torch.Tensor:
        toy = module(limit_val=8, **options)
        images, labels = zip(*toy.val_dataloader(), strict=True)
        assert torch.bincount(torch.cat(labels)).tolist() == [4, 4]
        return torch.cat(images)

    assert torch.equal(subset(), subset(order_seed=7, batch_size=3))
    assert not torch.equal(subset(), subset(seed=1))
    assert len(module(limit_train=2).train_dataloader()) == 1


def test_order_seed_decides_the_order_only() -> None:
    def order(**options: Any) -> list[int]:
        digits = module(reader=Digits, batch_size=100, limit_train=300, **options)
        return torch.cat([labels for _, labels in digits.train_dataloader()]).tolist()

    assert order() == order()
    assert order() != order(order_seed=1)
    assert sorted(order()) == sorted(order(order_seed=1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "`batch_size` must be at least 1, but got 0"),
        ({"eval_batch_size": -1}, "`eval_batch_size` must be at least 1"),
        ({"limit_test": 0}, "`limit_test` must be at least 1"),
        ({"limit_train": 21}, "`limit_train` must be at most 20"),
        ({"num_workers": -1}, "`num_workers` must be at least 0"),
        ({"augment": "mixup"}, "`augment` must be null or map names to values"),
        ({"augment": {"rotate": 200}}, "`augment.rotate` must be degrees"),
        ({"on_device": True, "num_workers": 1}, "`num_workers` must be 0 with on_device=true"),
        ({"split": "toy-0123456789ab"}, "`split` must be toy-.*but got toy-0123456789ab"),
        ({"reader": Overlapping}, "the splits of Overlapping share images"),
        ({"classes": 10}, "`classes` must be 2, what Toy has, but got 10"),
        ({"channels": 1}, "`channels` must be 3"),
        ({"wrong": "channels"}, r"must be images of \(3, 4, 5\)"),
        ({"wrong": "labels"}, r"labels in \[0, 2\), but has .* \[0, 2\]"),
    ],
)
def test_refuses(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        module(**options).setup()


def test_refuses_what_the_source_does_not_know() -> None:
    with pytest.raises(TypeError, match="colour"):
        module(colour=True)


def configured(name: str, folder: Path, *overrides: str) -> ImageDataModule:
    paths = [f"paths.data={folder}/d", f"paths.cache={folder}/c"]
    choices = [f"dataset={name}", *(["augment=none"] if SPACES.get(name) == 1 else [])]
    return instantiate(composed(*choices, "seed=5", "train.batch_size=16", *paths, *overrides).dataset)


@pytest.mark.parametrize("name", [name for name in choices("dataset") if name not in OWN])
def test_configurations_build_without_touching_files(tmp_path: Path, name: str) -> None:
    cfg = composed(f"dataset={name}").dataset
    sides = {1: [cfg.size], 3: [24, 31, 12]}.get(SPACES.get(name, 2), [24, 31])
    built = configured(name, tmp_path, "dataset.limit_train=7", f"dataset.size={sides}", "dataset.seed=2")
    assert (built.classes, built.channels, built.size) == (cfg.classes, cfg.channels, tuple(sides))
    assert configured(name, tmp_path).size == (cfg.size,) * len(sides)
    assert (built.batch_size, built.order_seed, built.seed, built.source.seed) == (16, 5, 2, 2)
    assert not list(tmp_path.iterdir())
    with pytest.raises(hydra.errors.InstantiationException, match=f"`classes` must be {cfg.classes}"):
        configured(name, tmp_path, "dataset.classes=9")
    with pytest.raises(hydra.errors.InstantiationException, match="unexpected keyword argument 'limit'"):
        configured(name, tmp_path, "+dataset.limit=9")


@pytest.mark.parametrize("name", OWN)
def test_data_of_ones_own_need_a_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(hydra.errors.InstantiationException, match=r"`path` must be .* but got None"):
        configured(name, tmp_path)


@pytest.mark.parametrize("name", [name for name in choices("dataset") if name not in OWN and "digits" not in name])
def test_published_data_say_where_they_come_from(tmp_path: Path, name: str) -> None:
    source = configured(name, tmp_path).source
    source = getattr(source, "images", source)
    assert all(source.card)
    assert source.card.homepage.startswith("http")
    for file in source.originals:
        assert re.fullmatch("sha256:[0-9a-f]{64}|md5:[0-9a-f]{32}", file.sum)
        assert file.urls
        assert all(url.endswith(file.name) for url in file.urls)


@pytest.mark.parametrize("name", choices("augment"))
def test_configured_augmentations(tmp_path: Path, name: str) -> None:
    built = configured("digits", tmp_path, f"augment={name}")
    assert built.augmentation.active == (name != "none")
    assert built.augmentation.border == "zeros"
    assert configured("cifar10", tmp_path, f"augment={name}").augmentation.border == "reflect"
    assert configured("cifar10", tmp_path, f"augment={name}", "dataset.border=edge").augmentation.border == "edge"
    assert configured("cifar10", tmp_path, f"augment={name}", "augment.border=zeros").augmentation.border == "zeros"


def test_configured_digits(tmp_path: Path) -> None:
    images, _ = next(iter(configured("digits", tmp_path, "dataset.limit_train=32").train_dataloader()))
    assert images.shape == (16, 1, 24, 24)


def test_splits_are_named_and_kept(tmp_path: Path) -> None:
    digits = configured("digits", tmp_path, "dataset.limit_val=50")
    digits.prepare_data()
    kept = np.load(tmp_path / "c" / "digits" / f"split-{digits.fingerprint}.npz")
    assert {name: len(kept[name]) for name in kept} == {"train": 1197, "val": 50, "test": 400}
    for name, dataset in digits.datasets.items():
        assert np.array_equal(kept[name], dataset.split.ids)
    names = {configured("digits", tmp_path, *options).fingerprint for options in ((), ("dataset.seed=1",))}
    names |= {configured("digits", tmp_path, "dataset.folds=5", f"dataset.fold={fold}").fingerprint for fold in (0, 1)}
    assert len(names | {digits.fingerprint}) == 5
    same = configured("digits", tmp_path, "dataset.rotate=false", "seed=7", "augment=flip", "dataset.limit_val=50")
    assert same.fingerprint == digits.fingerprint
    configured("digits", tmp_path, f"dataset.split={digits.fingerprint}", "dataset.limit_val=50").setup()


class Model(lightning.LightningModule):
    """Records the batches it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.seen = torch.nn.Linear(60, 2), []

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], index: int) -> torch.Tensor:
        images, labels = batch
        self.seen.append(images.clone())
        return torch.nn.functional.cross_entropy(self.layer(images.flatten(1)), labels)

    def validation_step(self, batch: tuple[torch.Tensor, torch.Tensor], index: int) -> None:
        assert len(batch) == 2

    def predict_step(self, batch: tuple[torch.Tensor, torch.Tensor], index: int) -> torch.Tensor:
        return self.layer(batch[0].flatten(1))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer(folder: Path, **options: Any) -> lightning.Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    return lightning.Trainer(**quiet, default_root_dir=folder, enable_checkpointing=False, **options)


class SaveAt(lightning.Callback):
    """Writes one checkpoint after so many steps."""

    def __init__(self, step: int, path: Path) -> None:
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer: lightning.Trainer, *args: Any) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)


@TRAINER_WARNINGS
@pytest.mark.parametrize("step", [2, 4, 7])
def test_a_resumed_run_continues_with_the_next_batch(tmp_path: Path, step: int) -> None:
    whole, resumed, path = Model(), Model(), tmp_path / "stopped.ckpt"
    trainer(tmp_path, max_epochs=3, callbacks=SaveAt(step, path)).fit(whole, module(augment={"flip": True}))
    trainer(tmp_path, max_epochs=3).fit(resumed, module(augment={"flip": True}), ckpt_path=path, weights_only=True)
    assert len(whole.seen) == 12
    for a, b in zip(whole.seen[step:], resumed.seen, strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(whole.seen[0], whole.seen[4])


@TRAINER_WARNINGS
def test_predicts_in_order(tmp_path: Path) -> None:
    toy, model = module(), Model().eval()
    logits = torch.cat(trainer(tmp_path).predict(model, toy.test_dataloader()))
    with torch.no_grad():
        expected = torch.cat([model.predict_step(batch, 0) for batch in toy.test_dataloader()])
    assert torch.equal(logits, expected)
