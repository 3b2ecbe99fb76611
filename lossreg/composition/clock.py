"""Schedules at a point in time: evaluated once per epoch value, in Python, outside of compiled graphs.

A compiled `MultiLoss` must not be compiled again as the epoch moves, and schedules are plain Python that a
compiler cannot trace. So they are evaluated before the compiled graph (see `call`), which reads the weights of a
`Moment` as a tensor. Where a `MultiLoss` is inlined into a larger compiled function there is no such "before": there
an operator of its own evaluates the schedules.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from lossreg.arguments import Arguments
from lossreg.composition.schedules import Constant, Schedule

_numbers = itertools.count()
_by_number: WeakValueDictionary[int, Clock] = WeakValueDictionary()  # an operator takes no objects


# not frozen: torch 2.6 reads all fields of a frozen one, the epoch too, and compiles a forward again for each
@dataclass(eq=False)
class Moment:
    """The weights of the terms of one `MultiLoss` at one time. Nothing changes it, so that threads may share it.

    Attributes:
        epoch, step: the time, as it was given.
        schedules: what was evaluated.
        off: for each term whether its weight is 0; empty where none is.
        vector: (n,) the weights, float64.
        on: positions of the terms whose weight is not 0.
        vector_on: (k,) the weights of those.
        single_on: (k,) the same in float32.
        now: [] the epoch as a tensor, or None where none was given.
        inner: for each term the moment of the group that it is, or None.
    """

    epoch: float | None
    step: float | None
    schedules: tuple[Schedule, ...]
    off: tuple[bool, ...]
    vector: Tensor
    on: tuple[int, ...]
    vector_on: Tensor
    single_on: Tensor
    now: Tensor | None
    inner: tuple[Moment | None, ...]


class Clock:
    """The schedules of the terms of one `MultiLoss`.

    Attributes:
        names: the terms.
        schedules: their weights; set another tuple to change them, at the next forward.
        owner: the `MultiLoss`, for messages.
        never: for each term whether its weight is 0 at all times; empty where none is.
        moving: for each term whether its weight may be 0 at some time and not at another; empty where none is.
    """

    def __init__(self, names: Sequence[str], schedules: Sequence[Schedule], owner: str) -> None:
        self.names = tuple(names)
        self.owner = owner
        self.schedules = tuple(schedules)
        self._last: Moment | None = None
        self._register()

    @property
    def schedules(self) -> tuple[Schedule, ...]:
        """The weights of the terms."""
        return self._schedules

    @schedules.setter
    def schedules(self, schedules: tuple[Schedule, ...]) -> None:
        never = tuple(isinstance(s, Constant) and s.value == 0 for s in schedules)
        moving = tuple(not isinstance(s, Constant) for s in schedules)
        self.never, self.moving = never if any(never) else (), moving if any(moving) else ()
        self._schedules = schedules

    def _register(self) -> None:
        self._number = next(_numbers)
        _by_number[self._number] = self

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._register()

    def weights_at(self, epoch: Any, step: Any) -> tuple[float, ...]:
        """Evaluate the schedules.

        Raises:
            ValueError: a schedule needs the epoch, or the step, and it was not given or is not finite.
            ArgumentError: it is no number.
        """
        return self._weights(self.schedules, _number("epoch", epoch, self.owner), _number("step", step, self.owner))

    def _weights(self, schedules: Sequence[Schedule], epoch: float | None, step: float | None) -> tuple[float, ...]:
        times = {"epoch": epoch, "step": step}
        for unit, time in times.items():
            named = zip(self.names, schedules, strict=True)
            waiting = [name for name, s in named if s.needs_epoch and s.unit == unit] if time is None else ()
            if waiting:
                raise ValueError(
                    f"{self.owner}: the weights of {', '.join(map(repr, waiting))} follow a schedule; "
                    f"pass forward(..., {unit}=...)"
                )
        return tuple(s(float(times[s.unit] or 0.0)) if s.needs_epoch else s(0.0) for s in schedules)

    def at(self, epoch: Any, step: Any, device: torch.device, inner: tuple[Moment | None, ...]) -> Moment:
        """Return the weights at a time, anew where it, the device or a schedule is another than last.

        Raises:
            ValueError, ArgumentError: as `weights_at`.
        """
        epoch, step = _number("epoch", epoch, self.owner), _number("step", step, self.owner)
        last, schedules = self._last, self.schedules
        if (
            last is not None
            and (last.epoch, last.step, last.inner) == (epoch, step, inner)
            and last.schedules is schedules
            and last.vector.device == device
        ):
            return last
        weights = self._weights(schedules, epoch, step)
        dtype = torch.float32 if device.type == "mps" else torch.float64
        vector = torch.tensor(weights, dtype=dtype, device=device)
        on = tuple(i for i, weight in enumerate(weights) if weight != 0)
        every = len(on) == len(weights)
        vector_on = vector if every else torch.tensor([weights[i] for i in on], dtype=dtype, device=device)
        self._last = moment = Moment(
            epoch,
            step,
            schedules,
            off=() if every else tuple(weight == 0 for weight in weights),
            vector=vector,
            on=on,
            vector_on=vector_on,
            single_on=vector_on.float(),
            now=None if epoch is None else torch.tensor(epoch, dtype=dtype, device=device),
            inner=inner,
        )
        return moment

    def trace(self, epoch: Any, step: Any, like: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the weights, (n,), and the epoch, [], as operations of a graph that is being compiled."""
        # adding to a tensor keeps a moving number out of the graph, where it would be a constant to recompile for
        start = torch.zeros((), dtype=torch.float64)
        times = [
            start if time is None else start + _of_time(unit, time, self.owner)
            for unit, time in (("epoch", epoch), ("step", step))
        ]
        vector = torch.ops.lossreg.weights(
            like.detach(), torch.stack(times), [epoch is not None, step is not None], self._number, len(self.names)
        )
        return vector, None if epoch is None else times[0].to(like.device)


def _number(unit: str, time: Any, owner: str) -> float | None:
    """Take a time as a number; a tensor of one number, and numpy's, are some, and are read anew each time.

    Raises:
        ArgumentError: it is no number, or not finite.
    """
    if time is None or (type(time) in (int, float) and -1e300 < time < 1e300):
        return time  # type: ignore[no-any-return]
    if isinstance(_of_time(unit, time, owner), Tensor):
        time = time.item()
    given = Arguments(owner)
    number = given.number(unit, time, "a finite number")
    given.done()
    return number


def _of_time(unit: str, time: Any, owner: str) -> Any:
    """Refuse what is no time by its type, as a compiler sees it too."""
    if isinstance(time, Tensor):
        fits = time.numel() == 1 and time.dtype != torch.bool and not time.is_complex()
    else:
        fits = not isinstance(time, (bool, str))
    if not fits:
        given = Arguments(owner)
        given.wrong(unit, "a finite number", time)
        given.done()
    return time


@torch.library.custom_op("lossreg::weights", mutates_args=())
def _weights(like: Tensor, times: Tensor, given: Sequence[bool], number: int, terms: int) -> Tensor:
    """Evaluate the schedules of the clock of a number at `[epoch, step]`, each of which may not be given."""
    del terms
    epoch, step = (time if there else None for time, there in zip(times.tolist(), given, strict=True))
    return torch.tensor(_by_number[number].weights_at(epoch, step), dtype=torch.float64, device=like.device)


@_weights.register_fake
def _(like: Tensor, times: Tensor, given: Sequence[bool], number: int, terms: int) -> Tensor:
    del times, given, number
    return like.new_empty(terms, dtype=torch.float64)
