"""Groups of R^1, R^2 and R^3: how elements multiply, act, and are sampled. Imports torch only."""

from src.groups.base import Axis, Group
from src.groups.dilation import Dilation
from src.groups.o2 import O2
from src.groups.o3 import O3
from src.groups.product import Product
from src.groups.reflection import Reflection
from src.groups.so2 import SO2
from src.groups.so3 import SO3
from src.groups.trivial import Trivial

__all__ = ["O2", "O3", "SO2", "SO3", "Axis", "Dilation", "Group", "Product", "Reflection", "Trivial"]
