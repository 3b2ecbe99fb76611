"""The base class of weightings that compare the gradients of terms at shared parameters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from lossreg.arguments import Arguments
from lossreg.composition.weighting.base import Weighting
from lossreg.errors import WeightingError


class AtSharedParameters(Weighting):
    """A weighting that takes the gradient of each term at parameters that all terms share.

    The caller gives these parameters once, by `set_shared_parameters`. Each training step costs one backward per term
    down to them. Since it takes gradients in its forward, no `MultiLoss` with it can be compiled, and it works in no
    window over micro-batches. Shared parameters that are frozen later are left out.
    """

    timed = False
    compiles = False
    windows = False  # it takes the gradient of the whole window's terms, which no forward has
    differentiates = True

    def __init__(self) -> None:
        super().__init__()
        self._shared: tuple[nn.Parameter, ...] = ()

    def set_shared_parameters(self, parameters: Iterable[nn.Parameter]) -> None:
        """Take the parameters at which the gradients of the terms are compared.

        They stay the caller's: they are in no state_dict and no parameter list of the weighting.

        Raises:
            ArgumentError: there are none, or one of them needs no gradient.
        """
        given = Arguments(f"{type(self).__name__}.set_shared_parameters")
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

    def shared_gradients(self, values: Tensor, terms: Iterable[Tensor], whole: bool) -> list[Sequence[Tensor | None]]:
        """Return for each term its gradients at the shared parameters, None where it does not depend on one.

        Args:
            values: (k,) values.
            terms: the same one by one, on the graph.
            whole: whether all terms are there, so that one of them must depend on these parameters.

        Raises:
            WeightingError: the shared parameters are not set, all of them are frozen, or no term depends on them.
        """
        shared = self._trained()
        if not values.requires_grad:
            return [[None] * len(shared) for _ in range(len(values))]
        rows = [gradients(term, shared) for term in terms]
        if whole and all(gradient is None for row in rows for gradient in row):
            raise WeightingError(
                f"{type(self).__name__}: no term depends on the shared parameters; where the model has new ones (a "
                "layer replaced, a copy), call set_shared_parameters(parameters) again, with those that the "
                "predictions come from"
            )
        return rows

    def _trained(self) -> list[nn.Parameter]:
        """Return the shared parameters that need a gradient; those frozen since are left out."""
        name = type(self).__name__
        if not self._shared:
            raise WeightingError(
                f"{name}: the shared parameters are not set; call set_shared_parameters(parameters) "
                "with those of the last layer that all terms share"
            )
        trained = [parameter for parameter in self._shared if parameter.requires_grad]
        if not trained:
            raise WeightingError(
                f"{name}: expected a shared parameter with requires_grad, found {len(self._shared)} that have been "
                "frozen since set_shared_parameters; call it again with parameters that are trained, or unfreeze one"
            )
        return trained


def gradients(term: Tensor, tensors: Sequence[Tensor]) -> Sequence[Tensor | None]:
    """Return the gradients of a term at some tensors, None where it does not depend on one; the graph stays."""
    if not term.requires_grad:
        return [None] * len(tensors)
    return torch.autograd.grad(term, tensors, retain_graph=True, allow_unused=True)


def length(gradients: Sequence[Tensor | None], like: Tensor) -> Tensor:
    """Return the norm of some gradients together, on the device of `like`; in float64, where no square is lost."""
    lengths: list[Tensor] = [torch.linalg.vector_norm(g, dtype=wide(like)).to(like.device) for g in dense(gradients)]
    if len(lengths) == 1:
        return lengths[0]
    return torch.linalg.vector_norm(torch.stack(lengths)) if lengths else like.new_zeros((), dtype=wide(like))


def dense(gradients: Sequence[Tensor | None]) -> list[Tensor]:
    """Return the gradients that are there, detached, sparse ones as dense tensors."""
    return [(g.to_dense() if g.is_sparse else g).detach() for g in gradients if g is not None]


def wide(like: Tensor) -> torch.dtype:
    """Return the widest dtype of a tensor's device."""
    return torch.float32 if like.device.type == "mps" else torch.float64
