"""Relaxed kernels: equivariant at initialisation for every group and form, and not once their weights differ."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from conftest import ALL_GROUPS, KERNELS, MASKS, forms_of
from laws import (
    assert_close,
    check_invariance,
    check_layer,
    check_naturality,
    check_net,
    check_paths,
    check_scale,
    exact_elements,
)
from torch import Tensor, nn

from src.analysis.equivariance import measure
from src.analysis.redundancy import spectra
from src.groups import SO2, Dilation, Product
from src.models import IMPLEMENTATIONS, Factorisation, Field, GConv, contraction
from src.models.kernels import Lattice
from src.models.nets import CKGResNet
from src.models.optimisation import ParameterGroups
from src.models.penalties import AliasPenalty, RelaxedPenalty, penalty_of
from src.models.relaxed import Relaxation, relaxations, sum_ranks

SIZES = {1: (9,), 2: (6, 7), 3: (3, 4, 5)}
"""Pixels of images by the dimension of the space."""
LAYERS = [(group, form) for group in ALL_GROUPS for form in forms_of(group) if form in IMPLEMENTATIONS]
OTHERS = ["oi h, lo x, l a", "oi, lo h, lo x, l a", "l a, loi h, o x", "lio h, lo x h, l a", "oi h, l x, o x, l a"]
"""Forms of which some factors are shared by all ranks."""


def make(group: str, form: str, relaxed: int = 2, **options) -> GConv:
    """A small layer from 2 to 3 channels."""
    h, sizes = ALL_GROUPS[group]
    made = {"kernel": partial(KERNELS["siren"], hidden_size=8), "mask": MASKS["smooth_disc"], "relaxed": relaxed}
    return GConv(2, 3, 3, group=h, elements=sizes, implementation=form, **{**made, **options})


def field_on(conv: GConv, elements: Tensor) -> Field:
    """White noise."""
    return Field(torch.randn(1, conv.in_channels, len(elements), *SIZES[conv.group.space]), elements)


def perturb(net: nn.Module) -> None:
    """Weights that differ between elements, where there is more than one."""
    for relaxation in relaxations(net).values():
        nn.init.normal_(relaxation.weight)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("group", "form"), LAYERS)
def test_laws(group: str, form: str) -> None:
    """W1 on arbitrary elements, W2, W3 and paths; with other weights W1 and W3 fail, and W2 and paths hold."""
    conv, h = make(group, form), ALL_GROUPS[group][0]
    grid, field = conv.kernel.grid, field_on(conv, conv.kernel.grid)
    exact = exact_elements(h, conv.elements)[:, None]
    check_invariance(conv, h.random(4), h.random(3), h.random(1))
    check_invariance(conv, grid, h.random(3), grid[-1:])
    check_naturality(conv, h.random(4), h.random(3))
    for g in exact[-2:]:
        check_layer(conv, field, grid, g)
    perturb(conv)
    check_naturality(conv, h.random(4), h.random(3))
    check_paths(conv, field, grid)
    if len(grid) > 1:
        with pytest.raises(AssertionError, match="W1"):
            check_invariance(conv, grid, h.random(3), grid[-1:])
    if len(exact) > 1:
        with pytest.raises(AssertionError, match="W3"):
            check_layer(conv, field, grid, exact[-1])


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("form", OTHERS)
@pytest.mark.parametrize("group", ["se2", "sim2"])
def test_other_forms(group: str, form: str, monkeypatch) -> None:
    monkeypatch.setattr(contraction, "_HALVE_FROM", 1)
    conv, h = make(group, form, 3, bias=True), ALL_GROUPS[group][0]
    check_invariance(conv, h.random(4), h.random(3), h.random(1))
    perturb(conv)
    check_naturality(conv, h.random(4), h.random(3))
    for elements in (conv.kernel.grid, h.sample(conv.elements)):
        check_paths(conv, field_on(conv, conv.kernel.grid), elements)


@pytest.mark.usefixtures("float64")
def test_the_weight_is_the_weighted_sum_of_banks() -> None:
    conv, h = make("p4", "separable", 3), SO2()
    perturb(conv)
    total, weights = 0.0, relaxations(conv)[""].weight.detach().clone()
    for rank in range(3):
        with torch.no_grad():
            relaxations(conv)[""].weight.copy_(F.one_hot(torch.tensor(rank), 3).expand(4, 3))
        bank = conv.weight(h.grid(4), h.grid(4)).detach()
        total = total + torch.einsum("a,oa...->oa...", weights[:, rank], bank)
    with torch.no_grad():
        relaxations(conv)[""].weight.copy_(weights)
    assert_close(conv.weight(h.grid(4), h.grid(4)), total, "banks")
    with pytest.raises(AssertionError, match="banks"):
        assert_close(conv.weight(h.grid(4), h.grid(4)), total.flip(1), "banks")


def test_sums_over_ranks_are_equal_in_all_forms() -> None:
    w, bank = torch.randn(4, 1, 1, 3, 1, 1), torch.randn(4, 5, 6, 3, 2, 2)
    assert_close(sum_ranks([w, bank]), torch.einsum("abuloi,al->abuoi", bank, w.flatten(1)), "one bank")
    one, two = torch.randn(4, 5, 1, 3, 2, 2), torch.randn(4, 1, 6, 3, 2, 1)
    assert_close(sum_ranks([one, two, w]), (one * two * w).sum(3), "two factors")


@pytest.mark.parametrize("form", ["separable", "nonseparable", "gseparable", "dgseparable"])
@pytest.mark.parametrize("ranks", [1, 2, 8])
def test_variance_does_not_depend_on_ranks(form: str, ranks: int) -> None:
    def layer() -> GConv:
        return GConv(12, 16, 5, group=SO2(), elements=(4,), implementation=form, mask=MASKS["disc"], relaxed=ranks)

    check_scale(layer, 12, 12)


def test_unscaled_weights_break_scale() -> None:
    def layer() -> GConv:
        conv = GConv(12, 16, 5, group=SO2(), elements=(4,), implementation="separable", relaxed=8)
        nn.init.ones_(relaxations(conv)[""].weight)  # as the public code starts
        return conv

    with pytest.raises(AssertionError, match="scale"):
        check_scale(layer, 12, 12)


def net_of(group: str, form: str = "separable", **options) -> CKGResNet:
    """A narrow relaxed net of small images."""
    h, sizes = ALL_GROUPS[group]
    made = {"kernel": KERNELS["fourier"], "mask": MASKS["smooth_disc"], "relaxed": 2, **options}
    conv = partial(GConv, kernel_size=3, group=h, elements=sizes, implementation=form, **made)
    return CKGResNet(1, 3, 8, conv, hidden_sizes=(2, 3), exact="off" if h.space == 3 else "require")


NETS = [(group, "separable") for group in ALL_GROUPS] + [("se2", f) for f in forms_of("se2") if f in IMPLEMENTATIONS]
NETS += [("sim2", "separable+2d"), ("sim2", "gseparable+2d")]


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("group", "form"), dict.fromkeys(NETS))
def test_nets_are_invariant_until_they_relax(group: str, form: str) -> None:
    h, sizes = ALL_GROUPS[group]
    net, images = net_of(group, form), torch.randn(3, 1, *(8,) * h.space)
    matrices = h.matrix(exact_elements(h, sizes))[-2:]
    net(images)  # norms have something to normalise by
    check_net(net.train(), images, matrices, seed=3)
    check_net(net.eval(), images, matrices)
    perturb(net)
    if len(exact_elements(h, sizes)) > 1:
        with pytest.raises(AssertionError, match="invariance under"):
            check_net(net, images, matrices)


# ---------------------------------------------------------------------------------------------- elements, weights


def test_other_elements_have_the_weights_of_the_nearest() -> None:
    relaxation = Relaxation(1, SO2().chart(SO2().grid(4)))
    with torch.no_grad():
        relaxation.weight.copy_(torch.arange(4.0)[:, None])
    chart = SO2().chart(SO2().grid(16)).float()
    assert relaxation(chart)[:, 0].tolist() == [0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 0, 0]


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("group", ["se2", "sim2", "e2", "tetrahedral", "r1xrplus"])
def test_weights_belong_to_the_elements_they_were_made_for(group: str) -> None:
    h, sizes = ALL_GROUPS[group]
    conv = make(group, "separable")
    perturb(conv)
    grid, field = conv.kernel.grid, field_on(conv, conv.kernel.grid)
    order = torch.randperm(len(grid))
    assert_close(conv(field, grid[order]).values, conv(field, grid).values[:, :, order], "another order")
    weights = relaxations(conv)[""]
    at = torch.cat([weights(h.chart(grid)), weights(h.chart(h.sample(sizes)))])
    assert_close(at[: len(grid)], weights.weight, "its own")
    assert set(at.flatten().tolist()) <= set(weights.weight.flatten().tolist()), "no new ones"
    more = (2 * sizes[0], *sizes[1:])
    conv.elements = more
    assert weights.weight.shape == (len(grid), 2), "set anew, elements find the weights that there are"
    assert conv(field).values.shape[2] == len(h.grid(*more))
    options = {"group": h, "elements": more, "implementation": "separable", "kernel": Lattice}
    rebuilt = GConv(2, 3, 3, **options, relaxed=2)
    with pytest.raises(RuntimeError, match=r"nets.2.weight"):
        rebuilt.load_state_dict(conv.state_dict())


@pytest.mark.parametrize("sampling", ["random", "shared"])
def test_random_elements_train_the_weights_of_the_nearest(sampling: str) -> None:
    conv = make("p4", "lifting", sampling=sampling)
    out = conv(Field.of_images(torch.randn(1, 2, 6, 6), SO2()))
    assert not torch.equal(out.elements, conv.kernel.grid)
    out.values.square().sum().backward()
    assert (relaxations(conv)[""].weight.grad != 0).all()


def test_kept_weights_follow_the_weights_of_elements() -> None:
    conv = make("se2", "separable").eval()
    field = field_on(conv, conv.kernel.grid)
    with torch.no_grad():
        before = conv(field).values
        perturb(conv)
        after = conv(field).values
        fresh = conv.train()(field).values
    assert not torch.allclose(before, after)
    assert torch.equal(after, fresh)


def test_one_rank_begins_with_the_kernels_of_an_equivariant_layer() -> None:
    plain, conv = make("se2", "separable", 0), make("se2", "separable", 1)
    missing, unexpected = conv.load_state_dict(plain.state_dict(), strict=False)
    assert (missing, unexpected) == (["kernel.nets.2.weight"], [])
    field = field_on(conv, conv.kernel.grid)
    assert_close(conv(field).values, plain(field).values, "with equal weights")


def test_state_has_the_weights_and_no_more() -> None:
    plain, conv = make("se2", "separable", 0), make("se2", "separable")
    assert set(conv.state_dict()) - set(plain.state_dict()) == {"kernel.nets.2.weight"}
    assert relaxations(plain) == {}
    assert set(relaxations(nn.ModuleDict({"one": conv}))) == {"one"}


def test_weights_of_elements_are_not_decayed_and_learn_as_norms_do() -> None:
    net = net_of("se2")
    weights = {id(own.weight) for own in relaxations(net).values()}
    groups = {group.name: group for group in ParameterGroups(kernel_lr=3.0).split(net)}
    assert weights <= {id(parameter) for parameter in groups["no_decay"].members}
    assert (groups["no_decay"].lr, groups["no_decay"].decay) == (1.0, 0.0)


def test_the_start_of_the_paper_leaves_the_weights_of_elements() -> None:
    conv = make("se2", "separable", init="paper")
    assert torch.equal(relaxations(conv)[""].weight, torch.full((8, 2), 2**-0.5))


def test_sums_in_turn_are_taken_while_they_are_cheaper() -> None:
    sizes = {"group": SO2(), "elements": (8,), "implementation": "separable"}
    few, many = (GConv(8, 8, 3, **sizes, relaxed=ranks) for ranks in (1, 40))
    grid = few.kernel.grid
    assert (len(few._steps(grid, grid)), len(many._steps(grid, grid))) == (2, 1)


@pytest.mark.parametrize(
    ("form", "relaxed", "message"),
    [
        ("loi x, l a", 0, "`relaxed` must say how many ranks `l`"),
        ("oi x", -1, "`relaxed` must be a whole number, 0 or more, but got -1"),
        ("oi x", 1.5, "`relaxed` must be a whole number, 0 or more, but got 1.5"),
        ("loi x", 2, "must have their weights, `l a`, once, and another factor"),
        ("oi x, l a", 2, "must have their weights, `l a`, once, and another factor"),
        ("loi x, l a, l a", 2, "must have their weights, `l a`, once, and another factor"),
        ("oli x, l a", 2, "after `l` if there are ranks"),
    ],
)
def test_what_cannot_be_honoured_is_refused(form: str, relaxed: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make("se2", form, relaxed)


def test_forms_have_their_relaxed_forms() -> None:
    found = [Factorisation(name).relaxed(2).formula for name in ("lifting", "separable", "dseparable")]
    assert found == ["loi x, l a", "loi h, lo x, l a", "loi, lo x h, l a"]
    assert Factorisation("oi h, lo x, l a").relaxed(3) == Factorisation("oi h, lo x, l a")
    assert Factorisation("oi x").relaxed(0) == Factorisation("lifting")
    assert "relaxed=2" in repr(make("se2", "separable"))


# ------------------------------------------------------------------------------------------- spread and penalty


def test_spread_is_zero_where_weights_are_equal_and_nowhere_else() -> None:
    relaxation = Relaxation(3, SO2().chart(SO2().grid(4)))
    nn.init.constant_(relaxation.weight, 1 / 3)
    assert relaxation.spread() == 0.0
    with torch.no_grad():
        relaxation.weight[2, 1] += 1e-6
    assert 0 < relaxation.spread() < 1e-5
    with torch.no_grad():
        relaxation.weight.copy_(torch.tensor([1.0, -1.0, 1.0, -1.0])[:, None])
    assert relaxation.spread() == pytest.approx(1.0)
    nn.init.zeros_(relaxation.weight)
    assert relaxation.spread() == 0.0


@pytest.mark.usefixtures("float64")
def test_the_penalty_is_alpha_times_the_differences_of_pairs() -> None:
    net = nn.Sequential(make("p4", "separable"), make("sim2", "lifting"))
    penalty = RelaxedPenalty(0.5)
    assert penalty(net) == 0, "exactly"
    penalty(net).backward()
    assert all(not own.weight.grad.any() for own in relaxations(net).values()), "nothing moves an equivariant net"
    perturb(net)
    pairs = 0.0
    for own in relaxations(net).values():
        for w in own.weight.T.tolist():
            pairs += sum(abs(w[g] - w[h]) for h in range(len(w)) for g in range(h))
    assert float(penalty(net).detach()) == pytest.approx(0.5 * pairs, rel=1e-12)
    assert float(RelaxedPenalty(1.0)(net).detach()) == pytest.approx(pairs, rel=1e-12), "not squared"
    assert RelaxedPenalty()(nn.Linear(2, 2)) == 0


def test_penalties_are_chosen_by_name() -> None:
    conv = make("p4", "separable")
    perturb(conv)
    both = penalty_of({"relaxed": RelaxedPenalty(1.0), "alias": AliasPenalty(1.0), "none": None})
    assert both(conv) == RelaxedPenalty(1.0)(conv) + AliasPenalty(1.0)(conv)
    assert penalty_of(None) is None
    assert penalty_of(RelaxedPenalty()) == RelaxedPenalty()
    with pytest.raises(ValueError, match=r"`model.penalty.relaxed` must be a penalty or null, but got 0.1"):
        penalty_of({"relaxed": 0.1})
    with pytest.raises(ValueError, match=r"`model.penalty.alpha` must be at least 0, but got -1"):
        RelaxedPenalty(-1)


# ------------------------------------------------------------------------------------------------- what is measured


def test_a_relaxed_net_is_measured_and_has_no_flaw() -> None:
    net, images, labels = net_of("p4").eval(), torch.randn(8, 1, 8, 8), torch.arange(8) % 3
    options = {"samples": 8, "elements": 1, "curve_samples": 8, "angles": 2}
    before = measure(net, images, labels, **options)
    assert before.flaw is None
    assert max(before.errors["lattice"].values()) < 1e-4
    perturb(net)
    after = measure(net, images, labels, **options)
    assert after.flaw is None, "it is meant to be so"
    assert max(after.errors["lattice"].values()) > 0.05


@pytest.mark.parametrize(
    ("form", "relaxed", "forced"),
    [("separable", 1, True), ("separable", 2, False), ("oi h, lo x, l a", 2, True), ("nonseparable", 1, False)],
)
def test_ranks_are_ranks_along_the_group(form: str, relaxed: int, forced: bool) -> None:
    found = spectra(make("se2", form, relaxed, kernel=KERNELS["fourier"]))["all"]
    assert found.forced == forced
    if form == "separable":
        assert sum(found.shares[:relaxed]) == pytest.approx(1, abs=1e-5)
        assert found.shares[relaxed - 1] > 0.01


@pytest.mark.parametrize("n", [3, 8, 1000])
def test_every_element_of_a_fine_grid_has_its_own_weights(n: int) -> None:
    chart = SO2().chart(SO2().grid(n))
    relaxation = Relaxation(1, chart)
    with torch.no_grad():
        relaxation.weight.copy_(torch.arange(float(n))[:, None])
    assert torch.equal(relaxation(chart.float()), relaxation.weight)


def test_dilations_have_the_weights_of_the_nearest_scale() -> None:
    h = Product(SO2(), Dilation(2.0))
    relaxation = Relaxation(1, h.chart(h.grid(4, 3)))
    with torch.no_grad():
        relaxation.weight.copy_(torch.arange(12.0)[:, None])
    beyond = h.chart(torch.tensor([[0.1, 5.0], [1.6, -3.0]]))
    assert relaxation(beyond)[:, 0].tolist() == [2, 3]
