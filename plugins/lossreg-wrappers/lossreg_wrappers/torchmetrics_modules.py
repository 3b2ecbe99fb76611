"""Scores of torchmetrics, of which more is better, as losses: one minus the score, or minus the score in decibels.

Each is a function with the name and the parameters of the library's own, or a class where a parameter has no default.
A `reduction` is `mean`, `sum` or `none`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import torchmetrics.functional.audio as audio  # type: ignore[import-not-found, unused-ignore]  # need not be installed
import torchmetrics.functional.image as image  # type: ignore[import-not-found, unused-ignore]
import torchmetrics.functional.multimodal as multimodal  # type: ignore[import-not-found, unused-ignore]
import torchmetrics.functional.regression as regression  # type: ignore[import-not-found, unused-ignore]
from torch import Tensor, nn

Reduction: TypeAlias = Literal["mean", "sum", "none"]


def _reduced(values: Tensor, reduction: str) -> Tensor:
    """Return values as a reduction says.

    Raises:
        ValueError: there is no such reduction.
    """
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"reduction: expected mean, sum or none, found {reduction!r}")
    return values if reduction == "none" else values.sum() if reduction == "sum" else values.mean()


def _range(data_range: Any) -> Any:
    """Return the range of values of images; a list of its ends as a tuple, as torchmetrics takes it."""
    return tuple(data_range) if isinstance(data_range, list) else data_range


# --- audio ----------------------------------------------------------------------------------------


def complex_scale_invariant_signal_noise_ratio(preds: Tensor, target: Tensor, zero_mean: bool = False) -> Tensor:
    """Return minus the scale-invariant signal-to-noise ratio of complex spectra, for each spectrum.

    Args:
        preds: (..., frequencies, frames, 2), the real and imaginary parts.
        target: as `preds`.
        zero_mean: whether to subtract the means first.
    """
    value: Tensor = -audio.complex_scale_invariant_signal_noise_ratio(preds, target, zero_mean)
    return value


def scale_invariant_signal_distortion_ratio(preds: Tensor, target: Tensor, zero_mean: bool = False) -> Tensor:
    """Return minus the scale-invariant signal-to-distortion ratio (SI-SDR), for each signal.

    Args:
        preds: (..., time).
        target: as `preds`.
        zero_mean: whether to subtract the means first.
    """
    value: Tensor = -audio.scale_invariant_signal_distortion_ratio(preds, target, zero_mean)
    return value


def scale_invariant_signal_noise_ratio(preds: Tensor, target: Tensor) -> Tensor:
    """Return minus the scale-invariant signal-to-noise ratio (SI-SNR), for each signal (..., time)."""
    value: Tensor = -audio.scale_invariant_signal_noise_ratio(preds, target)
    return value


def signal_distortion_ratio(
    preds: Tensor,
    target: Tensor,
    use_cg_iter: int | None = None,
    filter_length: int = 512,
    zero_mean: bool = False,
    load_diag: float | None = None,
) -> Tensor:
    """Return minus the signal-to-distortion ratio (SDR), for each signal.

    Args:
        preds: (..., time).
        target: as `preds`.
        use_cg_iter: solve by so many steps of conjugate gradients; by default exactly.
        filter_length: length of the distortion filter that is allowed.
        zero_mean: whether to subtract the means first.
        load_diag: added to the diagonal of the linear system, for stability.
    """
    value: Tensor = -audio.signal_distortion_ratio(preds, target, use_cg_iter, filter_length, zero_mean, load_diag)
    return value


def signal_noise_ratio(preds: Tensor, target: Tensor, zero_mean: bool = False) -> Tensor:
    """Return minus the signal-to-noise ratio (SNR), for each signal.

    Args:
        preds: (..., time).
        target: as `preds`.
        zero_mean: whether to subtract the means first.
    """
    value: Tensor = -audio.signal_noise_ratio(preds, target, zero_mean)
    return value


def source_aggregated_signal_distortion_ratio(
    preds: Tensor, target: Tensor, scale_invariant: bool = True, zero_mean: bool = False
) -> Tensor:
    """Return minus the source-aggregated signal-to-distortion ratio (SA-SDR), for each mixture.

    Args:
        preds: (..., sources, time).
        target: as `preds`.
        scale_invariant: whether to scale the targets to the predictions, all sources by one factor.
        zero_mean: whether to subtract the means first.
    """
    value: Tensor = -audio.source_aggregated_signal_distortion_ratio(preds, target, scale_invariant, zero_mean)
    return value


_RATIOS: dict[str, Callable[..., Tensor]] = {
    "scale_invariant_signal_distortion_ratio": scale_invariant_signal_distortion_ratio,
    "scale_invariant_signal_noise_ratio": scale_invariant_signal_noise_ratio,
    "signal_distortion_ratio": signal_distortion_ratio,
    "signal_noise_ratio": signal_noise_ratio,
}


def permutation_invariant_training(
    preds: Tensor,
    target: Tensor,
    metric: Literal[
        "scale_invariant_signal_distortion_ratio",
        "scale_invariant_signal_noise_ratio",
        "signal_distortion_ratio",
        "signal_noise_ratio",
    ] = "scale_invariant_signal_distortion_ratio",
) -> Tensor:
    """Return minus a ratio of the sources in the order that fits best, for each mixture.

    Args:
        preds: (samples, sources, time).
        target: as `preds`.
        metric: the ratio.
    """
    value: Tensor = audio.permutation_invariant_training(preds, target, _RATIOS[metric], eval_func="min")[0]
    return value


# --- images ---------------------------------------------------------------------------------------


def multiscale_structural_similarity_index_measure(
    preds: Tensor,
    target: Tensor,
    gaussian_kernel: bool = True,
    sigma: float | list[float] = 1.5,
    kernel_size: int | list[int] = 11,
    reduction: Reduction = "mean",
    data_range: float | tuple[float, float] | None = None,
    k1: float = 0.01,
    k2: float = 0.03,
    betas: tuple[float, ...] = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333),
    normalize: Literal["relu", "simple"] | None = "relu",
) -> Tensor:
    """Return one minus the multi-scale structural similarity of images.

    Args:
        preds: (N, C, H, W) or (N, C, D, H, W).
        target: as `preds`.
        gaussian_kernel: whether the window is Gaussian, or else uniform.
        sigma: standard deviation of a Gaussian window.
        kernel_size: size of a uniform window.
        reduction: how the values of the samples are reduced.
        data_range: size of the range of values, or its ends; by default that of the batch.
        k1: constant of the luminance.
        k2: constant of the contrast.
        betas: the exponents of the scales.
        normalize: how the values of the scales are kept above 0; a negative one has no gradient otherwise.
    """
    score: Tensor = image.multiscale_structural_similarity_index_measure(
        preds, target, gaussian_kernel, sigma, kernel_size, "none", _range(data_range), k1, k2, tuple(betas), normalize
    )
    return _reduced(1 - score, reduction)


class PeakSignalNoiseRatio(nn.Module):
    """Minus the peak signal-to-noise ratio (PSNR) of all images together.

    Args:
        data_range: size of the range of values, or its ends, to which values are then clipped.
        base: base of the logarithm.
    """

    def __init__(self, data_range: float | tuple[float, float], base: float = 10.0) -> None:
        super().__init__()
        self.data_range, self.base = _range(data_range), base

    def forward(self, preds: Tensor, target: Tensor) -> Tensor:
        """Return the value of images of any shape."""
        value: Tensor = -image.peak_signal_noise_ratio(preds, target, self.data_range, self.base)
        return value


class PeakSignalNoiseRatioWithBlockedEffect(nn.Module):
    """Minus the peak signal-to-noise ratio that also counts the edges of blocks (PSNR-B), of all images together.

    Args:
        data_range: size of the range of values, or its ends, to which values are then clipped.
        block_size: size of the blocks.
    """

    def __init__(self, data_range: float | tuple[float, float], block_size: int = 8) -> None:
        super().__init__()
        self.data_range, self.block_size = _range(data_range), block_size

    def forward(self, preds: Tensor, target: Tensor) -> Tensor:
        """Return the value of images (N, 1, H, W)."""
        value: Tensor = -image.peak_signal_noise_ratio_with_blocked_effect(
            preds, target, self.data_range, self.block_size
        )
        return value


def quality_with_no_reference(
    preds: Tensor,
    ms: Tensor,
    pan: Tensor,
    pan_lr: Tensor | None = None,
    alpha: float = 1,
    beta: float = 1,
    norm_order: int = 1,
    window_size: int = 7,
) -> Tensor:
    """Return one minus the quality with no reference (QNR) of pansharpened images, of all images together.

    Args:
        preds: the fused images, (N, C, H, W).
        ms: the multispectral images of lower resolution.
        pan: the panchromatic images, (N, C, H, W).
        pan_lr: the panchromatic images in the resolution of `ms`; by default `pan` is reduced.
        alpha: exponent of the spectral part.
        beta: exponent of the spatial part.
        norm_order: order of the norms.
        window_size: size of the smoothing window.
    """
    score: Tensor = image.quality_with_no_reference(preds, ms, pan, pan_lr, alpha, beta, norm_order, window_size)
    return 1 - score


def spatial_correlation_coefficient(
    preds: Tensor,
    target: Tensor,
    hp_filter: Tensor | None = None,
    window_size: int = 8,
    reduction: Reduction = "mean",
) -> Tensor:
    """Return one minus the correlation of the edges of images (SCC).

    Args:
        preds: (N, C, H, W) or (N, H, W).
        target: as `preds`.
        hp_filter: the high-pass filter; by default a Laplacian of 3 x 3.
        window_size: size of the windows in which edges are correlated.
        reduction: how the values of the samples are reduced.
    """
    score: Tensor = image.spatial_correlation_coefficient(preds, target, hp_filter, window_size, "none")
    return _reduced(1 - score, reduction)


def structural_similarity_index_measure(
    preds: Tensor,
    target: Tensor,
    gaussian_kernel: bool = True,
    sigma: float | list[float] = 1.5,
    kernel_size: int | list[int] = 11,
    reduction: Reduction = "mean",
    data_range: float | tuple[float, float] | None = None,
    k1: float = 0.01,
    k2: float = 0.03,
) -> Tensor:
    """Return one minus the structural similarity (SSIM) of images or volumes.

    Args:
        preds: (N, C, H, W) or (N, C, D, H, W).
        target: as `preds`.
        gaussian_kernel: whether the window is Gaussian, or else uniform.
        sigma: standard deviation of a Gaussian window.
        kernel_size: size of a uniform window.
        reduction: how the values of the samples are reduced.
        data_range: size of the range of values, or its ends; by default that of the batch.
        k1: constant of the luminance.
        k2: constant of the contrast.
    """
    score: Any = image.structural_similarity_index_measure(
        preds, target, gaussian_kernel, sigma, kernel_size, "none", _range(data_range), k1, k2
    )
    return _reduced(1 - score, reduction)


def universal_image_quality_index(
    preds: Tensor,
    target: Tensor,
    kernel_size: list[int] | tuple[int, int] = (11, 11),
    sigma: list[float] | tuple[float, float] = (1.5, 1.5),
    reduction: Reduction = "mean",
) -> Tensor:
    """Return one minus the universal image quality index (UQI), for each sample.

    Args:
        preds: (N, C, H, W).
        target: as `preds`.
        kernel_size: size of the Gaussian window.
        sigma: standard deviations of the Gaussian window.
        reduction: how the values of the samples are reduced.
    """
    score: Tensor = image.universal_image_quality_index(preds, target, kernel_size, sigma, "none")
    return _reduced(1 - score.flatten(1).mean(1), reduction)


class LipVertexError(nn.Module):
    """`torchmetrics.functional.multimodal.lip_vertex_error`.

    Args:
        mouth_map: the indices of the vertices of the lips.
    """

    def __init__(self, mouth_map: list[int]) -> None:
        super().__init__()
        self.mouth_map = mouth_map

    def forward(self, vertices_pred: Tensor, vertices_gt: Tensor) -> Tensor:
        """Return the value of vertices (T, V, 3)."""
        value: Tensor = multimodal.lip_vertex_error(vertices_pred, vertices_gt, self.mouth_map)
        return value


# --- regression -----------------------------------------------------------------------------------


def concordance_corrcoef(preds: Tensor, target: Tensor) -> Tensor:
    """Return one minus Lin's concordance correlation of (N,) or (N, outputs), for each output."""
    score: Tensor = regression.concordance_corrcoef(preds, target)
    return 1 - score


