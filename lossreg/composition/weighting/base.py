"""The base class of adaptive weightings: strategies that set the weights of terms from their values."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from lossreg.losses.norm import snapshot

EPSILON = 1e-8
"""The least denominator of a ratio of losses."""


class Weighting(nn.Module):
    """Turn the (normalised) values of terms into their weighted contributions.

    `MultiLoss` calls `bind` once with the names of its terms, then, at each forward, the module itself.
    The schedule multiplies what comes out. State is buffers and parameters, so that it survives a
    checkpoint; it moves in `train()` only, from means over all ranks, so that it is the same on each.
    It keeps its own precision when the module is cast (`half()`, `bfloat16()`). One forward is one
    iteration of the papers.

    A subclass allocates (n,) buffers in `bind`, and writes `forward` with `observe` and `weigh`. The last axis of each
    buffer and parameter counts the terms; one without axes belongs to all of them. Where that is not so, it also writes
    `in_order`.

    Attributes:
        names: the terms.
        counters: names of the buffers that are never below 0; a checkpoint where one is, is refused.
        compiles: whether `forward` can be part of a compiled graph.
        moves: whether a forward moves a state, in training.
    """

    compiles: ClassVar[bool] = True
    counters: ClassVar[tuple[str, ...]] = ()
    moves: ClassVar[bool] = True
    names: tuple[str, ...] = ()

    def bind(self, names: Sequence[str]) -> None:
        """Allocate state for the n terms `names`, in their order; called once, before any forward.

        Raises:
            ValueError: an option names a term that is not there.
        """
        self.names = tuple(names)

    @abstractmethod
    def forward(
        self, values: Tensor, active: Sequence[int] | None = None, epoch: float | Tensor | None = None
    ) -> Tensor:
        """Return the contribution of each term, before its schedule.

        Under a process group, every rank must call this at each step, with no value where it has no term.

        Args:
            values: (k,) values of the active terms, on the graph.
            active: their positions among the n bound terms; None where all are there.
            epoch: what `MultiLoss.forward` was given, as a number or a scalar tensor.

        Returns:
            (k,) on the graph, coefficient times value.
        """
        raise NotImplementedError(f"{type(self).__name__} must define forward(values, active, epoch)")

    def in_order(self, name: str, value: Tensor, order: Sequence[int]) -> Tensor:
        """Return a tensor of a checkpoint whose terms had another order, in the order of `names`.

        Args:
            name: its key in `state_dict`.
            value: the tensor, of the shape that it has here.
            order: the position in the checkpoint of each term.

        Raises:
            NotImplementedError: its last axis does not count the terms.
        """
        if value.dim() > 0 and value.shape[-1] != len(order):
            raise NotImplementedError(
                f"{type(self).__name__}: the terms of a checkpoint are in another order, and the last axis of "
                f"{name!r}, of shape {tuple(value.shape)}, does not count the {len(order)} terms; define in_order"
            )
        return value if value.dim() == 0 else value[..., list(order)]

    def weighting_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters that an optimizer must train, with no weight decay; none by default."""
        return iter(self.parameters())

    def observe(self, values: Tensor, active: Sequence[int] | None) -> tuple[Tensor, Tensor]:
        """Return what the state may move on: (n,) means over the ranks, and (n,) which terms have one.

        A value that is not finite (an overflow under mixed precision) counts as not there: it would stay
        in the state for ever.

        Args:
            values: (k,) of this rank.
            active: their positions; None where k is n.
        """
        values = values.detach().float()
        finite = values.isfinite()
        sums = torch.stack([values.where(finite, 0.0), finite.float()])  # (2, k)
        if active is not None:
            positions = torch.tensor(active, dtype=torch.int64, device=values.device)
            sums = sums.new_zeros(2, len(self.names)).index_copy(1, positions, sums)  # (2, n)
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(sums)
        total, ranks = sums
        return total / ranks.clamp_min(1.0), ranks > 0

    def weigh(self, coefficients: Tensor, values: Tensor, active: Sequence[int] | None) -> Tensor:
        """Return (k,) coefficients of the active terms times their values; the graph goes through the values.

        The coefficients are copied, so that a state that moves before the backward does not spoil it.
        """
        chosen = snapshot(coefficients)
        if active is not None:
            chosen = chosen[torch.tensor(active, dtype=torch.int64, device=chosen.device)]
        return chosen * values

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Weighting:
        """Let `to(device)` move the state, and keep casts away from it."""

        def moved(tensor: Tensor) -> Tensor:
            changed = fn(tensor)
            return changed if changed.dtype == tensor.dtype else tensor.to(changed.device)

        super()._apply(moved, recurse)  # type: ignore[no-untyped-call]
        return self
