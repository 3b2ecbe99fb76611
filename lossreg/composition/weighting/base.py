"""The base class of adaptive weightings: strategies that set the weights of terms from their values."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from lossreg.composition.vectors import chosen
from lossreg.errors import WeightingError
from lossreg.losses.base import can_look
from lossreg.losses.norm import snapshot
from lossreg.losses.ranks import add_up, several

ROUNDING = 1e-2
"""How far below 0 rounding brings a loss that is never negative, in half precision too."""

_MOST = 1e12  # of a ratio: its square, and a sum of squares, are still numbers of float32


@dataclass(frozen=True)
class Domain:
    """For which values of a term a weighting is defined.

    Attributes:
        negative: whether a value may be negative. Where it may not, one below `-ROUNDING` is refused by its term's
            name, on the CPU in eager mode, and elsewhere counts as not there; one between that and 0 counts as 0.
        zero: what a value of exactly 0 is, of a loss that does not say what it is a mean over: `"value"`, a number like
            others, but none that a ratio is taken to; or `"absent"`, a batch with nothing to learn, as if the term were
            not there.
        scale: which constant factor leaves the weights alone: `"own"`, one of each term; `"common"`, one of all
            terms; `"none"`. `"inverse"`: a factor of a term is undone by its weight, so that its contribution stays.
        reason: why negative values make no sense to it, for the message.
    """

    negative: bool = True
    zero: Literal["value", "absent"] = "value"
    scale: Literal["own", "common", "inverse", "none"] = "none"
    reason: str = ""


class Coefficients(NamedTuple):
    """What a weighting makes of the values of the terms of one forward: `weights * values + addends`."""

    weights: Tensor  # (k,)
    addends: Tensor | None = None  # (k,), of the methods that have one

    def of(self, values: Tensor) -> Tensor:
        """Return (k,) the contributions of some values; the graph goes through the values."""
        weighted = self.weights * values
        return weighted if self.addends is None else weighted + self.addends


def ratio(values: Tensor, references: Tensor) -> Tensor:
    """Return `values / references`; 1 where there is no reference above 0 to compare with."""
    return torch.where(references > 0, values / references, 1.0).clamp_max(_MOST)


def softmax(exponents: Tensor) -> Tensor:
    """Return the softmax of a vector; an exponent beyond float32 counts as the last number in it."""
    most = torch.finfo(exponents.dtype).max
    return torch.softmax(exponents.clamp(-most, most), 0)


class Weighting(nn.Module):
    """Weigh terms by their (normalised) values.

    `MultiLoss` calls `bind` once with the names of its terms, then, at each forward, the module itself.
    The schedule multiplies what comes out. State is buffers and parameters, so that it survives a
    checkpoint; it moves in `train()` only, from means over all ranks, so that it is the same on each.
    It keeps its own precision when the module is cast (`half()`, `bfloat16()`). One forward is one
    iteration of the papers.

    A subclass says for which values it is defined (`domain`), allocates (n,) buffers in `bind`, and writes `weights`,
    which reads them, and `move`, which moves them. The last axis of each buffer and parameter counts the terms; one
    without axes belongs to all of them. Where that is not so, it also writes `in_order`.

    Attributes:
        domain: for which values it is defined.
        counters: names of the buffers that are never below 0; a checkpoint where one is, is refused.
        compiles: whether `forward` can be part of a compiled graph.
        timed: whether `move` reads the epoch, which is then on the device of the losses; where not, it may be None.
        moves: whether a forward moves a state, in training.
        moves_first: whether the weights of a forward are those after its move, or before.
        windows: whether it works in a window over several micro-batches.
        differentiates: whether `forward` takes `terms`, the values one by one: the gradient of an element of `values`
            goes back through all terms, that of one of `terms` through its own.
        reads_predictions: whether `forward` takes `predictions`, what the model returned.
        names: the terms.
    """

    domain: Domain = Domain()
    compiles: ClassVar[bool] = True
    counters: ClassVar[tuple[str, ...]] = ()
    timed: ClassVar[bool] = True
    moves: ClassVar[bool] = True
    moves_first: ClassVar[bool] = True
    windows: ClassVar[bool] = True
    differentiates: ClassVar[bool] = False
    reads_predictions: ClassVar[bool] = False
    names: tuple[str, ...] = ()

    def bind(self, names: Sequence[str]) -> None:
        """Allocate state for the n terms `names`, in their order; called once, before any forward.

        Raises:
            ValueError: an option names a term that is not there.
        """
        self.names = tuple(names)

    @abstractmethod
    def weights(self) -> Tensor:
        """Return (n,) the weights of all terms, as the state is now."""
        raise NotImplementedError(f"{type(self).__name__} must define weights()")

    def addends(self) -> Tensor | None:
        """Return (n,) what is added to the weighted values, as the state is now; None for most methods."""
        return None

    @abstractmethod
    def move(self, losses: Tensor, present: Tensor, epoch: float | Tensor | None) -> None:
        """Move the state on by one iteration of training; called without gradients.

        Args:
            losses: (n,) means of the values over the ranks.
            present: (n,) bool, which terms have one; the state of the others must stay.
            epoch: what `MultiLoss.forward` was given, as a number or a scalar tensor.
        """
        raise NotImplementedError(f"{type(self).__name__} must define move(losses, present, epoch)")

    def forward(
        self,
        values: Tensor,
        active: Sequence[int] | None = None,
        epoch: float | Tensor | None = None,
        counts: Tensor | None = None,
    ) -> Coefficients:
        """Return the coefficients of the terms that are there, and move the state where it trains.

        Under a process group, every rank must call this at each step, with no value where it has no term.

        Args:
            values: (k,) values of the active terms, on the graph.
            active: their positions among the n bound terms; None where all are there.
            epoch: what `MultiLoss.forward` was given, as a number or a scalar tensor.
            counts: (k,) what the values are means over, which weighs those of the ranks; a value over nothing counts as
                not there. None where no loss says.

        Raises:
            WeightingError: a value is outside of the domain, on the CPU in eager mode; no state has moved.
        """
        if self.moves_first:
            self.advance(values, active, epoch, counts)
        coefficients = self._current(active)
        if not self.moves_first:
            self.advance(values, active, epoch, counts)
        return coefficients

    def advance(
        self,
        values: Tensor,
        active: Sequence[int] | None,
        epoch: float | Tensor | None,
        counts: Tensor | None = None,
    ) -> None:
        """Move the state by the values of one forward, in training."""
        if self.training:
            with torch.no_grad():
                losses, present = self.observe(values, active, counts)
                self.move(losses, present, epoch)

    def hold(self, present: Tensor, active: Sequence[int] | None = None) -> Coefficients:  # noqa: ARG002
        """Return the coefficients for a forward inside of a window, which moves nothing.

        Args:
            present: (k,) bool, which of the active terms have something to learn in the window.
            active: their positions; None where all are there.
        """
        return self._current(active)

    def settle(self, losses: Tensor, present: Tensor, epoch: float | Tensor | None) -> None:
        """Move the state at the end of a window, in training.

        Args:
            losses: (n,) means over the window, the same on all ranks.
            present: (n,) bool, which terms have one.
            epoch: the last that `MultiLoss.forward` was given.

        Raises:
            WeightingError: a value is outside of the domain, on the CPU; no state has moved.
        """
        if self.training and self.moves:
            with torch.no_grad():
                values, there, rows = self._fitting(losses, present)
                if rows and can_look(values):
                    self._refuse(*rows)
                self.move(torch.where(there, values, 0.0), there, epoch)

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

    def observe(
        self, values: Tensor, active: Sequence[int] | None, counts: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return what the state may move on: (n,) means over the ranks, and (n,) which terms have one.

        A value that is not finite (an overflow under mixed precision) counts as not there: it would stay
        in the state for ever. So does one outside of the domain, where it is not refused.

        Args:
            values: (k,) of this rank.
            active: their positions; None where k is n.
            counts: (k,) what they are means over, which weighs those of the ranks; None for one each.

        Raises:
            WeightingError: a value is outside of the domain; raised on every rank alike.
        """
        values, there, rows = self._fitting(values, None if counts is None else counts > 0)
        if self.domain.zero == "absent" and counts is None:
            there = there & (values != 0)
        if not several():
            values, there = self._of_all([torch.where(there, values, 0.0), there], active)
            if rows and can_look(values):
                self._refuse(*self._of_all(rows, active))
            return values, there
        weights = there.float() if counts is None else torch.where(there, counts.to(values), 0.0)
        sums = torch.stack(self._of_all([values.where(there, 0.0) * weights, weights, *rows], active))
        sums = add_up(sums, type(self).__name__)  # (2 or 4, n)
        if rows and can_look(sums):
            self._refuse(*sums[2:])
        total, weight = sums[:2]
        return total / torch.where(weight > 0, weight, 1.0), weight > 0

    def _of_all(self, vectors: list[Tensor], active: Sequence[int] | None) -> list[Tensor]:
        """Return (n,) vectors over all terms of (k,) ones over those that are active, with 0 for the others."""
        if active is None:
            return vectors
        places = {i: k for k, i in enumerate(active)}
        return [
            torch.stack([rows[places[i]] if i in places else nothing for i in range(len(self.names))])
            for rows, nothing in ((vector.unbind(), vector.new_zeros(())) for vector in vectors)
        ]

    def _fitting(self, values: Tensor, present: Tensor | None) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Return values as float32, which of them are there and in the domain, and on the CPU those to refuse."""
        values = values.detach().float()
        there = values.abs() < math.inf
        if present is not None:
            there = there & present
        if self.domain.negative:
            return values, there, []
        accepted = values >= -ROUNDING
        # for a look at them later; a rank without terms has them too
        refused = there & ~accepted if values.device.type == "cpu" else None
        rows = [] if refused is None else [values.where(refused, 0.0), refused.float()]
        return values.clamp_min(0.0), there & accepted, rows

    def _refuse(self, sums: Tensor, ranks: Tensor) -> None:
        """Raise where some rank has a value outside of the domain."""
        if not bool(ranks.any()):
            return
        means = zip(self.names, (sums / ranks).tolist(), strict=True)
        found = [f"found {mean:.6g} for the term {name!r}" for name, mean in means if mean < 0]
        raise WeightingError(
            f"{type(self).__name__}: expected values of 0 or more, {', '.join(found)}: {self.domain.reason}; add a "
            "constant to that loss, or take a weighting that is defined for negative values (softadapt; gradnorm with "
            "alpha: 0)"
        )

    def _current(self, active: Sequence[int] | None) -> Coefficients:
        """Return the coefficients of the active terms, of the state as it is now."""
        weights, addends = self.weights(), self.addends()
        return Coefficients(_chosen(weights, active), None if addends is None else _chosen(addends, active))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Weighting:
        """Let `to(device)` move the state, and keep casts away from it."""

        def moved(tensor: Tensor) -> Tensor:
            changed = fn(tensor)
            return changed if changed.dtype == tensor.dtype else tensor.to(changed.device)

        super()._apply(moved, recurse)  # type: ignore[no-untyped-call]
        return self


def _chosen(coefficients: Tensor, active: Sequence[int] | None) -> Tensor:
    """Return (k,) the coefficients of the active terms, copied: the state may move before the backward."""
    found = coefficients if coefficients.requires_grad else snapshot(coefficients)
    return found if active is None else chosen(found, active)
