"""Data sets, drawn into splits; whole batches as pure functions of (seed, epoch); and the data module around them."""

from src.data.augment import Augmentation
from src.data.cifar import Cifar10, Cifar100
from src.data.datamodule import ImageDataModule
from src.data.digits import Digits
from src.data.draw import stratified
from src.data.galaxy10 import Galaxy10, Galaxy10Decals
from src.data.lazy import Lazy
from src.data.mnist import Mnist
from src.data.mnist_rot import MnistRotOfficial, mnist_rot
from src.data.own import H5, ImageFolder, Npz
from src.data.pcam import Pcam
from src.data.sources import Card, Pool, Pools, Source, Split, Splits, Statistics, statistics
from src.data.stl10 import Stl10
from src.data.warp import rotate, warp

__all__ = [
    "H5",
    "Augmentation",
    "Card",
    "Cifar10",
    "Cifar100",
    "Digits",
    "Galaxy10",
    "Galaxy10Decals",
    "ImageDataModule",
    "ImageFolder",
    "Lazy",
    "Mnist",
    "MnistRotOfficial",
    "Npz",
    "Pcam",
    "Pool",
    "Pools",
    "Source",
    "Split",
    "Splits",
    "Statistics",
    "Stl10",
    "mnist_rot",
    "rotate",
    "statistics",
    "stratified",
    "warp",
]
