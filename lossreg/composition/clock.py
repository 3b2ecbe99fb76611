"""Schedules at a point in time: evaluated once per epoch value, in Python, outside of compiled graphs.

A compiled `MultiLoss` must not be compiled again as the epoch moves, and schedules are plain Python that a
compiler cannot trace. So they are evaluated before the compiled graph (see `call`), which reads the weights of a
`Moment` as a tensor. Where a `MultiLoss` is inlined into a larger compiled function there is no such "before": there
an operator of its own evaluates the schedules.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from lossreg.arguments import Arguments
from lossreg.composition.schedules import Constant, Schedule

_numbers = itertools.count()
_by_number: WeakValueDictionary[int, Clock] = WeakValueDictionary()  # an operator takes no objects


@dataclass(eq=False)
class Weights:
    """The weights of the terms of one `MultiLoss`, as numbers; where they are the same again, it is the same object.

    Attributes:
        values: of the terms.
        off: for each term whether its weight is 0; empty where none is.
        inner: for each term the weights of the group that it is, or None; empty where no term is a group.
    """

    values: tuple[float, ...]
    off: tuple[bool, ...]
    inner: tuple[Weights | None, ...]

    def sizes(self) -> Iterator[int]:
        """Yield how many numbers this `MultiLoss` has on a device, then those of its groups."""
        yield len(self.values) + -len(self.values) % _ALIGNED
        for group in self.inner:
            if group is not None:
                yield from group.sizes()

    def numbers(self) -> Iterator[float]:
        """Yield these numbers."""
        yield from self.values
        yield from itertools.repeat(0.0, -len(self.values) % _ALIGNED)
        for group in self.inner:
            if group is not None:
                yield from group.numbers()


# not frozen: torch 2.6 reads all fields of a frozen one, the epoch too, and compiles a forward again for each
@dataclass(eq=False)
class Moment:
    """The weights of the terms of one `MultiLoss` at one time. Nothing changes it, so that threads may share it.

    Attributes:
        epoch, step: the time, as it was given.
        off: for each term whether its weight is 0; empty where none is.
        vector: (n,) the weights, float64.
        single: (n,) the same in float32.
        now: [] the epoch as a tensor, or None where none was given, or nothing asks for it.
        inner: for each term the moment of the group that it is, or None; empty where no term is a group.
    """

    epoch: float | None
    step: float | None
    off: tuple[bool, ...]
    vector: Tensor
    single: Tensor
    now: Tensor | None
    inner: tuple[Moment | None, ...]

    def later(self, epoch: float | None, step: float | None) -> Moment:
        """Return the moment of another time at which all weights are the same."""
        inner = tuple(None if group is None else group.later(epoch, step) for group in self.inner)
        return dataclasses.replace(self, epoch=epoch, step=step, inner=inner)


@dataclass(frozen=True, eq=False)
class _Kept:
    """The last moment of a `MultiLoss`, and what it holds for."""

    moment: Moment
    weights: Weights
    device: torch.device
    stream: int | None


class Clock:
    """The schedules of the terms of one `MultiLoss`.

    Attributes:
        names: the terms.
        schedules: their weights; set another tuple to change them, at the next forward.
        owner: the `MultiLoss`, for messages.
        compared: whether no weight was set since the ranks compared them.
        never: for each term whether its weight is 0 at all times; empty where none is.
        moving: for each term whether its weight may be 0 at some time and not at another; empty where none is.
    """

    def __init__(self, names: Sequence[str], schedules: Sequence[Schedule], owner: str) -> None:
        self.names = tuple(names)
        self.owner = owner
        self.compared = True
        self.schedules = tuple(schedules)
        self._evaluated: tuple[Any, tuple[Schedule, ...], Weights] | None = None
        self._kept: _Kept | None = None
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

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_evaluated": None, "_kept": None}

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

    def time(self, epoch: Any, step: Any) -> tuple[float | None, float | None]:
        """Return a time as numbers.

        Raises:
            ArgumentError: it is no number, or not finite.
        """
        return _number("epoch", epoch, self.owner), _number("step", step, self.owner)

    def evaluate(self, epoch: float | None, step: float | None, inner: tuple[Weights | None, ...]) -> Weights:
        """Return the weights at a time; the same object as last where they are the same.

        Args:
            epoch, step: the time.
            inner: what this returned for the groups.

        Raises:
            ValueError: as `weights_at`.
        """
        last, schedules, time = self._evaluated, self.schedules, (epoch, step)
        if (
            last is not None
            and last[1] is schedules
            and last[2].inner == inner
            and (not self.moving or last[0] == time)
        ):
            return last[2]
        values = self._weights(schedules, epoch, step)
        if last is not None and (last[2].values, last[2].inner) == (values, inner):
            weights = last[2]
        else:
            weights = Weights(values, tuple(v == 0 for v in values) if 0 in values else (), inner)
        self._evaluated = time, schedules, weights
        return weights

    def moment(
        self, epoch: float | None, step: float | None, weights: Weights, device: torch.device, timed: bool
    ) -> Moment:
        """Return weights on a device: the tensors of last time where they have not changed, else one copy of all.

        Args:
            epoch, step: the time.
            weights: at that time.
            device: of the forward.
            timed: whether something asks for the epoch as a tensor.
        """
        stream, kept = _stream_of(device), self._kept
        if (
            kept is not None
            and kept.weights is weights
            and kept.device == device
            and (kept.stream == stream or _capturing(device))  # a capture begins when the device has done all before
        ):
            last = kept.moment
            if (last.epoch, last.step) == (epoch, step):
                return last
            if not timed or last.epoch == epoch:
                moment = last.later(epoch, step)
                self._kept = dataclasses.replace(kept, moment=moment)
                return moment
        with torch.inference_mode(mode=False):  # what is kept may serve a training step
            moment = _on_device(epoch, step, weights, device, timed)
        if type(moment.vector) is Tensor:  # not one of an export, which traces with others
            self._kept = _Kept(moment, weights, device, stream)
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


# --- numbers on a device ----------------------------------------------------------------------------

_ALIGNED = 4  # 16 bytes of float32: compiled code copies inputs that begin elsewhere


def _stream_of(device: torch.device) -> int | None:
    """Return the stream that a copy to a device is on, and has to be read on; None where there are none."""
    accelerator = None if device.type in ("cpu", "meta") else torch.accelerator.current_accelerator()
    if accelerator is None or accelerator.type != device.type:
        return None
    return torch.accelerator.current_stream(device).stream_id


def _capturing(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


def _on_device(epoch: float | None, step: float | None, weights: Weights, device: torch.device, timed: bool) -> Moment:
    """Return the moment of all groups together, by one copy that the host does not wait for."""
    told = timed and epoch is not None
    alone = not weights.inner and not told
    numbers = weights.values if alone else [*weights.numbers(), epoch if told else 0.0]
    dtype = torch.float32 if device.type == "mps" else torch.float64
    # The memory of the host may be freed at once: it is not pinned, so that a device driver has read it when the call
    # returns. Only a graph that is being captured would read it later; there the copy waits, and is refused by CUDA.
    flat = torch.tensor(numbers, dtype=dtype, device="cpu").to(device, non_blocking=not _capturing(device))
    if alone:
        return Moment(epoch, step, weights.off, flat, flat.float(), None, ())
    sizes = [*weights.sizes(), 1]
    parts: Iterator[tuple[Tensor, Tensor]] = zip(flat.split(sizes), flat.float().split(sizes), strict=True)  # type: ignore[no-untyped-call]
    return _placed(epoch, step, weights, parts, flat[-1] if told else None)


def _placed(
    epoch: float | None,
    step: float | None,
    weights: Weights,
    parts: Iterator[tuple[Tensor, Tensor]],
    now: Tensor | None,
) -> Moment:
    """Return the moment of a `MultiLoss` and of its groups, which take the next parts one after another."""
    n, (vector, single) = len(weights.values), next(parts)
    inner = tuple(None if group is None else _placed(epoch, step, group, parts, now) for group in weights.inner)
    return Moment(epoch, step, weights.off, vector[:n], single[:n], now, inner)
