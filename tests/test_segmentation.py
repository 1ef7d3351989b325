"""Classes of pixels: they move with their images, are learned, measured, and shown."""

from __future__ import annotations

import pytest
import torch
from laws import assert_close, check_net
from test_stages import exact_matrices, unet
from torch import nn
from torchmetrics.classification import MulticlassJaccardIndex

from src.analysis.equivariance import LOGITS, measure, score_under
from src.analysis.moving import targets_along
from src.analysis.outcomes import draw_predictions
from src.data import ImageDataModule, Pool, Pools, SegmentedDigits
from src.data.masks import with_planes, without_planes
from src.data.samples import samples
from src.models.tasks import Segmentation
from src.models.torch_functions import functions_for
from src.training import ConfigError, load_recipe


class Blocks(SegmentedDigits):
    """Images whose pixels say which class they are of, where nothing was interpolated."""

    name = "blocks"
    labels = ("none", "grey", "white")
    native = (12, 12)
    magnification = 1.0

    def pools(self) -> Pools:
        masks = torch.randint(3, (60, 4, 4), generator=torch.Generator().manual_seed(0)).long()
        masks = nn.functional.pad(masks.repeat_interleave(2, 1).repeat_interleave(2, 2), (2, 2, 2, 2))
        return Pools(Pool((127 * masks).to(torch.uint8)[:, None], masks))


def data(reader=Blocks, **options) -> ImageDataModule:
    return ImageDataModule(reader=reader, batch_size=20, counts=[40, 10, 10], **options)


def seen(module: ImageDataModule, split: str = "train") -> tuple[torch.Tensor, torch.Tensor]:
    """What images say, and their masks."""
    module.setup()
    dataset = module.datasets[split]
    images, masks = dataset.finish(dataset[1, torch.arange(len(dataset))], torch.device("cpu"))
    return (dataset.denormalise(images)[:, 0] * 255 / 127).round().long(), masks


@pytest.mark.parametrize(
    "augment", [{}, {"flip": True, "flip_y": True}, {"crop": 2}, {"crop": 1, "flip": True}], ids=str
)
def test_masks_move_with_their_images(augment: dict) -> None:
    images, masks = seen(data(augment=augment))
    assert torch.equal(images, masks)
    upright = seen(data())[1]
    assert torch.equal(upright, masks) == (not augment), "the control: they were moved at all"


def test_rotated_masks_are_those_of_rotated_images() -> None:
    for options in ({"rotate": True}, {"augment": {"rotate": 180}}):
        images, masks = seen(data(size=16, **options))
        upright = seen(data(size=16))[1]
        share, control = ((images == own)[(images > 0) | (own > 0)].double().mean().item() for own in (masks, upright))
        assert share > 0.6 > 0.5 > control, (options, share, control)


def test_quarter_turns_are_exact() -> None:
    masks = torch.randint(3, (4, 5, 5))
    logits = torch.zeros(4, 3, 5, 5)
    turn = torch.tensor([[0.0, 1.0], [-1.0, 0.0]])
    assert torch.equal(targets_along(masks, logits, turn, "zeros"), masks.rot90(-1, (1, 2)))
    assert torch.equal(targets_along(masks, logits[..., 0, 0], turn, "zeros"), masks), "targets of whole images stay"


def test_planes_of_any_space() -> None:
    for space in ((7,), (4, 5), (2, 3, 4)):
        images, masks = torch.randn(2, 3, *space), torch.randint(5, (2, *space))
        back = without_planes(with_planes(images, masks, 5), 5)
        assert torch.equal(back[0], images)
        assert torch.equal(back[1], masks)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"augment": {"cutout": 4}}, r"`augment.cutout` must be 0 where classes of pixels are learned"),
        ({"classes": 4}, "`classes` must be 3"),
    ],
)
def test_what_cannot_be_is_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        data(**options)


def test_masks_of_another_size_are_refused() -> None:
    class Wrong(Blocks):
        def splits(self):
            found = super().splits()
            return found._replace(train=found.train._replace(labels=found.train.labels[:, 1:]))

    with pytest.raises(ValueError, match=r"labels in \[0, 3\) of shape \(12, 12\), but has .* of shape \(11, 12\)"):
        data(Wrong).setup()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["task=classification"], "choose task=segmentation"),
        (["dataset=digits"], "choose task=classification"),
        (["dataset.size=22"], "`size` must be halved exactly by each of 2 pools"),
    ],
)
def test_recipes_that_do_not_fit_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_recipe("digits_segmentation", overrides)


