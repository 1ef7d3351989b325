"""Nets: images (n, c, y, x) to logits (n, classes)."""

from src.models.nets.escnn import EscnnResNet
from src.models.nets.resnet import CKGResNet

__all__ = ["CKGResNet", "EscnnResNet"]
