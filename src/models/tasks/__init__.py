"""What nets learn: a loss, metrics, and which of them is primary; one file each."""

from src.models.tasks.base import Caption, Decisions, Loss, Score, Task, shortened
from src.models.tasks.classification import ACCURACY, Classification, NegativeLogLikelihood
from src.models.tasks.multilabel import Multilabel
from src.models.tasks.regression import Regression
from src.models.tasks.segmentation import Segmentation

__all__ = [
    "ACCURACY",
    "Caption",
    "Classification",
    "Decisions",
    "Loss",
    "Multilabel",
    "NegativeLogLikelihood",
    "Regression",
    "Score",
    "Segmentation",
    "Task",
    "shortened",
]
