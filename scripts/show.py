"""Draw samples of a data set, as stored and as augmented: python scripts/show.py dataset=NAME [key=value ...]."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from matplotlib.figure import Figure
from torch import Tensor

from src.analysis.drawing import png
from src.analysis.sheet import ROWS, contact_sheet
from src.config.targets import ConfigError
from src.data.io.files import replacing
from src.data.loader import ImageBatches
from src.training.commands import Data, load_data, parser, user_errors

_EPOCHS = (0, 1)
_SAMPLES = 4
"""Of each class, unless asked for otherwise."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the sheet and print where it is; user errors print as one line."""
    words = parser(__doc__, "as in training; dataset=NAME is needed")
    words.add_argument("--samples", type=int, default=_SAMPLES, help=f"of each class; {_SAMPLES} unless given")
    options = words.parse_args(arguments)
    with user_errors(ValueError, OSError):
        if options.samples < 1:
            raise ConfigError(f"`--samples` must be at least 1, but got {options.samples}.")
        data = load_data(options.overrides)
        path = Path(data.cfg.paths.logs) / "show" / f"{data.name}.png"
        with replacing(path) as file:
            file.write(png(_draw(data, options.samples)))
    print(path)


def _draw(data: Data, samples: int) -> Figure:
    """The first samples of every class of the training split, stored and as training sees them."""
    train = data.module.datasets["train"]
    labels = train.split.labels
    if data.module.targets == "pixels":  # in the row of the last class that an image has pixels of
        labels = labels.flatten(1).amax(1)
    rows = _first_of_each(labels, min(ROWS, data.module.classes), samples)
    columns = {"stored": train.split.images[rows]}
    columns |= {f"in epoch {epoch}": _seen_in_training(train, rows, epoch) for epoch in _EPOCHS}
    return contact_sheet(columns, labels[rows], data.module.source.labels, _caption(data))


def _first_of_each(labels: Tensor, classes: int, samples: int) -> Tensor:
    """Where the first samples of every class are, (n,)."""
    return torch.cat([(labels == label).nonzero()[:samples, 0] for label in range(classes)])


def _seen_in_training(train: ImageBatches, rows: Tensor, epoch: int) -> Tensor:
    """What training gets, with its normalisation undone: (n, c, y, x) in [0, 1]."""
    return train.denormalise(train.finish(train[epoch, rows], torch.device("cpu"))[0])


def _caption(data: Data) -> list[str]:
    """What is shown."""
    module, card = data.module, data.module.source.card
    title = data.name if card is None else f"{data.name}: {card.title}"
    y, x = module.size
    return [
        f"{title}. {len(module.datasets['train']):,} training images of {y} x {x} pixels, {module.channels} "
        f"{'channel' if module.channels == 1 else 'channels'}, split {module.fingerprint}.",
        f"Augmentation, seed {module.order_seed}: {_settings(asdict(module.augmentation))}."
        if module.augmentation.active
        else "Augmentation: none.",
    ]


def _settings(augmentation: Mapping[str, object]) -> str:
    """Those that are on."""
    on = {name: value for name, value in augmentation.items() if value not in (None, 0, False)}
    return ", ".join(name if value is True else f"{name} {value}" for name, value in on.items())


if __name__ == "__main__":
    main()
