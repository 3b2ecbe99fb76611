"""Dice and focal Tversky from the sums over planes, with their gradient, and what means divide by."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lossreg.losses.mean import Count
from lossreg_seg.formulas import Coefficients, Parts


@dataclass
class Divisors:
    """What the means over pixels and over planes divide by; a mean over nothing is 0.

    Attributes:
        pixels: the number of pixels that count.
        planes: the number of planes that have one.
        safe: (2,) both, at least 1; None where all count, so that they are known.
        there: (N, C) or (N, 1), 1 for a plane that has a pixel that counts, else 0; None where all do.
    """

    pixels: Count
    planes: Count
    safe: Tensor | None = None
    there: Tensor | None = None

    @classmethod
    def of(cls, shape: Sequence[int], valid: Tensor | None, classes: int = 1) -> Divisors:
        """Return them for planes (N, C, H, W).

        Args:
            shape: of the pixels.
            valid: (2, N, C), the number of pixels that count in each plane, and room for as many numbers; None if all
                pixels count.
            classes: the number of planes that a channel of pixels stands for.
        """
        if valid is None:
            return cls(float(math.prod(shape)), float(math.prod(shape[:2]) * classes))
        there = torch.clamp(valid[0], max=1, out=valid[1])
        counts = valid.sum((1, 2))
        planes = counts[1] if classes == 1 else counts[1] * classes
        return cls(counts[0], planes, counts.clamp_min(1), there)

    def shared(self, of_pixels: Tensor, of_planes: Tensor) -> Sequence[Tensor]:
        """Return two scalars divided by the numbers of pixels and planes, if these are not known."""
        if self.safe is None:
            return of_pixels, of_planes
        if of_pixels is of_planes:  # as where the two means are added
            return (of_pixels / self.safe).unbind()
        return of_pixels / self.safe[0], of_planes / self.safe[1]

    def factor(self, coef: float) -> float:
        """Return a coefficient divided by the number of pixels, if that is known."""
        return coef / float(self.pixels) if self.safe is None else coef


class Slopes(NamedTuple):
    """The derivatives of the losses of planes by the probabilities of their pixels: `b + factor a t`.

    Attributes:
        a, b: (N, C).
        factor: of `a`.
    """

    a: Tensor
    b: Tensor
    factor: float


@dataclass
class Overlap:
    """The overlap losses of planes, and their derivatives.

    With the sums `TP`, `FP` and `FN` over the pixels of a plane (see `formulas`)::

        dice:     D = 2 TP + FP + FN + 1 + 1e-7,  R = (2 TP + 1) / D            loss 1 - R
        tversky:  E = 0.01 FP + 0.99 FN,  S = TP + E + 1e-6,  x = E / S         loss x ** 0.25

    The derivatives of `TP`, `FP` and `FN` by the probability `p` of a pixel with target `t` are `t`, `1 - t` and `-t`.
    So the derivative of a loss by `p` is `B - A t`::

        dice:     A = 2 / D                                   B = R / D
        tversky:  y = 0.25 x ** -0.75 / S (0 where x = 0)     A = y,  B = 0.01 y (1 - x)

    Attributes:
        coefs: the weights of the two losses, divided by what is known of the number of planes.
        by: what counts.
        ratio: (N, C) `R` times the coefficient of Dice.
        size: (N, C) `D`.
        off: (N, C) `x`; None without Tversky.
        whole: (N, C) `S`; None without Tversky.
    """

    coefs: Coefficients
    by: Divisors
    ratio: Tensor
    size: Tensor
    off: Tensor | None = None
    whole: Tensor | None = None

    @classmethod
    def of(cls, tp: Tensor, of_p: Tensor, of_t: Tensor, coefs: Coefficients, by: Divisors, classes: int = 1) -> Overlap:
        """Return the losses from sums (N, C): `TP`, and `sum p` and `sum t`, or with Tversky `FP` and `FN`."""
        number = float(by.planes) if by.safe is None else float(classes)
        coefs = Coefficients(coefs.bce, coefs.dice / number, coefs.tversky / number)
        size = (of_p + of_t).add_(1 + 1e-7)
        hits = torch.rsub(tp, coefs.dice, alpha=-2 * coefs.dice)
        if not coefs.tversky:
            return cls(coefs, by, hits.div_(size), size)
        errors = 0.01 * of_p + 0.99 * of_t
        whole = tp + errors + 1e-6
        size.add_(tp, alpha=2)
        return cls(coefs, by, hits.div_(size), size, (errors / whole).clamp(min=0), whole)

    def total(self) -> Tensor:
        """Return the sum of the losses of the planes that count, times the coefficients."""
        losses = torch.rsub(self.ratio, self.coefs.dice)
        if self.off is not None:
            losses.add_(self.off**0.25, alpha=self.coefs.tversky)
        if self.by.there is None:
            return losses.sum()
        there = self.by.there
        losses = losses if there.shape == losses.shape else losses.sum(1)
        return torch.dot(losses.flatten(), there.flatten())

    def slopes(self, slope: Tensor) -> Slopes:
        """Return the derivatives by the probabilities, times that of what follows by the total."""
        a = torch.div(slope, self.size)
        b = self.ratio * a
        if self.off is None or self.whole is None:
            return Slopes(a, b, -2 * self.coefs.dice)
        steep = torch.where(self.off > 0, self.off**-0.75, 0).mul_(0.25 * self.coefs.tversky * slope).div_(self.whole)
        a = torch.add(steep, a, alpha=2 * self.coefs.dice)
        return Slopes(a, b.add_(steep.mul_(torch.rsub(self.off, 0.01, alpha=0.01))), -1.0)


def parts_of(ctx: Any, total: Tensor, coef: float, overlap: Overlap | None, by: Divisors, dtype: torch.dtype) -> Parts:
    """Return what a forward of autograd returns, and say of it that the counts have no gradient.

    Args:
        ctx: autograd's.
        total: the sum over pixels.
        coef: of its mean.
        overlap: the losses of planes; None for 0.
        by: what counts.
        dtype: of the means.
    """
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(*(count for count in (by.pixels, by.planes) if isinstance(count, Tensor)))
    entropy, mean = by.shared(total, total.new_zeros(()) if overlap is None else overlap.total())
    return Parts((entropy * by.factor(coef)).to(dtype), mean.to(dtype), by.pixels, by.planes)
