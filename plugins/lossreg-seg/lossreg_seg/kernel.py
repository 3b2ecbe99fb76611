"""The binary loss with an analytic gradient: few operations over whole planes, and little memory."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lossreg.losses.base import can_hold, is_within
from lossreg_seg.blocks import Blocks, bits, may_apply
from lossreg_seg.formulas import Binary, Parts, binary_formula
from lossreg_seg.overlap import Divisors, Overlap, Slopes, parts_of

_SUM = 2  # torch's number of the reduction
_ONE = {torch.float32: 0x3F800000, torch.float64: 0x3FF0000000000000}  # the bits of 1
_sigmoid_backward = torch.ops.aten.sigmoid_backward.grad_input
_bce = torch.ops.aten.binary_cross_entropy.default
_bce_backward = torch.ops.aten.binary_cross_entropy_backward.grad_input
_NOTHING = -1e30  # a logit of which neither the probability nor the cross-entropy with the target 0 is above 0


class BinaryLoss(torch.autograd.Function):
    """`binary_formula`, but several times faster; saves only its inputs, a mask, and some numbers per plane.

    The gradient of a pixel's cross-entropy `-w (t log p + (1 - t) log(1 - p))` is
    `w (p - t) / max(p (1 - p), 1e-12)`, bounded as in `F.binary_cross_entropy`. For logits, with `p = sigmoid(z)`, it
    is `w (p - t)`, and the cross-entropy is `log(exp(-t z) + exp((1 - t) z))`. That is
    `z ((z > 0) - t) + log(1 + exp(-|z|))`, of which neither term is negative, so that no precision is lost. `Overlap`
    has the rest.

    At ignored pixels `p = t = 0`, which adds nothing to any sum.

    `Blocks` says in which parts the planes are read. Second derivatives use `binary_formula`.
    """

    @staticmethod
    def applies(pred: Tensor, target: Tensor, weights: Tensor | None) -> bool:
        """Return whether the tensors are concrete, in eager mode, and only `pred` needs a gradient.

        Otherwise (compiled, fake, meta, inside a functional transform) use `binary_formula`.
        """
        return may_apply(pred, target, weights)

    @staticmethod
    def forward(ctx: Any, pred: Tensor, target: Tensor, weights: Tensor | None, task: Binary) -> Parts:
        """Return the two means of planes (N, C, H, W) with their counts.

        They are not finite if a probability is outside 0 to 1, and on the CPU also if a target is.
        """
        planes = _Planes(pred, target, weights, task)
        total, sums = planes.sums()
        by = Divisors.of(pred.shape, sums[3:] if planes.masked else None)
        overlap = Overlap.of(sums[0], sums[1], sums[2], task.coefs, by) if task.coefs.has_overlap() else None
        ctx.task, ctx.by, ctx.overlap = task, by, overlap
        ctx.split, ctx.masked = (planes.groups, planes.parts), planes.masked
        ctx.save_for_backward(pred, target, weights, None if planes.on_cpu else planes.kept)
        return parts_of(ctx, total, task.coefs.bce, overlap, by, planes.dtype)

    @staticmethod
    def backward(ctx: Any, of_entropy: Tensor | None, of_overlap: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
        """Return the gradient of `pred`, in its dtype."""
        pred, target, weights, kept = ctx.saved_tensors
        of_entropy, of_overlap = (pred.new_zeros(()) if of is None else of for of in (of_entropy, of_overlap))
        if torch.is_grad_enabled():  # a second derivative is needed
            parts = binary_formula(pred, target, weights, ctx.task)
            value = parts.entropy * of_entropy + parts.overlap * of_overlap
            return *torch.autograd.grad(value, pred, create_graph=True), None, None, None
        planes = _Planes(pred, target, weights, ctx.task, ctx.masked, ctx.split, kept)
        share, of_planes = ctx.by.shared(of_entropy, of_overlap)
        slopes = None if ctx.overlap is None else ctx.overlap.slopes(of_planes)
        grad = planes.gradient(slopes, share, ctx.by.factor(ctx.task.coefs.bce))
        return torch.unflatten(grad, 2, pred.shape[2:]), None, None, None


class _Planes(Blocks):
    """The planes of a batch, block by block.

    Attributes:
        masked: whether there are, or elsewhere than on the CPU may be, ignored pixels.
        kept: for the block that was read last, which pixels are not ignored; None if all.
    """

    def __init__(
        self,
        pred: Tensor,
        target: Tensor,
        weights: Tensor | None,
        task: Binary,
        masked: bool | None = None,
        split: tuple[int, int] | None = None,
        kept: Tensor | None = None,
    ) -> None:
        super().__init__(pred, split)
        self.task, self.kept = task, kept
        self._preds, self._targets = self.blocks(self.planes), self.blocks(target.flatten(2))
        self._weights = None if weights is None else self.blocks(weights.flatten(2))
        if masked is None:
            ignored = task.ignore_index
            fits = self.on_cpu and is_within(target, 0, 1)
            masked = ignored is not None and can_hold(target.dtype, ignored) and (not fits or ignored in (0, 1))
            self._targets_fit = fits and not masked
        self.masked = masked

    def blank(self, values: Tensor, out: Tensor | None, nothing: float = 0.0) -> Tensor:
        """Return a block with `nothing` at ignored pixels, written to `out` if it is given and they are."""
        if self.kept is None:
            return values
        if nothing:
            filling = values.new_full((), nothing)
            if self.on_cpu:  # faster than `where`; a value that is not finite makes the loss so, which is noticed
                return torch.lerp(filling, values, self.kept, out=out)
            return torch.where(self.kept, values, filling, out=out)
        if self.on_cpu:
            return torch.mul(values, self.kept, out=out)
        return torch.mul(bits(values), self.kept, out=None if out is None else bits(out)).view(values.dtype)

    def raw_target(self, i: int) -> Tensor:
        """Return a block of targets as they are given, as floats where it matters."""
        if self.on_cpu or self.task.smoothing or not self.task.from_logits:
            return self.read(self._targets, i, "raw target")
        raw = self._targets[i]  # the kernels of a device convert what they read
        return raw.view(torch.uint8) if raw.dtype == torch.bool else raw

    def target(self, i: int) -> Tensor:
        """Return a block of targets, smoothed, with 0 at ignored pixels, and set `kept`."""
        t = raw = self.raw_target(i)
        if self.masked and (self.on_cpu or self.kept is None):  # elsewhere the backward has it
            assert self.task.ignore_index is not None
            self.kept = torch.ne(raw, self.task.ignore_index, out=self.buffer("kept", raw) if self.on_cpu else None)
        if self.task.smoothing:
            t = torch.mul(raw, 1 - self.task.smoothing, out=self.buffer("target", raw)).add_(self.task.smoothing / 2)
        # no value to ignore is infinite
        return t if self.kept is None else torch.mul(t, self.kept, out=self.buffer("target", t))

    def prediction(self, i: int) -> tuple[Tensor, Tensor]:
        """Return a block of predictions, with nothing at ignored pixels, and of probabilities."""
        nothing = _NOTHING if self.task.from_logits else 0.0
        z = self.read(self._preds, i, "pred")
        z = self.blank(z, self.buffer("blank pred", z), nothing)
        return z, self.probability(z, "p")

    def probability(self, z: Tensor, name: str) -> Tensor:
        """Return the probabilities of a block of predictions, those of logits in the buffer `name`."""
        return torch.sigmoid(z, out=self.buffer(name, z)) if self.task.from_logits else z

    # --- sums -------------------------------------------------------------------------------------

    def sums(self) -> tuple[Tensor, Tensor]:
        """Return the sum of the cross-entropies, and the sums of planes, (5, N, C).

        The latter are `TP`, two others (see `Overlap.of`), and the pixels that count; what is not needed is undefined.
        If a value is outside 0 to 1, the first is NaN, or `TP` if there is no cross-entropy.
        """
        return self.sum_blocks(5, self._sum_block)

    def _sum_block(self, i: int, sums: Tensor) -> Tensor:
        """Write the sums over the planes of a block, (5, n, C), and return the sum of its cross-entropies."""
        tp, of_p, of_t, count, _ = sums
        coefs, t = self.task.coefs, self.target(i)
        z, p = self.prediction(i)
        total = self._cross_entropy(i, z, p, t) if coefs.bce else z.new_zeros(())
        if self.kept is not None:
            torch.sum(self.kept, 2, out=count)
        if coefs.has_overlap():
            both = torch.mul(p, t, out=self.buffer("b", p))
            torch.sum(both, 2, out=tp)
            if coefs.tversky:  # differences of sums would lose precision near a perfect prediction
                torch.sum(torch.sub(p, both, out=self.buffer("a", p)), 2, out=of_p)
                torch.sum(torch.sub(t, both, out=both), 2, out=of_t)
            else:
                torch.sum(p, 2, out=of_p)
                torch.sum(t, 2, dtype=of_t.dtype, out=of_t)
        self._look(p, t, total if coefs.bce else tp)
        return total

    def _look(self, p: Tensor, t: Tensor, result: Tensor) -> None:
        """Make a result NaN if a block holds other numbers than probabilities, or on the CPU other than targets."""
        if not self.on_cpu:
            if not self.task.from_logits:
                low, high = torch.aminmax(p)
                result.addcmul_(low.sqrt_(), high.acos_(), value=0)
            return
        told = self.task.from_logits or self.task.coefs.bce  # by the cross-entropy
        if not ((self._targets_fit or is_within(t, 0, 1)) and (told or is_within(p, 0, 1))):
            result.fill_(torch.nan)

    def _cross_entropy(self, i: int, z: Tensor, p: Tensor, t: Tensor) -> Tensor:
        """Return the sum of a block's cross-entropies times their weights."""
        if not self.on_cpu and not self.task.from_logits:
            # the kernel stops the process at a number outside 0 to 1; the bits of those inside are in one range
            inside = bits(p).clamp(0, _ONE[p.dtype]).view(p.dtype)
            weights = None if self._weights is None else self.blank(self.read(self._weights, i, "weights"), None)
            total: Tensor = _bce(inside, t, weights, _SUM)
            return total
        if not self.task.from_logits:
            at_1 = torch.log(p, out=self.buffer("b", p)).clamp_min_(-100)
            logs = torch.neg(p, out=self.buffer("a", p)).log1p_().clamp_min_(-100).lerp_(at_1, t)
            return self._weighted(i, logs).sum().neg_()
        zero = z.new_zeros(())
        off = torch.addcmul(zero, t, z, value=-1, out=self.buffer("b", z))
        # to where `z` may be, which is not read again; `lerp` keeps the digits of `1 - t`
        other = torch.lerp(z, zero, t.to(z.dtype), out=self.buffer("pred", z))
        return self._weighted(i, torch.logaddexp(off, other, out=off)).sum()

    def _weighted(self, i: int, values: Tensor) -> Tensor:
        """Multiply a block by its weights in place, if there are any."""
        if self._weights is None:
            return values
        weights = self.read(self._weights, i, "weights")
        return values.mul_(self.blank(weights, self.buffer("blank weights", weights)))

    # --- gradient ---------------------------------------------------------------------------------

    def gradient(self, slopes: Slopes | None, share: Tensor, factor: float) -> Tensor:
        """Return the gradient of the predictions.

        Args:
            slopes: of the overlap by the probabilities; None if there is none.
            share, factor: whose product is the derivative of what follows by the sum of the cross-entropies.
        """
        share, whole = share.to(self.dtype), torch.empty_like(self.planes)
        of_blocks = None if slopes is None else [self.of_blocks(numbers) for numbers in slopes[:2]]
        for i, out in enumerate(self.blocks(whole)):
            t = self.target(i) if self.on_cpu or self.task.smoothing else self.raw_target(i)
            p = self.probability(self.read(self._preds, i, "pred"), "pred")
            grad = out if out.dtype == self.dtype else self.buffer("grad", out)
            if of_blocks is None or slopes is None:
                grad.zero_()
            else:
                torch.addcmul(of_blocks[1][i], t, of_blocks[0][i], value=slopes.factor, out=grad)
            if self.task.from_logits:
                _sigmoid_backward(grad, p, grad_input=grad)
            last = out if self.task.coefs.bce and not self.on_cpu else grad  # the CPU would convert more slowly
            if self.task.coefs.bce:
                self._add_cross_entropy(i, p, t, share, factor, grad, last)
            self.blank(last, last)
            if last is not out:
                out.copy_(last)
        return whole

    def _add_cross_entropy(
        self, i: int, p: Tensor, t: Tensor, share: Tensor, factor: float, grad: Tensor, out: Tensor
    ) -> None:
        """Add the gradient of the cross-entropy by the predictions, and write the sum to `out`."""
        if self.task.from_logits:
            off = self._weighted(i, torch.sub(p, t, out=self.buffer("raw target", p)))
            torch.addcmul(grad, off, share, value=factor, out=out)
            return
        weights = None if self._weights is None else self.read(self._weights, i, "weights")
        steep = self.buffer("a", p)
        _bce_backward(share, p, t, weights, _SUM, grad_input=steep)
        torch.add(grad, steep, alpha=factor, out=out)
