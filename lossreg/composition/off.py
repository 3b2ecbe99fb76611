"""Terms that are off: what keeps their parameters in the graph, with gradients that are zero whatever the value."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from lossreg.losses.nested import mapped, tensors_in


def nothing_of(tensors: Iterable[Tensor], like: Tensor) -> list[Tensor]:
    """Return a vector of no elements of each floating-point tensor: its gradient is zero, and is taken."""
    return [t.reshape(-1)[:0].to(like) for t in tensors if t.is_floating_point()]


def sources(value: Tensor, batches: Any) -> list[Tensor]:
    """Return what a value was made of: the tensors of the batches on its graph, and the leaves beside them.

    A parameter is found wherever a loss keeps it: in itself, in a closure, in the model.
    """
    given = {tensor.grad_fn: tensor for tensor in tensors_in(batches) if tensor.grad_fn is not None}
    found: list[Tensor] = []
    nodes, seen = [value.grad_fn], set()
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if node in given:
            found.append(given[node])
        elif hasattr(node, "variable"):  # a leaf's
            found.append(node.variable)
        else:
            nodes.extend(following for following, _ in node.next_functions)
    return found


def gated(batch: Any, off: Tensor) -> Any:
    """Return a batch of equal values, whose tensors get a gradient of zero where `off` is true, a bool of shape [].

    A product with a weight of 0 would not do: 0 times an infinite derivative is NaN.
    """
    return mapped(batch, lambda t: torch.where(off.to(t.device), t.detach(), t) if t.requires_grad else t)
