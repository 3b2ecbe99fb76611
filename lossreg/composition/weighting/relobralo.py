"""Weighting by progress since the last iteration and since the first."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lossreg.arguments import Arguments
from lossreg.composition.weighting.base import Domain, Weighting, ratio, softmax

_MODULUS = 2**31 - 1


class ReLoBRaLo(Weighting):
    """Relative loss balancing with random lookback (Bischof, Kraus, 2021, https://arxiv.org/abs/2110.09813).

    With `h(t, t') = n softmax(L(t) / (tau L(t')))`, the weights are
    `w(t) = alpha (rho w(t-1) + (1 - rho) h(t, 0)) + (1 - alpha) h(t, t-1)`, where `rho` is drawn at each
    iteration and is 1 with probability `beta`. They begin as ones. A term that has made less progress gains;
    a term's scale leaves the weights alone, so bring terms to one scale by their norms.

    The draws come from a small generator (Park and Miller's, multiplier 48271) whose state is a buffer: they
    are the same on all ranks and go on after a checkpoint. `h` is taken over the terms that are there. A term begins
    with its first value above 0, and `L(t-1)` is the last one above 0. It is defined for values of 0 or more.

    Args:
        alpha: how much of the past is kept; 0 to 1.
        beta: the probability of keeping the last weights rather than looking back to the start; 0 to 1.
        tau: temperature, above 0; a high one evens the weights out.
        seed: start of the draws, 0 or more.
    """

    domain = Domain(negative=False, scale="own", reason="it weighs by the ratios of a value to earlier ones")
    timed = False

    w: Tensor  # (n,)
    first: Tensor  # (n,) L(0)
    last: Tensor  # (n,) L(t-1)
    seen: Tensor  # (n,) whether there is an L(0)
    generator: Tensor  # [] state of the draws, 1 to _MODULUS - 1

    def __init__(self, alpha: float = 0.999, beta: float = 0.999, tau: float = 1.0, seed: int = 0) -> None:
        super().__init__()
        given = Arguments("ReLoBRaLo")
        self.alpha = given.number("alpha", alpha, "a number from 0 to 1", lambda a: 0.0 <= a <= 1.0)
        self.beta = given.number("beta", beta, "a number from 0 to 1", lambda b: 0.0 <= b <= 1.0)
        self.tau = given.number("tau", tau, "a number above 0", lambda t: t > 0.0)
        self.seed = given.count("seed", seed, "a whole number of 0 or more", least=0)
        given.done()

    def bind(self, names: Sequence[str]) -> None:
        """Allocate weights of 1, the first and the last values, and the generator."""
        super().bind(names)
        n = len(self.names)
        self.register_buffer("w", torch.ones(n))
        self.register_buffer("first", torch.zeros(n))
        self.register_buffer("last", torch.zeros(n))
        self.register_buffer("seen", torch.zeros(n, dtype=torch.bool))
        self.register_buffer("generator", torch.tensor(1 + self.seed % (_MODULUS - 1)))

    def weights(self) -> Tensor:
        """Return (n,) `w(t)`."""
        return self.w

    def move(self, losses: Tensor, present: Tensor, epoch: float | Tensor | None) -> None:  # noqa: ARG002
        """Draw, and move the weights of the terms that are there."""
        present = present & (self.seen | (losses > 0))
        first = torch.where(self.seen, self.first, losses)
        last = torch.where(self.seen, self.last, losses)
        rho = self._draw() <= math.floor(self.beta * _MODULUS)  # 1 with probability beta

        lookback = torch.where(rho, self.w, self._balance(losses, first, present))
        w = self.alpha * lookback + (1 - self.alpha) * self._balance(losses, last, present)

        self.w.copy_(torch.where(present, w, self.w))
        self.first.copy_(torch.where(present, first, self.first))
        self.last.copy_(torch.where(present & (losses > 0), losses, self.last))
        self.seen.logical_or_(present)

    def _balance(self, losses: Tensor, references: Tensor, present: Tensor) -> Tensor:
        """Return h: n softmax(L / (tau L')), over the terms that are there."""
        exponents = ratio(losses, references) / self.tau
        return present.sum() * softmax(exponents.masked_fill(~present, -torch.inf))

    def _draw(self) -> Tensor:
        """Return the next number of the generator, 1 to _MODULUS - 1."""
        return self.generator.mul_(48271).remainder_(_MODULUS)

    def extra_repr(self) -> str:
        """Show the options."""
        return f"alpha={self.alpha}, beta={self.beta}, tau={self.tau}, seed={self.seed}"
