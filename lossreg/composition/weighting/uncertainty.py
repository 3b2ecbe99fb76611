"""Weighting by learned homoscedastic uncertainty."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from lossreg.arguments import Arguments
from lossreg.composition.vectors import chosen
from lossreg.composition.weighting.base import Coefficients, Domain, Weighting
from lossreg.losses.constants import register_constant


class Uncertainty(Weighting):
    """Learned homoscedastic uncertainty (Kendall, Gal, Cipolla, CVPR 2018, https://arxiv.org/abs/1705.07115).

    Each term has a log-variance `s_i`, a parameter that starts at 0, and contributes
    `exp(-s_i) L_i / 2 + s_i / 2`, or `exp(-s_i) L_i + s_i / 2` where it is marked as classification. At the
    optimum `exp(-s_i) L_i` is 1 (1/2) for each term, whatever its scale. A contribution may be negative.

    The optimizer must train `weighting_parameters()`, in a group without weight decay, which would draw
    every term's uncertainty towards 1::

        torch.optim.AdamW([
            {"params": model.parameters()},
            {"params": multi_loss.weighting_parameters(), "weight_decay": 0.0},
        ])

    Under a process group the gradient of `s` is the mean over all ranks, as DistributedDataParallel makes
    it for a model's parameters, so that `s` stays the same on each.

    It is defined for values of 0 or more: the total of a negative one has no minimum in `s`. A batch with nothing to
    learn (a count of 0, or a value of exactly 0 of a loss without a count) has no `s / 2` and leaves `s` alone. Values
    near 0 have `s` fall to `log(least_variance)` and no further.

    Args:
        classification: names of the terms that are log-likelihoods of classes, as cross-entropy.
        least_variance: the least `exp(s)`; above 0. Without a bound a term that stays near 0 would come by a weight
            that makes the total explode at its next real value; `torch.nn.GaussianNLLLoss` bounds variances too.
    """

    domain = Domain(
        negative=False,
        zero="absent",
        reason="it weighs by one over the value, as if that were a variance",
    )
    timed = False
    moves = False

    s: nn.Parameter  # (n,) log-variances
    _halves: Tensor  # (n,) 1/2, or 1 for classification

    def __init__(self, classification: Sequence[str] = (), least_variance: float = 1e-6) -> None:
        super().__init__()
        given = Arguments("Uncertainty")
        self.classification = tuple(
            given.items("classification", classification, "a list of names of terms", ordered=False)
        )
        self.least_variance = given.number(
            "least_variance", least_variance, "a number above 0 and at most 1", lambda variance: 0.0 < variance <= 1.0
        )
        given.done()
        self._least = math.log(self.least_variance)

    def bind(self, names: Sequence[str]) -> None:
        """Make a log-variance of 0 for each term.

        Raises:
            ValueError: `classification` names a term that is not there.
        """
        super().bind(names)
        given = Arguments("Uncertainty")
        given.members("classification", self.classification, self.names, "term")
        given.done()
        self.s = nn.Parameter(torch.zeros(len(self.names)))
        halves = torch.tensor([1.0 if name in self.classification else 0.5 for name in self.names], device="cpu")
        register_constant(self, "_halves", halves)

    def weights(self) -> Tensor:
        """Return (n,) `exp(-s) / 2`."""
        return self._halves * torch.exp(-self.s.detach().clamp_min(self._least))

    def addends(self) -> Tensor:
        """Return (n,) `s / 2`."""
        return self.s.detach().clamp_min(self._least) / 2

    def forward(
        self,
        values: Tensor,
        active: Sequence[int] | None = None,
        epoch: float | Tensor | None = None,  # noqa: ARG002
        counts: Tensor | None = None,
    ) -> Coefficients:
        """Return the weights and the addends of the active terms, on the graph of `s`; see `Weighting.forward`."""
        if self.training and values.device.type == "cpu" and not torch.compiler.is_compiling():
            self.observe(values, active, counts)  # refuses, on every rank alike
        return self.hold((values > 0 if counts is None else counts > 0) & (values.abs() < math.inf), active)

    def hold(self, present: Tensor, active: Sequence[int] | None = None) -> Coefficients:
        """Return the weights and the addends, on the graph of `s`; terms with nothing to learn leave it alone."""
        if self.training:
            with torch.no_grad():
                self.s.clamp_min_(self._least)
        s, halves = averaged(self.s), self._halves
        if active is not None:
            s, halves = chosen(s, active), chosen(halves, active)
        learned = torch.where(present, s, s.detach())
        return Coefficients(halves * torch.exp(-learned), torch.where(present, s / 2, 0.0))

    def extra_repr(self) -> str:
        """Show the options."""
        return f"classification={list(self.classification)}, least_variance={self.least_variance:g}"


def averaged(parameter: Tensor) -> Tensor:
    """Return a parameter whose gradient is the mean over all ranks."""
    if not (dist.is_available() and dist.is_initialized()):
        return parameter
    shared: Tensor = _AverageGradient.apply(parameter)  # type: ignore[no-untyped-call]
    return shared


class _AverageGradient(torch.autograd.Function):
    """The identity, with a gradient that is the mean over all ranks."""

    @staticmethod
    def forward(ctx: Any, s: Tensor) -> Tensor:  # noqa: ARG004
        return s.view_as(s)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ARG004
        mean = gradient / dist.get_world_size()
        dist.all_reduce(mean)
        return mean
