"""A key that nothing reads is refused by its full name, before anything is built."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from composing import composed
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import ConfigAttributeError

from src.config import targets
from src.config.compose import CONFIGS, compose_config, plain
from src.config.keys import check_keys
from src.training import ConfigError

# That the recipes pass is tested in test_recipes.py, which composes each of them once.


def changed(overrides: str) -> DictConfig:
    """As composing with these overrides, but faster: choices of groups first, then what is added or taken away."""
    parts = overrides.split()
    cfg = composed(*(part for part in parts if part[0] not in "+~"))
    for part in parts:
        key, _, value = part.lstrip("+~").partition("=")
        if part.startswith("+"):
            OmegaConf.update(cfg, key, yaml.safe_load(value.replace(":", ": ")), force_add=True)
        elif part.startswith("~"):
            parent, _, last = key.rpartition(".")
            with open_dict(cfg):
                del OmegaConf.select(cfg, parent)[last]
    return cfg


SPELLING = {
    "+net.droput=0.1": ("net.droput", "src.models.nets.CKGResNet", "net.dropout"),
    "+net.head.hiden=8": ("net.head.hiden", "src.models.blocks.Head", "net.head.hidden"),
    "+conv.kernel_sise=3": ("conv.kernel_sise", "src.models.GConv", "conv.kernel_size"),
    "+kernel.hiden_size=8": ("kernel.hiden_size", "src.models.kernels.Fourier", "kernel.hidden_size"),
    "+mask.spase=null": ("mask.spase", "src.models.masks.Mask", "mask.space"),
    "mask=smooth_disc +mask.scale.widht=1": ("mask.scale.widht", "src.models.masks.SmoothInterval", "mask.scale.width"),
    "+optimizer.weight_dacay=0": ("optimizer.weight_dacay", "torch.optim.AdamW", "optimizer.weight_decay"),
    "+scheduler.warmpu=1": ("scheduler.warmpu", "src.models.optimisation.Cosine", "scheduler.warmup"),
    "+task.clases=1": ("task.clases", "src.models.tasks.Classification", "task.classes"),
    "+task.label_smothing=0.1": ("task.label_smothing", "src.models.tasks.Classification", "task.label_smoothing"),
    "+task.known.acc.averag=macro": ("task.known.acc.averag", "MulticlassAccuracy", "task.known.acc.average"),
    "+model.groups.kernel_rl=1": ("model.groups.kernel_rl", "ParameterGroups", "model.groups.kernel_lr"),
    "+callbacks.checkpoint.moniter=x": ("callbacks.checkpoint.moniter", "", "callbacks.checkpoint.monitor"),
    "+observers.progres=null": ("observers.progres", "", "observers.progress"),
    "+observers.sumary.max_depth=1": ("observers.sumary", "", "observers.summary"),
    "+logger.save_dri=x": ("logger.save_dri", "TensorBoardLogger", "logger.save_dir"),
    "+trainer.precison=16": ("trainer.precison", "Trainer", "trainer.precision"),
    "+augment.rotat=3": ("augment.rotat", "Augmentation", "augment.rotate"),
    "+group.elemnts=[4]": ("group.elemnts", "", "group.elements"),
    "group=sim2 +group.H._args_.1.max_scal=2": (
        "group.H._args_[1].max_scal",
        "Dilation",
        "group.H._args_[1].max_scale",
    ),
    "+implementation.formla=x": ("implementation.formla", "", "implementation.formula"),
    "+paths.log=x": ("paths.log", "", "paths.logs"),
    "+train.epoch=3": ("train.epoch", "", "train.epochs"),
    "+trian.epochs=3": ("trian.epochs", "", "train.epochs"),
    "+epochs=3": ("epochs", "", "train.epochs"),
    "+sede=3": ("sede", "", "seed"),
    "+dataset.batch_sise=3": ("dataset.batch_sise", "ImageDataModule or src.data.Digits", "dataset.batch_size"),
    "+dataset.rotat=true": ("dataset.rotat", "ImageDataModule or src.data.Digits", "dataset.rotate"),
    "+dataset.reader.siz=3": ("dataset.reader.siz", "src.data.Digits", "dataset.reader.size"),
    "+dataset.augment.rotat=3": ("dataset.augment.rotat", "Augmentation", "dataset.augment.rotate"),
    "dataset=cifar10 +dataset.mirors=[x]": ("dataset.mirors", "src.data.Cifar10", "dataset.mirrors"),
    "dataset=mnist_rot +dataset.sorce=official": ("dataset.sorce", "src.data.MnistRot", "dataset.source"),
    "dataset=mnist_rot +dataset.mirors=[x]": ("dataset.mirors", "src.data.MnistRot", "dataset.mirrors"),
    "dataset=h5 +dataset.in_memry=true": ("dataset.in_memry", "src.data.H5", "dataset.in_memory"),
    "dataset=h5 +dataset.imagse=x": ("dataset.imagse", "src.data.H5", "dataset.images"),
    "dataset=npz +dataset.lables=x": ("dataset.lables", "src.data.Npz", "dataset.labels"),
    "dataset=images +dataset.foldz=3": ("dataset.foldz", "src.data.ImageFolder", "dataset.folds"),
}


@pytest.mark.parametrize("overrides", SPELLING)
def test_misspelled_keys_are_refused(overrides: str) -> None:
    key, owner, hint = SPELLING[overrides]
    with pytest.raises(ConfigError) as error:
        check_keys(changed(overrides))
    message = str(error.value)
    assert message.startswith(f"`{key}` is not ")
    assert f"{owner}. " in message
    assert repr(hint) in message.partition("Did you mean")[2]


MORE = {
    "+seeds=3": "seed",
    "+debg=true": "debug",
    "+train.batchsize=3": "train.batch_size",
    "+train.gradient_clp=1": "train.gradient_clip",
    "+train.patiance=3": "train.patience",
    "+train.shared_statistic=true": "train.shared_statistics",
    "+pretrained.pth=x": "pretrained.path",
    "+pretrained.strikt=true": "pretrained.strict",
    "+paths.dta=x": "paths.data",
    "+paths.cach=x": "paths.cache",
    "+augment.flipy=true": "augment.flip_y",
    "augment=rotate_scale +augment.scal=[1,2]": "augment.scale",
    "augment=crop_flip_cutout +augment.cutot=3": "augment.cutout",
    "+dataset.limit_trian=3": "dataset.limit_train",
    "+dataset.num_worker=3": "dataset.num_workers",
    "+dataset.reader.bordr=edge": "dataset.reader.border",
    "dataset=pcam +dataset.miror=x": "dataset.mirrors",
    "dataset=mnist_rot +dataset.cuonts=[1,2]": "dataset.counts",
    "dataset=h5 +dataset.nmes=[a]": "dataset.names",
    "dataset=images +dataset.chanels=3": "dataset.channels",
    "dataset=galaxy10 +dataset.reader.flies=[x]": "dataset.reader.files",
    "+group.samplng=grid": "group.sampling",
    "group=r2xrplus +group.max_scal=2": "group.max_scale",
    "group=r2xrplus +group.H.maxscale=2": "group.H.max_scale",
    "+kernel.omega=3": "kernel.omega_0",
    "kernel=siren +kernel.num_hiden=3": "kernel.num_hidden",
    "mask=smooth_disc +mask.space.slop=3": "mask.space.slope",
    "+mask.scal=null": "mask.scale",
    "implementation=lifting +implementation.formulas=x": "implementation.formula",
    "+conv.pading=3": "conv.padding",
    "+conv.implementaton=x": "conv.implementation",
    "+net.hiden_sizes=[8]": "net.hidden_sizes",
    "+net.widen_facter=2": "net.widen_factor",
    "+net.head.drop_out=0.1": "net.head.dropout",
    "optimizer=sgd +optimizer.nestrov=true": "optimizer.nesterov",
    "optimizer=adadelta +optimizer.roh=0.5": "optimizer.rho",
    "scheduler=multistep +scheduler.gama=0.1": "scheduler.gamma",
    "scheduler=none +scheduler.warm_up=3": "scheduler.warmup",
    "+model.schedul=null": "model.schedule",
    "+task.primry=loss": "task.primary",
    "+task.known.ece.n_bns=5": "task.known.ece.n_bins",
    "task=regression +task.eror=mae": "task.error",
    "+model.groups.kernel_decy=1": "model.groups.kernel_decay",
    "+trainer.gradient_clip=1": "trainer.gradient_clip_val",
    "+trainer.acelerator=cpu": "trainer.accelerator",
    "+callbacks.chekpoint=null": "callbacks.checkpoint",
    "+callbacks.checkpoint.every_minute=3": "callbacks.checkpoint.every_minutes",
    "+observers.dashbord=null": "observers.dashboard",
    "+observers.summary.max_dpth=3": "observers.summary.max_depth",
    "observers=brief +observers.equivariance.angels=3": "observers.equivariance.angles",
    "+observers.figures.every_epoch=3": "observers.figures.every_epochs",
    "+observers.dashboard.hparam=null": "observers.dashboard.hparams",
    "+logger.default_hp_metrics=true": "logger.default_hp_metric",
    "+logger.flush_sec=5": "logger.flush_secs",
}


@pytest.mark.parametrize("overrides", MORE)
def test_the_nearest_key_is_named(overrides: str) -> None:
    key = overrides.partition("+")[2].partition("=")[0]
    with pytest.raises(ConfigError) as error:
        check_keys(changed(overrides))
    message = str(error.value)
    assert message.startswith(f"`{key}` is not ")
    assert f"Did you mean {MORE[overrides]!r}" in message


@pytest.mark.parametrize(
    "words",
    [
        ("experiment=sim2_separable", "dataset.size=28", "net.hidden_sizes=[4,4]", "optimizer.lr=1e-3", "seed=3"),
        ("protocol=digits", "method=cnn_baseline", "dataset=npz", "dataset.path=/a-b/c_0", "+dataset.more={a: [1]}"),
        ("group=p4m", "callbacks.checkpoint=null", "~observers", "implementation.formula='oi h, o x'"),
        ("~experiment", "protocol=cifar10", "name=mine", "dataset.mirrors=[http://127.0.0.1:9/]"),
    ],
    ids=str,
)
def test_values_that_tests_set_after_composing_are_as_composed(words: tuple[str, ...]) -> None:
    once, parts = compose_config(words), composed(*words)
    assert str(parts) == str(once)
    assert OmegaConf.is_struct(parts) == OmegaConf.is_struct(once)
    assert str(composed(*words)) == str(once), "and again, as no copy is another's"
    with pytest.raises(ConfigAttributeError, match="droput"):
        composed(*words, "net.droput=0.1")


def test_every_group_of_the_configuration_is_among_them() -> None:
    others = {"experiment", "protocol", "method", "study", "sweep"}  # which are not read by a run
    groups = {path.name for path in CONFIGS.iterdir() if path.is_dir()} - others
    assert groups <= {key.split(".")[0] for key, *_ in SPELLING.values()}
    assert groups <= {key.split(".")[0] for key in MORE.values()}


OTHERS = {
    "+dataset.path=x": "`dataset.path` is not an argument of src.data.ImageDataModule or src.data.Digits. There are: ",
    "dataset=npz +dataset.in_memory=true": "`dataset.in_memory` is not an argument of .*Npz",
    "+group.max_scale=2": "`group.max_scale` is not .* There are: group.H, group.elements, group.low_pass, group.samp",
    "group=p4m +group.max_scale=2": "`group.max_scale` is not .* There are: group.H, group.elements, group.low_pass",
    "+group.H.foo=2": "`group.H.foo` is not an argument of src.groups.SO2; leave it out",
    "+trainer.max_epochs=3": "`trainer.max_epochs` is given by `train.epochs`",
    "~net.conv": "`net.conv` must be given, as src.models.nets.CKGResNet requires it; add .net.conv=",
    "~optimizer._partial_": "`optimizer.params` must be given, .* or .optimizer._partial_=true",
    "dataset=cifar10 ~dataset.path": "`dataset.path` must be given, as .*ImageDataModule or src.data.Cifar10 requires",
    "+callbacks.stop={_target_:lightning.pytorch.callbacks.EarlyStopping}": "`callbacks.stop.monitor` must be given",
}


@pytest.mark.parametrize("overrides", OTHERS)
def test_superfluous_and_missing_keys_are_named(overrides: str) -> None:
    with pytest.raises(ConfigError, match=OTHERS[overrides]):
        check_keys(changed(overrides))


def test_through_the_command_line() -> None:
    with pytest.raises(ConfigError, match=r"`net\.droput` is not .* Did you mean 'net\.dropout'"):
        check_keys(compose_config(["+net.droput=0.1"]))


@pytest.mark.parametrize(
    "overrides",
    [
        "logger=none mask=none",
        "group=sim2 implementation=separable+2d +group.max_scale=2",
        "+logger.flush_secs=5",
        "+callbacks.stop={_target_:lightning.pytorch.callbacks.EarlyStopping,monitor:val/acc}",
        "+trainer.max_steps=2",
        "+dataset.reader.border=edge",
        "dataset=cifar10 ~dataset.path +dataset.reader.path=x",
        '+width=8 +net.hidden_sizes=["${width}",8]',
        '+sizes.small=8 +net.hidden_sizes=["${sizes.small}",8]',
        "+dataset.augment=null",
        "+conv.implementation=oi +conv.elements=[4]",
        '+group.max_scale=2 +net.widen_factor="${group.max_scale}"',
        '+group.max_scale=2 +net.widen_factor="${..group.max_scale}"',
        "+train.precision=16 +trainer.precision=16",
        "+observers.progress=null +observers.dashboard={}",
        "+optimizer.fused=true +optimizer.betas=null",
    ],
)
def test_what_is_read_passes(overrides: str) -> None:
    check_keys(changed(overrides))


def test_resolved_configurations_pass() -> None:
    resolved = OmegaConf.create(plain(changed('+width=8 +net.hidden_sizes=["${width}",8]')))
    check_keys(resolved)
    resolved.model.net.droput = 0.1
    with pytest.raises(ConfigError, match=r"`model\.net\.droput` is not .* Did you mean 'model\.net\.dropout'"):
        check_keys(resolved)


def test_a_key_is_named_where_it_is_written() -> None:
    cfg = OmegaConf.create({"model": {"net": "${net}"}, "net": {"_target_": "src.groups.SO2", "wrong": 1}})
    with pytest.raises(ConfigError, match=r"^`net\.wrong` is not"):
        check_keys(cfg)


@pytest.fixture(autouse=True)
def layers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers of torch are among the classes that may be named, as those with which targets can be nested simply."""
    named = targets._named(CONFIGS) | {"torch.nn.Sequential", "torch.nn.Linear"}
    monkeypatch.setattr(targets, "_named", lambda _: named)


