"""What a target accepts by name, as signatures say it."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest
from lightning.pytorch.callbacks import RichModelSummary
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.tensorboard import SummaryWriter
from torchmetrics import Metric

from src.config.arguments import _KEPT, accepted_by
from src.config.compose import CONFIGS
from src.config.targets import locate
from src.data import Mnist, MnistRot, MnistRotOfficial


def test_rotated_mnist_accepts_what_mnist_does() -> None:
    accepted = accepted_by(MnistRot, {})
    assert not accepted.anything
    assert {"source", "path", "cache", "mirrors", "files", "rotate", "folds"} <= accepted.names
    assert accepted_by(Mnist, {}).names == accepted_by(MnistRotOfficial, {}).names == accepted.names - {"source"}
    assert accepted_by(Mnist, {}).required == {"path", "cache"}


def test_what_the_logger_hands_on_is_what_its_writer_takes() -> None:
    assert _KEPT[TensorBoardLogger] == inspect.signature(SummaryWriter).parameters.keys() - {"log_dir"}


def test_what_the_summary_keeps_is_what_it_reads() -> None:
    read = re.findall(r"summarize_kwargs.get\(\"(\w+)\"", inspect.getsource(RichModelSummary.summarize))
    assert _KEPT[RichModelSummary] == set(read) != set()


def test_what_a_metric_keeps_is_what_it_reads() -> None:
    assert _KEPT[Metric] == set(re.findall(r"kwargs.pop\(\"(\w+)\"", inspect.getsource(Metric.__init__)))


TARGETS = {match for path in CONFIGS.rglob("*.yaml") for match in re.findall(r"_target_: ([\w.]+)", path.read_text())}


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_signatures_say_what_every_target_of_the_configuration_accepts(target: str) -> None:
    assert not accepted_by(locate(target), {}).anything


class Base:
    def __init__(self, a: int, b: int = 0) -> None: ...


class Closed(Base):
    def __init__(self, c: int) -> None:
        super().__init__(c)


class Follows(Base):
    def __init__(self, c: int, **options: Any) -> None:
        super().__init__(a=c, **options)


class Between(Follows): ...


class Twice(Between):
    def __init__(self, d: int = 0, /, *rest: int, e: int, **options: Any) -> None:
        super().__init__(d, **options)


class ByNew:
    def __new__(cls, f: int, g: int = 0) -> Base:
        return Base(f, g)


class Open:
    def __init__(self, h: int, **options: Any) -> None: ...


class Nothing: ...


def plain_function(i: int, j: int = 0, *, k: int) -> None: ...


def open_function(m: int, **options: Any) -> None: ...


@pytest.mark.parametrize(
    ("target", "names", "required"),
    [
        (Base, "ab", "a"),
        (Closed, "c", "c"),
        (Follows, "abc", "c"),
        (Between, "abc", "c"),
        (Twice, "abce", "e"),
        (ByNew, "fg", "f"),
        (Nothing, "", ""),
        (plain_function, "ijk", "ik"),
    ],
)
def test_arguments_are_those_of_signatures(target: Any, names: str, required: str) -> None:
    accepted = accepted_by(target, {})
    assert not accepted.anything
    assert accepted.names == set(names)
    assert accepted.required == set(required)
    assert accepted.by == ()


@pytest.mark.parametrize(("target", "required"), [(dict, ""), (Open, "h"), (open_function, "m")])
def test_where_options_end_nowhere_every_key_is_accepted(target: Any, required: str) -> None:
    accepted = accepted_by(target, {})
    assert accepted.anything
    assert accepted.required == set(required)


@pytest.mark.parametrize(("target", "names"), [(Base, "b"), (Follows, "ab"), (plain_function, "jk"), (Nothing, "")])
def test_what_is_given_by_position_is_not_accepted_by_name(target: Any, names: str) -> None:
    assert accepted_by(target, {"_args_": [1]}).names == set(names)


PARTIAL = {"_target_": "src.data.Mnist", "_partial_": True, "path": "x"}


@pytest.mark.parametrize("target", [Open, open_function, Follows])
def test_options_go_to_a_partial_target_beside_them(target: Any) -> None:
    own, other = accepted_by(target, {}), accepted_by(locate("src.data.Mnist"), {})
    accepted = accepted_by(target, {"make": PARTIAL})
    assert accepted.names == own.names | other.names
    assert accepted.required == own.required | {"cache"}, "it has its path"
    assert accepted.by == ("src.data.Mnist",)
    assert not accepted.anything


@pytest.mark.parametrize("target", [Base, Closed, plain_function])
def test_without_options_nothing_goes_to_a_partial_target(target: Any) -> None:
    assert accepted_by(target, {"make": PARTIAL}) == accepted_by(target, {})


@pytest.mark.parametrize("target", [Open, open_function])
def test_options_do_not_go_to_an_object(target: Any) -> None:
    assert accepted_by(target, {"make": PARTIAL | {"_partial_": False}}).anything
    assert accepted_by(target, {"make": {"path": "x"}}).anything
