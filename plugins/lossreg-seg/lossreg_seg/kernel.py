"""The binary loss with an analytic gradient: one pass in the forward and one in the backward."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from lossreg.losses.base import can_hold, holds
from lossreg_seg.formulas import Binary, Coefficients, binary_formula

_BLOCK = 1 << 17  # elements per CPU thread: smaller blocks start more operations, larger ones do not fit the caches
_BLOCK_HALF = 1 << 16  # elements on the CPU in half precision, where the float32 buffers need most of the memory
_BLOCK_ELSEWHERE = 1 << 24  # elements on a device, where starting an operation is slow

Gradient = Callable[["_Planes", int, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], None]


class OutOfRangeError(Exception):
    """A value is outside 0 to 1, or the loss is not finite; the caller falls back to `binary_formula`."""


class BinaryLoss(torch.autograd.Function):
    """`binary_formula`, but several times faster; saves only its inputs and two numbers per plane.

    Value. With `count` valid elements and `E = 0.01 FP + 0.99 FN`::

        bce_coef / count * sum -w (t log p + (1 - t) log(1 - p))
            + mean over (n, c) of  dice_coef * (1 - R) + tversky_coef * x ** 0.25

        D = 2 TP + FP + FN + 1 + 1e-7,    R = (2 TP + 1) / D
        S = TP + E + 1e-6,                x = E / S

    If every `t` is 0 or 1, one logarithm is enough: `-log r` with `r = p` for `t = 1`, else `1 - p`.

    Gradient. The derivatives of `TP`, `FP` and `FN` by `p` are `t`, `1 - t` and `-t`. So the derivative of a plane's
    overlap loss `l` is `A t + B` with `A = l_TP - l_FP - l_FN` and `B = l_FP`::

        dice:     l_TP = (2 R - 2) / D,  l_FP = l_FN = R / D                          A = -2 / D
                                                                                      B = R / D
        tversky:  y = x ** 0.25,  y' = 0.25 x ** -0.75  (0 where x = 0)
                  l_TP = -y' x / S,  l_FP = 0.01 y' (1 - x) / S,  l_FN = 99 l_FP      A = -y' / S
                                                                                      B = 0.01 y' (1 - x) / S

    The derivative of the cross-entropy is `w (p - t) / max(p (1 - p), 1e-12)`, bounded as in `F.binary_cross_entropy`.
    If every `t` is 0 or 1 and the bound is not reached, it is `w / ((1 - t) - p)`; this order keeps full precision.
    For logits, with `p = sigmoid(z)`, the cross-entropy is `z ((z > 0) - t) + log1p(exp(-|z|))`, and the whole gradient
    is `w (p - t) + p (1 - p) (A t + B)`.

    Ignored pixels are set to `p = t = 0`, which adds nothing to any sum.

    The planes are read in blocks that fit the cache, and each block is converted to float32 if necessary. On the CPU,
    where reads need no transfer, the range of each block is checked, and steps that it does not need (a mask, a second
    logarithm) are skipped. Second derivatives use `binary_formula`.
    """

    @staticmethod
    def applies(pred: Tensor, target: Tensor, weights: Tensor | None) -> bool:
        """Return whether the tensors are concrete, in eager mode, and only `pred` needs a gradient.

        Otherwise (compiled, fake, meta, inside a functional transform) use `binary_formula`.
        """
        constants = [target] if weights is None else [target, weights]
        return (
            not torch.compiler.is_compiling()
            and all(map(_is_concrete, [pred, *constants]))
            and not any(constant.requires_grad for constant in constants)
        )

    @staticmethod
    def forward(ctx: Any, pred: Tensor, target: Tensor, weights: Tensor | None, task: Binary) -> Tensor:
        """Return the scalar loss of planes (N, C, H, W).

        Raises:
            OutOfRangeError: a probability or target is outside 0 to 1; checked on the CPU only.
        """
        planes = _Planes(pred, target, weights, task)
        sums = pred.new_zeros((5, planes.parts, *pred.shape[:2]), dtype=planes.dtype)
        rows = [part.unbind() for some in sums.chunk(planes.groups, 2) for part in some.unbind(1)]
        gradients = [_sum_block(planes, i, *row) for i, row in enumerate(rows)]
        tp, of_p, of_t, log, count = sums.sum(1, dtype=planes.exact)
        overlap, gradient = _overlap(tp, of_p, of_t, task.coefs)
        total: Tensor | int = pred.numel()
        if planes.masked:
            total, present = count.sum().clamp(min=1), count > 0
            overlap, gradient = overlap * present, gradient * present
        value = overlap.mean() - log.sum() * (task.coefs.bce / total)
        if planes.on_cpu and not holds(value.isfinite()):
            raise OutOfRangeError
        ctx.task, ctx.masked, ctx.total = task, planes.masked, total
        ctx.split, ctx.gradients = (planes.groups, planes.parts), gradients  # the number of threads may change
        gradient = (gradient * (total / overlap.numel())).to(planes.dtype)
        ctx.save_for_backward(pred, target, weights, gradient)
        result: Tensor = value.to(planes.dtype)
        return result

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradient of `pred`, in its dtype."""
        pred, target, weights, gradient = ctx.saved_tensors
        if torch.is_grad_enabled():  # a second derivative is needed
            value = binary_formula(pred, target, weights, ctx.task)
            return *torch.autograd.grad(value, pred, grad_output, create_graph=True), None, None, None
        planes = _Planes(pred, target, weights, ctx.task, ctx.masked, ctx.split)
        scale = (grad_output / ctx.total).to(planes.dtype)
        lines, share = planes.of_blocks((gradient * scale)[..., None]), ctx.task.coefs.bce * scale
        grad = torch.empty_like(planes.pred)
        for i, (block, write) in enumerate(zip(planes.blocks(grad), ctx.gradients, strict=True)):
            t, mask = planes.target(i)
            p = planes.probability(planes.prediction(i, mask), mask)
            slope, level = lines[i]
            out = block if block.dtype == planes.dtype else planes.buffer("grad", block)
            if write:
                write(planes, i, p, t, slope, level, share, out)
            else:
                _overlap_gradient(planes, p, t, slope, level, out)
            if mask is not None:
                planes.blank(out, mask, out)
            if out is not block:
                block.copy_(out)
        return torch.unflatten(grad, 2, pred.shape[2:]), None, None, None


