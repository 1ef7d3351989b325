"""The lists that all laws run over: a new group, kernel or factorisation is one line here."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import torch

from src.groups import O2, O3, SO2, SO3, Dilation, Product, Reflection, Trivial
from src.models import IMPLEMENTATIONS
from src.models.kernels import MLP, Fourier, Lattice, Multiplicative, Siren
from src.models.masks import Box, Disc, Mask, SmoothDisc, SmoothInterval

# Under nohup and in the background of a script they are ignored, by runs that a test starts and signals as well.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)

GROUPS = {
    "r2": (Trivial(), (1,)),
    "se2": (SO2(), (8,)),
    "p4": (SO2(), (4,)),
    "r2xrplus": (Dilation(1.74), (3,)),
    "sim2": (Product(SO2(), Dilation(1.74)), (4, 3)),
    "e2": (O2(), (8, 2)),
    "p4m": (O2(), (4, 2)),
    "flip": (Reflection(), (2,)),
    "e2xrplus": (Product(O2(), Dilation(2.0)), (4, 2, 2)),
}
"""Of the plane."""
LINE = {
    "r1": (Trivial(space=1), (1,)),
    "flip_1d": (Reflection(space=1), (2,)),
    "r1xrplus": (Dilation(1.74, space=1), (3,)),
    "flipxrplus_1d": (Product(Reflection(space=1), Dilation(1.5, space=1)), (2, 2)),
}
VOLUME = {
    "r3": (Trivial(space=3), (1,)),
    "flip_3d": (Reflection(space=3), (2,)),
    "r3xrplus": (Dilation(1.74, space=3), (2,)),
    "tetrahedral": (SO3(), (12,)),
    "spiral": (SO3(), (5,)),
    "e3": (O3(), (4, 2)),
    "sim3": (Product(SO3(), Dilation(1.5, space=3)), (4, 2)),
}
SPACES = {1: LINE, 2: GROUPS, 3: VOLUME}
ALL_GROUPS = {**LINE, **GROUPS, **VOLUME}
KERNELS = {"fourier": partial(Fourier, hidden_size=12), "siren": partial(Siren, hidden_size=12), "lattice": Lattice}
ALL_KERNELS = {
    **KERNELS,
    "nearest": partial(Lattice, degree=0),
    "bspline": partial(Lattice, degree=3),
    "fourier_net": partial(Multiplicative, hidden_size=12),
    "gabor": partial(Multiplicative, hidden_size=12, window="isotropic"),
    "magnet": partial(Multiplicative, hidden_size=12, window="anisotropic"),
    "mlp": partial(MLP, hidden_size=12),
    "rff": partial(MLP, num_hidden=1, waves=8, hidden_size=12),
}
FACTORISATIONS = {**IMPLEMENTATIONS, "space first": "oi x, o h", "shared h": "io h, o x h", "one part": "oi h0, o x"}
MASKS = {
    "none": None,
    "disc": partial(Mask, space=Disc()),
    "smooth_disc": partial(Mask, space=SmoothDisc(), scale=SmoothInterval()),
    "box": partial(Mask, space=Box()),
}


def forms_of(group: str) -> list[str]:
    """The factorisations that a group can have: those of parts need parts."""
    parts = len(ALL_GROUPS[group][0].parts)
    return [name for name, formula in FACTORISATIONS.items() if parts > 1 or "h1" not in formula]


LAYERS = [(group, form) for group in GROUPS for form in forms_of(group)]
ALL_LAYERS = [(group, form) for group in ALL_GROUPS for form in forms_of(group)]


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """Where `make` puts runs."""
    return tmp_path / "logs"


@pytest.fixture
def make(logs: Path) -> Callable[..., Path]:
    """Writes the folder of a run that was never trained; see `maker`."""
    from run_folders import maker

    return maker(logs)


SLOW = (
    *("test_sweeps", "test_sweep_clusters", "test_runs", "test_training", "test_extending", "test_nets"),
    *("test_recipes", "test_feature_figures", "test_notebook", "test_dashboard", "test_throughput", "test_plain_data"),
    *("test_report", "test_sweep_plans", "test_data_sets", "test_own_targets", "test_data_scripts", "test_stand_in"),
    *("test_data_datamodule", "test_equivariance_error", "test_kernel_redundancy", "test_study", "test_keys"),
    *("test_compare", "test_data_own", "test_projected_runs", "test_relaxed_runs", "test_p4m", "test_moebius"),
    *("test_stages", "test_divergence", "test_match", "test_segmentation", "test_projection", "test_relaxed"),
    *("test_subgroups", "test_targets", "test_values"),
)
"""Files that train nets, start processes or build many: not among those of `-m quick`, and begun first."""


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not even import files of which nothing would be run: that takes longer than many a test."""
    return True if config.option.markexpr == "quick" and collection_path.stem in SLOW else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is quick, and begin with what takes longest, so that no process is left alone with it at the end."""
    for item in items:
        if item.path.stem not in SLOW:
            item.add_marker(pytest.mark.quick)
    order = {name: place for place, name in enumerate(SLOW)}
    items.sort(key=lambda item: order.get(item.path.stem, len(SLOW)))


@pytest.fixture
def float64() -> Iterator[None]:
    """Double precision by default."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Every test starts from the same random state."""
    torch.manual_seed(0)
