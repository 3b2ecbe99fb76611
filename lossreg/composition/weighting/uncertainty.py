"""Weighting by learned homoscedastic uncertainty."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from lossreg.arguments import Arguments
from lossreg.composition.weighting.base import Weighting


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

    Args:
        classification: names of the terms that are log-likelihoods of classes, as cross-entropy.
    """

    moves = False

    s: nn.Parameter  # (n,) log-variances
    _halves: Tensor  # (n,) 1/2, or 1 for classification

    def __init__(self, classification: Sequence[str] = ()) -> None:
        super().__init__()
        given = Arguments("Uncertainty")
        self.classification = tuple(
            given.items("classification", classification, "a list of names of terms", ordered=False)
        )
        given.done()

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
        # no checkpoint holds them: real, too, where the model is built on meta
        halves = torch.tensor([1.0 if name in self.classification else 0.5 for name in self.names], device="cpu")
        self.register_buffer("_halves", halves, persistent=False)

    def forward(
        self,
        values: Tensor,
        active: Sequence[int] | None = None,
        epoch: float | Tensor | None = None,  # noqa: ARG002
    ) -> Tensor:
        """Return `exp(-s) L / 2 + s / 2` of each active term; see `Weighting.forward`."""
        s, halves = _shared(self.s), self._halves
        if active is not None:
            positions = torch.tensor(active, dtype=torch.int64, device=s.device)
            s, halves = s[positions], halves[positions]
        finite = values.isfinite()  # what is not must not stay in `s` for ever
        contributions = halves * torch.exp(-s) * torch.where(finite, values, 0.0) + s / 2
        return torch.where(finite, contributions, values)

    def extra_repr(self) -> str:
        """Show the terms marked as classification."""
        return f"classification={list(self.classification)}" if self.classification else ""


def _shared(s: Tensor) -> Tensor:
    """Give `s` a gradient that is the same on every rank."""
    if not (dist.is_available() and dist.is_initialized()):
        return s
    shared: Tensor = _AverageGradient.apply(s)  # type: ignore[no-untyped-call]
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
