"""Plugin `torchvision`: the losses of `torchvision.ops`, which are functions; imports neither torchvision nor torch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from lossreg import LossSpec, hookimpl
from lossreg_wrappers.describe import library_loss
from lossreg_wrappers.torchvision_facts import FACTS
from lossreg_wrappers.wrap import lossreg_wrap

__all__ = ["lossreg_losses", "lossreg_wrap"]

_loss = partial(
    library_loss,
    "torchvision.ops",
    package="torchvision>=0.19",
    facts=FACTS,
    page="https://docs.pytorch.org/vision/stable/generated/torchvision.ops.{name}.html",
)

_BOXES = {"takes": "values", "unit": "samples"}


@hookimpl
def lossreg_losses() -> Sequence[LossSpec]:
    """Return the specs of the losses of `torchvision.ops`, sorted by name."""
    return (
        _loss("complete_box_iou_loss", "IoU of boxes, their centres' distance and shape", _BOXES, example="boxes"),
        _loss("distance_box_iou_loss", "IoU of boxes and their centres' distance", _BOXES, example="boxes"),
        _loss("generalized_box_iou_loss", "IoU of boxes and of their enclosing box", _BOXES, example="boxes"),
        _loss(
            "sigmoid_focal_loss",
            "focal loss of logits with sigmoids",
            {"takes": "sigmoid logits", "target": "mask", "unit": "values"},
            example="mask_logits",
        ),
    )
