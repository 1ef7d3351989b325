"""Data sets in memory, whole batches as pure functions of (seed, epoch), and the data module around them."""

from src.data.augment import rotate, warp
from src.data.datamodule import ImageDataModule
from src.data.digits import Digits
from src.data.mnist import Mnist
from src.data.mnist_rot import MnistRot
from src.data.sources import Source, Split, Splits, Statistics, statistics, stratified

__all__ = [
    "Digits",
    "ImageDataModule",
    "Mnist",
    "MnistRot",
    "Source",
    "Split",
    "Splits",
    "Statistics",
    "rotate",
    "statistics",
    "stratified",
    "warp",
]
