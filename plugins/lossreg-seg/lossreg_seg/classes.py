"""The loss of class indices with an analytic gradient, without one-hot planes."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lossreg_seg.blocks import Blocks, bits, may_apply
from lossreg_seg.formulas import Coefficients, Parts, Share, multiclass_formula
from lossreg_seg.overlap import Divisors, Overlap, Slopes, parts_of


class Classes(NamedTuple):
    """The options of the loss of class indices."""

    coefs: Coefficients
    smoothing: float = 0.0


class Indices(NamedTuple):
    """A target of class indices.

    Attributes:
        at: (N, 1, H, W) int64, from 0 to C - 1, any such number at a pixel that does not count.
        label: (N, 1, H, W) of an integer dtype, the same at a pixel that counts, and no class at another.
        kept: (N, 1, H, W) bool, the pixels that count; None if all do.
    """

    at: Tensor
    label: Tensor
    kept: Tensor | None


class ClassLoss(torch.autograd.Function):
    """`multiclass_formula` of class indices, but several times faster; saves only its inputs and some sums.

    With `s = softmax(z)`, the index `y` of a pixel, and `[y = c]` as 1 or 0, the sums of a class `c` are
    `TP = sum s_c [y = c]`, `sum s_c`, and the number of pixels with `y = c`. The derivative of a loss by `log s_c` is
    `s_c (B_c - A_c [y = c])` for the overlap (see `Overlap`), and `-w ((1 - e) [y = c] + e / C)` for the cross-entropy
    with the weight `w` of the pixel and the label smoothing `e`. The derivative by `z_c` is that by `log s_c` minus
    `s_c` times the sum of those over the classes.

    `Blocks` says in which parts the logits are read; beside the gradient there is one buffer of the size of a part.
    Second derivatives use `multiclass_formula`.
    """

    @staticmethod
    def applies(logits: Tensor, indices: Indices, weights: Tensor | None, share: Share | None) -> bool:
        """Return whether it computes this loss; if not, use `class_formula`.

        It does not where there are weights in the sums of planes, or weights of classes, and see `may_apply`.
        """
        is_plain = share is None or (
            share.weights is None and (share.planes is None or share.planes.dtype == torch.bool)
        )
        return is_plain and (weights is None or weights.shape[1] == 1) and may_apply(logits, indices.at, weights)

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        at: Tensor,
        label: Tensor,
        kept: Tensor | None,
        weights: Tensor | None,
        task: Classes,
    ) -> Parts:
        """Return the two means with their counts.

        Args:
            ctx: autograd's.
            logits: (N, C, H, W).
            at, label, kept: see `Indices`.
            weights: (N, 1, H, W) factors of the cross-entropy, finite.
            task: the options.
        """
        planes = _Planes(logits, Indices(at, label, kept), weights, task)
        total, sums, valid = planes.sums()
        by = Divisors.of((len(logits), 1, *logits.shape[2:]), valid, logits.shape[1])
        has_overlap = task.coefs.has_overlap()
        overlap = Overlap.of(sums[0], sums[1], sums[2], task.coefs, by, logits.shape[1]) if has_overlap else None
        ctx.task, ctx.by, ctx.overlap, ctx.split = task, by, overlap, (planes.groups, planes.parts)
        ctx.save_for_backward(logits, at, label, kept, weights)
        return parts_of(ctx, total, -task.coefs.bce, overlap, by, planes.dtype)

    @staticmethod
    def backward(ctx: Any, of_entropy: Tensor | None, of_overlap: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
        """Return the gradient of the logits, in their dtype."""
        logits, at, label, kept, weights = ctx.saved_tensors
        of_entropy, of_overlap = (logits.new_zeros(()) if of is None else of for of in (of_entropy, of_overlap))
        indices = Indices(at, label, kept)
        if torch.is_grad_enabled():  # a second derivative is needed
            parts = class_formula(logits, indices, weights, ctx.task)
            value = parts.entropy * of_entropy + parts.overlap * of_overlap
            return *torch.autograd.grad(value, logits, create_graph=True), None, None, None, None, None
        planes = _Planes(logits, indices, weights, ctx.task, ctx.split)
        share, of_planes = ctx.by.shared(of_entropy, of_overlap)
        slopes = None if ctx.overlap is None else ctx.overlap.slopes(of_planes)
        grad = planes.gradient(slopes, (share * ctx.by.factor(-ctx.task.coefs.bce)).to(planes.dtype))
        return torch.unflatten(grad, 2, logits.shape[2:]), None, None, None, None, None


class _Planes(Blocks):
    """The logits of a batch with their target, block by block.

    On the CPU a block has one-hot planes, since its arithmetic is faster than its reads by index; elsewhere these would
    be as large as the logits.
    """

    def __init__(
        self,
        logits: Tensor,
        indices: Indices,
        weights: Tensor | None,
        task: Classes,
        split: tuple[int, int] | None = None,
    ) -> None:
        super().__init__(logits, split)
        self.task, self.kept = task, indices.kept
        self._logits = self.blocks(self.planes)
        self._at, self._label = (self.blocks(some.flatten(2)) for some in (indices.at, indices.label))
        self._kept, self._weights = (
            None if some is None else self.blocks(some.flatten(2)) for some in (indices.kept, weights)
        )

    @functools.cached_property
    def _of_class(self) -> Tensor:
        """The classes, (C, 1)."""
        dtype = self.dtype if self.on_cpu else torch.int64
        return torch.arange(self.planes.shape[1], device=self.planes.device, dtype=dtype).unsqueeze(1)

    def _hot(self, i: int, like: Tensor) -> Tensor:
        """Return 1 at the class of each pixel that counts, else 0: a number on the CPU, a bool elsewhere."""
        if not self.on_cpu:
            return torch.eq(self._label[i], self._of_class)
        return torch.eq(self.read(self._label, i, "label"), self._of_class, out=self.buffer("hot", like))

    def _blank(self, i: int, values: Tensor) -> Tensor:
        """Set the pixels that do not count to 0, in place."""
        if self._kept is None:
            return values
        if self.on_cpu:  # a value that is not finite makes the loss so, which is noticed
            return values.mul_(self.read(self._kept, i, "kept"))
        bits(values).mul_(self._kept[i])
        return values

    def sums(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return the log-likelihood, the sums of planes (3, N, C), and what counts as `Divisors.of` takes it.

        The sums are `TP` and two others, see `Overlap.of`.
        """
        total, sums = self.sum_blocks(3, self._sum_block)
        if self.kept is None:
            return total, sums, None
        valid = self.planes.new_empty((2, len(self.kept), 1), dtype=self.dtype)
        torch.sum(self.kept.flatten(1), 1, keepdim=True, dtype=valid.dtype, out=valid[0])
        return total, sums, valid

    def _sum_block(self, i: int, sums: Tensor) -> Tensor:
        """Write the sums over the planes of a block, (3, n, C), and return its log-likelihood."""
        tp, of_p, of_t = sums
        log_p, coefs = torch.log_softmax(self.read(self._logits, i, "logits"), 1), self.task.coefs
        hot = self._hot(i, log_p) if self.on_cpu or coefs.has_overlap() else None
        total = self._log_likelihood(i, log_p, hot) if coefs.bce else log_p.new_zeros(())
        if hot is None or not coefs.has_overlap():
            return total
        p = self._blank(i, log_p.exp_())
        torch.sum(hot, 2, dtype=p.dtype, out=of_t)
        torch.sum(p, 2, out=of_p)
        if coefs.tversky:  # differences of sums would lose precision near a perfect prediction
            both = p * hot
            torch.sum(both, 2, out=tp)
            torch.sum(p.sub_(both), 2, out=of_p)
            torch.sum(both.neg_().add_(hot), 2, out=of_t)
        elif self.on_cpu:
            torch.sum(torch.mul(p, hot, out=self.buffer("both", p)), 2, out=tp)
        else:
            torch.sub(of_p, p.scatter_(1, self._at[i], 0).sum(2), out=tp)
        return total

    def _log_likelihood(self, i: int, log_p: Tensor, hot: Tensor | None) -> Tensor:
        """Return the sum over a block, times the weights of its pixels."""
        if self.on_cpu and hot is not None:
            log_at = torch.mul(log_p, hot, out=self.buffer("both", log_p)).sum(1, keepdim=True)
        else:
            log_at = log_p.gather(1, self._at[i])
        if self.task.smoothing:
            log_at = log_at.lerp_(log_p.mean(1, keepdim=True), self.task.smoothing)
        if self._weights is not None:
            log_at = log_at.mul_(self.read(self._weights, i, "weights"))
        return self._blank(i, log_at).sum()

    def gradient(self, slopes: Slopes | None, share: Tensor) -> Tensor:
        """Return the gradient of the logits.

        Args:
            slopes: of the overlap by the probabilities; None if there is none.
            share: the derivative of what follows by the log-likelihood.
        """
        smoothing, whole = self.task.smoothing, torch.empty_like(self.planes)
        of_blocks = None if slopes is None else [self.of_blocks(numbers) for numbers in slopes[:2]]
        for i, out in enumerate(self.blocks(whole)):
            hit = share if self._weights is None else share * self.read(self._weights, i, "weights")
            p = torch.softmax(self.read(self._logits, i, "logits"), 1)
            grad = out if out.dtype == self.dtype else self.buffer("grad", out)
            a = None if of_blocks is None else of_blocks[0][i]
            if of_blocks is None:
                grad.zero_()
            else:
                torch.mul(p, of_blocks[1][i], out=grad)
            if smoothing:
                grad.add_(hit, alpha=smoothing / p.shape[1])
                hit = hit * (1 - smoothing)
            self._add_at_class(i, p, hit, a, slopes.factor if slopes else 0.0, grad)
            last = grad if self.on_cpu else out  # the CPU would convert more slowly
            self._blank(i, torch.addcmul(grad, p, grad.sum(1, keepdim=True), value=-1, out=last))
            if last is not out:
                out.copy_(last)
        return whole

    def _add_at_class(self, i: int, p: Tensor, hit: Tensor, a: Tensor | None, factor: float, grad: Tensor) -> None:
        """Add `hit + factor a p` at the class of each pixel."""
        if self.on_cpu:
            hot = self._hot(i, p)
            grad.addcmul_(hot, hit)
            if a is not None:
                grad.addcmul_(torch.mul(p, hot, out=self.buffer("both", p)), a, value=factor)
            return
        at = self._at[i]
        if a is None:
            hit = hit.expand(at.shape)
        else:
            hit = torch.addcmul(hit, p.gather(1, at), a.squeeze(2).gather(1, at.squeeze(1)).unsqueeze(1), value=factor)
        grad.scatter_add_(1, at, hit)


def class_formula(
    logits: Tensor, indices: Indices, weights: Tensor | None, task: Classes, share: Share | None = None
) -> Parts:
    """Return the same by `multiclass_formula`, on the graph of the logits and the weights."""
    n, classes, *size = logits.shape
    share = Share.of((n, 1, *size), indices.kept, classes=classes) if share is None else share
    of_class = torch.arange(classes, device=logits.device).view(-1, 1, 1)
    return multiclass_formula(logits, indices.label == of_class, weights, share, task.coefs, task.smoothing)
