"""Warping and cutting: orientation, exactness on the lattice, borders, independence of the batch; random tables."""

from math import pi

import pytest
import torch

from src.data.tables import generator, uniform_table
from src.data.warp import Border, crop, rotate, warp
from src.groups import SO2


def image(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("side", [8, 9, 28])
@pytest.mark.parametrize("turns", [-1, 0, 1, 2, 3, 5])
def test_quarter_turns_are_rot90(turns: int, side: int, mode: str) -> None:
    images = image(2, 3, side, side)
    turned = rotate(images, torch.full((2,), turns * pi / 2), mode)
    torch.testing.assert_close(turned, torch.rot90(images, turns, (-2, -1)), atol=1e-5, rtol=0)
    assert (turned - torch.rot90(images, turns + 2, (-2, -1))).abs().max() > 0.1


def test_snapping_saves_the_rim_of_large_images() -> None:
    images = image(1, 1, 513, 513).double()
    expected = torch.rot90(images, 1, (-2, -1))
    assert (rotate(images, torch.tensor([pi / 2])) - expected).abs().max() < 1e-11
    unsnapped = warp(images, SO2().matrix(torch.tensor([[pi / 2 + 2e-6]])))
    assert (unsnapped - expected).abs().max() > 1e-5


def test_non_square_half_turn_and_no_distortion() -> None:
    images = image(1, 1, 6, 11)
    torch.testing.assert_close(rotate(images, torch.tensor([pi])), images.flip(-1, -2), atol=1e-5, rtol=0)
    dot = torch.zeros(1, 1, 7, 15)
    dot[0, 0, 3, 7 + 2] = 1  # u = (0, 2), which a rotation by pi/2 takes to (-2, 0)
    turned = rotate(dot, torch.tensor([pi / 2]))
    assert turned[0, 0, 1, 7] == pytest.approx(1, abs=1e-5)
    assert turned.sum() == pytest.approx(1, abs=1e-5)


def test_warp_acts_as_the_group_does() -> None:
    """A blob at u moves to matrix u, for a matrix that is not orthogonal and a larger result."""
    matrix, u = torch.tensor([[1.5, -0.5], [0.5, 1.0]]), torch.tensor([2.0, -1.0])
    dot = torch.zeros(1, 1, 9, 9)
    dot[0, 0, 6, 3] = 1
    warped = warp(dot, matrix[None], size=(21, 31))[0, 0]
    y, x = torch.meshgrid(torch.arange(21.0) - 10, torch.arange(31.0) - 15, indexing="ij")
    centre = torch.stack([(warped * y).sum(), (warped * x).sum()]) / warped.sum()
    torch.testing.assert_close(centre, matrix @ u, atol=0.1, rtol=0)
    assert (centre - matrix.T @ u).abs().max() > 0.5


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_images_do_not_depend_on_their_batch(mode: str) -> None:
    images, angles = image(33, 1, 13, 17), 2 * pi * image(33)
    together = rotate(images, angles, mode)
    apart = torch.cat([rotate(images[i : i + 1], angles[i : i + 1], mode) for i in range(33)])
    assert torch.equal(together, apart)


def test_uniform_tables_are_functions_of_their_key() -> None:
    table = uniform_table(1000, "a", 0, 1).clone()
    uniform_table.cache_clear()
    assert torch.equal(table, uniform_table(1000, "a", 0, 1))
    for other in (("a", 1, 1), ("a", 0, 2), ("b", 0, 1), ("a", 1, 0)):
        assert (table - uniform_table(1000, *other)).abs().max() > 0.5
    assert 0 <= table.min() < 0.02
    assert 0.98 < table.max() < 1
    assert generator("a", 11).initial_seed() != generator("a1", 1).initial_seed()


@pytest.mark.parametrize("border", ["zeros", "edge", "reflect"])
def test_what_lies_outside(border: Border) -> None:
    """Warping by a shift of the canvas and cropping see the same surroundings."""
    images = image(2, 3, 5, 6)
    larger = warp(images, torch.eye(2).expand(2, 2, 2), border=border, size=(11, 14))
    cut = crop(images, torch.tensor([[-3, -4]]).expand(2, 2), (11, 14), border)
    torch.testing.assert_close(larger, cut, atol=1e-5, rtol=0)
    torch.testing.assert_close(cut[:, :, 3:8, 4:10], images)
    above = {"zeros": torch.zeros(2, 3, 6), "edge": images[:, :, 0], "reflect": images[:, :, 2]}[border]
    assert torch.equal(cut[:, :, 1, 4:10], above)


def test_reflection_goes_on_and_on() -> None:
    row = torch.arange(4)[None, None, None].expand(1, 1, 2, 4).to(torch.uint8)
    cut = crop(row, torch.tensor([[0, -9]]), (1, 20), "reflect")[0, 0, 0]
    assert cut.tolist() == [3, 2, 1, 0, 1, 2, 3, 2, 1, 0, 1, 2, 3, 2, 1, 0, 1, 2, 3, 2]
    one = crop(row[..., :1], torch.tensor([[0, -2]]), (1, 4), "reflect")
    assert one.tolist() == [[[[0, 0, 0, 0]]]]


def test_crops_are_cut_where_each_begins_and_mirrored_after() -> None:
    images = torch.arange(2 * 5 * 6).view(2, 1, 5, 6).to(torch.uint8)
    corners = torch.tensor([[1, 2], [-1, 3]])
    plain = crop(images, corners, (3, 3))
    assert plain.dtype == torch.uint8
    assert torch.equal(plain[0, 0], images[0, 0, 1:4, 2:5])
    assert torch.equal(plain[1, 0, 1:], images[1, 0, :2, 3:])
    assert plain[1, 0, 0].tolist() == [0, 0, 0]
    mirrored = crop(images, corners, (3, 3), mirrored=torch.tensor([[False, True], [True, False]]))
    assert torch.equal(mirrored[0], plain[0].flip(-1))
    assert torch.equal(mirrored[1], plain[1].flip(-2))


def test_border_must_exist() -> None:
    for call in (
        lambda: warp(image(1, 1, 4, 4), torch.eye(2)[None], border="wrap"),
        lambda: crop(image(1, 1, 4, 4), torch.zeros(1, 2).long(), border="wrap"),
    ):
        with pytest.raises(ValueError, match="`border` must be one of zeros, edge, reflect, but got 'wrap'"):
            call()


@pytest.mark.parametrize(
    ("images", "matrices", "mode", "name"),
    [
        (torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.eye(2).expand(2, 2, 2), "bilinear", "images"),
        (torch.zeros(4, 4), torch.eye(2).expand(1, 2, 2), "bilinear", "images"),
        (torch.zeros(2, 1, 4, 4), torch.eye(2).expand(1, 2, 2), "bilinear", "matrices"),
        (torch.zeros(2, 1, 4, 4), torch.eye(2).expand(2, 2, 2), "nearest", "mode"),
    ],
)
def test_warp_says_what_is_wrong(images: torch.Tensor, matrices: torch.Tensor, mode: str, name: str) -> None:
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        warp(images, matrices, mode)
