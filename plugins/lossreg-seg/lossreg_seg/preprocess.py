"""Pixel weights for the cross-entropy, larger for rare classes, narrow gaps and small objects."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lossreg import Preprocess
from lossreg.errors import DtypeError, RangeError, ShapeError
from lossreg.losses.base import can_look, holds


class SegLossWeights(Preprocess):
    """Computes `seg_loss_weights`, the weight of each pixel and channel in the cross-entropy.

    With the foreground mask `m = gt > 0`::

        freq = m * class_freq + (1 - m) * rest,    rest = 1 - sum_c class_freq
        w    = 1 / freq
        w   += w0 * exp(-(distances * (H + W))^2 / sigma^2)     if use_dist
        w   *= 1 + 1 / (sqrt(H * W) / 2 * sizes)                if use_size

    If channels overlap and their frequencies sum to 1 or more, the rest is `1 - max_c class_freq`, and at least one
    pixel of the image.

    The distance term follows Ronneberger et al., U-Net, MICCAI 2015. The weights have no gradient.

    Args:
        use_dist: add the distance term; the batch then needs `distances`.
        use_size: increase the weight of small objects; the batch then needs `sizes`.
        w0: height of the distance term.
        sigma: width of the distance term in pixels, above 0.

    Reads `gt.gt_polygons_image` (N, C, H, W), `gt.class_freq` (N, C) in 0 to 1, `gt.distances` (N, 1, H, W) as a
    fraction of `H + W`, and `gt.sizes` (N, 1, H, W) as a fraction of the image, above 0. Computes
    `gt.seg_loss_weights` (N, C, H, W) in float32, or float64 if the frequencies are float64.

    Raises:
        MissingKeyError, ShapeError, DtypeError: a key is missing or malformed.
        RangeError: a class frequency is outside 0 to 1, or 0 for a class that occurs, or a size is not above 0. The
            message names the samples. This is checked on the CPU in eager mode only; elsewhere the weight of such a
            pixel is not finite.
    """

    provides = ("gt.seg_loss_weights",)

    def __init__(self, use_dist: bool = True, use_size: bool = True, w0: float = 50.0, sigma: float = 10.0) -> None:
        super().__init__()
        if not math.isfinite(w0):
            raise ValueError(f"SegLossWeights: w0: expected a finite number, found {w0!r}")
        if not (math.isfinite(sigma) and sigma > 0):
            raise ValueError(f"SegLossWeights: sigma: expected a number above 0, found {sigma!r}")
        self.use_dist, self.use_size, self.w0, self.sigma = use_dist, use_size, w0, sigma
        self.requires = (
            "gt.gt_polygons_image",
            "gt.class_freq",
            *(("gt.distances",) if use_dist else ()),
            *(("gt.sizes",) if use_size else ()),
        )

    @torch.no_grad()
    def compute(
        self,
        pred_batch: Mapping[str, Any],  # noqa: ARG002
        gt_batch: Mapping[str, Any],
    ) -> dict[str, Tensor]:
        """Return `{"gt.seg_loss_weights": (N, C, H, W)}`."""
        gt = gt_batch["gt_polygons_image"]
        if gt.dim() != 4:
            raise ShapeError(
                f"preprocess SegLossWeights: 'gt.gt_polygons_image' has shape {tuple(gt.shape)}, expected (N, C, H, W)"
            )
        n, c, height, width = gt.shape
        class_freq = self._floats(gt_batch, "class_freq", (n, c))[:, :, None, None]
        self._refuse_samples("class_freq", ~((class_freq >= 0) & (class_freq <= 1)), "is not in 0 to 1")
        freq = torch.where(gt > 0, class_freq, _rest(class_freq, 1 / (height * width)))
        self._refuse_samples("class_freq", freq <= 0, "leaves a pixel with a frequency that is not above 0")
        weights = 1 / freq
        if self.use_dist:
            distances = self._floats(gt_batch, "distances", (n, 1, height, width)) * (height + width)
            weights = weights + self.w0 * torch.exp(-((distances / self.sigma) ** 2))
        if self.use_size:
            sizes = self._floats(gt_batch, "sizes", (n, 1, height, width))
            self._refuse_samples("sizes", sizes <= 0, "holds a size that is not above 0")
            weights = weights * (1 + 1 / (math.sqrt(height * width) / 2 * sizes))
        return {"gt.seg_loss_weights": weights}

    def _floats(self, gt_batch: Mapping[str, Any], key: str, shape: tuple[int, ...]) -> Tensor:
        tensor: Tensor = gt_batch[key]
        if tuple(tensor.shape) != shape:
            raise ShapeError(f"preprocess SegLossWeights: 'gt.{key}' has shape {tuple(tensor.shape)}, expected {shape}")
        if not tensor.is_floating_point():
            raise DtypeError(
                f"preprocess SegLossWeights: 'gt.{key}' has dtype "
                f"{str(tensor.dtype).removeprefix('torch.')}, expected a floating-point dtype"
            )
        return tensor if tensor.dtype == torch.float64 else tensor.float()

    def _refuse_samples(self, key: str, bad: Tensor, fault: str) -> None:
        """Raise if `bad` is true anywhere, and name the samples; only on the CPU in eager mode."""
        if not can_look(bad):
            return
        samples = bad.flatten(1).any(dim=1)
        if not holds(~samples.any()):
            named = ", ".join(map(str, samples.nonzero().flatten().tolist()))
            raise RangeError(f"preprocess SegLossWeights: 'gt.{key}' {fault} in sample {named}")

    def extra_repr(self) -> str:
        """Return the options for `repr`."""
        return f"use_dist={self.use_dist}, use_size={self.use_size}, w0={self.w0}, sigma={self.sigma}"


def _rest(class_freq: Tensor, least: float) -> Tensor:
    """Return the frequency of the background, (N, 1, 1, 1), above 0 even if channels overlap."""
    rest = 1 - class_freq.sum(dim=1, keepdim=True)
    return torch.where(rest > 0, rest, (1 - class_freq.amax(dim=1, keepdim=True)).clamp_min(least))
