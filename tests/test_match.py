"""`net.match`: a plain CNN of as many parameters or multiply-adds, from any net, or a refusal."""

from __future__ import annotations

import pytest
import torch
from omegaconf import OmegaConf

from src.analysis.costs import costs
from src.config.compose import compose_config
from src.config.keys import check_keys
from src.groups import Trivial
from src.models.gconv import convolutions
from src.runs import identity
from src.training import ConfigError, match
from src.training.recipe import Recipe, build, with_values

SMALL = ("protocol=digits", "method=se2_separable", "group.elements=[4]", "dataset.size=12", "conv.kernel_size=3")
NETS = {
    "ckgresnet": "[6,6,12]",
    "ckgcnn": "[8,12,16]",
    "ckgsqueezenet": "[[8],[16,24]]",
}


def recipe_of(*overrides: str) -> Recipe:
    return build(compose_config([*SMALL, *overrides]))


def measured(recipe: Recipe) -> dict[str, int]:
    net = recipe.model.net.eval().requires_grad_(False)
    found = costs(net, torch.zeros(1, recipe.datamodule.channels, *net.size)).total
    return {"params": found.parameters, "compute": found.multiply_adds}


@pytest.mark.parametrize(("how", "within"), [("params", 0.02), ("compute", 0.05)])
@pytest.mark.parametrize("name", NETS)
def test_a_plain_cnn_costs_as_much(name: str, how: str, within: float) -> None:
    chosen = (f"net={name}", f"net.hidden_sizes={NETS[name]}")
    original, plain = recipe_of(*chosen), recipe_of(*chosen, f"net.match={how}")
    assert all(conv.group == Trivial() for conv in convolutions(plain.model.net).values())
    wanted, found = measured(original), measured(plain)
    assert abs(found[how] / wanted[how] - 1) < within
    other = "compute" if how == "params" else "params"
    assert abs(found[other] / wanted[other] - 1) > within, "the control: matched by one alone"
    record = plain.cfg.net.match
    assert list(record.parameters) == [wanted["params"], found["params"]]
    assert list(record.multiply_adds) == [wanted["compute"], found["compute"]]
    assert (
        f"{found['params']:,} parameters for {wanted['params']:,}"
        in match.written_match(plain.cfg)[f"matched by {how}"]
    )


def test_what_was_chosen_is_built_again_from_its_configuration() -> None:
    first = recipe_of("net.hidden_sizes=[6,6,12]", "net.match=params")
    check_keys(first.cfg)
    second = build(OmegaConf.create(OmegaConf.to_container(first.cfg)))
    assert second.cfg == first.cfg
    third = build(compose_config([*SMALL, "net.hidden_sizes=[6,6,12]", "net.match=params"]))
    assert third.cfg == first.cfg, "the same run"
    same = zip(first.model.net.state_dict().values(), second.model.net.state_dict().values(), strict=True)
    assert all(torch.equal(*pair) for pair in same)
    assert identity.digest(first.cfg) != identity.digest(recipe_of("net.hidden_sizes=[6,6,12]").cfg)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["net.match=flops"], "`net.match` must be null, params or compute, but got 'flops'"),
        (
            ["net=escnn", "+net.match=params"],
            "`net.match` must be null for src.models.nets.EscnnResNet, which has no `conv`",
        ),
        (["net.match={by: params, parameters: [1, 2]}"], "`net.match` says that a plain CNN was chosen"),
    ],
    ids=str,
)
def test_what_cannot_be_matched_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(compose_config(["protocol=digits", "method=cnn_baseline", *overrides]))


def test_what_comes_not_near_enough_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(match._WITHIN, "params", 1e-9)
    with pytest.raises(ConfigError, match=r"must come within 1e-07 % of .*, but the nearest plain CNN has"):
        recipe_of("net=ckgcnn", "net.hidden_sizes=[2,3]", "net.match=params")


def test_a_changed_net_is_not_what_was_matched() -> None:
    first = recipe_of("net.hidden_sizes=[6,6,12]", "net.match=params")
    with pytest.raises(ConfigError, match="but the net has"):
        build(with_values(first.cfg, {"net.hidden_sizes": [4, 4]}))


def test_the_search_comes_as_near_as_it_can() -> None:
    def count(widths: tuple[int, ...]) -> int:
        return 9 * widths[0] * widths[1] + 10 * widths[1]

    for wanted in (3_000, 54_321, 10_000_000):
        found = match._search((16, 32), count, wanted, 0.02)
        assert abs(count(found) / wanted - 1) < 0.02, (wanted, found)
    assert match._search((16, 32), count, 1, 0.02) == (1, 1)
