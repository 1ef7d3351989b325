"""Kernel nets: coordinates (..., columns) to values (..., channels), with unit second moment at initialisation."""

from src.models.kernels.constant import Constant
from src.models.kernels.fourier import Fourier
from src.models.kernels.lattice import Lattice
from src.models.kernels.siren import PaperSiren, Siren

__all__ = ["Constant", "Fourier", "Lattice", "PaperSiren", "Siren"]
