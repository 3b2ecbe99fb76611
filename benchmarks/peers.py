"""The most similar losses of other libraries, if they are installed."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lossreg.registry import catalog

Forward = Callable[[], Tensor]
SAME_VALUE = "MONAI DiceCELoss, channel by channel"
ON_CLASSES = "MONAI DiceCELoss on classes"


def library(name: str) -> Any:
    """Return an installed library, or None."""
    try:
        return import_module(name)
    except ImportError:
        return None


def bce_dice() -> dict[str, Callable[[Tensor, Tensor], Forward]]:
    """Return name -> function of logits and target (N, C, H, W) that returns the call to time.

    MONAI's DiceCELoss takes the binary cross-entropy where there is one channel, and there has the value of
    SegLoss; over two channels it takes the softmax's. Both are measured: as it comes, and with the channels
    moved to the batch. segmentation-models-pytorch takes Dice over the whole batch.
    """
    functions: dict[str, Callable[[Tensor, Tensor], Forward]] = {}
    if monai := library("monai.losses"):
        loss = monai.DiceCELoss(sigmoid=True, lambda_dice=0.5, lambda_ce=0.5, smooth_nr=1.0, smooth_dr=1.0)
        functions["MONAI DiceCELoss"] = lambda pred, target: lambda: loss(pred, target)
        functions[SAME_VALUE] = lambda pred, target: (
            lambda: loss(pred.flatten(0, 1)[:, None], target.flatten(0, 1)[:, None])
        )
    if smp := library("segmentation_models_pytorch"):
        dice = smp.losses.DiceLoss("multilabel", smooth=1.0)
        bce = smp.losses.SoftBCEWithLogitsLoss()
        functions["smp DiceLoss + SoftBCEWithLogitsLoss"] = lambda pred, target: (
            lambda: 0.5 * dice(pred, target) + 0.5 * bce(pred, target)
        )
    return functions


def on_classes() -> dict[str, Callable[[Tensor, Tensor], Forward]]:
    """Return name -> function of logits (N, C, H, W) and indices (N, H, W) that returns the call to time."""
    functions: dict[str, Callable[[Tensor, Tensor], Forward]] = {}
    if monai := library("monai.losses"):
        both = monai.DiceCELoss(
            softmax=True, to_onehot_y=True, lambda_dice=0.5, lambda_ce=0.5, smooth_nr=1.0, smooth_dr=1.0
        )
        functions[ON_CLASSES] = lambda logits, classes: lambda: both(logits, classes[:, None])
    if kornia := library("kornia"):
        dice = kornia.losses.DiceLoss(average="macro")
        functions["kornia DiceLoss + cross-entropy"] = lambda logits, classes: (
            lambda: 0.5 * dice(logits, classes) + 0.5 * F.cross_entropy(logits, classes)
        )
    return functions


Slopes = tuple[Tensor, Forward, dict[str, Forward]]


def slopes(n: int, size: int) -> Slopes | None:
    """Return a segmentation, the sum of the magnitudes of its slopes, and that of kornia's, if it is installed."""
    kornia = library("kornia")
    if kornia is None:
        return None
    planes = torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(0)).requires_grad_()
    node = catalog().preprocesses.find("crossfield/SegGrads").load()()
    theirs: dict[str, Forward] = {"kornia Sobel": lambda: kornia.filters.sobel(planes, eps=1e-6).sum()}
    return planes, lambda: node({"seg": planes}, {})[0]["seg_grad_norm"].sum(), theirs
