"""Lightning callbacks."""

from src.callbacks.checkpoints import Checkpoints
from src.callbacks.dashboard import Dashboard
from src.callbacks.divergence import Divergence, DivergenceError
from src.callbacks.equivariance_error import EquivarianceError
from src.callbacks.exact_state import ExactState
from src.callbacks.feature_figures import FeatureFigures
from src.callbacks.interruption import Interrupted, Interruption
from src.callbacks.kernel_redundancy import KernelRedundancy
from src.callbacks.lightning import LearningRate, ProgressBar
from src.callbacks.mask_sizes import MaskSizes
from src.callbacks.relaxed_weights import RelaxedWeights
from src.callbacks.throughput import Throughput

__all__ = [
    "Checkpoints",
    "Dashboard",
    "Divergence",
    "DivergenceError",
    "EquivarianceError",
    "ExactState",
    "FeatureFigures",
    "Interrupted",
    "Interruption",
    "KernelRedundancy",
    "LearningRate",
    "MaskSizes",
    "ProgressBar",
    "RelaxedWeights",
    "Throughput",
]
