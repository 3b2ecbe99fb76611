"""Formulas that know their own gradient, so that nothing but their inputs is kept for backward."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypeAlias

import torch
from torch import Tensor
from torch.autograd import forward_ad

Gradients: TypeAlias = Sequence[Tensor | None]

_HALVES = (torch.float16, torch.bfloat16)


class Formula(ABC):
    """A differentiable function of tensors that all have the samples on their first axis.

    Automatic differentiation keeps the intermediate planes of `value` from forward to backward; a formula
    that is called makes them anew, in `gradient`. Its `value` alone is what `torch.compile`, the transforms
    of `torch.func`, forward-mode differentiation and tensor subclasses see, and what a second derivative
    differentiates.

    Attributes:
        outputs: how many outputs there are.
        kept: which results of `forward` are kept for `gradient`, being dear to make anew.
    """

    outputs: ClassVar[int] = 1
    kept: ClassVar[tuple[int, ...]] = ()

    @abstractmethod
    def value(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs, computed in at least float32; the samples stay on the first axis."""

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs, and then what else is to be kept. It is not differentiated."""
        return self.value(*inputs)

    @abstractmethod
    def gradient(
        self, inputs: Sequence[Tensor], kept: Sequence[Tensor], slopes: Gradients, needed: Sequence[bool]
    ) -> Gradients:
        """Return the derivative of the loss by each input; None will do where it is not needed.

        Args:
            inputs: what `value` takes.
            kept: the results that are kept.
            slopes: the derivative of the loss by each output; None where it does not depend on it.
            needed: whether the derivative is needed, for each input.
        """

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs, on the graph of the inputs."""
        if torch.compiler.is_compiling():
            return self._compiled(*inputs)
        if _is_transformed(inputs):
            return self.value(*inputs)
        outputs: tuple[Tensor, ...] = _Analytic.apply(self, *inputs)  # type: ignore[no-untyped-call]
        return outputs

    def _compiled(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return self.value(*inputs)


class _Analytic(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, formula: Formula, *inputs: Tensor) -> tuple[Tensor | None, ...]:
        ctx.formula = formula
        ctx.set_materialize_grads(False)
        results = _by_sample(formula.forward, inputs)
        ctx.save_for_backward(*inputs, *(results[i] for i in formula.kept))
        return results[: formula.outputs]

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor | None) -> tuple[Tensor | None, ...]:
        formula, needed = ctx.formula, ctx.needs_input_grad[1:]
        count, tensors = len(needed), ctx.saved_tensors
        inputs = tensors[:count]
        if all(slope is None for slope in slopes):
            return (None,) * (1 + count)
        if torch.is_grad_enabled():  # the caller wants a second derivative
            return None, *_through_value(formula, inputs, slopes, needed)

        def gradient(*parts: Any) -> Gradients:
            found = list(formula.gradient(parts[:count], parts[count : len(tensors)], parts[len(tensors) :], needed))
            for i, slope in enumerate(found):  # one by one, so that each wide one ends as it is converted
                found[i] = slope if slope is None else slope.to(parts[i].dtype)
            return found

        return None, *_by_sample(gradient, (*tensors, *slopes))


def _through_value(formula: Formula, inputs: Sequence[Tensor], slopes: Gradients, needed: Sequence[bool]) -> Gradients:
    """Differentiate `value` itself, on a graph, so that derivatives of every order are right."""
    parts = [tensor.view_as(tensor) for tensor in inputs]  # apart even where one is made of another
    pairs = [(out, slope) for out, slope in zip(formula.value(*parts), slopes, strict=True) if slope is not None]
    outputs, slopes = zip(*pairs, strict=True)
    wanted = [part for part, need in zip(parts, needed, strict=True) if need]
    found = iter(torch.autograd.grad(outputs, wanted, slopes, create_graph=True, allow_unused=True))
    return [next(found) if need else None for need in needed]


def _by_sample(function: Callable[..., Gradients], tensors: Gradients) -> tuple[Tensor | None, ...]:
    """Apply a function to the whole batch; in half precision sample by sample, for small float32 copies."""
    first = tensors[0]
    if first is None or len(first) < 2 or first.dtype not in _HALVES:
        return tuple(function(*tensors))
    whole: list[Tensor | None] = []
    for i in range(len(first)):
        results = function(*(tensor if tensor is None else tensor[i : i + 1] for tensor in tensors))
        whole = whole or [r if r is None else r.new_empty((len(first), *r.shape[1:])) for r in results]
        for made, result in zip(whole, results, strict=True):
            if made is not None and result is not None:
                made[i] = result[0]
        del results, result  # the next sample makes its own
    return tuple(whole)


def _is_transformed(tensors: Sequence[Tensor]) -> bool:
    """Say whether a transform, a tangent or a subclass (a fake tensor) has to see each operation."""
    return torch._C._are_functorch_transforms_active() or any(
        type(tensor) not in (Tensor, torch.nn.Parameter) or _has_tangent(tensor) for tensor in tensors
    )


def _has_tangent(tensor: Tensor) -> bool:
    return forward_ad.unpack_dual(tensor).tangent is not None  # type: ignore[no-untyped-call]
