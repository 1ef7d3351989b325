"""Fields, kernels, the one convolution, and the nets made of it.

Example:
    >>> IMPLEMENTATIONS["separable"]
    'oi h, o x'
"""

from src.models.factorisation import IMPLEMENTATIONS, Factorisation
from src.models.field import Field, Pointwise
from src.models.gconv import GConv

__all__ = ["IMPLEMENTATIONS", "Factorisation", "Field", "GConv", "Pointwise"]
