"""The formulas of SegLoss, used by torch.compile and as the reference for the fast kernel.

Notation: `p` probabilities and `t` targets, (N, C, H, W); sums run over the pixels of each plane (n, c)::

    TP = sum p t        FP = sum p (1 - t)        FN = sum t (1 - p)
    dice    = 1 - (2 TP + 1) / (2 TP + FP + FN + 1 + 1e-7)          as sum p + sum t = 2 TP + FP + FN
    tversky = (1 - TI) ** 0.25,   1 - TI = (0.01 FP + 0.99 FN) / (TP + 0.01 FP + 0.99 FN + 1e-6)

`FP` and `FN` are summed directly, not as differences of `sum p`, `sum t` and `TP`, and `1 - TI` is computed without a
subtraction from 1. Otherwise precision is lost near a perfect prediction, where the root is steep.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lossreg.losses.base import can_hold
from lossreg.losses.mean import Count, product, safe


class Coefficients(NamedTuple):
    """The weights of the three terms; a term with weight 0 is not computed."""

    bce: float
    dice: float
    tversky: float

    def has_overlap(self) -> bool:
        """Return whether there is one of the two losses of planes."""
        return bool(self.dice or self.tversky)


class Binary(NamedTuple):
    """The options of the binary loss."""

    coefs: Coefficients
    from_logits: bool = False
    smoothing: float = 0.0
    ignore_index: int | None = None


class Parts(NamedTuple):
    """The two means of a loss, which add up, and what each was taken over.

    Attributes:
        entropy: the mean of the cross-entropy over pixels, times its coefficient.
        overlap: the mean of Dice and focal Tversky over planes, times their coefficients.
        pixels: the number of pixels that count, or the sum of their weights.
        planes: the number of planes with such a pixel, or the sum of their weights.
    """

    entropy: Tensor
    overlap: Tensor
    pixels: Count
    planes: Count


class Share(NamedTuple):
    """What the pixels and planes of a batch count. `C` may be 1 where all channels count the same.

    Attributes:
        kept: (N, C, H, W) bool, the pixels that count; None for all. Sizes may be 1.
        weights: (N, C, H, W) weights of pixels in the sums of their plane; None for ones.
        planes: (N, C) which planes have a pixel that counts, bool, or their weights; None for all.
        of_pixels: what the cross-entropy is a mean over.
        of_planes: what the overlap is a mean over.
    """

    kept: Tensor | None
    weights: Tensor | None
    planes: Tensor | None
    of_pixels: Count
    of_planes: Count

    @classmethod
    def of(
        cls,
        shape: Sequence[int],
        valid: Tensor | None,
        pixels: Tensor | None = None,
        planes: Tensor | None = None,
        classes: int = 1,
    ) -> Share:
        """Return what counts, from the ignored pixels, a mask, and weights.

        Args:
            shape: (N, C, H, W) of the pixels.
            valid: (N, C, H, W) bool, False for ignored pixels; None for none.
            pixels: (N, C, H, W) bool or 0 or more, weights of pixels; sizes may be 1.
            planes: (N, C, 1, 1) bool or 0 or more, weights of whole planes; `C` may be 1.
            classes: the number of planes that a channel of pixels stands for.
        """
        n, channels, height, width = shape
        pixels = product(pixels, valid)
        kept = product(pixels, planes)
        if kept is None:
            return cls(None, None, None, float(n * channels * height * width), float(n * channels * classes))
        # a number of pixels is exact in float32, where the compiler makes all sums in one kernel
        are_numbers = kept.dtype == torch.bool or kept.device.type == "mps"
        exact = torch.float32 if are_numbers else torch.float64
        if pixels is None:
            sums = kept.new_full((n, channels), height * width, dtype=exact)
        else:
            sums = pixels.expand(n, channels, height, width).sum((2, 3), dtype=exact)
        present = sums > 0
        if planes is not None:
            planes = planes.detach().flatten(1).expand(n, channels)
            planes = planes if planes.dtype == torch.bool else planes.to(exact)
            sums, present = sums * planes, present * planes
        weights = None if pixels is None or pixels.dtype == torch.bool else pixels
        kept = kept if kept.dtype == torch.bool else kept != 0
        of_planes = present.sum(dtype=exact)
        return cls(kept, weights, present, sums.sum(dtype=exact), of_planes if classes == 1 else of_planes * classes)

    def weighed(self, values: Tensor) -> Tensor:
        """Return values (N, C, H, W) of pixels times their weights."""
        return values if self.weights is None else values * self.weights.to(values.dtype)


def binary_formula(
    pred: Tensor, target: Tensor, weights: Tensor | None, task: Binary, share: Share | None = None
) -> Parts:
    """Return the binary loss of planes (N, C, H, W); each channel is a separate problem.

    As in `F.binary_cross_entropy`, logarithms are at least -100 and the gradient is
    `(p - t) / max(p (1 - p), 1e-12)`. So value and gradient are finite for every `p` in 0 to 1.

    Args:
        pred, target: (N, C, H, W).
        weights: (N, C, H, W) factors of the cross-entropy.
        task: the options.
        share: what counts; by default all pixels but the ignored ones.
    """
    if share is None:
        share = Share.of(pred.shape, where_valid(target, task.ignore_index))
    pred, target, weights = _in_one_dtype(pred, target, weights)
    if task.smoothing:
        target = target * (1 - task.smoothing) + task.smoothing / 2
    kept = share.kept
    if kept is not None:  # a pixel with p = t = 0 adds nothing to any sum
        pred, target = torch.where(kept, pred, 0), torch.where(kept, target, 0)
        weights = None if weights is None else torch.where(kept, weights, 0)
    p = torch.sigmoid(pred) if task.from_logits else pred
    if kept is not None and task.from_logits:
        p = torch.where(kept, p, 0)
    entropy = pred.new_zeros(())
    if task.coefs.bce:
        values = (
            cross_entropy_of_logits(pred, target) if task.from_logits else CrossEntropy.apply(pred, target)  # type: ignore[no-untyped-call]
        )
        if kept is not None and task.from_logits:  # for z = 0 it would be log 2
            values = torch.where(kept, values, 0)
        values = values if weights is None else values * weights
        entropy = task.coefs.bce * _mean_over(values, share)
    return Parts(entropy, _overlap_loss(p, target, share, task.coefs), share.of_pixels, share.of_planes)


def cross_entropy_of_logits(z: Tensor, t: Tensor) -> Tensor:
    """Return `-(t log p + (1 - t) log(1 - p))` with `p = sigmoid(z)`, element by element.

    It is computed as `z ((z > 0) - t) + log1p(exp(-|z|))`. Neither term is negative, so no precision is lost.
    (`F.binary_cross_entropy_with_logits` loses precision for `t = 0` and `z` far below 0.) For an infinite `z` that
    agrees with `t` the value is 0.
    """
    positive = z > 0
    off = torch.where(positive, 1 - t, -t)
    return torch.where(off == 0, 0, z * off) + torch.log1p(torch.exp(torch.where(positive, -z, z)))


class CrossEntropy(torch.autograd.Function):
    """`F.binary_cross_entropy` element by element, with a finite gradient of `t` too."""

    generate_vmap_rule = True

    @staticmethod
    def forward(p: Tensor, t: Tensor) -> Tensor:
        """Return `-(t log p + (1 - t) log(1 - p))` with logarithms of at least -100."""
        at_0, at_1 = _bounded_logs(p)
        return -(t * at_1 + (1 - t) * at_0)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:  # noqa: ARG004  autograd's names
        """Save both inputs."""
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Return the gradients of `p` and `t`; that of `p` is finite for every `p` in 0 to 1."""
        p, t = ctx.saved_tensors
        at_p = at_t = None
        if ctx.needs_input_grad[0]:
            at_p = grad_output * ((p - t) / (p * (1 - p)).clamp(min=1e-12))
        if ctx.needs_input_grad[1]:
            at_0, at_1 = _bounded_logs(p)
            at_t = grad_output * (at_0 - at_1)
        return at_p, at_t


