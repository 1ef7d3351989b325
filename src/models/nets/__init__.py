"""Nets: images (n, c, *space) to logits (n, classes)."""

from src.models.nets.escnn import EscnnResNet
from src.models.nets.residual import ResidualNet
from src.models.nets.resnet import CKGResNet

__all__ = ["CKGResNet", "EscnnResNet", "ResidualNet"]
