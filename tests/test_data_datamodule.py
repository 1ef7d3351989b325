"""The data module: without a trainer, under a trainer, from its configuration."""

from pathlib import Path
from typing import Any

import hydra
import lightning.pytorch as lightning
import pytest
import torch
from omegaconf import OmegaConf

from src.data import Digits, ImageDataModule, Split, Splits

# Of the trainer, about itself and about what is meant: a batch is a slice in memory and needs no workers.
TRAINER_WARNINGS = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers", "ignore:.*LeafSpec.* is deprecated:FutureWarning"
)
CONFIGS = Path(__file__).parents[1] / "configs" / "dataset"


class Toy:
    """A source in a dozen lines: what another data set needs."""

    classes, channels, size = 2, 3, (4, 5)

    def __init__(self, *, seed: int, length: int = 20, wrong: str | None = None) -> None:
        self.seed, self.length, self.wrong, self.reads = seed, length, wrong, 0

    def splits(self) -> Splits:
        self.reads += 1
        random = torch.Generator().manual_seed(self.seed)
        shape = (self.length, 1 if self.wrong == "channels" else 3, 4, 5)
        images = torch.randint(256, shape, generator=random).to(torch.uint8)
        labels = torch.arange(self.length) % (3 if self.wrong == "labels" else 2)
        return Splits(*[Split(images, labels)] * 3)


def module(**options: Any) -> ImageDataModule:
    return ImageDataModule(**{"source": Toy, "batch_size": 6} | options)


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
    assert torch.equal(labels, next(iter(toy.test_dataloader()))[1])
    assert toy.source.reads == 1


def test_evaluation_is_not_augmented() -> None:
    plain, augmented = module(), module(augment="flip")
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
        digits = module(source=Digits, batch_size=100, limit_train=300, **options)
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
        ({"augment": "mixup"}, "`augment` must be null or one of rotate, flip"),
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


def configured(name: str, folder: Path, **overrides: Any) -> ImageDataModule:
    cfg = {"seed": 5, "train": {"batch_size": 16}, "paths": {"data": str(folder / "d"), "cache": str(folder / "c")}}
    cfg = OmegaConf.merge(cfg, {"dataset": OmegaConf.load(CONFIGS / f"{name}.yaml")}, {"dataset": overrides})
    return hydra.utils.instantiate(cfg).dataset


@pytest.mark.parametrize("name", [path.stem for path in sorted(CONFIGS.glob("*.yaml"))])
def test_configurations_build_without_touching_files(tmp_path: Path, name: str) -> None:
    toy = configured(name, tmp_path, limit_train=7, size=[24, 31], seed=2)
    assert (toy.classes, toy.channels, toy.size) == (10, 1, (24, 31))
    assert (toy.batch_size, toy.order_seed, toy.seed, toy.source.seed) == (16, 5, 2, 2)
    assert not list(tmp_path.iterdir())
    with pytest.raises(hydra.errors.InstantiationException, match="`classes` must be 10"):
        configured(name, tmp_path, classes=9)
    with pytest.raises(hydra.errors.InstantiationException, match="unexpected keyword argument 'limit'"):
        configured(name, tmp_path, limit=9)


def test_configured_digits(tmp_path: Path) -> None:
    images, _ = next(iter(configured("digits", tmp_path, limit_train=32).train_dataloader()))
    assert images.shape == (16, 1, 20, 20)


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
    trainer(tmp_path, max_epochs=3, callbacks=SaveAt(step, path)).fit(whole, module(augment="flip"))
    trainer(tmp_path, max_epochs=3).fit(resumed, module(augment="flip"), ckpt_path=path, weights_only=True)
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
