"""Terms that are off: what keeps their parameters in the graph, with gradients that are zero whatever the value."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from lossreg.losses.nested import mapped


def nothing_of(tensors: Iterable[Tensor], like: Tensor) -> list[Tensor]:
    """Return a vector of no elements of each floating-point tensor: its gradient is zero, and is taken."""
    return [t.reshape(-1)[:0].to(like) for t in tensors if t.is_floating_point()]


def nothing_behind(tensors: Sequence[Tensor], values: Sequence[Tensor], shares: Tensor) -> list[Tensor]:
    """Return vectors of no elements that keep on the graph what the total does not read.

    A leaf (a parameter) that the total does not reach gets a gradient of zero. The operations between it and its
    prediction get no gradient at all, and compute nothing: zeros would do harm, since 0 times an infinite derivative is
    NaN. The hooks on the way run, which wrappers such as FSDP wait for.

    Args:
        tensors: the predictions.
        values: the raw values of terms that are not part of the total.
        shares: the shares of the terms that are.
    """
    given = {(t.grad_fn, t.output_nr) for t in tensors if t.grad_fn is not None}
    known, met = _walk([shares], set(), given)
    known |= {id(t): t for t in tensors if (t.grad_fn, t.output_nr) in met}
    unread = [t for t in tensors if t.requires_grad and id(t) not in known]
    leaves, _ = _walk(values, set(), given)
    if unread:
        seen: set[Any] = set()
        known |= _walk([shares], seen)[0]
        leaves |= _walk(unread, seen)[0]
    plain: list[Tensor] = []
    others: list[Tensor] = []  # of classes with operations of their own
    for key, leaf in leaves.items():
        if key not in known:
            (plain if type(leaf) in (Tensor, nn.Parameter) else others).append(leaf)
    kept = nothing_of(others, shares)
    if plain or unread:
        kept.append(_Nothing.apply(shares.detach(), len(unread), *unread, *plain))  # type: ignore[no-untyped-call]
    return kept


_Edge: TypeAlias = tuple[Any, int]
"""A node of the autograd graph, and which of its outputs."""


def _walk(
    tensors: Iterable[Tensor], seen: set[Any], until: Collection[_Edge] = ()
) -> tuple[dict[int, Tensor], set[_Edge]]:
    """Return the leaves on the graph of tensors by their ids, as far as some edges, and which of these were met.

    A parameter is found wherever a loss keeps it: in itself, in a closure, in the model.

    Args:
        tensors: where to begin.
        seen: nodes not to go to again; those of this walk are added.
        until: edges not to go beyond.
    """
    leaves: dict[int, Tensor] = {}
    edges: list[_Edge] = []
    for tensor in tensors:
        if tensor.grad_fn is not None:
            edges.append((tensor.grad_fn, tensor.output_nr))
        elif tensor.requires_grad:
            leaves[id(tensor)] = tensor
    met = set()
    while edges:
        edge = edges.pop()
        node = edge[0]
        if edge in until:
            met.add(edge)
        elif node is not None and node not in seen:
            seen.add(node)
            if hasattr(node, "variable"):  # a leaf's
                leaves[id(node.variable)] = node.variable
            else:
                edges.extend(node.next_functions)
    return leaves, met


class _Nothing(torch.autograd.Function):
    """A vector of no elements, like the first argument, that passes no gradient to some tensors and zeros to others."""

    generate_vmap_rule = True

    @staticmethod
    def forward(like: Tensor, _passed: int, *_tensors: Tensor) -> Tensor:
        return like.new_empty(0)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        del output
        _, ctx.passed, *tensors = inputs
        # not the tensors, which an optimizer may change before the backward
        ctx.empty = [
            functools.partial(torch.empty_strided, t.size(), t.stride(), dtype=t.dtype, device=t.device)
            for t in tensors[ctx.passed :]
        ]

    @staticmethod
    def backward(ctx: Any, *_gradients: Tensor) -> Any:
        return (None, None, *[None] * ctx.passed, *(empty().zero_() for empty in ctx.empty))

    @staticmethod
    def jvp(_ctx: Any, like: Tensor, *_tangents: Tensor) -> Tensor:
        return like.new_empty(0)


def gated(batch: Any, off: Tensor) -> Any:
    """Return a batch of equal values, whose tensors get a gradient of zero where `off` is true, a bool of shape [].

    A product with a weight of 0 would not do: 0 times an infinite derivative is NaN.
    """
    return mapped(batch, lambda t: torch.where(off.to(t.device), t.detach(), t) if t.requires_grad else t)
