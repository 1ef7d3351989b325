"""A look at a net that leaves it, and every random number, as it was."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn


def random_state() -> dict[str, Any]:
    """The state of every global generator, in plain containers and tensors."""
    kind, words, position, has_normal, normal = np.random.get_state()
    state: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": [kind, torch.from_numpy(words.astype(np.int64)), position, has_normal, normal],
        "torch": torch.get_rng_state(),
    }
    return state | ({"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else {})


def restore_random_state(state: Mapping[str, Any]) -> None:
    """Undo what has been drawn since `random_state`; on another kind of device its generator stays as it is."""
    kind, words, position, has_normal, normal = state["numpy"]
    random.setstate(state["python"])
    np.random.set_state((kind, words.numpy().astype(np.uint32), position, has_normal, normal))
    torch.set_rng_state(state["torch"].cpu())
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"].cpu())


Job = Callable[[], Any]
"""One piece of the work of a look, whose result can be pickled."""


@contextmanager
def untouched(module: nn.Module) -> Iterator[None]:
    """Evaluation without gradients, after which every mode and every random number is as it was before."""
    modes = {part: part.training for part in module.modules()}
    states = random_state()
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part, mode in modes.items():
            part.training = mode
        restore_random_state(states)