def node(**keys: Any) -> DictConfig:
    """A configuration of one node, in a list."""
    return OmegaConf.create({"net": {"_target_": "torch.nn.Sequential", "_args_": [keys]}})


@pytest.mark.parametrize("target", ["os.system", "torch.load", "src.data.io.files.os.system", "builtins.nothing.there"])
def test_targets_outside_the_project_are_refused(target: str) -> None:
    with pytest.raises(ConfigError, match="`_target_` must be a class that a file of configs/ names"):
        check_keys(node(_target_=target))


@pytest.mark.parametrize(
    ("target", "hint"),
    [
        ("torch.nn.Linaer", "names, but got 'torch.nn.Linaer'. Did you mean 'torch.nn.Linear'"),
        ("src.modles.GConv", "there is no src.modles.GConv. Did you mean 'src.models'"),
        ("src.groups.SO2.xyzw", "there is no src.groups.SO2.xyzw"),
    ],
)
def test_targets_that_are_not_there_are_refused(target: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=hint):
        check_keys(node(_target_=target))


def test_nodes_in_lists_are_checked() -> None:
    check_keys(node(_target_="torch.nn.Linear", in_features=1, out_features=1))
    check_keys(node(_target_="torch.nn.Linear", _args_=[1, 1]))
    check_keys(node(_target_="torch.nn.Linear", _partial_=True))
    with pytest.raises(ConfigError, match=r"`net\._args_\[0\]\.out_features` must be given"):
        check_keys(node(_target_="torch.nn.Linear", in_features=1))
    with pytest.raises(ConfigError, match=r"`net\._args_\[0\]\.in_features` is not an argument"):
        check_keys(node(_target_="torch.nn.Linear", _args_=[1, 1], in_features=1))
    with pytest.raises(ConfigError, match=r"`net\._args_\[0\]\.biass` is not .* Did you mean 'net\._args_\[0\]\.bias'"):
        check_keys(node(_target_="torch.nn.Linear", in_features=1, out_features=1, biass=True))
