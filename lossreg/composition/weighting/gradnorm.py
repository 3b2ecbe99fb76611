"""Weighting that evens out the gradients of the terms at shared parameters."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from lossreg.arguments import Arguments
from lossreg.composition.weighting.base import Coefficients, Domain, Weighting, ratio
from lossreg.errors import WeightingError


class GradNorm(Weighting):
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
    timed = False
    compiles = False
    windows = False  # it takes the gradient of the whole window's terms, which no forward has
    differentiates = True

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
        self._shared: tuple[nn.Parameter, ...] = ()

    def bind(self, names: Sequence[str]) -> None:
        """Allocate weights of 1 and the first values."""
        super().bind(names)
        self.register_buffer("w", torch.ones(len(self.names)))
        self.register_buffer("first", torch.zeros(len(self.names)))
        self.register_buffer("seen", torch.zeros(len(self.names), dtype=torch.bool))

    def set_shared_parameters(self, parameters: Iterable[nn.Parameter]) -> None:
        """Take the parameters at which the gradients of the terms are compared.

        They stay the caller's: they are in no state_dict and no parameter list of the weighting.

        Raises:
            ArgumentError: there are none, or one of them needs no gradient.
        """
        given = Arguments("GradNorm.set_shared_parameters")
        hint = "give module.parameters()" if isinstance(parameters, nn.Module) else ""
        if isinstance(parameters, Tensor):
            hint = "give [parameter]"
        shared = given.items("parameters", parameters, "one shared parameter or more, each with requires_grad", hint)
        for i, parameter in enumerate(shared):
            if not isinstance(parameter, Tensor) or not parameter.requires_grad:
                given.wrong(f"parameters[{i}]", "a parameter with requires_grad", parameter, "give model.parameters()")
        if not shared and not given.problems:
            given.report("parameters", "is empty", "give one shared parameter or more", "range")
        given.done()
        self._shared = tuple(shared)

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
            norms = self._gradient_norms(values, values if terms is None else terms, whole=active is None)
            with torch.no_grad():
                losses, present = self.observe(values, active, counts)
                norms, reached = self.observe(norms, active, counts)
                self.first.copy_(torch.where(present & ~self.seen, losses, self.first))
                self.seen.logical_or_(present)
                self._step(losses, norms, present & reached)
        return coefficients

    def _gradient_norms(self, values: Tensor, terms: Iterable[Tensor], whole: bool) -> Tensor:
        """Return (k,) norms of the gradient of each value at the shared parameters.

        Args:
            values: (k,) values.
            terms: the same one by one, on the graph.
            whole: whether all terms are there, so that one of them must depend on these parameters.
        """
        shared = self._trained()
        if not values.requires_grad:
            return torch.zeros_like(values)
        rows = [_gradients(term, shared) for term in terms]
        if whole and all(gradient is None for row in rows for gradient in row):
            raise WeightingError(
                "GradNorm: no term depends on the shared parameters; where the model has new ones (a layer replaced, a "
                "copy), call set_shared_parameters(parameters) again, with those that the predictions come from"
            )
        return torch.stack([_length(row, values) for row in rows]) if rows else values.detach()

    def _trained(self) -> list[nn.Parameter]:
        """Return the shared parameters that need a gradient; those frozen since are left out."""
        if not self._shared:
            raise WeightingError(
                "GradNorm: the shared parameters are not set; call set_shared_parameters(parameters) "
                "with those of the last layer that all terms share"
            )
        trained = [parameter for parameter in self._shared if parameter.requires_grad]
        if not trained:
            raise WeightingError(
                f"GradNorm: expected a shared parameter with requires_grad, found {len(self._shared)} that have been "
                "frozen since set_shared_parameters; call it again with parameters that are trained, or unfreeze one"
            )
        return trained

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


def _gradients(term: Tensor, parameters: Sequence[nn.Parameter]) -> Sequence[Tensor | None]:
    if not term.requires_grad:
        return [None] * len(parameters)
    return torch.autograd.grad(term, parameters, retain_graph=True, allow_unused=True)


def _length(gradients: Sequence[Tensor | None], like: Tensor) -> Tensor:
    """Return the norm of some gradients together, on the device of `like`; in float64, where no square is lost."""
    dtype = torch.float32 if like.device.type == "mps" else torch.float64
    dense = [g.to_dense() if g.is_sparse else g for g in gradients if g is not None]
    lengths: list[Tensor] = [torch.linalg.vector_norm(g.detach(), dtype=dtype).to(like.device) for g in dense]
    if len(lengths) == 1:
        return lengths[0]
    return torch.linalg.vector_norm(torch.stack(lengths)) if lengths else like.new_zeros((), dtype=dtype)
