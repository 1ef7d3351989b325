"""Fields, kernels, the one convolution, and the nets made of it."""

from src.models.factorisation import IMPLEMENTATIONS, Factorisation
from src.models.field import Field, Pointwise
from src.models.gconv import GConv

__all__ = ["IMPLEMENTATIONS", "Factorisation", "Field", "GConv", "Pointwise"]
