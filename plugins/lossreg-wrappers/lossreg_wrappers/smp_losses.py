"""Plugin `smp`: every loss of segmentation-models-pytorch; imports neither it nor torch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from lossreg import LossSpec, hookimpl
from lossreg_wrappers.describe import library_loss
from lossreg_wrappers.smp_facts import FACTS
from lossreg_wrappers.wrap import lossreg_wrap

__all__ = ["lossreg_losses", "lossreg_wrap"]

_loss = partial(
    library_loss,
    "segmentation_models_pytorch.losses",
    package="segmentation-models-pytorch>=0.5",
    facts=FACTS,
    page="https://smp.readthedocs.io/en/latest/losses.html#segmentation_models_pytorch.losses.{name}",
)

# `mode` is binary, multiclass or multilabel; predictions are logits, or probabilities with `from_logits: false`
_FROM_PROBABILITIES = (
    ({"mode": "multiclass", "from_logits": False}, "softmax probabilities"),
    ({"from_logits": False}, "sigmoid probabilities"),
)
_BY_MODE = {
    "takes": (*_FROM_PROBABILITIES, ({"mode": "multiclass"}, "softmax logits"), ({}, "sigmoid logits")),
    "target": (({"mode": "multiclass"}, "indices"), ({}, "mask")),
    "target_shape": "any",  # the loss flattens the planes
}
_OVERLAP = {**_BY_MODE, "unit": "pooled by smp_overlap"}
_MULTICLASS = {"mode": "multiclass"}


@hookimpl
def lossreg_losses() -> Sequence[LossSpec]:
    """Return the specs of the losses of `segmentation_models_pytorch.losses`, sorted by name."""
    return (
        _loss("DiceLoss", "soft Dice over the batch", _OVERLAP, example="class_logits", args=_MULTICLASS),
        _loss(
            "FocalLoss",
            "focal loss with sigmoids in every mode",
            {
                **_BY_MODE,
                "takes": (*_FROM_PROBABILITIES, ({"mode": "multiclass"}, "logits"), ({}, "sigmoid logits")),
                "advice": "set `from_logits: false` if the model returns probabilities",
                "unit": "positions by smp_focal",
                "unmasked": "with `normalized`, another `reduction` than mean or sum, or `ignore_index` for several "
                "labels it is no mean over pixels; leave these out",
            },
            example="class_logits",
            args=_MULTICLASS,
        ),
        _loss("JaccardLoss", "soft IoU over the batch", _OVERLAP, example="class_logits", args=_MULTICLASS),
        _loss(
            "LovaszLoss",
            "Lovász hinge (binary, multilabel) or Lovász softmax (multiclass), a convex surrogate of the IoU",
            {  # it takes logits in every mode; `from_logits` has no effect on it
                "takes": (({"mode": "multiclass"}, "softmax logits"), ({}, "sigmoid logits")),
                "target": _BY_MODE["target"],
                "target_shape": "any",
                "unmasked": "it sorts the errors of all pixels; use its `ignore_index`, or smp/JaccardLoss",
            },
            example="class_logits",
            args=_MULTICLASS,
        ),
        _loss(
            "MCCLoss",
            "one minus Matthews correlation of a binary mask",
            {
                "takes": "sigmoid probabilities",
                "target": "mask",
                "target_shape": "any",
                "unmasked": "it counts true negatives, as which masked pixels would count; use smp/DiceLoss",
            },
            example="mask_probabilities",
        ),
        _loss(
            "SoftBCEWithLogitsLoss",
            "binary cross-entropy of logits with label smoothing and an ignored value",
            {"takes": "sigmoid logits", "target": "mask", "unit": "values"},
            tensors=("weight", "pos_weight"),
            example="mask_logits",
        ),
        _loss(
            "SoftCrossEntropyLoss",
            "cross-entropy of logits with label smoothing",
            {
                "takes": "softmax logits",
                "target": "indices",
                "unit": (({"dim": 1}, "positions by without_class_axis"), ({}, "none")),
                "unmasked": "its classes are not on axis 1; use the default `dim: 1`",
            },
            example="class_logits",
            args={"smooth_factor": 0.1},
        ),
        _loss("TverskyLoss", "soft Tversky index over the batch", _OVERLAP, example="class_logits", args=_MULTICLASS),
    )
