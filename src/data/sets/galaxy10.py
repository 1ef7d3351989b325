"""Galaxy10: galaxies by shape, from the Sloan Digital Sky Survey and from the DESI Legacy Imaging Surveys."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from src.data.io.arrays import opened, read_pool
from src.data.io.fetch import File
from src.data.sets.published import Published
from src.data.sources import Card, Pools


class Galaxy10(Published):
    """Galaxy10 SDSS: 21,785 images of 69 x 69 in bands g, r, i, drawn as 70 / 10 / 20 %: no test set is published."""

    name = "galaxy10"
    card = Card(
        title="Galaxy10 SDSS",
        licence="none stated for the images; the code that published them is MIT",
        citation="Leung, Bovy: Galaxy10. Labels: Lintott et al.: Galaxy Zoo. MNRAS 389, 2008, and MNRAS 410, 2011. "
        "Images: Sloan Digital Sky Survey",
        homepage="https://astronn.readthedocs.io/en/latest/galaxy10sdss.html",
    )
    files = (
        File.below(
            ("https://zenodo.org/records/10844811/files", "http://www.astro.utoronto.ca/~bovy/Galaxy10"),
            "Galaxy10.h5",
            "sha256:969a6b1cefcc36e09fffa86febd2f699a4aa19b837ba0427f01b0bc6ded458af",
            210_234_548,
        ),
    )
    labels = (
        "face-on disk, no spiral",
        "smooth, round",
        "smooth, in-between",
        "smooth, cigar-shaped",
        "edge-on disk, rounded bulge",
        "edge-on disk, boxy bulge",
        "edge-on disk, no bulge",
        "face-on disk, tight spiral",
        "face-on disk, medium spiral",
        "face-on disk, loose spiral",
    )
    channels = 3
    native = (69, 69)
    recommended = (0.7, 0.1, 0.2)
    default_border = "reflect"

    def read(self, paths: Mapping[str, Path]) -> Pools:
        (path,) = paths.values()
        with opened(path) as file:
            return Pools(learn=read_pool(file, "images", "ans"))


class Galaxy10Decals(Galaxy10):
    """Galaxy10 DECaLS: 17,736 images of 256 x 256 in bands g, r and z, 10 other classes, drawn as 70 / 10 / 20 %."""

    name = "galaxy10_decals"
    card = Card(
        title="Galaxy10 DECaLS",
        licence="none stated for the images; the code that published them is MIT",
        citation="Leung, Bovy: Galaxy10. Labels: Walmsley et al.: Galaxy Zoo DECaLS. MNRAS 509, 2022. Images: Dey et "
        "al.: Overview of the DESI Legacy Imaging Surveys. AJ 157, 2019",
        homepage="https://github.com/henrysky/Galaxy10",
    )
    files = (
        File.below(
            ("https://zenodo.org/records/10845026/files", "https://www.astro.utoronto.ca/~hleung/shared/Galaxy10"),
            "Galaxy10_DECals.h5",
            "sha256:19aefc477c41bb7f77ff07599a6b82a038dc042f889a111b0d4d98bb755c1571",
            None,  # about 2.7 GB
        ),
    )
    labels = (
        "disturbed",
        "merging",
        "round smooth",
        "in-between round smooth",
        "cigar-shaped smooth",
        "barred spiral",
        "unbarred tight spiral",
        "unbarred loose spiral",
        "edge-on without bulge",
        "edge-on with bulge",
    )
    native = (256, 256)
