"""Weighting that evens out the gradients of the terms at shared parameters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from lossreg.arguments import Arguments
from lossreg.composition.weighting.base import EPSILON, Weighting


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

    Args:
        alpha: the strength of the pull towards terms that train slowly; 0 asks for equal norms.
        lr: the relative step of `w`; above 0.
    """

    compiles = False

    w: Tensor  # (n,)
    first: Tensor  # (n,) L(0)
    seen: Tensor  # (n,) whether there is an L(0)

    def __init__(self, alpha: float = 1.5, lr: float = 0.025) -> None:
        super().__init__()
        given = Arguments("GradNorm")
        self.alpha = given.number("alpha", alpha, "a number of 0 or more", lambda a: a >= 0.0)
        self.lr = given.number("lr", lr, "a number above 0", lambda step: step > 0.0)
        given.done()
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
            given.report("parameters", "is empty", "give one shared parameter or more")
        given.done()
        self._shared = tuple(shared)

    def forward(
        self,
        values: Tensor,
        active: Sequence[int] | None = None,
        epoch: float | Tensor | None = None,  # noqa: ARG002
    ) -> Tensor:
        """Return `w L` of each active term; see `Weighting.forward`. State moves only where there is a graph.

        Raises:
            RuntimeError: the shared parameters are not set, in training.
        """
        contributions = self.weigh(self.w, values, active)
        if self.training and torch.is_grad_enabled():
            losses, present = self.observe(values, active)
            norms, _ = self.observe(self._gradient_norms(values), active)
            self._step(losses, norms, present)
        return contributions

    def _gradient_norms(self, values: Tensor) -> Tensor:
        """Return (k,) norms of the gradient of each value at the shared parameters."""
        if not self._shared:
            raise RuntimeError(
                "GradNorm: the shared parameters are not set; call set_shared_parameters(parameters) "
                "with those of the last layer that all terms share"
            )
        if not values.requires_grad:
            return torch.zeros_like(values)
        rows = [torch.autograd.grad(value, self._shared, retain_graph=True, allow_unused=True) for value in values]
        zero = values.new_zeros((), dtype=torch.float32)
        squares = [sum((g.float().square().sum() for g in row if g is not None), zero) for row in rows]
        return torch.stack(squares).sqrt() if squares else values.detach()

    @torch.no_grad()
    def _step(self, losses: Tensor, norms: Tensor, present: Tensor) -> None:
        self.first.copy_(torch.where(present & ~self.seen, losses, self.first))
        self.seen.logical_or_(present)
        n = present.sum().clamp_min(1)

        G = torch.where(present, self.w * norms, 0.0)  # noqa: N806
        mean = (G.sum() / n).clamp_min(EPSILON)
        ratio = torch.where(present, losses / self.first.clamp_min(EPSILON), 0.0)
        r = ratio / (ratio.sum() / n).clamp_min(EPSILON)
        gradient = torch.sign(G - mean * r**self.alpha) * G  # by log w
        w = self.w * torch.exp(-self.lr * gradient.sign())
        self.w.copy_(len(self.names) * w / w.sum())

    def extra_repr(self) -> str:
        """Show the options."""
        return f"alpha={self.alpha}, lr={self.lr}"
