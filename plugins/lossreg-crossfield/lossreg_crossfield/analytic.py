"""Formulas with analytic gradients, which save only their inputs for the backward."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypeAlias

import torch
from torch import Tensor

from lossreg.losses.concrete import is_concrete

Gradients: TypeAlias = Sequence[Tensor | None]

_BLOCK = 1 << 18
"""Number of elements in a block on the CPU."""


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
        """Return the outputs, computed in at least float32: means over the batch, or with samples on the first axis."""

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs, and other tensors to save after them; this is not differentiated."""
        return self.value(*inputs)

    @abstractmethod
    def gradient(self, inputs: Sequence[Tensor], kept: Sequence[Tensor], slopes: Gradients, out: Gradients) -> None:
        """Write the derivatives of the loss by the inputs.

        Args:
            inputs: the inputs of `value`.
            kept: the saved results.
            slopes: the derivative of the loss by each output; None if the loss does not depend on it.
            out: for each input where to write its derivative, uninitialised; None if it is not needed.
        """

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs, on the graph of the inputs."""
        if torch.compiler.is_compiling():
            return self._compiled(*inputs)
        if not all(map(is_concrete, inputs)):
            return self.value(*inputs)
        outputs: tuple[Tensor, ...] = _Analytic.apply(self, *inputs)  # type: ignore[no-untyped-call]
        return outputs

    def _compiled(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return self.value(*inputs)


class _Analytic(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, formula: Formula, *inputs: Tensor) -> tuple[Tensor, ...]:
        ctx.formula = formula
        ctx.set_materialize_grads(False)
        mean = formula.outputs == 1  # planes would have to be copied
        results = _in_blocks(formula.forward, inputs) if mean else formula.forward(*inputs)
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

        out = [torch.empty_like(tensor) if need else None for tensor, need in zip(inputs, needed, strict=True)]

        def gradient(*parts: Any) -> Sequence[Tensor]:
            found = parts[:-count]
            formula.gradient(found[:count], found[count : len(tensors)], found[len(tensors) :], parts[-count:])
            return ()

        _in_blocks(gradient, (*tensors, *slopes, *out))
        return None, *out


def _through_value(formula: Formula, inputs: Sequence[Tensor], slopes: Gradients, needed: Sequence[bool]) -> Gradients:
    """Return the derivatives of `value` by autograd with a graph, for derivatives of every order."""
    parts = [tensor.view_as(tensor) for tensor in inputs]  # separate tensors, even if one depends on another
    pairs = [(out, slope) for out, slope in zip(formula.value(*parts), slopes, strict=True) if slope is not None]
    outputs, slopes = zip(*pairs, strict=True)
    wanted = [part for part, need in zip(parts, needed, strict=True) if need]
    gradients = iter(torch.autograd.grad(outputs, wanted, slopes, create_graph=True, allow_unused=True))
    return [next(gradients) if need else None for need in needed]


def blocks(tensor: Tensor) -> list[slice]:
    """Return slices of the first axis of a tensor: on the CPU such that its caches hold one, elsewhere a whole one."""
    number = len(tensor) if tensor.numel() else 0
    size = max(1, _BLOCK // max(1, tensor[:1].numel())) if tensor.device.type == "cpu" else max(1, number)
    return [slice(start, start + size) for start in range(0, number, size)]


def _in_blocks(function: Callable[..., Sequence[Tensor]], tensors: Gradients) -> tuple[Tensor, ...]:
    """Return a function of the whole batch, computed in blocks.

    A scalar is a mean over the batch, or the derivative of the loss by one.
    """
    first = tensors[0]
    assert first is not None
    slices = blocks(first)
    if len(slices) < 2:
        return tuple(function(*tensors))
    whole: list[Tensor] = []
    for block in slices:
        share = len(first[block]) / len(first)
        results = function(*(t if t is None else t[block] if t.dim() else t * share for t in tensors))
        whole = whole or [r.new_empty((len(first), *r.shape[1:])) if r.dim() else r.new_zeros(()) for r in results]
        for output, result in zip(whole, results, strict=True):
            if output.dim():
                output[block] = result
            else:
                output.add_(result, alpha=share)
    return tuple(whole)
