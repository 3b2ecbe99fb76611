"""Formulas with analytic gradients, which save only their inputs for the backward."""

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
    """A differentiable function of tensors with the samples on the first axis.

    Autograd saves the intermediate planes of `value` for the backward; a formula recomputes them in `gradient`.
    `torch.compile`, the transforms of `torch.func`, forward-mode differentiation, tensor subclasses and second
    derivatives use `value`.

    Attributes:
        outputs: the number of outputs.
        kept: the indices of the results of `forward` that are saved for `gradient`, because they are slow to recompute.
    """

    outputs: ClassVar[int] = 1
    kept: ClassVar[tuple[int, ...]] = ()

    @abstractmethod
    def value(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs, computed in at least float32, with the samples on the first axis."""

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs, and other tensors to save after them; this is not differentiated."""
        return self.value(*inputs)

    @abstractmethod
    def gradient(
        self, inputs: Sequence[Tensor], kept: Sequence[Tensor], slopes: Gradients, needed: Sequence[bool]
    ) -> Gradients:
        """Return the derivative of the loss by each input; it may be None if it is not needed.

        Args:
            inputs: the inputs of `value`.
            kept: the saved results.
            slopes: the derivative of the loss by each output; None if the loss does not depend on it.
            needed: for each input whether the derivative is needed.
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
        if torch.is_grad_enabled():  # a second derivative is needed
            return None, *_through_value(formula, inputs, slopes, needed)

        def gradient(*parts: Any) -> Gradients:
            slopes = list(formula.gradient(parts[:count], parts[count : len(tensors)], parts[len(tensors) :], needed))
            for i, slope in enumerate(slopes):  # one by one, so that each wide tensor is freed after its conversion
                slopes[i] = slope if slope is None else slope.to(parts[i].dtype)
            return slopes

        return None, *_by_sample(gradient, (*tensors, *slopes))


def _through_value(formula: Formula, inputs: Sequence[Tensor], slopes: Gradients, needed: Sequence[bool]) -> Gradients:
    """Return the derivatives of `value` by autograd with a graph, for derivatives of every order."""
    parts = [tensor.view_as(tensor) for tensor in inputs]  # separate tensors, even if one depends on another
    pairs = [(out, slope) for out, slope in zip(formula.value(*parts), slopes, strict=True) if slope is not None]
    outputs, slopes = zip(*pairs, strict=True)
    wanted = [part for part, need in zip(parts, needed, strict=True) if need]
    gradients = iter(torch.autograd.grad(outputs, wanted, slopes, create_graph=True, allow_unused=True))
    return [next(gradients) if need else None for need in needed]


def _by_sample(function: Callable[..., Gradients], tensors: Gradients) -> tuple[Tensor | None, ...]:
    """Return a function of the whole batch; in half precision sample by sample, to keep float32 copies small."""
    first = tensors[0]
    if first is None or len(first) < 2 or first.dtype not in _HALVES:
        return tuple(function(*tensors))
    whole: list[Tensor | None] = []
    for i in range(len(first)):
        results = function(*(tensor if tensor is None else tensor[i : i + 1] for tensor in tensors))
        whole = whole or [r if r is None else r.new_empty((len(first), *r.shape[1:])) for r in results]
        for output, result in zip(whole, results, strict=True):
            if output is not None and result is not None:
                output[i] = result[0]
        del results, result  # free them before the next sample
    return tuple(whole)


def _is_transformed(tensors: Sequence[Tensor]) -> bool:
    """Return whether a transform, a tangent or a subclass (a fake tensor) has to see each operation."""
    return torch._C._are_functorch_transforms_active() or any(
        type(tensor) not in (Tensor, torch.nn.Parameter) or _has_tangent(tensor) for tensor in tensors
    )


def _has_tangent(tensor: Tensor) -> bool:
    return forward_ad.unpack_dual(tensor).tangent is not None  # type: ignore[no-untyped-call]
