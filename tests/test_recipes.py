"""Every recipe and every option of every config group composes, builds and trains a step."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from laws import check_net
from omegaconf import OmegaConf

from src.config.compose import CONFIGS, change, compose_config
from src.config.instantiate import instantiate
from src.config.keys import check_keys
from src.config.targets import check
from src.data import Pcam, Pool, Pools
from src.data.sets.published import Published
from src.models.exactness import _has_exact_elements
from src.runs.identity import run_id
from src.training import ConfigError, Recipe, load_recipe
from src.training.recipe import build, with_values

RECIPES = sorted(path.stem for path in (CONFIGS / "experiment").glob("*.yaml"))
PARAMETERS = {
    "quickstart": 255_242,
    "se2_separable": 755_370,
    "se2_separable_paper": 755_370,
    "se2_nonseparable_paper": 716_490,
    "se2_nonseparable": 716_490,
    "r2xrplus_separable": 755_370,
    "sim2_separable": 794_602,
    "cnn_baseline": 0,
    "se3_separable": 0,
    "sim3_separable": 0,
    "cnn3d_baseline": 0,
    "wavelet_1d": 0,
    "digits_segmentation": 0,
    "digits_segmentation_cnn": 0,
    "flexnet_cifar10": 0,
    "flexnet_se2_cifar10": 0,
    "ckcnn": 0,
    "flextcn": 0,
    "ccnn_4_140": 0,
    "ccnn_6_380": 0,
    "relaxed_se2": 0,
    "relaxed_sim2": 0,
    "p4cnn": 0,
    "p4cnn_early_pooling": 0,
    "z2cnn": 0,
    "p4m_resnet44": 0,
    "p4m_resnet44_exact": 0,
    **dict.fromkeys((f"moebius_{types}" for types in ("scalar", "signflip", "regular", "irrep", "mixed")), 0),
    "moebius_cnn_channels": 0,
    "moebius_cnn_params": 0,
}
RELATIVES = {
    "smnist_ckcnn": 100_000,
    "smnist_flextcn": 375_000,
    "scifar10_ccnn_4_140": 200_000,
    "scifar10_ccnn_6_380": 2_000_000,
    "flexnet_cifar10": 670_000,
    "moebius_cnn_channels": 1_501_162,
    "moebius_cnn_params": 832_190,
}
"""Parameters as published, rounded."""
RELAXED = ("relaxed_se2", "relaxed_sim2")
INEXACT = ("p4m_resnet44",)
"""Nets whose authors published them so."""
SMALLER = {"z2cnn": [4, 4, 4, 4, 4, 6]}
"""Widths of nets that need so many layers."""
SMALL = ["net.hidden_sizes=[4,4,6]", "conv.kernel_size=5", "dataset=digits", "dataset.size=20"]


def options() -> list[str]:
    """Every file of the groups that a user chooses from, as an override that fits the others."""
    also = {"implementation": "group=sim2", "group": "mask=smooth_disc"}
    line = "dataset=sdigits dataset.size=64 augment=none conv.kernel_size=5"
    space, odd = (f"dataset=digits3d dataset.size={n} conv.kernel_size=3" for n in (12, 13))
    data = {
        **dict.fromkeys(("r1", "r1xrplus", "ckcnn", "flextcn", "ccnn_4_140", "ccnn_6_380", "wavelet_1d"), line),
        **dict.fromkeys(("r3", "r3xrplus"), space),
        **dict.fromkeys(("p4cnn", "p4cnn_early_pooling"), "conv.kernel_size=3"),
        "z2cnn": "conv.kernel_size=3 net.dropout_after=[1,3]",
        **dict.fromkeys(("se3_separable", "sim3_separable", "cnn3d_baseline"), f"{odd} net.hidden_sizes=[2,2]"),
        "se3": f"{space} group.elements=[12]",
        "e3": f"{space} group.elements=[4,2]",
        "sim3": f"{space} group.elements=[4,2]",
        "benchmarkcnn": "dataset.size=22 conv.kernel_size=3",
        "benchmarkwrn": "dataset.size=21",
        **dict.fromkeys(("se2_unet", "cnn_unet"), "dataset=digits_segmentation task=segmentation"),
    }
    groups = ("augment", "group", "kernel", "mask", "implementation", "optimizer", "scheduler", "logger", "method")
    return [
        f"{group}={path.stem} {also.get(group, '')} {data.get(path.stem, '')}".strip()
        for group in groups
        for path in sorted((CONFIGS / group).glob("*.yaml"))
    ]


def step(recipe: Recipe) -> torch.Tensor:
    """One optimiser step on some images of a batch; their logits afterwards."""
    images, labels = next(iter(recipe.datamodule.train_dataloader()))
    images, labels = images[:4], labels[:4]
    optimizer = recipe.model.groups.optimiser(recipe.model.net, recipe.model.optimizer)
    torch.nn.functional.cross_entropy(recipe.model(images), labels).backward()
    optimizer.step()
    with torch.no_grad():
        return recipe.model.eval()(images)


@pytest.fixture
def noise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Every published data set is a hundred images of noise; values by which they are drawn from."""

    def pools(source: Published) -> Pools:
        random = torch.Generator().manual_seed(0)
        images = torch.randint(256, (100, source.channels, *source.native), generator=random).to(torch.uint8)
        return Pools(Pool(images, torch.arange(100) % source.classes))

    for kind in (Published, Pcam):
        monkeypatch.setattr(kind, "pools", pools)
    return {"paths.cache": str(tmp_path), "dataset.counts": [60, 20, 20], "train.batch_size": 4}


