"""The formulas of SegLoss, used by torch.compile and as the reference for the fast kernel.

Notation: `p` probabilities and `t` targets, (N, C, H, W); sums run over the pixels of each plane (n, c)::

    TP = sum p t        FP = sum p (1 - t)        FN = sum t (1 - p)
    dice    = 1 - (2 TP + 1) / (2 TP + FP + FN + 1 + 1e-7)          as sum p + sum t = 2 TP + FP + FN
    tversky = (1 - TI) ** 0.25,   1 - TI = (0.01 FP + 0.99 FN) / (TP + 0.01 FP + 0.99 FN + 1e-6)

`FP` and `FN` are summed directly, not as differences of `sum p`, `sum t` and `TP`, and `1 - TI` is computed without a
subtraction from 1. Otherwise precision is lost near a perfect prediction, where the root is steep.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from lossreg.losses.base import can_hold


class Coefficients(NamedTuple):
    """The weights of the three terms; a term with weight 0 is not computed."""

    bce: float
    dice: float
    tversky: float


class Binary(NamedTuple):
    """The options of the binary loss."""

    coefs: Coefficients
    from_logits: bool = False
    smoothing: float = 0.0
    ignore_index: int | None = None


def binary_formula(pred: Tensor, target: Tensor, weights: Tensor | None, task: Binary) -> Tensor:
    """Return the binary loss of planes (N, C, H, W); each channel is a separate problem.

    As in `F.binary_cross_entropy`, logarithms are at least -100 and the gradient is
    `(p - t) / max(p (1 - p), 1e-12)`. So value and gradient are finite for every `p` in 0 to 1.
    """
    valid = where_valid(target, task.ignore_index)
    pred, target, weights = _in_one_dtype(pred, target, weights)
    if task.smoothing:
        target = target * (1 - task.smoothing) + task.smoothing / 2
    if valid is not None:  # a pixel with p = t = 0 adds nothing to any sum
        pred, target = torch.where(valid, pred, 0), torch.where(valid, target, 0)
        weights = None if weights is None else torch.where(valid, weights, 0)
    p = torch.sigmoid(pred) if task.from_logits else pred
    if valid is not None and task.from_logits:
        p = torch.where(valid, p, 0)
    count = None if valid is None else valid.sum((2, 3), dtype=pred.dtype)
    loss = pred.new_zeros(())
    if task.coefs.bce:
        entropy = (
            cross_entropy_of_logits(pred, target) if task.from_logits else CrossEntropy.apply(pred, target)  # type: ignore[no-untyped-call]
        )
        if valid is not None and task.from_logits:  # for z = 0 it would be log 2
            entropy = torch.where(valid, entropy, 0)
        entropy = entropy if weights is None else entropy * weights
        loss = loss + task.coefs.bce * _mean_over(entropy, count)
    return loss + _overlap_loss(p, target, count, task.coefs)


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
    logits: Tensor,
    target: Tensor,
    weights: Tensor | None,
    valid: Tensor | None,
    coefs: Coefficients,
    smoothing: float,
) -> Tensor:
    """Return the loss of logits (N, C, H, W) and one-hot or soft targets of the same shape.

    Cross-entropy uses the smoothed target `t (1 - s) + s / C`, multiplied by the weights (N, 1 or C, H, W) if there are
    any. Dice and Tversky use `softmax(logits)` and the unsmoothed target. A class with the logit -inf and the target 0
    adds nothing.
    """
    logits, target, weights = _in_one_dtype(logits, target, weights)
    if valid is not None:  # (N, 1, H, W)
        logits, target = torch.where(valid, logits, 0), torch.where(valid, target, 0)
        weights = None if weights is None else torch.where(valid, weights, 0)
    count = None if valid is None else valid.sum((2, 3), dtype=logits.dtype)  # (N, 1)
    log_p = torch.log_softmax(logits, dim=1)
    loss = logits.new_zeros(())
    if coefs.bce:
        smoothed = target * (1 - smoothing) + smoothing / logits.shape[1]
        entropy = torch.where(smoothed == 0, 0, -log_p * smoothed)
        entropy = entropy if weights is None else entropy * weights
        entropy = entropy.sum(dim=1, keepdim=True)
        entropy = entropy if valid is None else torch.where(valid, entropy, 0)
        loss = loss + coefs.bce * _mean_over(entropy, count)
    p = log_p.exp()
    return loss + _overlap_loss(p if valid is None else torch.where(valid, p, 0), target, count, coefs)


def _overlap_loss(p: Tensor, target: Tensor, count: Tensor | None, coefs: Coefficients) -> Tensor:
    """Return the weighted mean of Dice and focal Tversky over the planes of masked `p` and `target`.

    A plane without a valid pixel, by `count` (N, C or 1), adds exactly 0.
    """
    if not (coefs.dice or coefs.tversky):
        return p.flatten()[:0].sum()
    both = p * target
    tp = both.sum((2, 3))
    if coefs.tversky:
        fp, fn = (p - both).sum((2, 3)), (target - both).sum((2, 3))
    else:  # Dice only needs their sum, whose loss of precision does not matter there
        fp, fn = p.sum((2, 3)) - tp, target.sum((2, 3)) - tp
    losses = coefs.dice * dice(tp, fp, fn)
    if coefs.tversky:
        losses = losses + coefs.tversky * focal_tversky(tp, fp, fn)
    return (losses if count is None else losses * (count > 0)).mean()


def dice(tp: Tensor, fp: Tensor, fn: Tensor) -> Tensor:
    """Return the Dice loss of each plane, smoothed by 1."""
    return 1 - (2 * tp + 1) / (2 * tp + fp + fn + 1 + 1e-7)


def focal_tversky(tp: Tensor, fp: Tensor, fn: Tensor) -> Tensor:
    """Return the focal Tversky loss of each plane; the gradient at 0, where the root has none, is 0."""
    errors = 0.01 * fp + 0.99 * fn
    off = errors / (tp + errors + 1e-6)
    perfect = off <= 0
    return torch.where(perfect, 0, torch.where(perfect, 1, off) ** 0.25)


def _mean_over(values: Tensor, count: Tensor | None) -> Tensor:
    """Return the mean over the `count` valid values, where ignored values are 0; 0 if there are none.

    It first sums each plane, as Dice does, so that the compiler fuses all sums into one loop.
    """
    total = values.sum((2, 3)).sum()
    return total / values.numel() if count is None else total / count.sum().clamp(min=1)


def where_valid(target: Tensor, ignore_index: int | None) -> Tensor | None:
    """Return a mask of targets other than `ignore_index`; None if the dtype cannot represent that value."""
    if ignore_index is None or not can_hold(target.dtype, ignore_index):
        return None
    return torch.ne(target, ignore_index)


def _in_one_dtype(pred: Tensor, target: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return all three tensors in float64 if `pred` is float64, else in float32."""
    dtype = torch.float64 if pred.dtype == torch.float64 else torch.float32
    return pred.to(dtype), target.to(dtype), None if weights is None else weights.to(dtype)
