"""Nets: images (n, c, *space) to logits (n, classes)."""

from src.models.nets.escnn import EscnnResNet
from src.models.nets.moebius import MoebiusNet
from src.models.nets.preactivation import PreActivationResNet
from src.models.nets.residual import ResidualNet
from src.models.nets.resnet import CKGResNet
from src.models.nets.stacked import StackedNet

__all__ = ["CKGResNet", "EscnnResNet", "MoebiusNet", "PreActivationResNet", "ResidualNet", "StackedNet"]
