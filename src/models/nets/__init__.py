"""Nets: images (n, c, *space) to logits (n, classes); or, of every pixel, (n, classes, *space)."""

from src.models.nets.cnn import CKGCNN
from src.models.nets.escnn import EscnnResNet
from src.models.nets.moebius import MoebiusNet
from src.models.nets.preactivation import PreActivationResNet
from src.models.nets.residual import ResidualNet
from src.models.nets.resnet import CKGResNet
from src.models.nets.stacked import StackedNet
from src.models.nets.unet import CKGUNet

__all__ = [
    "CKGCNN",
    "CKGResNet",
    "CKGUNet",
    "EscnnResNet",
    "MoebiusNet",
    "PreActivationResNet",
    "ResidualNet",
    "StackedNet",
]