def _bounded_logs(p: Tensor) -> tuple[Tensor, Tensor]:
    return torch.log1p(-p).clamp(min=-100), torch.log(p).clamp(min=-100)


def multiclass_formula(
    logits: Tensor, target: Tensor, weights: Tensor | None, share: Share, coefs: Coefficients, smoothing: float
) -> Parts:
    """Return the loss of logits (N, C, H, W) and one-hot or soft targets of the same shape.

    Cross-entropy uses the smoothed target `t (1 - s) + s / C`, multiplied by the weights (N, 1 or C, H, W) if there are
    any. Dice and Tversky use `softmax(logits)` and the unsmoothed target. A class with the logit -inf and the target 0
    adds nothing. What counts is given for pixels (N, 1, H, W).
    """
    logits, target, weights = _in_one_dtype(logits, target, weights)
    kept = share.kept
    if kept is not None:
        logits, target = torch.where(kept, logits, 0), torch.where(kept, target, 0)
        weights = None if weights is None else torch.where(kept, weights, 0)
    log_p = torch.log_softmax(logits, dim=1)
    entropy = logits.new_zeros(())
    if coefs.bce:
        smoothed = target * (1 - smoothing) + smoothing / logits.shape[1]
        values = torch.where(smoothed == 0, 0, -log_p * smoothed)
        values = values if weights is None else values * weights
        values = values.sum(dim=1, keepdim=True)
        values = values if kept is None else torch.where(kept, values, 0)
        entropy = coefs.bce * _mean_over(values, share)
    p = log_p.exp()
    p = p if kept is None else torch.where(kept, p, 0)
    return Parts(entropy, _overlap_loss(p, target, share, coefs), share.of_pixels, share.of_planes)


