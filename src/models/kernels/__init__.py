"""Kernel nets: coordinates (..., columns) to values (..., channels), with unit second moment at initialisation."""

from src.models.kernels.constant import Constant
from src.models.kernels.fourier import Fourier
from src.models.kernels.lattice import Lattice
from src.models.kernels.mlp import MLP
from src.models.kernels.multiplicative import Multiplicative
from src.models.kernels.siren import PaperSiren, Siren

__all__ = ["MLP", "Constant", "Fourier", "Lattice", "Multiplicative", "PaperSiren", "Siren"]
