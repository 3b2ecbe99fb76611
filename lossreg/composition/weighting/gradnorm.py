"""Weighting that evens out the gradients of the terms at shared parameters."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from lossreg.arguments import Arguments
from lossreg.composition.weighting.base import Coefficients, Domain, ratio
from lossreg.composition.weighting.shared import AtSharedParameters, length


class GradNorm(AtSharedParameters):
    """Gradient normalization (Chen et al., ICML 2018, https://arxiv.org/abs/1711.02257).

    With `G_i = norm(w_i grad_W L_i)` at the shared parameters `W` and the inverse training rates
    `r_i = (L_i / L_i(0)) / mean_j(L_j / L_j(0))`, each step moves `w` down the gradient of
    `sum_i abs(G_i - mean(G) r_i^alpha)`, the second part held constant, and rescales it to `sum w = n`.

    The step goes by the sign of that gradient, in `log w`: a weight is multiplied by `exp(lr)` where its
    `G_i` is below its target and divided by it where it is above. The paper leaves the rule of the step
    open; public implementations take Adam's, in `w` itself. In `log w` the weights stay above 0, and `lr` is
    a relative change whatever the scale of the gradients, so that terms 1 : 1000 come to balance, where the
    weights go on to tremble by about `lr`.

    The caller gives the shared parameters, once, by `set_shared_parameters`; the last layer that all terms
    share is enough. Each training step costs one backward to them a term. The weights used are those of the
    step before. Under a process group the `G_i` and `L_i` are means over the ranks. It takes gradients in its
    forward, so that no `MultiLoss` with it can be compiled.

    A term takes part in a step where its value and its gradient at the shared parameters are not 0: another one had
    nothing to learn, or does not depend on these parameters, and its weight stays. `L(0)` is its first value above
    0. Shared parameters that have been frozen are left out. It is defined for values of 0 or more; with `alpha` 0,
    which compares no values, for all.

    Args:
        alpha: the strength of the pull towards terms that train slowly; 0 asks for equal norms.
        lr: the relative step of `w`; above 0.
    """

    domain = Domain(
        negative=False,
        zero="absent",
        scale="common",
        reason="with an alpha above 0 it weighs by the ratio of a value to the first one",
    )

    w: Tensor  # (n,)
    first: Tensor  # (n,) L(0)
    seen: Tensor  # (n,) whether there is an L(0)

    def __init__(self, alpha: float = 1.5, lr: float = 0.025) -> None:
        super().__init__()
        given = Arguments("GradNorm")
        self.alpha = given.number("alpha", alpha, "a number of 0 or more", lambda a: a >= 0.0)
        self.lr = given.number("lr", lr, "a number above 0", lambda step: step > 0.0)
        given.done()
        self.domain = dataclasses.replace(self.domain, negative=self.alpha == 0.0)

    def bind(self, names: Sequence[str]) -> None:
        """Allocate weights of 1 and the first values."""
        super().bind(names)
        self.register_buffer("w", torch.ones(len(self.names)))
        self.register_buffer("first", torch.zeros(len(self.names)))
        self.register_buffer("seen", torch.zeros(len(self.names), dtype=torch.bool))

    def weights(self) -> Tensor:
        """Return (n,) `w`."""
        return self.w

    def forward(
        self,
        values: Tensor,
        active: Sequence[int] | None = None,
        epoch: float | Tensor | None = None,  # noqa: ARG002
        counts: Tensor | None = None,
        terms: Sequence[Tensor] | None = None,
    ) -> Coefficients:
        """Return the coefficients before this step, and move the state, in training and where there is a graph.

        Args:
            values: (k,) values of the active terms, on the graph.
            active: their positions among the n bound terms; None where all are there.
            epoch: not used.
            counts: as for `Weighting.forward`.
            terms: the k values one by one, on the graph.

        Raises:
            WeightingError: the shared parameters are not set, all of them are frozen, or no term depends on them.
        """
        coefficients = self._current(active)
        if self.training and torch.is_grad_enabled():
            rows = self.shared_gradients(values, values if terms is None else terms, whole=active is None)
            norms = torch.stack([length(row, values) for row in rows]) if rows else values.detach()
            with torch.no_grad():
                losses, present = self.observe(values, active, counts)
                norms, reached = self.observe(norms, active, counts)
                self.first.copy_(torch.where(present & ~self.seen, losses, self.first))
                self.seen.logical_or_(present)
                self._step(losses, norms, present & reached)
        return coefficients

    def _step(self, losses: Tensor, norms: Tensor, present: Tensor) -> None:
        """Move the weights of the terms that are there by one step, and keep their sum."""
        n = present.sum().clamp_min(1)

        G = torch.where(present, self.w * norms, 0.0)  # noqa: N806
        rates = torch.where(present, ratio(losses, self.first), 0.0)
        r = ratio(rates, rates.sum() / n)
        moved = self.w * torch.exp(-self.lr * torch.sign(G - G.sum() / n * r**self.alpha))
        moved = torch.where(present, moved, 0.0)
        moved = moved * (torch.where(present, self.w, 0.0).sum() / moved.sum())
        self.w.copy_(torch.where(present, moved.clamp_min(torch.finfo(torch.float32).tiny), self.w))

    def extra_repr(self) -> str:
        """Show the options."""
        return f"alpha={self.alpha}, lr={self.lr}"