def _overlap_loss(p: Tensor, target: Tensor, share: Share, coefs: Coefficients) -> Tensor:
    """Return the mean of Dice and focal Tversky, times their coefficients, over the planes of `p` and `target`.

    Both are 0 at pixels that do not count.
    """
    if not coefs.has_overlap():
        return p.flatten()[:0].sum()
    p, target, both = (share.weighed(values) for values in (p, target, p * target))
    tp = both.sum((2, 3))
    if coefs.tversky:
        fp, fn = (p - both).sum((2, 3)), (target - both).sum((2, 3))
    else:  # Dice only needs their sum, whose loss of precision does not matter there
        fp, fn = p.sum((2, 3)) - tp, target.sum((2, 3)) - tp
    losses = coefs.dice * dice(tp, fp, fn)
    if coefs.tversky:
        losses = losses + coefs.tversky * focal_tversky(tp, fp, fn)
    if share.planes is not None:
        losses = losses * (share.planes if share.planes.dtype == torch.bool else share.planes.to(losses.dtype))
    return _divided(losses.sum(), share.of_planes)


def dice(tp: Tensor, fp: Tensor, fn: Tensor) -> Tensor:
    """Return the Dice loss of each plane, smoothed by 1."""
    return 1 - (2 * tp + 1) / (2 * tp + fp + fn + 1 + 1e-7)


def focal_tversky(tp: Tensor, fp: Tensor, fn: Tensor) -> Tensor:
    """Return the focal Tversky loss of each plane; the gradient at 0, where the root has none, is 0."""
    errors = 0.01 * fp + 0.99 * fn
    off = errors / (tp + errors + 1e-6)
    perfect = off <= 0
    return torch.where(perfect, 0, torch.where(perfect, 1, off) ** 0.25)


def _mean_over(values: Tensor, share: Share) -> Tensor:
    """Return the mean over the pixels that count, where the values of others are 0; 0 if there are none.

    It first sums each plane, as Dice does, so that the compiler fuses all sums into one loop.
    """
    sums = share.weighed(values).sum((2, 3))
    if share.planes is not None and share.planes.dtype != torch.bool:
        sums = sums * share.planes.to(sums.dtype)
    return _divided(sums.sum(), share.of_pixels)


def _divided(total: Tensor, count: Count) -> Tensor:
    """Return a mean in the dtype of the total; 0 for a count of 0."""
    divisor = safe(count)
    return total / (divisor.to(total.dtype) if isinstance(divisor, Tensor) else divisor)


def where_valid(target: Tensor, ignore_index: int | None) -> Tensor | None:
    """Return a mask of targets other than `ignore_index`; None if the dtype cannot represent that value."""
    if ignore_index is None or not can_hold(target.dtype, ignore_index):
        return None
    return torch.ne(target, ignore_index)


def _in_one_dtype(pred: Tensor, target: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return all three tensors in float64 if `pred` is float64, else in float32."""
    dtype = torch.float64 if pred.dtype == torch.float64 else torch.float32
    return pred.to(dtype), target.to(dtype), None if weights is None else weights.to(dtype)