def test_loss_and_metrics_of_pixels() -> None:
    outputs, targets = torch.randn(2, 3, 4, 5), torch.randint(3, (2, 4, 5))
    by_pixel = nn.functional.cross_entropy(outputs.movedim(1, -1).flatten(0, 2), targets.flatten(), reduction="none")
    assert torch.allclose(Segmentation(3).losses(outputs, targets), by_pixel.unflatten(0, (2, -1)).mean(1))
    task = Segmentation(3)
    meter = MulticlassJaccardIndex(3)
    meter.update(outputs, targets)
    assert task.measured(outputs, targets) == pytest.approx(float(meter.compute()))
    assert task.written(task.primary, 0.5) == "50.00 %"
    right = nn.functional.one_hot(targets, 3).movedim(-1, 1).float()
    assert task.measured(right, targets) == 1
    assert [caption.text for caption in task.captions(right, targets, "abc")] == ["100% of pixels"] * 2
    with pytest.raises(ValueError, match="targets of task=segmentation must be classes, int64 of shape"):
        task.losses(outputs, targets[:, :2])
    with pytest.raises(ValueError, match="choose the task that fits the data"):
        task.losses(outputs[..., 0, 0], targets)


def test_equivariance_of_pixels_is_measured() -> None:
    found = samples(data(SegmentedDigits, size=12), "test", 8, torch.device("cpu"), 11)
    options = {"task": Segmentation(11), "elements": 1, "angles": 4, "curve_samples": 8, "samples": 4, "border": "edge"}
    slopes = []
    for group, exact in (("p4", True), ("r2", False)):
        torch.manual_seed(0)
        net = unet(group, 12, classes=11).eval()
        own = measure(net, found.images, found.targets, **options)
        error = own.errors["lattice" if exact else "rotation"][LOGITS]
        assert (error < 1e-4) == exact, error
        assert own.agreement["rotation"] > 0.999 or not exact
        assert own.flaw is None
        slopes.append(own.lie["rotation"])
    assert 0 < slopes[0] < slopes[1], "by angles between the quarter turns as well"


def test_targets_of_pixels_move_with_the_images() -> None:
    class Oracle(nn.Module):
        """Says of each pixel what the image does."""

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return -(images - torch.tensor([0.0, 127 / 255, 254 / 255])[:, None, None]).square()

    module = data()
    module.setup()
    split = module.datasets["test"].split
    turns = torch.tensor([[[0.0, 1.0], [-1.0, 0.0]], [[-1.0, 0.0], [0.0, -1.0]]])
    scores = score_under(Oracle(), split.images / 255, split.labels, turns, "zeros", Segmentation(3))
    assert torch.equal(scores, torch.ones(2))
    still = score_under(Oracle(), split.images / 255, split.labels.rot90(1, (1, 2)), turns, "zeros", Segmentation(3))
    assert (still < 0.7).all(), "the control: other targets"


def test_predictions_of_pixels_are_drawn() -> None:
    found = samples(data(SegmentedDigits, size=12), "test", 8, torch.device("cpu"), 11)
    outputs = unet("r2", 12, classes=11)(found.images).detach()
    assert draw_predictions(Segmentation(11), found, outputs).keys() == {"confusion", "worst", "samples"}


def test_a_recipe_learns_and_commutes() -> None:
    small = ["net.hidden_sizes=[4,6]", "group.elements=[4]", "conv.kernel_size=3", "dataset.size=12"]
    recipe = load_recipe("digits_segmentation", small)
    recipe.datamodule.setup()
    dataset = recipe.datamodule.datasets["train"]
    images, masks = dataset.finish(dataset[0, torch.arange(8)], torch.device("cpu"))
    images, net, task = images.double(), recipe.model.net.double(), recipe.model.task
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        losses.append(task.loss(net(images), masks))
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < losses[0]
    check_net(net.eval(), images, exact_matrices("p4"))
    with pytest.raises(AssertionError, match="relative error"):
        assert_close(net(images.rot90(1, (2, 3))), net(images), "the control: outputs that stay where they are")


def test_dense_functions_of_every_space_have_a_transpose() -> None:
    for d in (1, 2, 3):
        planes = torch.randn(1, 2, *(4,) * d)
        weight = torch.randn(2, 3, *(3,) * d)
        assert functions_for(planes).transposed(planes, weight, stride=2, padding=1).shape[2:] == (7,) * d