def test_there_are_recipes() -> None:
    assert {name for name, count in PARAMETERS.items() if count} <= set(RECIPES)
    assert all(any(name.endswith(known) for known in PARAMETERS) for name in RECIPES), "others vary these in the data"


@pytest.mark.parametrize("name", RECIPES)
def test_recipe(name: str, noise: dict[str, Any]) -> None:
    cfg = compose_config([f"experiment={name}"])
    assert cfg.name == name, "the folder of its runs is its name"
    before = str(cfg)
    check_keys(cfg)
    assert str(cfg) == before, "checking changes nothing"
    small = {"net.hidden_sizes": SMALLER.get(name, [4, 4, 6])} | ({} if name == "quickstart" else noise)
    recipe = build(with_values(cfg, small))
    assert torch.isfinite(step(recipe)).all()
    if name in RELAXED:  # equivariant where they begin, and no further
        recipe = build(with_values(cfg, small))
    net = recipe.model.net
    images = torch.randn(2, recipe.datamodule.channels, *net.size)
    if _has_exact_elements(net):
        assert recipe.cfg.net.exact == ("off" if name in INEXACT else "require")
        group, elements = net.group, recipe.cfg.group.elements
        turns = group.matrix(group.grid(*group.sizes(elements)))
        exact = group.lattice_exact(group.grid(*group.sizes(elements)))
        invariant = pytest.raises(AssertionError, match="invariance") if name in INEXACT else nullcontext()
        with invariant:
            check_net(recipe.model.eval(), images, turns[exact][1:3])


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_a_protocol_and_a_method(name: str) -> None:
    recipe = yaml.safe_load((CONFIGS / "experiment" / f"{name}.yaml").read_text())
    assert recipe.keys() == {"name", "defaults"}
    assert [next(iter(entry)) for entry in recipe["defaults"]] == ["override /protocol", "override /method"]


@pytest.mark.parametrize(
    ("name", "combination"),
    [
        ("quickstart", "protocol=digits method=se2_separable_small"),
        ("cifar10_plus_se2_separable", "protocol=cifar10_plus method=se2_separable"),
        ("galaxy10_sim2_separable", "experiment=cnn_baseline protocol=galaxy10 method=sim2_separable_large"),
    ],
)
def test_a_protocol_and_a_method_need_no_recipe(name: str, combination: str) -> None:
    overrides = combination.split()
    cfg, recipe = compose_config(overrides), compose_config([f"experiment={name}"])
    assert cfg.name == "_".join(override.partition("=")[2] for override in overrides[-2:])
    assert {**cfg, "name": name} == {**recipe}
    assert run_id(cfg, [*overrides, "seed=0"]).startswith("seed0-"), "the folder above has their names"


def test_what_is_chosen_last_wins_and_names_the_run() -> None:
    cfg = compose_config(["experiment=stl10_sim2_separable", "method=se2_separable", "dataset=cifar10", "group=sim2"])
    assert cfg.name == "stl10_se2_separable"
    assert (cfg.dataset.size, cfg.augment.cutout, cfg.train.batch_size) == (32, 32, 64)
    assert cfg.group.elements == [8, 3]
    assert compose_config(["protocol=cifar10", "name=mine"]).name == "mine"


def test_a_run_without_a_recipe_can_be_given_other_data() -> None:
    cfg = compose_config(["protocol=cifar10", "method=cnn_baseline"])
    change(cfg, "dataset=mnist")
    assert (cfg.name, cfg.dataset.size) == ("cifar10_cnn_baseline", 28)


@pytest.mark.parametrize("override", ["protocol=cifar10", "method=cnn_baseline", "experiment=cnn_baseline"])
def test_a_run_cannot_be_made_another(override: str) -> None:
    with pytest.raises(ConfigError, match="cannot be changed in one that is there"):
        change(compose_config([]), override)


@pytest.mark.parametrize("name", RECIPES)
def test_headers_say_where_from_and_how(name: str) -> None:
    header = (CONFIGS / "experiment" / f"{name}.yaml").read_text().split("\nname:")[0]
    command = "make train" if name == "quickstart" else f"make train EXP={name}"
    for line in ("Paper:", f"Command:  {command}", "Time:", "Expect:"):
        assert line in header, f"{name}.yaml lacks {line!r} in its header"


