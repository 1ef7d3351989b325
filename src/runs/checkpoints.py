"""Checkpoints that are either there and whole, or not there; and how they are read again."""

from __future__ import annotations

import json
import warnings
import zipfile
from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from src.callbacks.checkpoints import BEST, LAST, PREVIOUS, WEIGHTS, weights_of_net
from src.config.targets import ConfigError
from src.data.io.files import replacing
from src.runs.folder import RunFolder


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write beside the target, flush to disk, verify, rename.

    Lightning writes to the system's temporary folder and moves; between two file systems that is a copy, which a
    crash leaves half-written under the final name.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        with replacing(Path(path)) as file:
            torch.save(checkpoint, file)
            file.flush()
            with zipfile.ZipFile(file.name) as written:
                if damaged := written.testzip():
                    raise OSError(f"{file.name} was not written as it should be ({damaged}); look at the disk.")


def write_text(path: Path, text: str) -> None:
    """Write a small file, whole or not at all."""
    with replacing(path) as file:
        file.write(text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write plain containers as JSON, which has no numbers that are not finite: they are null."""
    write_text(path, json.dumps(_finite(value), indent=2, allow_nan=False) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _finite(child) for name, child in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(child) for child in value]
    return None if isinstance(value, float) and not isfinite(value) else value


def load(path: Path) -> dict[str, Any]:
    """Read tensors and plain containers, running no code. Raises ConfigError if the file is damaged or holds more."""
    try:
        with zipfile.ZipFile(path) as file:
            if damaged := file.testzip():
                raise zipfile.BadZipFile(f"{damaged} is damaged")
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged or hostile file may raise anything
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConfigError(f"{path} is not an intact checkpoint of tensors and plain containers: {reason}") from error


def latest(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """The checkpoint that a run goes on from, with its content; None if there is none yet.

    A damaged last one is warned of, and the one before it taken. Raises ConfigError if none is intact.
    """
    reasons = []
    for name in (LAST, PREVIOUS):
        if (path := folder / name).exists():
            try:
                return path, load(path)
            except ConfigError as error:
                reasons.append(str(error))
                warnings.warn(f"{error}; the checkpoint before it is taken.", RuntimeWarning, stacklevel=2)
    if reasons:
        raise ConfigError(f"{'; '.join(reasons)}. Start the run afresh beside this one with FRESH=1 (--fresh).")
    return None


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """The weights of a net from a run's folder, a weights.pt or a .ckpt. Raises ConfigError if that is not intact.

    Of a folder those of best.ckpt, which is written first; those of weights.pt if it is missing or damaged.
    """
    if not path.is_dir():
        return _weights_in(path)
    best, weights, last = (RunFolder(path).checkpoints / name for name in (BEST, WEIGHTS, LAST))
    there = [file for file in (best, weights) if file.exists()] or [last if last.exists() else weights]
    for file in there[:-1]:
        try:
            return _weights_in(file)
        except ConfigError as error:
            warnings.warn(f"{error}; the next file is taken.", RuntimeWarning, stacklevel=2)
    return _weights_in(there[-1])


def _weights_in(path: Path) -> dict[str, torch.Tensor]:
    """From one file."""
    if not path.exists():
        raise ConfigError(
            f"`pretrained.path` must be a run's folder, a weights.pt or a .ckpt, but {path} is not there."
        )
    content = load(path)
    if "weights" in content:
        return content["weights"]
    return weights_of_net(content.get("state_dict", {}))


def load_weights(net: torch.nn.Module, weights: dict[str, torch.Tensor], strict: bool) -> list[str]:
    """Put weights, by name, into a net, and say what was left out, a line each.

    Raises:
        ConfigError: if `strict` and a weight is missing, unknown or of another shape.
    """
    shapes = {name: tuple(getattr(value, "shape", ())) for name, value in net.state_dict().items()}
    common = shapes.keys() & weights.keys()
    misfits = {name for name in common if tuple(weights[name].shape) != shapes[name]}
    unused = [f"{name}: not in the file" for name in shapes.keys() - common]
    unused += [f"{name}: not in the net" for name in weights.keys() - common]
    unused += [f"{name}: {tuple(weights[name].shape)} in the file, {shapes[name]} in the net" for name in misfits]
    if strict and unused:
        raise ConfigError(
            f"`pretrained.path` has weights that do not fit the net: {'; '.join(sorted(unused)[:5])}"
            f"{f' and {len(unused) - 5} more' if len(unused) > 5 else ''}. Build the net that they are of, or load "
            "what fits with pretrained.strict=false."
        )
    net.load_state_dict({name: weights[name] for name in common - misfits}, strict=False)
    return sorted(unused)
