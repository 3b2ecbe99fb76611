"""Plugin `torchmetrics`: the differentiable functionals of torchmetrics as losses; imports neither it nor torch.

A score of which more is better is offered as a loss: one minus the score, or minus the score in decibels; see
`lossreg_wrappers.torchmetrics_modules`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from lossreg import LossSpec, hookimpl
from lossreg_wrappers.describe import library_loss
from lossreg_wrappers.torchmetrics_facts import FACTS
from lossreg_wrappers.wrap import lossreg_wrap

__all__ = ["lossreg_losses", "lossreg_wrap"]

_MODULE = "torchmetrics.functional"
_PAGES = "https://lightning.ai/docs/torchmetrics/stable"

_SAMPLES = {"takes": "values", "unit": "samples by sample"}
_VECTORS = {"takes": "values", "unit": "samples"}
_PANSHARPENING = {
    "takes": "values",
    "inputs": {"preds": "pred.preds", "ms": "gt.ms", "pan": "gt.pan", "pan_lr": "gt.pan_lr"},
    "optional_inputs": ("pan_lr",),  # without it, torchvision makes it of `pan`
    "unmasked": "it compares bands of the whole batch; leave samples out of the batch instead",
}


def _whole(advice: str) -> dict[str, Any]:
    """Return the options of a loss that returns one number for the batch."""
    return {"takes": "values", "unmasked": f"it returns one number for the batch; {advice}"}


_STATISTICS = _whole("leave samples out of the batch instead")
_IMAGES = _whole("multiply both images by the mask in a preprocess")


def _loss(domain: str, name: str, summary: str, wrap: dict[str, Any], *, page: str = "", **fields: Any) -> LossSpec:
    module = f"{_MODULE}.{domain}"
    return library_loss(
        module,
        name,
        summary,
        wrap,
        facts=FACTS,
        page=f"{_PAGES}/{domain}/{page or '{name}'}.html#{module}.{{name}}",
        package="torchmetrics>=1.9",
        **fields,
    )


def _as_loss(name: str) -> str:
    return f"lossreg_wrappers.torchmetrics_modules:{name}"


@hookimpl
def lossreg_losses() -> Sequence[LossSpec]:
    """Return the specs of the losses of torchmetrics."""
    return (*_audio(), *_images(), *_regression(), *_others())


def _audio() -> Sequence[LossSpec]:
    def ratio(name: str, summary: str, wrap: dict[str, Any] = _SAMPLES, **fields: Any) -> LossSpec:
        return _loss("audio", name, summary, wrap, target=_as_loss(name), **{"example": "waveforms", **fields})

    return (
        ratio(
            "complex_scale_invariant_signal_noise_ratio",
            "minus the scale-invariant signal-to-noise ratio of complex spectra, in decibels",
            example="complex_spectra",
        ),
        ratio(
            "permutation_invariant_training",
            "minus a ratio of the sources of a mixture, in the order that fits best, in decibels",
        ),
        ratio(
            "scale_invariant_signal_distortion_ratio",
            "minus the scale-invariant signal-to-distortion ratio, in decibels",
        ),
        ratio("scale_invariant_signal_noise_ratio", "minus the scale-invariant signal-to-noise ratio, in decibels"),
        ratio(
            "signal_distortion_ratio",
            "minus the signal-to-distortion ratio with a distortion filter, in decibels",
            {
                "takes": "values",
                "unmasked": "its filter of a masked signal, which is zero, is not defined; use "
                "torchmetrics/scale_invariant_signal_distortion_ratio",
            },
            args={"filter_length": 8},
        ),
        ratio("signal_noise_ratio", "minus the signal-to-noise ratio, in decibels"),
        ratio(
            "source_aggregated_signal_distortion_ratio",
            "minus the signal-to-distortion ratio of all sources of a mixture together, in decibels",
        ),
    )


def _images() -> Sequence[LossSpec]:
    image = partial(_loss, "image", example="photos")
    return (
        image(
            "error_relative_global_dimensionless_synthesis",
            "ERGAS: relative error of the bands of an image",
            _SAMPLES,
        ),
        image(
            "multiscale_structural_similarity_index_measure",
            "one minus the structural similarity of images in several scales",
            _VECTORS,
            page="multi_scale_structural_similarity",
            target=_as_loss("multiscale_structural_similarity_index_measure"),
            args={"gaussian_kernel": False, "kernel_size": 3, "betas": [0.5, 0.5], "data_range": 1.0},
        ),
        image(
            "peak_signal_noise_ratio",
            "minus the peak signal-to-noise ratio, in decibels",
            _whole("use torch/MSELoss"),
            target=_as_loss("PeakSignalNoiseRatio"),
            args={"data_range": 1.0},
        ),
        image(
            "peak_signal_noise_ratio_with_blocked_effect",
            "minus the peak signal-to-noise ratio that counts the edges of blocks, in decibels",
            _whole("use torch/MSELoss"),
            page="peak_signal_to_noise_with_block",
            target=_as_loss("PeakSignalNoiseRatioWithBlockedEffect"),
            example="grey_photos",
            args={"data_range": 1.0},
        ),
        image(
            "quality_with_no_reference",
            "one minus the quality of pansharpened images (QNR)",
            _PANSHARPENING,
            target=_as_loss("quality_with_no_reference"),
            example="pansharpening",
        ),
        image(
            "relative_average_spectral_error",
            "RASE: error of the bands in sliding windows, relative to their mean",
            _IMAGES,
        ),
        image(
            "root_mean_squared_error_using_sliding_window",
            "root mean squared error in sliding windows",
            _IMAGES,
            hidden=("return_rmse_map",),
        ),
        image(
            "spatial_correlation_coefficient",
            "one minus the correlation of the edges of images (SCC)",
            _VECTORS,
            target=_as_loss("spatial_correlation_coefficient"),
            tensors=("hp_filter",),
        ),
        image(
            "spatial_distortion_index",
            "distortion of the details of pansharpened images",
            _PANSHARPENING,
            example="pansharpening",
        ),
        image(
            "spectral_angle_mapper",
            "angle between the spectra of the pixels (SAM), in radians",
            {"takes": "values", "unit": "samples by sample"},
        ),
        image(
            "spectral_distortion_index",
            "distortion of the similarities of the bands of images",
            {**_STATISTICS, "target_shape": "any"},
        ),
        image(
            "structural_similarity_index_measure",
            "one minus the structural similarity of images (SSIM)",
            _VECTORS,
            page="structural_similarity",
            target=_as_loss("structural_similarity_index_measure"),
            args={"data_range": 1.0},
        ),
        image(
            "total_variation",
            "sum of absolute differences of neighbouring pixels; by default the sum over the samples",
            _VECTORS,
            example="lone_photo",
            args={"reduction": "mean"},
        ),
        image(
            "universal_image_quality_index",
            "one minus the universal image quality index",
            _VECTORS,
            target=_as_loss("universal_image_quality_index"),
        ),
    )


def _regression() -> Sequence[LossSpec]:
    number = partial(_loss, "regression", example="positive_numbers")
    outputs = {"num_outputs": 1}
    return (
        number(
            "concordance_corrcoef",
            "one minus Lin's concordance correlation",
            _STATISTICS,
            page="concordance_corr_coef",
            target=_as_loss("concordance_corrcoef"),
        ),
        number(
            "cosine_similarity",
            "one minus the cosine of the angle between vectors",
            _VECTORS,
            target=_as_loss("cosine_similarity"),
            example="paired_vectors",
        ),
        number(
            "explained_variance",
            "one minus the explained variance",
            _STATISTICS,
            target=_as_loss("explained_variance"),
        ),
        number(
            "jensen_shannon_divergence",
            "Jensen-Shannon divergence of two distributions",
            _VECTORS,
            page="js_divergence",
            example="positive_vectors",
        ),
        number(
            "kl_divergence",
            "Kullback-Leibler divergence of the prediction from the target",
            _VECTORS,
            example="positive_vectors",
        ),
        number("log_cosh_error", "logarithm of the hyperbolic cosine of the error", _whole("use auraloss/LogCoshLoss")),
        number("mean_absolute_error", "mean absolute error", _whole("use torch/L1Loss"), args=outputs),
        number(
            "mean_absolute_percentage_error",
            "mean absolute error relative to the target",
            _whole("use torch/L1Loss of logarithms"),
        ),
        number(
            "mean_squared_error",
            "mean squared error, or its root with `squared: false`",
            _whole("use torch/MSELoss"),
            args=outputs,
        ),
        number(
            "mean_squared_log_error",
            "mean squared error of logarithms",
            _whole("use torch/MSELoss of logarithms"),
            page="mean_squared_log_error",
        ),
        number(
            "minkowski_distance",
            "Minkowski distance of all numbers together",
            _STATISTICS,
            target=_as_loss("MinkowskiDistance"),
            args={"p": 3.0},
        ),
        number(
            "normalized_root_mean_squared_error",
            "root mean squared error relative to the mean, range, deviation or norm of the target",
            _STATISTICS,
            page="normalized_root_mean_squared_error",
        ),
        number(
            "pearson_corrcoef",
            "one minus Pearson's correlation",
            _STATISTICS,
            page="pearson_corr_coef",
            target=_as_loss("pearson_corrcoef"),
        ),
        number("r2_score", "one minus the coefficient of determination (R2)", _STATISTICS, target=_as_loss("r2_score")),
        number(
            "relative_squared_error",
            "squared error relative to the variance of the target",
            _STATISTICS,
            page="rse",
        ),
        number(
            "symmetric_mean_absolute_percentage_error",
            "mean absolute error relative to prediction and target",
            _whole("use torch/L1Loss of logarithms"),
        ),
        number(
            "tweedie_deviance_score",
            "deviance of a Tweedie distribution: normal, Poisson, gamma and between",
            _whole("use torch/PoissonNLLLoss"),
            args={"power": 1.5},
        ),
        number(
            "weighted_mean_absolute_percentage_error",
            "sum of absolute errors relative to the sum of the targets",
            _whole("use torch/L1Loss"),
        ),
    )


def _others() -> Sequence[LossSpec]:
    return (
        _loss(
            "multimodal",
            "lip_vertex_error",
            "largest squared error of the lip vertices of each frame of a talking head",
            _whole("leave frames out of the batch instead"),
            target=_as_loss("LipVertexError"),
            example="meshes",
            args={"mouth_map": [1, 2, 5]},
        ),
        _loss(
            "text",
            "perplexity",
            "perplexity of logits (N, T, C): the exponential of the cross-entropy",
            {
                "takes": "softmax logits",
                "target": "indices",
                "axis": -1,
                "unmasked": "it is the exponential of a mean over the batch; use torch/CrossEntropyLoss",
            },
            example="token_logits",
        ),
    )
