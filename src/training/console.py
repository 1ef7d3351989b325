"""What a run shows on the terminal."""

from __future__ import annotations

import logging
import warnings


def quiet() -> None:
    """Leave out what Lightning says of itself: advertisements, hardware that is absent, and its own deprecations."""
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)
    # Batches are cut from memory, so there is nothing for workers to do.
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
    warnings.filterwarnings("ignore", message=".*not supported by the model summary.*")
