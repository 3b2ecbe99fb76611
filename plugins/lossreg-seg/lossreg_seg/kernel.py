"""The binary loss with its gradient worked out by hand: one sweep each way, with nothing kept but sums."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lossreg_seg.formulas import Binary, Coefficients, binary_formula, can_hold

_BLOCK = 1 << 17  # elements a CPU thread: fewer cost more starts of operations, more fall out of the caches
_BLOCK_HALF = 1 << 16  # elements on the CPU in half precision, where the float32 buffers are most of the memory
_BLOCK_ELSEWHERE = 1 << 24  # on a device that is slow to start an operation


class OutOfRangeError(Exception):
    """A prediction or a target lies outside 0 to 1, or the loss is not finite: the formula shall tell."""


class BinaryLoss(torch.autograd.Function):
    """`binary_formula`, several times faster, saving its inputs and two numbers for each plane.

    Value. With `count` valid elements and `E = 0.01 FP + 0.99 FN`::

        bce_coef / count * sum -w (t log p + (1 - t) log(1 - p))
            + mean over (n, c) of  dice_coef * (1 - R) + tversky_coef * x ** 0.25

        D = 2 TP + FP + FN + 1 + 1e-7,    R = (2 TP + 1) / D
        S = TP + E + 1e-6,                x = E / S

    Where every `t` is 0 or 1, one logarithm does: `-log r`, with `r = p` where `t = 1`, else `1 - p`.

    Gradient. `TP`, `FP` and `FN` have the derivatives `t`, `1 - t` and `-t` in `p`, so that of a plane's
    overlap loss `l` is `A t + B`, with the two numbers `A = l_TP - l_FP - l_FN` and `B = l_FP`::

        dice:     l_TP = (2 R - 2) / D,  l_FP = l_FN = R / D                          A = -2 / D
                                                                                      B = R / D
        tversky:  y = x ** 0.25,  y' = 0.25 x ** -0.75  (0 where x = 0)
                  l_TP = -y' x / S,  l_FP = 0.01 y' (1 - x) / S,  l_FN = 99 l_FP      A = -y' / S
                                                                                      B = 0.01 y' (1 - x) / S

    That of the cross-entropy is `w (p - t) / max(p (1 - p), 1e-12)`, bounded as in `F.binary_cross_entropy`; where
    every `t` is 0 or 1 and the bound is not met, `w / ((1 - t) - p)`, in this order: `1 - t - p` loses no digits.
    On logits, with `p = sigmoid(z)`, the cross-entropy is `max(z, 0) - t z - log max(p, 1 - p)`, whose last
    logarithm is `log1p(exp(-|z|))`, and the whole gradient is `w (p - t) + p (1 - p) (A t + B)`.

    An ignored pixel is set to `p = t = 0`, which adds nothing to any sum.

    The planes are read in blocks that fit the cache, and only there, where need be, converted to float32. On
    the CPU, where that costs no transfer, each block is looked at: its range is checked, and what it does not
    call for (a mask, a second logarithm) is left out. A second derivative is that of `binary_formula`.
    """

    @staticmethod
    def applies(pred: Tensor, target: Tensor, weights: Tensor | None) -> bool:
        """Say whether tensors are concrete, in eager mode, and `pred` the only one to be differentiated.

        Where they are not (compiled, fake, meta, inside a functional transform) the formula itself must do.
        """
        constants = [target] if weights is None else [target, weights]
        return (
            not torch.compiler.is_compiling()
            and all(map(_is_concrete, [pred, *constants]))
            and not any(constant.requires_grad for constant in constants)
        )

    @staticmethod
    def forward(ctx: Any, pred: Tensor, target: Tensor, weights: Tensor | None, task: Binary) -> Tensor:
        """Return the loss, a scalar, of planes (N, C, H, W).

        Raises:
            OutOfRangeError: a probability or target lies outside 0 to 1; looked for on the CPU only.
        """
        planes = _Planes(pred, target, weights, task)
        sums = pred.new_zeros((len(planes.spans), 5, *pred.shape[:2]), dtype=planes.dtype)
        steep: list[bool] = []
        for span, (tp, fp, fn, log, count) in zip(planes.spans, sums, strict=True):
            t, mask, hard = planes.target(span, planes.on_cpu)
            p = planes.probability(span, mask)
            if task.coefs.bce:
                logs, short = _log_likelihood(planes, span, p, t, mask, hard)
                torch.sum(logs, 2, out=log)
                steep.append(short)
            else:
                planes.check(p)
            if task.coefs.dice or task.coefs.tversky:
                _overlap_sums(planes, span, p, t, tp, fp, fn)
            count.fill_(t.shape[2]) if mask is None else torch.sum(mask, 2, out=count)
        tp, fp, fn, log, count = sums.sum(0, dtype=planes.exact)
        overlap, gradient = _overlap(tp, fp, fn, task.coefs)
        total: Tensor | int = pred.numel()
        if planes.masked:
            total, present = count.sum().clamp(min=1), count > 0
            overlap, gradient = overlap * present, gradient * present
        value = overlap.mean() - log.sum() * (task.coefs.bce / total)
        if planes.on_cpu and not _holds(value.isfinite()):
            raise OutOfRangeError
        ctx.task, ctx.masked, ctx.total, ctx.spans, ctx.steep = task, planes.masked, total, planes.spans, steep
        slope, level = (gradient * (total / overlap.numel())).to(planes.dtype)[..., None]
        ctx.save_for_backward(pred, target, weights, slope, level)
        result: Tensor = value.to(planes.dtype)
        return result

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradient of `pred`, in its dtype."""
        pred, target, weights, slope, level = ctx.saved_tensors
        if torch.is_grad_enabled():  # a second derivative is wanted
            value = binary_formula(pred, target, weights, ctx.task)
            return *torch.autograd.grad(value, pred, grad_output, create_graph=True), None, None, None
        planes = _Planes(pred, target, weights, ctx.task, ctx.masked, ctx.spans)
        scale = (grad_output / ctx.total).to(planes.dtype)
        slope, level, share = slope * scale, level * scale, ctx.task.coefs.bce * scale
        grad = torch.empty_like(planes.pred)
        gradient = _logits_gradient if ctx.task.from_logits else _probability_gradient
        for i, span in enumerate(planes.spans):
            t, mask, _ = planes.target(span)
            p = planes.probability(span, mask)
            block = grad[..., span]
            out = block if block.dtype == planes.dtype else planes.buffer("grad", span)
            if not ctx.task.coefs.bce:
                torch.mul(t, slope, out=out).add_(level)
                if ctx.task.from_logits:
                    torch.ops.aten.sigmoid_backward.grad_input(out, p, grad_input=out)
            elif ctx.steep[i]:
                _steep_gradient(planes, span, p, t, slope, level, share, out)
            else:
                gradient(planes, span, p, t, slope, level, share, out)
            if mask is not None:
                planes.blank(out, mask, out)
            if out is not block:
                block.copy_(out)
        return torch.unflatten(grad, 2, pred.shape[2:]), None, None, None


