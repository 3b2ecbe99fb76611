"""The base class of adaptive weightings: strategies that set the weights of terms from their values."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence

from torch import Tensor, nn


class Weighting(nn.Module):
    """Turn the (normalised) values of terms into their weighted contributions.

    `MultiLoss` calls `bind` once with the names of its terms, then, at each forward, the module itself.
    The schedule multiplies what comes out. State is buffers and parameters, so that it survives a
    checkpoint; it moves in `train()` only, from means over all ranks, so that it is the same on each.
    """

    names: tuple[str, ...]

    def bind(self, names: Sequence[str]) -> None:
        """Allocate state for the terms `names`, in their order; called once, before any forward.

        Raises:
            ValueError: an option names a term that is not there.
        """
        self.names = tuple(names)

    @abstractmethod
    def forward(self, values: Tensor, active: Sequence[int] | None = None, epoch: float | None = None) -> Tensor:
        """Return the contribution of each term, before its schedule.

        Args:
            values: (k,) values of the active terms, on the graph.
            active: their positions among the bound terms; None where all are there.
            epoch: what `MultiLoss.forward` was given.

        Returns:
            (k,) on the graph, coefficient times value.
        """
        raise NotImplementedError(f"{type(self).__name__} must define forward(values, active, epoch)")

    def weighting_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters that an optimizer must train, with no weight decay; none by default."""
        return iter(self.parameters())
