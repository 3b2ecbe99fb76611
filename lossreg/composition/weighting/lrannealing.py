"""Weighting of physics-informed terms by the gradients of the residual and of each other term."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lossreg.arguments import Arguments
from lossreg.composition.weighting.base import Coefficients, Domain, ratio
from lossreg.composition.weighting.shared import AtSharedParameters, dense, wide


class LRAnnealing(AtSharedParameters):
    """Learning-rate annealing (Wang, Teng, Perdikaris, SIAM J. Sci. Comput. 2021, https://arxiv.org/abs/2001.04536).

    One term is the residual `L_r` of the equation; its weight is 1. At each step, with the parameters `theta`, every
    other term gets

        lambda_hat_i = max abs(grad L_r) / mean abs(grad L_i)
        lambda_i = (1 - alpha) lambda_i + alpha lambda_hat_i

    over all elements of `theta`, and weighs `lambda_i`, which starts at 1. This is algorithm 1 of the paper.

    The caller gives `theta` once, by `set_shared_parameters(model.parameters())`. Each training step costs one backward
    per term down to them. Under a process group the maximum and the means are averaged over the ranks.

    A weight moves where its term and the residual are there and have gradients that are not 0. Values of any sign are
    allowed.

    Args:
        residual: name of the term that is the residual; None for the first.
        alpha: how much of the new value is taken at each step, above 0 and at most 1. The code of the authors takes a
            tenth.
    """

    domain = Domain(zero="absent", scale="common")

    w: Tensor  # (n,) lambda, 1 for the residual

    def __init__(self, residual: str | None = None, alpha: float = 0.1) -> None:
        super().__init__()
        given = Arguments("LRAnnealing")
        self.residual = None if residual is None else given.name("residual", residual)
        self.alpha = given.number("alpha", alpha, "a number above 0 and at most 1", lambda a: 0.0 < a <= 1.0)
        given.done()
        self._at = 0

    def bind(self, names: Sequence[str]) -> None:
        """Allocate weights of 1.

        Raises:
            ValueError: `residual` names a term that is not there.
        """
        super().bind(names)
        if self.residual is not None:
            given = Arguments("LRAnnealing")
            given.member("residual", self.residual, self.names, "term")
            given.done()
            self._at = self.names.index(self.residual)
        self.register_buffer("w", torch.ones(len(self.names)))

    def weights(self) -> Tensor:
        """Return (n,) `lambda`."""
        return self.w

    def forward(
        self,
        values: Tensor,
        active: Sequence[int] | None = None,
        epoch: float | Tensor | None = None,  # noqa: ARG002
        counts: Tensor | None = None,
        terms: Sequence[Tensor] | None = None,
    ) -> Coefficients:
        """Return the coefficients after this step; the state moves in training and where there is a graph.

        Args:
            values: (k,) values of the active terms, on the graph.
            active: their positions among the n bound terms; None where all are there.
            epoch: not used.
            counts: as for `Weighting.forward`.
            terms: the k values one by one, on the graph.

        Raises:
            WeightingError: the shared parameters are not set, all of them are frozen, or no term depends on them.
        """
        if self.training and torch.is_grad_enabled():
            rows = self.shared_gradients(values, values if terms is None else terms, whole=active is None)
            positions = range(len(self.names)) if active is None else active
            sizes = [
                _largest(row, values) if i == self._at else self._mean(row, values)
                for i, row in zip(positions, rows, strict=True)
            ]
            with torch.no_grad():
                found, present = self.observe(torch.stack(sizes) if sizes else values.detach(), active, counts)
                self._step(found, present & (found > 0))
        return self._current(active)

    def _step(self, sizes: Tensor, present: Tensor) -> None:
        """Move the weights of the terms that are there, but not that of the residual.

        Args:
            sizes: (n,) the largest gradient of the residual, at its place, and the mean gradient of each other term.
            present: (n,) bool, which terms have one.
        """
        moved = (1 - self.alpha) * self.w + self.alpha * ratio(sizes[self._at], sizes)
        moving = present & present[self._at]
        moving = torch.cat([moving[: self._at], torch.zeros_like(moving[:1]), moving[self._at + 1 :]])
        self.w.copy_(torch.where(moving, moved, self.w))

    def _mean(self, row: Sequence[Tensor | None], like: Tensor) -> Tensor:
        """Return the mean absolute gradient over all elements of the parameters, with 0 for those not reached."""
        sums = [g.abs().sum(dtype=wide(like)).to(like.device) for g in dense(row)]
        elements = sum(parameter.numel() for parameter in self._trained())
        return torch.stack(sums).sum() / elements if sums else like.new_zeros((), dtype=wide(like))

    def extra_repr(self) -> str:
        """Show the options."""
        return f"residual={self.residual!r}, alpha={self.alpha}"


def _largest(row: Sequence[Tensor | None], like: Tensor) -> Tensor:
    """Return the largest absolute gradient over all elements of the parameters."""
    found = [g.abs().max().to(like.device, wide(like)) for g in dense(row)]
    return torch.stack(found).max() if found else like.new_zeros((), dtype=wide(like))
