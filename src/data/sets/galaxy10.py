"""Galaxy10: galaxies by shape, from the Sloan Digital Sky Survey and from the DESI Legacy Imaging Surveys."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from src.data.io.h5 import read_h5
from src.data.sets.published import Published, originals
from src.data.sources import Pools


class Galaxy10(Published):
    """Galaxy10 SDSS: 21,785 images of 69 x 69 in bands g, r, i, drawn as 70 / 10 / 20 %: no test set is published."""

    name = "galaxy10"
    card, files, labels = originals("galaxy10")
    native = (69, 69)
    recommended = (0.7, 0.1, 0.2)

    def read(self, paths: Mapping[str, Path]) -> Pools:
        (path,) = paths.values()
        return Pools(learn=read_h5(path, "images", "ans"))


class Galaxy10Decals(Galaxy10):
    """Galaxy10 DECaLS: 17,736 images of 256 x 256 in bands g, r and z, 10 other classes, drawn as 70 / 10 / 20 %."""

    name = "galaxy10_decals"
    card, files, labels = originals("galaxy10_decals")
    native = (256, 256)