@pytest.mark.parametrize("name", [name for name, count in PARAMETERS.items() if count])
def test_size_is_near_that_of_the_paper(name: str) -> None:
    """The public code's counts, less what (cos, sin) adds to its angles and skips to its narrower ones."""
    own, siren = (
        sum(parameter.numel() for parameter in load_recipe(name, words).model.net.parameters())
        for words in ([], [] if name.endswith("_paper") else ["kernel=siren"])
    )
    assert 0.99 <= siren / PARAMETERS[name] <= 1.13, siren
    assert own <= siren, "kernels of one layer have less"


@pytest.mark.parametrize("name", RELATIVES)
def test_size_is_near_that_of_the_relatives(name: str) -> None:
    own = sum(parameter.numel() for parameter in load_recipe(name).model.net.parameters())
    assert own == pytest.approx(RELATIVES[name], rel=0.06)


def test_solids_are_learned_by_nets_of_one_size() -> None:
    own, other = (
        sum(parameter.numel() for parameter in load_recipe(name).model.net.parameters())
        for name in ("se3_separable", "cnn3d_baseline")
    )
    assert own == pytest.approx(other, rel=0.01)


@pytest.mark.parametrize("option", options())
def test_option(option: str) -> None:
    recipe = load_recipe("quickstart", [*SMALL, *option.split()])
    assert torch.isfinite(step(recipe)).all()


@pytest.mark.parametrize("formula", ["oi h, o x", "oi x, o h", "oi h, oi x h"])
def test_any_formula(formula: str) -> None:
    recipe = load_recipe("quickstart", [*SMALL, f"implementation.formula='{formula}'"])
    assert recipe.model.net.final[0].kernel.factorisation.formula == formula
    assert torch.isfinite(step(recipe)).all()


def test_recipes_are_functions_of_their_seed() -> None:
    state = torch.get_rng_state()
    models = [load_recipe("quickstart", [*SMALL, f"seed={seed}"]).model for seed in (0, 0, 1)]
    weights = [torch.cat([p.flatten() for p in model.parameters()]) for model in models]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert torch.equal(torch.get_rng_state(), state), "building a recipe draws no global random numbers"


WRONG = {
    "trian.epochs=3": "`trian.epochs` is not a key of the configuration. Did you mean 'train.epochs'",
    "optimizer.lrr=1": "Did you mean 'optimizer.lr'",
    "epochs=3": r"Did you mean 'train.epochs'",
    "protocol=cifar11": "`protocol` has no 'cifar11'. Did you mean 'cifar10'",
    "experiment=sim2_seperable": "`experiment` has no 'sim2_seperable'. Did you mean 'sim2_separable'",
    "group=sim4": "`group` has no 'sim4'. Did you mean 'sim[23]'",
    "group=se3": r"`group` must act on R\^2, as dataset digits has images, .* choose group=se2",
    "dataset=digits3d": r"`group` must act on R\^3, as dataset digits3d has volumes, .* choose group=se3",
    "group=r1": r"but got Trivial\(space=1\), which acts on R\^1, so on sequences",
    "implementation.formula='o h, o x'": "`implementation` must depend on .* lacks `i`",
    "implementation.formula=oi h, o x": "needs two kinds of quotes",
    "implementation=separable+2d": r"names the part `h1` of a product, but SO2\(\) has 1 part",
    "group=sim2 group.elements=[8]": r"`elements` must give 2 .*\(rotations, scales\), but got \[8\]; pass",
    "dataset.size=30": "leaves 1 of 15 pixels over.*Sizes that work: 28 and 32",
    "conv.kernel_size=31": "kernel 31 and gets 24 pixels",
    "net.normalisation=batchnorm": "`normalisation` must be one of batch, instance, layer, none",
    "kernel.hidden_size=0": "`kernel.hidden_size` must be a positive integer, but got 0",
    "group=sim2 group.max_scale=0.5": "`max_scale` must be above 1, but got 0.5",
    "+net.droput=0.1": "`net.droput` is not an argument of .* Did you mean 'net.dropout'",
    "dataset.limit_train=0": "`limit_train` must be at least 1",
    "scheduler.warmup=-1": "`scheduler.warmup` must be",
    "net.dropout=high": "`net.dropout` must be a number, but got 'high'",
    "net.dropout=1.5": "`dropout` must be a probability",
}


@pytest.mark.parametrize("overrides", WRONG)
def test_wrong_input_is_explained(overrides: str) -> None:
    parts = [overrides] if "'" in overrides or ", " in overrides else overrides.split()
    with pytest.raises(ConfigError, match=WRONG[overrides]):
        load_recipe("quickstart", parts)


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.eval",
        "torch.load",
        "torch.hub.load",
        "src.training.run.shutil.rmtree",
        "src.models.gconv.torch.load",
    ],
)
def test_targets_outside_the_project_are_refused(target: str) -> None:
    with pytest.raises(ConfigError, match="`_target_` must be a class"):
        instantiate(OmegaConf.create({"net": [{"_target_": target}], "_target_": "torch.nn.Identity"}))
    check("torch.optim.Adam")
    check("src.groups.SO2")
