"""A criterion as the loss of a trainer `Engine` of Ignite, and of MONAI's `SupervisedTrainer`, which is one."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, Literal, cast

import torch
from torch import nn

from lossreg.arguments import Arguments
from lossreg.composition.multiloss import MultiLoss
from lossreg.errors import DistributedError, WindowError
from lossreg.losses.elementwise import uncompiled
from lossreg.losses.ranks import several
from lossreg.training.accumulation import ReadAhead, StepWindow, own_parameters
from lossreg.training.calibration import BatchFunction, calibrate_norms, needs_norms
from lossreg.training.log import TermLog, samples_of
from lossreg.training.loss_function import LossFunction


class EngineLoss(LossFunction):
    """The loss of a trainer engine: it returns the total of a criterion, and follows the engine.

    Give it to `create_supervised_trainer` as `loss_fn` and attach it to what that returns; or to MONAI's
    `SupervisedTrainer` both as `loss_function` and among the `train_handlers`. Then

    - norms are calibrated when a run begins, unless they are there;
    - the schedules get the epoch, with its fraction, and the number of the step at which a step begins;
    - micro-batches of an accumulation are a window of the criterion, so that their gradient is that of the joined
      batch;
    - a `TermLog` counts the steps of the optimizer, and what it writes is also in `engine.state.metrics`.

    Save `criterion` itself in a checkpoint, beside the model, the optimizer and the trainer. Attach this before a
    handler that saves at an iteration.

    Args:
        criterion: a `MultiLoss`, or what `torch.compile` made of it.
        model: the network, over which norms are calibrated. MONAI's engine knows it; for Ignite's, None leaves norms
            as they are.
        gradient_accumulation_steps: as the engine was given; MONAI's engine knows it.
        prepare_batch: as the engine was given: returns `(x, y)` of a batch, a device and `non_blocking`; by default a
            batch is such a pair. MONAI's engine knows it.
        batch_fn: how calibration reads a batch; by default `model(x)` and `y`.
        log: a `TermLog` of the criterion; the caller closes it.
        mode: the mode of the model while norms are calibrated.

    Raises:
        ArgumentError: names every argument that is of a wrong type or out of range.
    """

    def __init__(
        self,
        criterion: nn.Module,
        model: nn.Module | None = None,
        *,
        gradient_accumulation_steps: int = 1,
        prepare_batch: Callable[..., Any] | None = None,
        batch_fn: BatchFunction | None = None,
        log: TermLog | None = None,
        mode: Literal["eval", "train"] = "eval",
    ) -> None:
        super().__init__(criterion)
        given = Arguments("EngineLoss")
        if model is not None and not isinstance(model, nn.Module):
            given.wrong("model", "the network, a module", model)
        steps = given.count("gradient_accumulation_steps", gradient_accumulation_steps, "a number of micro-batches")
        if log is not None and not isinstance(log, TermLog):
            given.wrong("log", "a TermLog", log)
        given.done()
        self.__dict__["_model"] = model  # not a part of this module, whose parameters are the criterion's
        self._accumulation = steps
        self._prepare_batch, self._batch_fn, self._log, self._mode = prepare_batch, batch_fn, log, mode
        self._ahead: ReadAhead | None = None
        self._window: StepWindow | None = None

    @property
    def multi_loss(self) -> MultiLoss:
        """The criterion, not compiled."""
        return cast(MultiLoss, uncompiled(self.criterion))

    def attach(self, engine: Any) -> None:
        """Follow a trainer engine.

        Raises:
            ImportError: Ignite is not installed.
        """
        try:
            from ignite.engine import Events
        except ImportError as error:
            raise ImportError('lossreg.training.ignite needs Ignite: pip install "lossreg[ignite]"') from error
        engine.add_event_handler(Events.STARTED, self._begin)
        engine.add_event_handler(Events.ITERATION_STARTED, self._begin_iteration)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._end_iteration)
        engine.add_event_handler(Events.COMPLETED | Events.TERMINATE, self._end)

    # --- events -----------------------------------------------------------------------------------

    def _begin(self, engine: Any) -> None:
        """Calibrate the norms, and read ahead of an accumulation."""
        if self._window is not None:
            self._window.abandon()  # of a run that failed
        owner = type(self).__name__
        if several() and next(own_parameters(self.multi_loss), None) is not None:
            raise DistributedError(
                f"{owner}: expected losses without parameters on several ranks, since an engine averages the gradients "
                "of its model alone; train such a loss on one rank, or by a loop of your own"
            )
        model = self.__dict__["_model"] if self.__dict__["_model"] is not None else getattr(engine, "network", None)
        loader = engine.state.dataloader
        if model is not None and loader is not None and needs_norms(self.multi_loss, owner):
            calibrate_norms(
                self.multi_loss, model, loader, batch_fn=self._batch_fn or self._reader(engine), mode=self._mode
            )
        self._accumulation = getattr(engine, "accumulation_steps", self._accumulation)
        self._ahead = self._window = None
        if self._accumulation > 1:
            self._check_steps(engine)
            self._window = StepWindow(self.criterion, self._accumulation)
            self._ahead = ReadAhead(loader, self._accumulation, lambda batch: self._prepared(engine, batch)[1])
            engine.state.dataloader = self._ahead

    def _check_steps(self, engine: Any) -> None:
        """Refuse an epoch that does not end with a step."""
        length, steps = engine.state.epoch_length, self._accumulation
        owner = f"{type(self).__name__}: gradient_accumulation_steps={steps}"
        if length is None or engine.state.dataloader is None:
            raise WindowError(f"{owner}: expected a loader and a known length of an epoch; pass epoch_length to run()")
        flushes = hasattr(engine, "accumulation_steps")
        if length % steps and not flushes:
            raise WindowError(
                f"{owner}: expected an epoch_length that it divides, found {length}: Ignite goes on with a step in the "
                f"next epoch; run(..., epoch_length={length - length % steps})"
            )
        if engine.state.iteration % length % steps:
            raise WindowError(
                f"{owner}: expected to go on at the end of a step, found iteration {engine.state.iteration}; load a "
                "checkpoint that was saved at the end of a step, since none has the gradients within one"
            )

    def _begin_iteration(self, engine: Any) -> None:
        """Set the time, and open a window, where a step begins."""
        length, done = engine.state.epoch_length, engine.state.iteration - 1
        local = done % length if length else done
        if local % self._accumulation:
            return
        epochs = done // length if length else engine.state.epoch - 1
        self.epoch = epochs + local / length if length else float(epochs)
        self.step = float(done)
        if self._window is None or self._ahead is None:
            return
        self.step = float(epochs * math.ceil(length / self._accumulation) + local // self._accumulation)
        targets, left = self._ahead.take(), min(self._accumulation, length - local)
        if len(targets) != left:
            raise WindowError(
                f"{type(self).__name__}: expected the {left} batches of a step that begins at iteration {done + 1}, "
                f"found {len(targets)}; give run() an epoch_length of the length of its loader"
            )
        self._window.open(targets)

    def _end_iteration(self, engine: Any) -> None:
        """Close the window after the last micro-batch of a step, and log."""
        if self._window is not None and not self._window.close_micro_batch():
            return
        if self._log is not None and self.step is not None:
            engine.state.metrics.update(self._log.step(int(self.step) + 1) or {})

    def _end(self, engine: Any) -> None:
        """Leave the engine as it was."""
        if self._window is not None:
            self._window.abandon()  # of an epoch that was ended within a step
        if self._ahead is not None:
            engine.state.dataloader = self._ahead.loader
        self._ahead = self._window = None

    # --- batches ----------------------------------------------------------------------------------

    def _prepared(self, engine: Any, batch: Any, device: Any = None) -> Any:
        """Return `(x, y)` of a batch; MONAI's may go on with arguments of the network."""
        if self._prepare_batch is not None:
            return self._prepare_batch(batch, device=device, non_blocking=False)
        if hasattr(engine, "prepare_batch"):
            return engine.prepare_batch(batch, device, engine.non_blocking, **engine.to_kwargs)
        return batch

    def _reader(self, engine: Any) -> BatchFunction:
        """Return how the engine reads a batch, for the calibration."""

        def read(model: nn.Module, batch: Any) -> tuple[Any, Any, int]:
            x, y, *more = self._prepared(engine, batch, getattr(engine.state, "device", None))
            args, kwargs = more or ((), {})
            amp = getattr(engine, "amp", False)
            with torch.autocast("cuda", **engine.amp_kwargs) if amp else nullcontext():
                inferer = getattr(engine, "inferer", None)
                pred = model(x) if inferer is None else inferer(x, model, *args, **kwargs)
            return pred, y, samples_of(pred)

        return read
