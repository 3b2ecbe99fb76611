"""The specs of this plugin; does not import torch."""

from __future__ import annotations

from lossreg import LossSpec, PreprocessSpec, hookimpl

_FORMULA = (
    r"L = \mathtt{bce\_coef} \operatorname{mean}(w B) + \mathtt{dice\_coef} \operatorname{mean}(D) "
    r"+ \mathtt{tversky\_focal\_coef} \operatorname{mean}(T) \qquad "
    r"B = -t \log p - (1 - t) \log(1 - p) \qquad "
    r"D = 1 - \frac{2 \sum p t + 1}{\sum p + \sum t + 1 + 10^{-7}} \qquad "
    r"T = (1 - I)^{1/4} \qquad "
    r"I = \frac{\sum p t + 10^{-6}}{\sum p t + 0.01 \sum p (1 - t) + 0.99 \sum t (1 - p) + 10^{-6}}"
)
_WEIGHTS = (
    r"w = \left( \frac{1}{f} + \mathtt{w0} \, e^{-(d (H + W) / \mathtt{sigma})^2} \right) "
    r"\left( 1 + \frac{2}{s \sqrt{H W}} \right) \qquad f = \mathtt{class\_freq}, \; d = \mathtt{distances}, \; "
    r"s = \mathtt{sizes}"
)


@hookimpl
def lossreg_losses() -> list[LossSpec]:
    """Return the spec of the segmentation loss."""
    return [
        LossSpec(
            "SegLoss",
            "lossreg_seg.losses:SegLoss",
            summary="Cross-entropy, Dice and focal Tversky between a segmentation and rasterised polygons",
            aliases=("seg",),
            tasks=("segmentation",),
            prediction="probabilities (N, C, H, W), at `pred.seg`; logits with `use_mixed_precision: true`, or with "
            "more than two classes",
            ground_truth="raster (N, C, H, W) from 0 to 1, at `gt.gt_polygons_image`; with more than two classes also "
            "class indices (N, H, W)",
            words=("buildings", "polygons", "IoU", "imbalance", "class imbalance", "focal", "label smoothing", "MixUp"),
            formula=_FORMULA,
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
            words=("U-Net weights", "class imbalance", "touching objects", "borders", "small objects"),
            formula=_WEIGHTS,
            source="Ronneberger et al. 2015, U-Net, arXiv:1505.04597",
            aliases=("seg_loss_weights",),
            requires=("gt.gt_polygons_image", "gt.class_freq", "gt.distances", "gt.sizes"),
            provides=("gt.seg_loss_weights",),
        )
    ]
