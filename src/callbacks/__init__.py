"""Lightning callbacks."""

from src.callbacks.checkpoints import Checkpoints
from src.callbacks.exact_state import ExactState
from src.callbacks.interruption import Interrupted, Interruption
from src.callbacks.progress import ProgressBar

__all__ = ["Checkpoints", "ExactState", "Interrupted", "Interruption", "ProgressBar"]
