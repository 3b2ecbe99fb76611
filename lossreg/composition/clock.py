"""Schedules at a point in time: evaluated once per epoch value, in Python, outside of compiled graphs.

A compiled `MultiLoss` must not be compiled again as the epoch moves, and schedules are plain Python that a
compiler cannot trace. So the time is set by a forward pre-hook, which PyTorch runs before the compiled
graph; the graph reads the weights as a tensor and never sees the epoch. Where a `MultiLoss` is inlined into
a larger compiled function there is no such "before": there an operator of its own evaluates the schedules.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol, cast
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn

from lossreg.arguments import Arguments
from lossreg.composition.schedules import Schedule

INHERITED: Final = "inherited"
"""In place of an epoch: the time has been set by the `MultiLoss` around."""

_numbers = itertools.count()
_by_number: WeakValueDictionary[int, Clock] = WeakValueDictionary()  # an operator takes no objects


def weights_at(
    schedules: Mapping[str, Schedule], epoch: float | None, step: float | None, owner: str
) -> tuple[float, ...]:
    """Evaluate the schedules of terms by name.

    Raises:
        ValueError: a schedule needs the epoch, or the step, and it was not given or is not finite.
        ArgumentError: it is no number.
    """
    times = {"epoch": _number("epoch", epoch, owner), "step": _number("step", step, owner)}
    for unit, time in times.items():
        waiting = [name for name, s in schedules.items() if s.needs_epoch and s.unit == unit]
        if waiting and time is None:
            raise ValueError(
                f"{owner}: the weights of {', '.join(map(repr, waiting))} follow a schedule; "
                f"pass forward(..., {unit}=...)"
            )
        if waiting and not math.isfinite(time or 0.0):
            raise ValueError(f"{owner}: {unit} must be finite, got {time}")
    return tuple(s(float(times[s.unit] or 0.0)) if s.needs_epoch else s(0.0) for s in schedules.values())


def _number(unit: str, time: Any, owner: str) -> float | None:
    """Take a time as a number: a tensor of one number, and numpy's, are some."""
    if time is None or type(time) in (int, float):
        return cast("float | None", time)
    if isinstance(time, Tensor) and time.numel() == 1:
        return float(time)
    given = Arguments(owner)
    number = given.number(unit, time, "a number", lambda _: True)
    given.done()
    return number


class Clock:
    """The weights of the terms of one `MultiLoss` at the time that was set last.

    Attributes:
        zero: for each term whether its weight is 0.
        vector: (n,) the same as a tensor, float64.
        epoch: [] the epoch as a tensor, or None where none was given.
        time: the epoch and the step that were set last.
        inlined: whether the forward that is traced is part of a larger compiled function.
    """

    def __init__(self, schedules: Mapping[str, Schedule], owner: str) -> None:
        self.schedules = dict(schedules)
        self.owner = owner
        self.zero: tuple[bool, ...] = ()
        self.vector = torch.zeros(0, dtype=torch.float64)
        self.epoch: Tensor | None = None
        self.inlined = False
        self.time: tuple[float | None, float | None] = (None, None)
        self._key: Any = None
        self._register()

    def _register(self) -> None:
        self._number = next(_numbers)
        _by_number[self._number] = self

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._register()

    def set(self, epoch: float | Tensor | None, step: float | Tensor | None, device: torch.device) -> None:
        """Evaluate the schedules, unless they were evaluated at this time last."""
        key = (epoch, step, device)
        if key == self._key:
            return
        epoch, step = _number("epoch", epoch, self.owner), _number("step", step, self.owner)
        weights = weights_at(self.schedules, epoch, step, self.owner)
        self.zero = tuple(weight == 0 for weight in weights)
        dtype = torch.float32 if device.type == "mps" else torch.float64
        self.vector = torch.tensor(weights, dtype=dtype, device=device)
        self.epoch = None if epoch is None else torch.tensor(epoch, dtype=dtype, device=device)
        self.time, self._key = (epoch, step), key

    def trace(self, epoch: float | None, step: float | None, like: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return `vector` and `epoch` as operations of a graph that is being compiled."""
        # adding to a tensor keeps a moving number out of the graph, where it would be a constant to recompile for
        never = torch.full((), math.nan, dtype=torch.float64)
        start = torch.zeros((), dtype=torch.float64)
        times = [never if time is None else start + time for time in (epoch, step)]
        vector = torch.ops.lossreg.weights(like.detach(), torch.stack(times), self._number, len(self.schedules))
        return vector, None if epoch is None else times[0].to(like.device)


@torch.library.custom_op("lossreg::weights", mutates_args=())
def _weights(like: Tensor, times: Tensor, number: int, terms: int) -> Tensor:
    """Evaluate the schedules of the clock of a number at `[epoch, step]`; a time that was not given is NaN."""
    del terms
    clock = _by_number[number]
    epoch, step = (None if math.isnan(time) else time for time in times.tolist())
    weights = weights_at(clock.schedules, epoch, step, clock.owner)
    return torch.tensor(weights, dtype=torch.float64, device=like.device)


@_weights.register_fake
def _(like: Tensor, times: Tensor, number: int, terms: int) -> Tensor:
    del times, number
    return like.new_empty(terms, dtype=torch.float64)


class Timed(Protocol):
    """What the hook needs of a `MultiLoss`."""

    clock: Clock

    def set_time(self, epoch: float | None, step: float | None) -> None:
        """Set the time of the terms and of all groups among them."""


def before_forward(module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Set the time of a `MultiLoss` from the arguments of its forward, if they give one."""
    epoch = kwargs.get("epoch", args[3] if len(args) > 3 else None)
    if epoch is INHERITED:
        return
    timed: Any = module
    timed.clock.inlined = torch.compiler.is_dynamo_compiling()
    if not timed.clock.inlined:
        _outside(timed.set_time)(epoch, kwargs.get("step", args[4] if len(args) > 4 else None))


def _outside(function: Callable[..., None]) -> Callable[..., None]:
    """Keep the compiler away from a function and all that it calls, where there is a compiler at all."""
    if "torch._dynamo" not in sys.modules:
        return function
    disabled: Callable[..., None] = torch.compiler.disable(function)  # type: ignore[no-untyped-call]
    return disabled


def _skip_frame(function: Callable[..., Any]) -> None:
    """Have the compiler run a function's own frame as it is, when it is not inlined.

    `torch.compiler.disable` would do, but it also refuses to be inlined, and it imports the compiler.
    """
    try:
        from torch._C._dynamo.eval_frame import _FrameAction, _FrameExecStrategy, set_code_exec_strategy
    except ImportError:  # torch before 2.7
        from torch._dynamo.eval_frame import skip_code

        skip_code(function.__code__)
    else:
        set_code_exec_strategy(function.__code__, _FrameExecStrategy(_FrameAction.SKIP, _FrameAction.DEFAULT))


_skip_frame(before_forward)
_skip_frame(_outside)
