"""The most similar losses of other libraries, if they are installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import lossreg
from lossreg.registry import catalog

Forward = Callable[[], Tensor]
SAME_VALUE = "MONAI DiceCELoss, channel by channel"


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


Case = tuple[str, dict[str, Any], tuple[Tensor, ...], Forward, dict[str, Forward]]


def on_classes(n: int, size: int) -> Iterator[Case]:
    """Yield `(case, setting, inputs, ours, theirs)` for classes that exclude each other, and for slopes."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(n, 3, size, size, generator=generator).requires_grad_()
    classes = torch.randint(0, 3, (n, size, size), generator=generator)
    ours = lossreg.create_loss("seg/SegLoss", gt_channel_selector=0, n_classes=3)
    read = {"seg": logits}, {"gt_polygons_image": classes}
    theirs: dict[str, Forward] = {
        "textbook on classes": lambda: 0.5 * F.cross_entropy(logits, classes) + 0.5 * _class_dice(logits, classes)
    }
    kornia, monai = library("kornia"), library("monai.losses")
    if kornia:
        dice, cross_entropy = kornia.losses.DiceLoss(average="macro"), torch.nn.CrossEntropyLoss()
        theirs["kornia DiceLoss + cross-entropy"] = lambda: (
            0.5 * dice(logits, classes) + 0.5 * cross_entropy(logits, classes)
        )
    if monai:
        both = monai.DiceCELoss(
            softmax=True, to_onehot_y=True, lambda_dice=0.5, lambda_ce=0.5, smooth_nr=1.0, smooth_dr=1.0
        )
        theirs["MONAI DiceCELoss on classes"] = lambda: both(logits, classes[:, None])
    yield "SegLoss on classes", {"shape": list(logits.shape)}, (logits,), lambda: ours(*read)[0], theirs
    if kornia:
        planes = torch.rand(n, 3, size, size, generator=generator).requires_grad_()
        node = catalog().preprocesses.find("crossfield/SegGrads").load()()
        yield (
            "SegGrads (slopes and magnitude)",
            {"shape": list(planes.shape)},
            (planes,),
            lambda: node({"seg": planes}, {})[0]["seg_grad_norm"].sum(),
            {"kornia Sobel": lambda: kornia.filters.sobel(planes, eps=1e-6).sum()},
        )


def _class_dice(logits: Tensor, classes: Tensor) -> Tensor:
    one_hot = F.one_hot(classes, logits.shape[1]).movedim(-1, 1).to(logits.dtype)
    p = logits.softmax(1)
    both, total = (p * one_hot).sum((2, 3)), p.sum((2, 3)) + one_hot.sum((2, 3))
    return (1 - (2 * both + 1) / (total + 1 + 1e-7)).mean()