def cosine_similarity(preds: Tensor, target: Tensor, reduction: Reduction = "mean") -> Tensor:
    """Return one minus the cosine of the angle between vectors (N, D).

    Args:
        preds: the vectors.
        target: as `preds`.
        reduction: how the values of the vectors are reduced.
    """
    score: Tensor = regression.cosine_similarity(preds, target, "none")
    return _reduced(1 - score, reduction)


def explained_variance(
    preds: Tensor,
    target: Tensor,
    multioutput: Literal["raw_values", "uniform_average", "variance_weighted"] = "uniform_average",
) -> Tensor:
    """Return one minus the explained variance.

    Args:
        preds: (N,) or (N, outputs).
        target: as `preds`.
        multioutput: how the values of several outputs are reduced.
    """
    score: Any = regression.explained_variance(preds, target, multioutput)
    value: Tensor = 1 - score
    return value


class MinkowskiDistance(nn.Module):
    """`torchmetrics.functional.regression.minkowski_distance`.

    Args:
        p: the order of the norm, 1 or more.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, preds: Tensor, targets: Tensor) -> Tensor:
        """Return the distance of all numbers together."""
        value: Tensor = regression.minkowski_distance(preds, targets, self.p)
        return value


def pearson_corrcoef(preds: Tensor, target: Tensor) -> Tensor:
    """Return one minus Pearson's correlation of (N,) or (N, outputs), for each output."""
    score: Tensor = regression.pearson_corrcoef(preds, target)
    return 1 - score


def r2_score(
    preds: Tensor,
    target: Tensor,
    adjusted: int = 0,
    multioutput: Literal["raw_values", "uniform_average", "variance_weighted"] = "uniform_average",
) -> Tensor:
    """Return one minus the coefficient of determination (R2).

    Args:
        preds: (N,) or (N, outputs).
        target: as `preds`.
        adjusted: number of independent variables, for the adjusted score.
        multioutput: how the values of several outputs are reduced.
    """
    score: Tensor = regression.r2_score(preds, target, adjusted, multioutput)
    return 1 - score
