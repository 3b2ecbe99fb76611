"""One call of a `MultiLoss`: its weights before the forward, its record after it.

Both happen in hooks, which PyTorch runs outside of a compiled graph. The graph reads the weights as tensors and never
sees the epoch; what it leaves in the `Call` becomes the record.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

from lossreg.composition.clock import Moment
from lossreg.composition.record import Parts, Record
from lossreg.losses.eager import outside, skip_frame

if TYPE_CHECKING:
    from lossreg.composition.multiloss import MultiLoss
    from lossreg.composition.window import Window


class Call:
    """One call of a `MultiLoss`. Each call makes its own, so that threads share nothing.

    Attributes:
        moment: the time and the weights at it; None where the compiled graph itself evaluates them.
        epoch, step: the time, where there is no moment.
        window: the window that the forward is in; None for none.
        is_inner: whether it is the call of a group, by the `MultiLoss` around it.
        parts: what the forward leaves for its record; None until it ends.
    """

    def __init__(
        self,
        moment: Moment | None,
        epoch: float | None = None,
        step: float | None = None,
        window: Window | None = None,
    ) -> None:
        self.moment, self.epoch, self.step, self.window = moment, epoch, step, window
        self.is_inner = False
        self.parts: Parts | None = None

    def of_group(self, position: int) -> Call:
        """Return the call of the group at a position."""
        if self.moment is None:
            return Call(None, self.epoch, self.step)
        inner = Call(self.moment.inner[position], window=None if self.window is None else self.window.inner[position])
        inner.is_inner = True
        return inner


class LastRecord(threading.local):
    """The record of the last forward of each thread; a copy begins without one."""

    record: Record | None = None

    def __reduce__(self) -> tuple[type[LastRecord], tuple[()]]:
        return LastRecord, ()


@skip_frame
def before_forward(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """Give a forward its `Call`, unless a `MultiLoss` around it has, or a compiler is tracing it."""
    if kwargs.get("call") is not None or torch.compiler.is_dynamo_compiling():
        return None
    epoch = kwargs.get("epoch", args[3] if len(args) > 3 else None)
    step = kwargs.get("step", args[4] if len(args) > 4 else None)
    predictions = kwargs.get("pred_batch", args[0] if args else None)
    targets = kwargs.get("gt_batch", args[1] if len(args) > 1 else None)
    normalize = kwargs.get("normalize", args[2] if len(args) > 2 else True)
    call = outside(begin)(module, epoch, step, predictions, targets, normalize)
    # The call holds the time. Torch 2.6 compiles a graph anew for each epoch that a forward is given.
    return args[:3], {**kwargs, "epoch": None, "step": None, "call": call}


def begin(module: nn.Module, epoch: Any, step: Any, predictions: Any, targets: Any, normalize: Any) -> Call:
    """Return a call, after the ranks have compared their criteria: before the first collective of a forward.

    Args:
        module: the criterion.
        epoch, step: the time.
        predictions, targets: of the forward, for terms that a batch brings, and a window of its own over the ranks.
        normalize: whether terms are to be divided by their norms.
    """
    criterion = cast("MultiLoss", module)
    if criterion._dictionaries:
        criterion.learn_members(predictions, targets, fix=criterion.training)
    criterion.compare_ranks()
    moment = criterion.moment(epoch, step)
    if normalize is True and criterion.training and torch.is_grad_enabled():
        criterion.check_calibration()
    return Call(moment, window=criterion.window_of_forward(targets))


@skip_frame
def after_forward(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], _output: Any) -> None:  # noqa: ARG001
    """Keep the record of a forward that has ended."""
    call = kwargs.get("call")
    if call is not None and not torch.compiler.is_compiling():
        outside(keep_record)(module, call)


def keep_record(module: nn.Module, call: Call) -> None:
    """Make the record of a call the last one of this thread."""
    if call.parts is not None and call.moment is not None:
        cast("MultiLoss", module)._last.record = Record(call.parts, call.moment.epoch, call.moment.step)
        if call.window is not None and not call.is_inner:
            call.window.now = call.moment.now
            call.window.add(call.parts)
            if call.window.single:
                call.window.check(cast("MultiLoss", module))
                call.window.settle(cast("MultiLoss", module))


@contextmanager
def records_kept(criterion: MultiLoss) -> Iterator[None]:
    """Leave the last records of a criterion and of its groups as they were, whatever is called meanwhile."""
    members = [getattr(module, "_last", None) for module in criterion.modules()]
    stores = [member for member in members if isinstance(member, LastRecord)]
    before = [store.record for store in stores]
    try:
        yield
    finally:
        for store, record in zip(stores, before, strict=True):
            store.record = record
