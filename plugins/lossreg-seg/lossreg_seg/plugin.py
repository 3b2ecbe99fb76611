"""The specs of this plugin; does not import torch."""

from __future__ import annotations

from lossreg import LossSpec, PreprocessSpec, hookimpl


@hookimpl
def lossreg_losses() -> list[LossSpec]:
    """Return the spec of the segmentation loss."""
    return [
        LossSpec(
            "SegLoss",
            "lossreg_seg.losses:SegLoss",
            summary="Cross-entropy, Dice and focal Tversky between a segmentation and rasterised polygons",
            aliases=("seg",),
            targets=("pytorch_segmentation_models_trainer.custom_losses.base_loss.SegLoss",),
            example="lossreg_seg.examples:probabilities",
            example_args={"gt_channel_selector": [0, 1]},
            nothing="lossreg_seg.examples:ignored",
            capabilities=("permutable",),
        )
    ]


@hookimpl
def lossreg_preprocesses() -> list[PreprocessSpec]:
    """Return the spec of the pixel weights for the cross-entropy."""
    return [
        PreprocessSpec(
            "SegLossWeights",
            "lossreg_seg.preprocess:SegLossWeights",
            summary="Per-pixel weights from class frequencies, distances between objects, and their sizes",
            aliases=("seg_loss_weights",),
            requires=("gt.gt_polygons_image", "gt.class_freq", "gt.distances", "gt.sizes"),
            provides=("gt.seg_loss_weights",),
            example="lossreg_seg.examples:frequencies",
            capabilities=("per_sample",),
        )
    ]
