"""The binary loss with an analytic gradient: few operations over whole planes, and little memory."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lossreg.losses.base import can_hold, is_within
from lossreg_seg.blocks import Blocks, may_apply
from lossreg_seg.formulas import Binary, Parts, binary_formula
from lossreg_seg.overlap import Divisors, Overlap, Slopes, parts_of

_SUM = 2  # torch's number of the reduction
_sigmoid_backward = torch.ops.aten.sigmoid_backward.grad_input
_bce_backward = torch.ops.aten.binary_cross_entropy_backward.grad_input
_NOTHING = -1e30  # a logit of which neither the probability nor the cross-entropy with the target 0 is above 0


class BinaryLoss(torch.autograd.Function):
    """`binary_formula`, but several times faster; saves only its inputs, a mask, and some numbers per plane.

    The gradient of a pixel's cross-entropy `-w (t log p + (1 - t) log(1 - p))` is
    `w (p - t) / max(p (1 - p), 1e-12)`, bounded as in `F.binary_cross_entropy`. For logits, with `p = sigmoid(z)`, the
    cross-entropy is `z ((z > 0) - t) + log1p(exp(-|z|))`, of which neither term is negative, so that no precision is
    lost, and its gradient is `w (p - t)`. `Overlap` has the rest.

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

        They are not finite where a probability or target is outside 0 to 1; elsewhere than on the CPU a probability
        or target outside is an error of the device, as in `F.binary_cross_entropy`.
        """
        planes = _Planes(pred, target, weights, task)
        total, sums = planes.sums()
        by = Divisors.of(pred.shape, sums[3:] if planes.masked else None)
        overlap = Overlap.of(sums[0], sums[1], sums[2], task.coefs, by) if task.coefs.has_overlap() else None
        ctx.task, ctx.by, ctx.overlap = task, by, overlap
        ctx.split, ctx.masked, ctx.fillings = (planes.groups, planes.parts), planes.masked, planes.fillings
        ctx.save_for_backward(pred, target, weights, None if planes.on_cpu else planes.kept)
        return parts_of(ctx, total, planes.sign * task.coefs.bce, overlap, by, planes.dtype)

    @staticmethod
    def backward(ctx: Any, of_entropy: Tensor | None, of_overlap: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
        """Return the gradient of `pred`, in its dtype."""
        pred, target, weights, kept = ctx.saved_tensors
        of_entropy, of_overlap = (pred.new_zeros(()) if of is None else of for of in (of_entropy, of_overlap))
        if torch.is_grad_enabled():  # a second derivative is needed
            parts = binary_formula(pred, target, weights, ctx.task)
            value = parts.entropy * of_entropy + parts.overlap * of_overlap
            return *torch.autograd.grad(value, pred, create_graph=True), None, None, None
        planes = _Planes(pred, target, weights, ctx.task, ctx.masked, ctx.split, kept, ctx.fillings)
        slopes = None if ctx.overlap is None else ctx.overlap.slopes(of_overlap)
        grad = planes.gradient(slopes, *ctx.by.of_pixels(of_entropy, ctx.task.coefs.bce))
        return torch.unflatten(grad, 2, pred.shape[2:]), None, None, None


class _Planes(Blocks):
    """The planes of a batch, block by block.

    Attributes:
        masked: whether there are, or elsewhere than on the CPU may be, ignored pixels.
        sign: what the cross-entropies are multiplied by where they are summed; to negate them would be one more launch.
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
        fillings: dict[float, Tensor] | None = None,
    ) -> None:
        super().__init__(pred, split)
        self.task, self.kept = task, kept
        self.sign = -1 if self.on_cpu or task.from_logits else 1
        self._preds, self._targets = self.blocks(self.planes), self.blocks(target.flatten(2))
        self._weights = None if weights is None else self.blocks(weights.flatten(2))
        self.fillings: dict[float, Tensor] = {} if fillings is None else fillings
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
        filling = self.fillings.get(nothing)
        if filling is None:
            filling = self.fillings[nothing] = values.new_full((), nothing)
        if not self.on_cpu:
            return torch.where(self.kept, values, filling, out=out)
        # several times faster than `where`; a value that is not finite makes the loss so, which is noticed
        return torch.lerp(filling, values, self.kept, out=out)

    def target(self, i: int) -> Tensor:
        """Return a block of targets, smoothed, with 0 at ignored pixels, and set `kept`."""
        t = raw = self.read(self._targets, i, "raw target")
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
        return z, self.probability(z)

    def probability(self, z: Tensor) -> Tensor:
        """Return the probabilities of a block of predictions."""
        return torch.sigmoid(z, out=self.buffer("p", z)) if self.task.from_logits else z

    # --- sums -------------------------------------------------------------------------------------

    def sums(self) -> tuple[Tensor, Tensor]:
        """Return the sum of the cross-entropies times `sign`, and the sums of planes, (5, N, C).

        The latter are `TP`, two others (see `Overlap.of`), and the pixels that count; what is not needed is undefined.
        On the CPU the first is NaN where a value is outside 0 to 1.
        """
        return self.sum_blocks(5, self._sum_block)

    def _sum_block(self, i: int, sums: Tensor) -> Tensor:
        """Write the sums over the planes of a block, (5, n, C), and return the sum of its cross-entropies."""
        tp, of_p, of_t, count, _ = sums
        coefs, t = self.task.coefs, self.target(i)
        z, p = self.prediction(i)
        total = self._cross_entropy(i, z, p, t) if coefs.bce else z.new_zeros(())
        if self.on_cpu and not self._is_valid(p, t):
            total = total * torch.nan
        if self.kept is not None:
            torch.sum(self.kept, 2, out=count)
        if not coefs.has_overlap():
            return total
        both = torch.mul(p, t, out=self.buffer("a", p))
        torch.sum(both, 2, out=tp)
        if coefs.tversky:  # differences of sums would lose precision near a perfect prediction
            torch.sum(torch.sub(p, both, out=self.buffer("b", p)), 2, out=of_p)
            torch.sum(torch.sub(t, both, out=both), 2, out=of_t)
        else:
            torch.sum(p, 2, out=of_p)
            torch.sum(t, 2, out=of_t)
        return total

    def _is_valid(self, p: Tensor, t: Tensor) -> bool:
        """Return whether a block on the CPU holds probabilities and targets; of `p` the cross-entropy tells it too."""
        p_told = self.task.from_logits or self.task.coefs.bce
        return (self._targets_fit or is_within(t, 0, 1)) and (bool(p_told) or is_within(p, 0, 1))

    def _cross_entropy(self, i: int, z: Tensor, p: Tensor, t: Tensor) -> Tensor:
        """Return the sum of a block's cross-entropies times their weights and `sign`."""
        if self.sign > 0:
            weights = None if self._weights is None else self.blank(self.read(self._weights, i, "weights"), None)
            # a device stops the process at a probability that is NaN; the sums of the planes bring NaN into the value
            total = F.binary_cross_entropy(p.nan_to_num(0.0, 1.0, 0.0), t, weights, reduction="sum")
            return total if self.task.coefs.has_overlap() else total.add_(p.sum(), alpha=0)
        if self.task.from_logits:
            off = torch.gt(z, 0, out=self.buffer("a", z)).sub_(t)
            size = torch.abs(z, out=self.buffer("b", z))
            logs = torch.ops.aten.softplus.out(size, -1, out=size).addcmul_(off, z, value=-1)
        else:
            at_1 = torch.log(p, out=self.buffer("b", p)).clamp_min_(-100)
            logs = torch.neg(p, out=self.buffer("a", p)).log1p_().clamp_min_(-100).lerp_(at_1, t)
        return self._weighted(i, logs).sum()

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
            t = self.target(i) if self.on_cpu or self.task.smoothing else self.read(self._targets, i, "raw target")
            p = self.probability(self.read(self._preds, i, "pred"))
            grad = out if out.dtype == self.dtype else self.buffer("grad", out)
            if of_blocks is None or slopes is None:
                grad.zero_()
            else:
                torch.addcmul(of_blocks[1][i], t, of_blocks[0][i], value=slopes.factor, out=grad)
            if self.task.coefs.bce:
                self._add_cross_entropy(i, p, t, share, factor, grad)
            elif self.task.from_logits:
                _sigmoid_backward(grad, p, grad_input=grad)
            self.blank(grad, grad)
            if grad is not out:
                out.copy_(grad)
        return whole

    def _add_cross_entropy(self, i: int, p: Tensor, t: Tensor, share: Tensor, factor: float, grad: Tensor) -> None:
        """Make the derivative by the probabilities that by the predictions, with that of the cross-entropy."""
        if self.task.from_logits:
            _sigmoid_backward(grad, p, grad_input=grad)
            grad.addcmul_(self._weighted(i, torch.sub(p, t, out=self.buffer("a", p))), share, value=factor)
            return
        weights = None if self._weights is None else self.read(self._weights, i, "weights")
        steep = self.buffer("a", p)
        grad.add_(_bce_backward(share, p, t, weights, _SUM, grad_input=steep), alpha=factor)
