"""Lightning callbacks."""

from src.callbacks.progress import ProgressBar

__all__ = ["ProgressBar"]
