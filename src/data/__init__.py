"""Data sets, drawn into splits; whole batches as pure functions of (seed, epoch); and the data module around them."""

from src.data.augment import Augmentation
from src.data.datamodule import ImageDataModule
from src.data.draw import stratified
from src.data.io.fetch import ChecksumError, DownloadError
from src.data.lazy import Lazy
from src.data.sets.cifar import Cifar10, Cifar100
from src.data.sets.digits import Digits, SegmentedDigits
from src.data.sets.digits3d import Digits3d
from src.data.sets.galaxy10 import Galaxy10, Galaxy10Decals
from src.data.sets.mnist import Mnist
from src.data.sets.mnist_rot import MnistRot, MnistRotOfficial
from src.data.sets.moebius_mnist import MoebiusMnist
from src.data.sets.own import H5, Npz
from src.data.sets.pcam import Pcam
from src.data.sets.pictures import ImageFolder
from src.data.sets.sequences import PixelSequences
from src.data.sets.stl10 import Stl10
from src.data.sources import Card, Pool, Pools, Source, Split, Splits, Statistics, statistics
from src.data.warp import rotate, warp

__all__ = [
    "H5",
    "Augmentation",
    "Card",
    "ChecksumError",
    "Cifar10",
    "Cifar100",
    "Digits",
    "Digits3d",
    "DownloadError",
    "Galaxy10",
    "Galaxy10Decals",
    "ImageDataModule",
    "ImageFolder",
    "Lazy",
    "Mnist",
    "MnistRot",
    "MnistRotOfficial",
    "MoebiusMnist",
    "Npz",
    "Pcam",
    "PixelSequences",
    "Pool",
    "Pools",
    "SegmentedDigits",
    "Source",
    "Split",
    "Splits",
    "Statistics",
    "Stl10",
    "rotate",
    "statistics",
    "stratified",
    "warp",
]
