"""Weighting that gives each term a fixed share of the gradient at the predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lossreg.arguments import Arguments
from lossreg.composition.weighting.base import Coefficients, Domain, Weighting
from lossreg.composition.weighting.shared import gradients, length
from lossreg.errors import WeightingError
from lossreg.losses.constants import register_constant
from lossreg.losses.nested import tensors_in

_LEAST = 1e-12
"""The least norm that a weight is one over, as the authors' code has it."""


class Balancer(Weighting):
    """The loss balancer of EnCodec (Defossez et al., 2022, https://arxiv.org/abs/2210.13438).

    With the gradient `g_i` of a term at the predictions and the exponential moving average `E` of its norm, the
    gradient that goes back from the predictions is

        sum_i R (lambda_i / sum_j lambda_j) g_i / E(norm(g_i))

    so that each term has a share of it by its ratio `lambda_i` alone, whatever its scale. A term weighs
    `R lambda_i / (sum_j lambda_j E(norm(g_i)))`. The average is one over the batches so far at first: sums of
    `beta^age norm` over sums of `beta^age`. The sum over `j` is over the terms of the batch.

    The norms are taken at all tensors of the predictions that need a gradient, together, or at the one `output`. What
    the predictions are made from gets one backward as ever, so a training step costs one short backward per term, from
    its value to the predictions. Under a process group the norms are averaged over the ranks.

    A term whose gradient at the predictions is 0 had nothing to learn: its average stays. Values of any sign are
    allowed. It takes gradients in its forward, so that no `MultiLoss` with it can be compiled.

    Args:
        ratios: the share `lambda` of each term by name, above 0; 1 for those that are not named.
        total_norm: `R`, the norm of the whole gradient if the terms' gradients point one way; above 0.
        beta: how much of the past the averages keep, from 0 to below 1.
        output: key of the prediction that all terms are made from (`pred.audio`); None for all predictions.
    """

    domain = Domain(zero="absent", scale="inverse")
    timed = False
    compiles = False
    windows = False  # it takes the gradient of the whole window's terms, which no forward has
    differentiates = True
    reads_predictions = True
    counters = ("sums", "ages", "ratio_sum")

    sums: Tensor  # (n,) of beta^age * norm
    ages: Tensor  # (n,) of beta^age
    ratio_sum: Tensor  # [] of the ratios of the terms in the last batch
    _ratios: Tensor  # (n,) lambda

    def __init__(
        self,
        ratios: Mapping[str, float] | None = None,
        total_norm: float = 1.0,
        beta: float = 0.999,
        output: str | None = None,
    ) -> None:
        super().__init__()
        given = Arguments("Balancer")
        if ratios is not None and not isinstance(ratios, Mapping):
            given.wrong("ratios", "a mapping from names of terms to numbers", ratios)
            ratios = None
        self.ratios = {
            name: given.number(f"ratios.{name}", share, "a number above 0", lambda share: share > 0.0)
            for name, share in (ratios or {}).items()
        }
        self.total_norm = given.number("total_norm", total_norm, "a number above 0", lambda norm: norm > 0.0)
        self.beta = given.number("beta", beta, "a number from 0 to below 1", lambda beta: 0.0 <= beta < 1.0)
        self.output = output
        if output is not None and not (isinstance(output, str) and output.startswith("pred.")):
            given.wrong("output", "a key such as 'pred.audio'", output)
        given.done()

    def bind(self, names: Sequence[str]) -> None:
        """Allocate the averages.

        Raises:
            ValueError: `ratios` names a term that is not there.
        """
        super().bind(names)
        given = Arguments("Balancer")
        for name in self.ratios:
            given.member(f"ratios.{name}", name, self.names, "term")
        given.done()
        n = len(self.names)
        self.register_buffer("sums", torch.zeros(n))
        self.register_buffer("ages", torch.zeros(n))
        shares = [self.ratios.get(name, 1.0) for name in self.names]
        register_constant(self, "_ratios", torch.tensor(shares, device="cpu"))
        self.register_buffer("ratio_sum", torch.tensor(sum(shares)))

    def weights(self) -> Tensor:
        """Return (n,) `R lambda / (sum(lambda) E(norm))`; a term without an average counts with a norm of 1."""
        means = self.sums / self.ages.clamp_min(1.0)
        return self.total_norm * self._ratios / self.ratio_sum / torch.where(means > 0, means.clamp_min(_LEAST), 1.0)

    def forward(
        self,
        values: Tensor,
        active: Sequence[int] | None = None,
        epoch: float | Tensor | None = None,  # noqa: ARG002
        counts: Tensor | None = None,
        terms: Sequence[Tensor] | None = None,
        predictions: Any = None,
    ) -> Coefficients:
        """Return the coefficients after this step; the state moves in training and where there is a graph.

        Args:
            values: (k,) values of the active terms, on the graph.
            active: their positions among the n bound terms; None where all are there.
            epoch: not used.
            counts: as for `Weighting.forward`.
            terms: the k values one by one, on the graph.
            predictions: what the model returned.

        Raises:
            WeightingError: the prediction `output` is not there, or no prediction needs a gradient.
        """
        if self.training and torch.is_grad_enabled():
            outputs = self._outputs(predictions) if values.requires_grad and len(values) else []
            rows = [gradients(term, outputs) for term in (values if terms is None else terms)] if outputs else []
            norms = torch.stack([length(row, values) for row in rows]) if rows else torch.zeros_like(values)
            with torch.no_grad():
                norms, present = self.observe(norms, active, counts)
                self._step(norms, present & (norms > 0))
        return self._current(active)

    def _step(self, norms: Tensor, present: Tensor) -> None:
        """Take (n,) norms into the averages of the terms that are there."""
        self.sums.copy_(torch.where(present, self.beta * self.sums + norms, self.sums))
        self.ages.copy_(torch.where(present, self.beta * self.ages + 1.0, self.ages))
        ratio_sum = torch.where(present, self._ratios, 0.0).sum()
        self.ratio_sum.copy_(torch.where(ratio_sum > 0, ratio_sum, self.ratio_sum))

    def _outputs(self, predictions: Any) -> list[Tensor]:
        """Return the predictions at which the gradients are taken."""
        found, where = predictions, "a prediction with requires_grad"
        if self.output is not None:
            where = f"{self.output!r} with requires_grad"
            if isinstance(predictions, Mapping):
                found = predictions.get(self.output.removeprefix("pred."))
        outputs = [tensor for tensor in tensors_in(found) if tensor.requires_grad]
        if not outputs:
            keys = sorted(map(str, predictions)) if isinstance(predictions, Mapping) else type(predictions).__name__
            raise WeightingError(
                f"Balancer: expected {where}, found {keys}; call the criterion with what the model returned, before "
                "any detach()"
            )
        return outputs

    def extra_repr(self) -> str:
        """Show the options."""
        return f"ratios={self.ratios}, total_norm={self.total_norm}, beta={self.beta}, output={self.output!r}"