class _Planes:
    """The planes (N, C, pixels) of a batch, read block by block as float32, or float64 if `pred` is.

    A block contains whole samples, or a part of the pixels of one sample.
    """

    def __init__(
        self,
        pred: Tensor,
        target: Tensor,
        weights: Tensor | None,
        task: Binary,
        masked: bool | None = None,
        split: tuple[int, int] | None = None,
    ) -> None:
        self.task, self.pred = task, pred.flatten(2)
        self.on_cpu = pred.device.type == "cpu"
        self.dtype = torch.float64 if pred.dtype == torch.float64 else torch.float32
        self.exact = self.dtype if pred.device.type == "mps" else torch.float64  # for sums over blocks
        self.groups, self.parts = split or self._split_sizes()
        self._preds, self._targets = self.blocks(self.pred), self.blocks(target.flatten(2))
        self._weights = None if weights is None else self.blocks(weights.flatten(2))
        self._buffers: dict[str, Tensor] = {}
        self._is_float = target.is_floating_point()
        ignored = task.ignore_index
        self._ignored = ignored if ignored is not None and can_hold(target.dtype, ignored) else None
        a_look_tells = self.on_cpu and ignored not in (0, 1)
        self.masked = self._ignored is not None and not a_look_tells if masked is None else masked
        self._maybe_hard = not (task.from_logits or task.smoothing)  # until a block has other values

    def _split_sizes(self) -> tuple[int, int]:
        """Return the number of groups of samples, and of parts of their pixels."""
        n, c, pixels = self.pred.shape
        elements = _BLOCK * torch.get_num_threads() if self.pred.dtype == self.dtype else _BLOCK_HALF
        elements = elements if self.on_cpu else _BLOCK_ELSEWHERE
        groups = -(-n // max(1, elements // (c * pixels)))
        length = -(-pixels // -(-c * pixels // elements))
        return groups, -(-pixels // length)  # `Tensor.chunk` may return fewer parts than it is asked for

    def blocks(self, planes: Tensor) -> Sequence[Tensor]:
        """Return planes (N, C, pixels) as blocks, without a copy."""
        some = planes.chunk(self.groups)
        return some if self.parts == 1 else [part for planes in some for part in planes.chunk(self.parts, 2)]

    def of_blocks(self, numbers: Tensor) -> list[tuple[Tensor, ...]]:
        """Return for each block its rows of per-plane numbers (rows, N, C, 1)."""
        return [some.unbind() for some in numbers.chunk(self.groups, 1) for _ in range(self.parts)]

    def buffer(self, name: str, like: Tensor) -> Tensor:
        """Return an uninitialised block that reuses the same memory; the first block is the largest."""
        whole = self._buffers.get(name)
        if whole is None:
            whole = self._buffers[name] = torch.empty_like(like, dtype=self.dtype)
        return whole if whole.shape == like.shape else whole[: like.shape[0], :, : like.shape[2]]

    def read(self, block: Tensor, name: str) -> Tensor:
        """Return a block in the dtype of the sums, converted into the buffer `name` if necessary."""
        if block.dtype == self.dtype:
            return block
        return self.buffer(name, block).copy_(block.view(torch.uint8) if block.dtype == torch.bool else block)

    def blank(self, values: Tensor, mask: Tensor, out: Tensor) -> Tensor:
        """Write `values` to `out`, with 0 at ignored pixels."""
        if self.on_cpu:  # four times faster than `where`; `forward` notices infinity times 0
            return torch.mul(values, mask, out=out)
        return out.copy_(torch.where(mask.bool(), values, 0))

    def target(self, i: int) -> tuple[Tensor, Tensor | None]:
        """Return a block of targets and its mask, if there is one."""
        t, mask = self._masked(self.read(self._targets[i], "raw target"))
        return self._smoothed(t, mask), mask

    def look_at_target(self, i: int) -> tuple[Tensor, Tensor | None, bool]:
        """Return the same as `target`, and whether all targets are known to be 0 or 1.

        Raises:
            OutOfRangeError: a target is outside 0 to 1; checked on the CPU only.
        """
        raw = self.read(self._targets[i], "raw target")
        t, mask = self._masked(raw)
        hard = self._maybe_hard and not self._is_float
        if self.on_cpu:
            inside, hard = self._look(t)
            if not (inside or self.masked or self._ignored is None):
                self.masked = True
                t, mask = self._masked(raw)
                inside, hard = self._look(t)
            if not inside:
                raise OutOfRangeError
        return self._smoothed(t, mask), mask, hard

    def _smoothed(self, t: Tensor, mask: Tensor | None) -> Tensor:
        if not self.task.smoothing:
            return t
        t = torch.mul(t, 1 - self.task.smoothing, out=self.buffer("target", t)).add_(self.task.smoothing / 2)
        return t if mask is None else t.mul_(mask)

    def _masked(self, raw: Tensor) -> tuple[Tensor, Tensor | None]:
        if not self.masked or self._ignored is None:
            return raw, None
        mask = torch.ne(raw, self._ignored, out=self.buffer("mask", raw))
        return self.blank(raw, mask, self.buffer("target", raw)), mask

    def _look(self, t: Tensor) -> tuple[bool, bool]:
        """Return whether all of `t` is in 0 to 1, and whether all is 0 or 1 (if that still matters)."""
        if not self._maybe_hard:
            return _lies_within(t, 0, 1), False
        both = torch.addcmul(t, t, t, value=-1, out=self.buffer("a", t))  # t - t^2
        if holds((torch.linalg.vector_norm(both, dim=2) == 0).all()):
            return True, True
        inside = holds(torch.amin(both) >= 0)
        self._maybe_hard = not inside  # values outside may be ignored pixels
        return inside, False

    def prediction(self, i: int, mask: Tensor | None) -> Tensor:
        """Return a block of predictions, with 0 at ignored pixels."""
        block = self.read(self._preds[i], "pred")
        return block if mask is None else self.blank(block, mask, self.buffer("blank pred", block))

    def probability(self, block: Tensor, mask: Tensor | None) -> Tensor:
        """Return the probabilities of a block of predictions, with 0 at ignored pixels."""
        if not self.task.from_logits:
            return block
        p = torch.sigmoid(block, out=self.buffer("p", block))
        return p if mask is None else p.mul_(mask)

    def weighted(self, i: int, values: Tensor) -> Tensor:
        """Multiply a block by its weights in place, if there are any."""
        return values if self._weights is None else values.mul_(self.read(self._weights[i], "weights"))

    def look_at_probability(self, p: Tensor) -> bool:
        """Return whether all of `p` is known to be away from 0 and 1, so that `p (1 - p) > 1e-12`.

        Raises:
            OutOfRangeError: a probability is outside 0 to 1; checked on the CPU only.
        """
        if not self.on_cpu or self.task.from_logits:
            return False
        low, high = torch.amin(p), torch.amax(p)
        if holds((low > 1e-11) & (high < 1 - 1e-11)):  # in float32: below 1
            return True
        if not holds((low >= 0) & (high <= 1)):
            raise OutOfRangeError
        return False


# --- sums over a block --------------------------------------------------------------------------------


def _sum_block(
    planes: _Planes, i: int, tp: Tensor, of_p: Tensor, of_t: Tensor, log: Tensor, count: Tensor
) -> Gradient | None:
    """Write the sums over the planes of a block, (n, C) each, and return the gradient function of its logarithms.

    The sums are 0 before. Sums that no term needs stay 0.

    `of_p` and `of_t` become the sums of `p` and `t`, or with Tversky `FP` and `FN`. These are differences of sums if
    that loses no precision (`0.01 FP + 0.99 FN` is not small compared with `0.01 sum p + 0.99 sum t`). Otherwise they
    are summed directly, which needs two more passes.
    """
    coefs = planes.task.coefs
    gradient: Gradient | None = None
    t, mask, hard = planes.look_at_target(i)
    z = planes.prediction(i, mask)
    p = planes.probability(z, mask)
    inner = planes.look_at_probability(p)
    if coefs.bce and planes.task.from_logits:
        logs, gradient = _logs_of_logits(planes, z, t, mask), _logits_gradient
    elif coefs.bce:
        logs = _logs_of_hard(planes, p, t) if hard and inner else _logs_of_soft(planes, p, t, inner)
        gradient = (_steep_gradient if hard else _inner_gradient) if inner else _bounded_gradient
    if coefs.bce:
        torch.sum(planes.weighted(i, logs), 2, out=log)
    if coefs.dice or coefs.tversky:
        both = torch.mul(p, t, out=planes.buffer("a", p))
        torch.sum(both, 2, out=tp)
        torch.sum(p, 2, out=of_p)
        torch.sum(t, 2, out=of_t)
    if coefs.tversky:
        if planes.on_cpu and holds((torch.lerp(of_t, of_p, 0.01) * 0.95 > tp).all()):  # no loss of precision
            of_p.sub_(tp)
            of_t.sub_(tp)
        else:
            torch.sum(torch.sub(p, both, out=planes.buffer("b", p)), 2, out=of_p)
            torch.sum(torch.sub(t, both, out=both), 2, out=of_t)
    count.fill_(t.shape[2]) if mask is None else torch.sum(mask, 2, out=count)
    return gradient


def _logs_of_logits(planes: _Planes, z: Tensor, t: Tensor, mask: Tensor | None) -> Tensor:
    """Return `-log1p(exp(-|z|)) - z ((z > 0) - t)`; both terms have the same sign, so no precision is lost."""
    off = torch.gt(z, 0, out=planes.buffer("a", z)).sub_(t)
    size = torch.abs(z, out=planes.buffer("b", z))
    logs: Tensor = torch.ops.aten.softplus.out(size, -1, out=size).addcmul_(off, z, value=-1)
    return logs if mask is None else logs.mul_(mask)


def _logs_of_hard(planes: _Planes, p: Tensor, t: Tensor) -> Tensor:
    """Return `log |r|` with `r = (1 - t) - p`, corrected for the rounding of `r`; each `t` is 0 or 1."""
    lost = torch.sub(1, t, out=planes.buffer("a", p))
    r = torch.sub(lost, p, out=planes.buffer("b", p))
    lost.sub_(r).sub_(p)  # not 0 only where r is near 1, and log(r + lost) is log r + lost
    return r.abs_().log_().add_(lost)


def _logs_of_soft(planes: _Planes, p: Tensor, t: Tensor, inner: bool) -> Tensor:
    at_1, at_0 = torch.log(p, out=planes.buffer("b", p)), torch.neg(p, out=planes.buffer("a", p)).log1p_()
    if not inner:
        at_1.clamp_min_(-100)
        at_0.clamp_min_(-100)
    return at_0.lerp_(at_1, t)


def _overlap(tp: Tensor, of_p: Tensor, of_t: Tensor, coefs: Coefficients) -> tuple[Tensor, Tensor]:
    """Return the overlap loss of each plane, (N, C), and its `A` and `B`, (2, N, C); see `BinaryLoss`."""
    size = (of_p + of_t).add_(1 + 1e-7)
    size = size.add_(tp, alpha=2) if coefs.tversky else size
    ratio = torch.mul(tp, 2).add_(1).div_(size)
    value, slope = coefs.dice - coefs.dice * ratio, -2 * coefs.dice / size
    level = torch.mul(slope, ratio).mul_(-0.5)
    if coefs.tversky:
        errors = 0.01 * of_p + 0.99 * of_t
        size = tp + errors + 1e-6
        off = (errors / size).clamp(min=0)
        steepness = torch.where(off > 0, 0.25 * coefs.tversky * off**-0.75, 0) / size
        value = value + coefs.tversky * off**0.25
        slope, level = slope - steepness, level + 0.01 * steepness * (1 - off)
    return value, torch.stack((slope, level))


# --- gradients of a block, written to `out` -----------------------------------------------------------


def _steep_gradient(
    planes: _Planes, i: int, p: Tensor, t: Tensor, slope: Tensor, level: Tensor, share: Tensor, out: Tensor
) -> None:
    """Write `share w / ((1 - t) - p) + A t + B`, for `t` of 0 or 1 away from the bound."""
    away = torch.sub(1, t, out=out).sub_(p)
    planes.weighted(i, torch.div(share, away, out=out)).add_(level).addcmul_(t, slope)


def _inner_gradient(
    planes: _Planes, i: int, p: Tensor, t: Tensor, slope: Tensor, level: Tensor, share: Tensor, out: Tensor
) -> None:
    """Write `share w (p - t) / (p (1 - p)) + A t + B`, away from the bound."""
    error = planes.weighted(i, torch.sub(p, t, out=out))
    torch.ops.aten.logit_backward.grad_input(error, p, grad_input=out)
    out.mul_(share).add_(level).addcmul_(t, slope)


def _bounded_gradient(
    planes: _Planes, i: int, p: Tensor, t: Tensor, slope: Tensor, level: Tensor, share: Tensor, out: Tensor
) -> None:
    """Write `share w (p - t) / max(p (1 - p), 1e-12) + A t + B`."""
    variance = torch.sub(1, p, out=planes.buffer("a", p)).mul_(p).clamp_min_(1e-12)
    error = planes.weighted(i, torch.sub(p, t, out=out)).mul_(share)
    error.div_(variance).add_(level).addcmul_(t, slope)


def _logits_gradient(
    planes: _Planes, i: int, p: Tensor, t: Tensor, slope: Tensor, level: Tensor, share: Tensor, out: Tensor
) -> None:
    """Write `share w (p - t) + p (1 - p) (A t + B)`."""
    _overlap_gradient(planes, p, t, slope, level, out)
    out.addcmul_(planes.weighted(i, torch.sub(p, t, out=planes.buffer("a", p))), share)


def _overlap_gradient(planes: _Planes, p: Tensor, t: Tensor, slope: Tensor, level: Tensor, out: Tensor) -> None:
    """Write `A t + B`; for logits times `p (1 - p)`."""
    torch.mul(t, slope, out=out).add_(level)
    if planes.task.from_logits:
        torch.ops.aten.sigmoid_backward.grad_input(out, p, grad_input=out)


def _is_concrete(tensor: Tensor) -> bool:
    """Return whether a tensor is not fake, meta or inside a functional transform."""
    return (
        type(tensor) in (Tensor, torch.nn.Parameter)
        and not tensor.is_meta
        and not torch._C._functorch.is_functorch_wrapped_tensor(tensor)
    )


def _lies_within(values: Tensor, low: float, high: float) -> bool:
    """Return whether all values on the CPU are in a range, and none is NaN."""
    return holds((torch.amin(values) >= low) & (torch.amax(values) <= high))