class _Planes:
    """The planes (N, C, pixels) of a batch, read block by block as float32 (float64 where `pred` is)."""

    def __init__(
        self,
        pred: Tensor,
        target: Tensor,
        weights: Tensor | None,
        task: Binary,
        masked: bool | None = None,
        spans: list[slice] | None = None,
    ) -> None:
        self.pred, self.targets, self.task = pred.flatten(2), target.flatten(2), task
        self.weights = None if weights is None else weights.flatten(2)
        self.on_cpu = pred.device.type == "cpu"
        self.dtype = torch.float64 if pred.dtype == torch.float64 else torch.float32
        self.exact = self.dtype if pred.device.type == "mps" else torch.float64  # to add up blocks in
        n, c, pixels = self.pred.shape
        elements = _BLOCK * torch.get_num_threads() if pred.dtype == self.dtype else _BLOCK_HALF
        step = max(1, (elements if self.on_cpu else _BLOCK_ELSEWHERE) // (n * c))
        self.spans = spans or [slice(start, min(start + step, pixels)) for start in range(0, pixels, step)]
        self._buffers: dict[str, Tensor] = {}
        ignored = task.ignore_index
        self._ignored = ignored if ignored is not None and can_hold(target.dtype, ignored) else None
        a_look_tells = self.on_cpu and ignored not in (0, 1)
        self.masked = self._ignored is not None and not a_look_tells if masked is None else masked

    def buffer(self, name: str, span: slice) -> Tensor:
        """Return a block of undefined content, the same memory for each span."""
        if name not in self._buffers:
            self._buffers[name] = torch.empty_like(self.pred[..., self.spans[0]], dtype=self.dtype)
        return self._buffers[name][..., : span.stop - span.start]

    def read(self, source: Tensor, span: slice, name: str) -> Tensor:
        """Return a block in the dtype of the sums, converted into the buffer `name` where need be."""
        block = source[..., span]
        if block.dtype == self.dtype:
            return block
        return self.buffer(name, span).copy_(block.view(torch.uint8) if block.dtype == torch.bool else block)

    def blank(self, values: Tensor, mask: Tensor, out: Tensor) -> Tensor:
        """Write `values`, 0 where ignored, to `out`."""
        if self.on_cpu:  # four times faster than a selection; `forward` sees where infinity times 0 is not 0
            return torch.mul(values, mask, out=out)
        return out.copy_(torch.where(mask.bool(), values, 0))

    def target(self, span: slice, look: bool = False) -> tuple[Tensor, Tensor | None, bool]:
        """Return a block of targets, its mask if any, and whether all are known to be 0 or 1."""
        raw = self.read(self.targets, span, "raw target")
        t, mask = self._masked(raw, span)
        hard = not self.targets.is_floating_point()
        if look:
            inside, hard = self._look(t, span)
            if not (inside or self.masked or self._ignored is None):
                self.masked = True
                t, mask = self._masked(raw, span)
                inside, hard = self._look(t, span)
            if not inside:
                raise OutOfRangeError
        if not self.task.smoothing:
            return t, mask, hard
        t = torch.mul(t, 1 - self.task.smoothing, out=self.buffer("target", span)).add_(self.task.smoothing / 2)
        return t if mask is None else t.mul_(mask), mask, False

    def _masked(self, raw: Tensor, span: slice) -> tuple[Tensor, Tensor | None]:
        if not self.masked or self._ignored is None:
            return raw, None
        mask = torch.ne(raw, self._ignored, out=self.buffer("mask", span))
        return self.blank(raw, mask, self.buffer("target", span)), mask

    def _look(self, t: Tensor, span: slice) -> tuple[bool, bool]:
        """Say whether all of `t` lies in 0 to 1, and whether all is 0 or 1 (which no logits ask for)."""
        if self.task.from_logits:
            return _lies_within(t, 0, 1), False
        both = torch.addcmul(t, t, t, value=-1, out=self.buffer("a", span))  # t - t^2
        inside = _holds(torch.amin(both) >= 0)
        return inside, inside and _holds(torch.amax(both) <= 0)

    def prediction(self, span: slice, mask: Tensor | None) -> Tensor:
        """Return a block of predictions as they are, 0 where ignored."""
        block = self.read(self.pred, span, "pred")
        return block if mask is None else self.blank(block, mask, self.buffer("blank pred", span))

    def probability(self, span: slice, mask: Tensor | None) -> Tensor:
        """Return a block of probabilities, 0 where ignored."""
        block = self.prediction(span, mask)
        if not self.task.from_logits:
            return block
        p = torch.sigmoid(block, out=self.buffer("p", span))
        return p if mask is None else p.mul_(mask)

    def check(self, p: Tensor) -> None:
        """Refuse probabilities that lie outside 0 to 1, where a look costs no transfer."""
        if self.on_cpu and not self.task.from_logits and not _lies_within(p, 0, 1):
            raise OutOfRangeError


def _log_likelihood(
    planes: _Planes, span: slice, p: Tensor, t: Tensor, mask: Tensor | None, hard: bool
) -> tuple[Tensor, bool]:
    """Return the weighted logarithm of what each element of a block predicts for its target.

    And whether the gradient has its short form there: every target is 0 or 1, and no bound is met.
    """
    a, b = planes.buffer("a", span), planes.buffer("b", span)
    steep = False
    if planes.task.from_logits:  # where ignored all three of z, p and t are 0, and so is this
        z = planes.prediction(span, mask)
        log = torch.maximum(torch.sub(1, p, out=a), p, out=a).log_()
        log.addcmul_(t, z).sub_(torch.clamp_min(z, 0, out=b))
    elif hard:
        log = torch.sub(1, p, out=a).lerp_(p, t).log_()
        if planes.on_cpu:
            low, high = torch.amin(log), torch.amax(log)
            steep = _holds((low > -27) & (high < -1e-12))  # p (1 - p) is above 1e-12
        if not steep and not (planes.on_cpu and _holds((low >= -100) & (high <= 0))):  # which says as much of p
            planes.check(p)
            log.clamp_min_(-100)
    else:  # outside 0 to 1 one of the logarithms is NaN, which `forward` sees
        log_p = torch.log(p, out=b).clamp_min_(-100)
        log = torch.sub(1, p, out=a).log_().clamp_min_(-100).lerp_(log_p, t)
    return log if planes.weights is None else log.mul_(planes.read(planes.weights, span, "weights")), steep


def _overlap_sums(planes: _Planes, span: slice, p: Tensor, t: Tensor, tp: Tensor, fp: Tensor, fn: Tensor) -> None:
    """Write `TP`, `FP` and `FN` of a block, (N, C) each."""
    both = torch.mul(p, t, out=planes.buffer("a", span))
    torch.sum(both, 2, out=tp)
    if planes.task.coefs.tversky:
        torch.sum(torch.sub(p, both, out=planes.buffer("b", span)), 2, out=fp)
        torch.sum(torch.sub(t, both, out=both), 2, out=fn)
    else:  # Dice needs their sum alone, which loses no digits that matter there
        torch.sum(p, 2, out=fp).sub_(tp)
        torch.sum(t, 2, out=fn).sub_(tp)


def _probability_gradient(
    planes: _Planes, span: slice, p: Tensor, t: Tensor, slope: Tensor, level: Tensor, share: Tensor, out: Tensor
) -> None:
    """Write `share w (p - t) / max(p (1 - p), 1e-12) + A t + B` to `out`."""
    variance = torch.sub(1, p, out=planes.buffer("a", span)).mul_(p).clamp_min_(1e-12)
    error = _weighted(planes, span, torch.sub(p, t, out=out)).mul_(share)
    torch.addcdiv(level, error, variance, out=out).addcmul_(t, slope)


def _steep_gradient(
    planes: _Planes, span: slice, p: Tensor, t: Tensor, slope: Tensor, level: Tensor, share: Tensor, out: Tensor
) -> None:
    """Write `share w / ((1 - t) - p) + A t + B` to `out`: the same where each `t` is 0 or 1."""
    if planes.weights is not None:
        share = share * planes.read(planes.weights, span, "weights")
    away = torch.sub(1, t, out=out).sub_(p)
    torch.div(share, away, out=out).add_(level).addcmul_(t, slope)


def _logits_gradient(
    planes: _Planes, span: slice, p: Tensor, t: Tensor, slope: Tensor, level: Tensor, share: Tensor, out: Tensor
) -> None:
    """Write `share w (p - t) + p (1 - p) (A t + B)` to `out`."""
    torch.mul(t, slope, out=out).add_(level)
    torch.ops.aten.sigmoid_backward.grad_input(out, p, grad_input=out)
    out.addcmul_(_weighted(planes, span, torch.sub(p, t, out=planes.buffer("a", span))), share)


def _weighted(planes: _Planes, span: slice, error: Tensor) -> Tensor:
    return error if planes.weights is None else error.mul_(planes.read(planes.weights, span, "weights"))


def _overlap(tp: Tensor, fp: Tensor, fn: Tensor, coefs: Coefficients) -> tuple[Tensor, Tensor]:
    """Return the overlap loss of each plane, (N, C), and its `A` and `B`, (2, N, C), as derived above."""
    twice = 2 * tp
    size = twice + fp + fn + (1 + 1e-7)
    ratio = (twice + 1) / size
    value, slope = coefs.dice - coefs.dice * ratio, -2 * coefs.dice / size
    level = -0.5 * slope * ratio
    if coefs.tversky:
        errors = 0.01 * fp + 0.99 * fn
        size = tp + errors + 1e-6
        off = (errors / size).clamp(min=0)
        steepness = torch.where(off > 0, 0.25 * coefs.tversky * off**-0.75, 0) / size
        value = value + coefs.tversky * off**0.25
        slope, level = slope - steepness, level + 0.01 * steepness * (1 - off)
    return value, torch.stack((slope, level))


def _is_concrete(tensor: Tensor) -> bool:
    """Say whether a tensor is neither fake nor meta nor inside a functional transform."""
    return (
        type(tensor) in (Tensor, torch.nn.Parameter)
        and not tensor.is_meta
        and not torch._C._functorch.is_functorch_wrapped_tensor(tensor)
    )


def _lies_within(values: Tensor, low: float, high: float) -> bool:
    """Say whether all values on the CPU lie in a range, and none is NaN."""
    return _holds((torch.amin(values) >= low) & (torch.amax(values) <= high))


def _holds(condition: Tensor) -> bool:
    """Say whether a condition on the CPU holds."""
    try:
        torch._assert_async(condition)
    except RuntimeError:
        return False
    return True
