"""Plugin `kornia`: every loss of `kornia.losses`; imports neither kornia nor torch.

If kornia has a class and a function for a loss, the class is used, and the function's name is an alias.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from lossreg import LossSpec, hookimpl
from lossreg_wrappers.describe import library_loss
from lossreg_wrappers.kornia_facts import FACTS
from lossreg_wrappers.wrap import lossreg_wrap

__all__ = ["lossreg_losses", "lossreg_wrap"]

_loss = partial(
    library_loss,
    "kornia.losses",
    package="kornia>=0.8",
    facts=FACTS,
    page="https://kornia.readthedocs.io/en/latest/losses.html#kornia.losses.{name}",
)

_VALUES = {"takes": "values", "unit": "values"}
_IMAGES = {"takes": "values", "unit": "samples by sample"}
_CLASSES = {"takes": "softmax logits", "target": "indices"}
_HISTOGRAMS = "it compares histograms of all pixels; use monai/GlobalMutualInformationLoss for a mask of samples"
_SIGNALS = {"takes": "values", "unmasked": _HISTOGRAMS}
_ALONE = {**_SIGNALS, "inputs": ("pred.other_signal",)}
_SOFTMAX_INSIDE = "its softmax is inside, and a sample without pixels would count; use monai/{} with `softmax: true`"
_SORTS = "it sorts the errors of all pixels; use monai/DiceLoss with `jaccard: true`"
_BINS = "Parzen-window histograms of `num_bins` bins"
# an enum of functions, which a config cannot express
_KERNEL = ("kernel_function",)
_MASKS = ("input_mask", "target_mask")
_SIGNAL = ("reference_signal", "mask")
_RAMP = [i / 7 for i in range(8)]


@hookimpl
def lossreg_losses() -> Sequence[LossSpec]:
    """Return the specs of the losses of `kornia.losses`."""
    return (*_segmentation(), *_robust(), *_images(), *_heatmaps(), *_mutual_information())


def _segmentation() -> Sequence[LossSpec]:
    return (
        _loss(
            "BinaryFocalLossWithLogits",
            "focal loss of logits with sigmoids",
            {"takes": "sigmoid logits", "target": "mask", "unit": "values"},
            also=("binary_focal_loss_with_logits",),
            tensors=("weight", "pos_weight"),
            example="mask_logits",
            args={"alpha": 0.25},
        ),
        _loss(
            "DiceLoss",
            "soft Dice of the softmax",
            {**_CLASSES, "unmasked": _SOFTMAX_INSIDE.format("DiceLoss")},
            also=("dice_loss",),
            tensors=("weight",),
            example="class_logits",
        ),
        _loss(
            "FocalLoss",
            "focal loss of the softmax",
            {**_CLASSES, "unit": "positions by classes"},
            also=("focal_loss",),
            tensors=("weight",),
            example="class_logits",
            args={"alpha": 0.5},
        ),
        _loss(
            "HausdorffERLoss",
            "Hausdorff distance by repeated erosion, images",
            {"takes": "softmax probabilities", "target": "channel indices", "unit": "samples by kornia_hausdorff"},
            example="class_probabilities",
        ),
        _loss(
            "HausdorffERLoss3D",
            "Hausdorff distance by repeated erosion, volumes",
            {"takes": "softmax probabilities", "target": "channel indices", "unit": "samples by kornia_hausdorff"},
            example="volume_class_probabilities",
        ),
        _loss(
            "LovaszHingeLoss",
            "Lovász hinge of one logit a pixel",
            {"takes": "sigmoid logits", "target": "mask without channel", "unmasked": _SORTS},
            also=("lovasz_hinge_loss",),
            example="binary_logits",
        ),
        _loss(
            "LovaszSoftmaxLoss",
            "Lovász softmax, a convex surrogate of the IoU",
            {**_CLASSES, "unmasked": _SORTS},
            also=("lovasz_softmax_loss",),
            tensors=("weight",),
            example="class_logits",
        ),
        _loss(
            "TverskyLoss",
            "Tversky index of the softmax",
            {**_CLASSES, "unmasked": _SOFTMAX_INSIDE.format("TverskyLoss")},
            also=("tversky_loss",),
            example="class_logits",
            args={"alpha": 0.4, "beta": 0.6},
        ),
    )


def _robust() -> Sequence[LossSpec]:
    return (
        _loss("CauchyLoss", "robust regression, Cauchy", _VALUES, also=("cauchy_loss",), example="values"),
        _loss(
            "CharbonnierLoss",
            "robust regression, a smooth absolute error",
            _VALUES,
            also=("charbonnier_loss",),
            example="values",
        ),
        _loss(
            "GemanMcclureLoss",
            "robust regression, Geman and McClure",
            _VALUES,
            also=("geman_mcclure_loss",),
            example="values",
        ),
        _loss("WelschLoss", "robust regression, Welsch", _VALUES, also=("welsch_loss",), example="values"),
    )


def _images() -> Sequence[LossSpec]:
    return (
        _loss(
            "InverseDepthSmoothnessLoss",
            "smoothness of an inverse depth, less where the image has edges",
            {
                "takes": "values",
                "inputs": ("pred.idepth", "gt.image"),
                "place": 1,
                "unmasked": "it compares neighbouring pixels, and returns one number for the batch; multiply `idepth` "
                "by the mask in a preprocess",
            },
            also=("inverse_depth_smoothness_loss",),
            example="inverse_depth",
        ),
        _loss("MS_SSIMLoss", "multi-scale structural similarity and L1", _IMAGES, example="images"),
        _loss(
            "PSNRLoss",
            "negative peak signal-to-noise ratio",
            {"takes": "values", "unmasked": "it is the logarithm of a mean over the batch; use torch/MSELoss"},
            also=("psnr_loss",),
            example="images",
            args={"max_val": 1.0},
        ),
        _loss(
            "SSIMLoss",
            "structural dissimilarity of images",
            _IMAGES,
            also=("ssim_loss",),
            example="images",
            args={"window_size": 5},
        ),
        _loss(
            "SSIM3DLoss",
            "structural dissimilarity of volumes",
            _IMAGES,
            also=("ssim3d_loss",),
            example="volumes",
            args={"window_size": 3},
        ),
        _loss(
            "TotalVariation",
            "sum of absolute differences of neighbouring pixels of the prediction",
            _IMAGES,
            also=("total_variation",),
            example="lone_image",
        ),
    )


def _heatmaps() -> Sequence[LossSpec]:
    heatmaps = {
        "takes": "probabilities",
        "target": "distribution",
        "advice": "normalise each map over its pixels",
        "unit": "planes",
    }
    return (
        _loss("js_div_loss_2d", "Jensen-Shannon divergence of heatmaps", heatmaps, example="heatmaps"),
        _loss("kl_div_loss_2d", "Kullback-Leibler divergence of heatmaps", heatmaps, example="heatmaps"),
    )


def _mutual_information() -> Sequence[LossSpec]:
    pairs = [
        _loss(
            f"{prefix}mutual_information_loss{suffix}",
            f"negative {text}mutual information of two {shape}, by {_BINS}",
            _SIGNALS,
            hidden=_KERNEL,
            tensors=_MASKS,
            package="kornia>=0.8.3",
            example=example,
        )
        for prefix, text in (("", ""), ("normalized_", "normalised "))
        for suffix, shape, example in (
            ("", "signals", "signals"),
            ("_2d", "images", "images"),
            ("_3d", "volumes", "volumes"),
        )
    ]
    against_reference = [
        _loss(
            f"{prefix}MILossFromRef{suffix}",
            f"negative {text}mutual information with one given {shape}, by {_BINS}",
            _ALONE,
            hidden=_KERNEL,
            tensors=_SIGNAL,
            package="kornia>=0.8.3",
            example=example,
            args={"reference_signal": reference},
        )
        for prefix, text in (("", ""), ("N", "normalised "))
        for suffix, shape, example, reference in (
            ("", "signal", "lone_signal", _RAMP),
            ("2D", "image", "lone_signal_2d", [_RAMP] * 4),
            ("3D", "volume", "lone_signal_3d", [[_RAMP] * 4] * 4),
        )
    ]
    return (*pairs, *against_reference)
