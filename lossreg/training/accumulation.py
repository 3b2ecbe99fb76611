"""Windows for trainers that take one micro-batch at a time and divide each loss by their number."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import islice
from typing import Any, cast

import torch
from torch import nn

from lossreg.arguments import Arguments
from lossreg.composition.multiloss import MultiLoss, read_criterion
from lossreg.errors import WindowError
from lossreg.losses.nested import mapped
from lossreg.losses.ranks import average_gradients


def default_targets(batch: Any) -> Any:
    """Return the targets of a batch: the second of a pair, or all of a mapping.

    Raises:
        WindowError: the batch is neither.
    """
    if isinstance(batch, Mapping):
        return batch
    if isinstance(batch, Sequence) and len(batch) == 2 and not isinstance(batch, str):
        return batch[1]
    raise WindowError(
        f"expected a batch that is a mapping or an (image, target) pair, found {type(batch).__name__}; "
        "pass targets(batch), which returns what the criterion is given as targets"
    )


class ReadAhead:
    """Yield the batches of a loader one by one, but read all batches of a step before the first of them.

    A window needs the targets of all micro-batches of a step before its first forward. Give this to the trainer in
    place of the loader; `take` returns the targets of each step. All other attributes are those of the loader.

    Args:
        loader: gives the batches, and may be iterated again.
        micro_batches: how many make a step; the last step of an epoch may have fewer.
        targets: a function that returns the targets of a batch, as the criterion takes them.

    Raises:
        ArgumentError: names every argument that is of a wrong type or out of range.
    """

    def __init__(
        self, loader: Iterable[Any], micro_batches: int, targets: Callable[[Any], Any] = default_targets
    ) -> None:
        given = Arguments("ReadAhead")
        if not isinstance(loader, Iterable):
            given.wrong("loader", "an iterable of batches", loader)
        self.micro_batches = given.count("micro_batches", micro_batches, "a number of micro-batches")
        if not callable(targets):
            given.wrong("targets", "a function of a batch", targets)
        given.done()
        self.loader, self.targets = loader, targets
        self._waiting: deque[list[Any]] = deque()  # of the steps that were read and not taken

    def __iter__(self) -> Iterator[Any]:
        self._waiting.clear()
        batches = iter(self.loader)
        while step := list(islice(batches, self.micro_batches)):
            self._waiting.append([self.targets(batch) for batch in step])
            yield from step

    def __len__(self) -> int:
        return len(cast("Sequence[Any]", self.loader))

    def __getattr__(self, name: str) -> Any:
        if name == "loader":  # a copy that has no attributes yet
            raise AttributeError(name)
        return getattr(self.loader, name)

    def take(self) -> list[Any]:
        """Return the targets of the next step.

        Raises:
            WindowError: its batches have not been read.
        """
        if not self._waiting:
            raise WindowError("ReadAhead: expected to be read from before a step; give it to the trainer as its loader")
        return self._waiting.popleft()


class StepWindow:
    """The window of a step of a trainer, which divides the loss of each micro-batch by their number.

    Inside, the total that the criterion returns is multiplied by that number, so that the division leaves its share.
    The record keeps the share.

    Args:
        criterion: a `MultiLoss`, or what `torch.compile` made of it.
        micro_batches: the number that the trainer divides by.

    Raises:
        ArgumentError: names every argument that is of a wrong type or out of range.
    """

    def __init__(self, criterion: nn.Module, micro_batches: int) -> None:
        given = Arguments("StepWindow")
        multi_loss = read_criterion(given, criterion)
        self.micro_batches = given.count("micro_batches", micro_batches, "a number of micro-batches")
        given.done()
        self._called, self.criterion = criterion, multi_loss
        self._stack: ExitStack | None = None
        self._left = 0  # micro-batches of the step that are to come

    @property
    def is_open(self) -> bool:
        """Whether a step has begun and not ended."""
        return self._stack is not None

    def open(self, targets: Sequence[Any]) -> None:
        """Begin a step.

        Args:
            targets: of each of its micro-batches, on any device.

        Raises:
            WindowError, CountError, WeightingError, DistributedError: as `MultiLoss.window`.
        """
        device = self.criterion.calibrated.device
        parts = [mapped(part, lambda tensor: tensor.to(device, non_blocking=True)) for part in targets]
        with ExitStack() as stack:
            stack.enter_context(self.criterion.window(parts))
            stack.callback(self._called.register_forward_hook(self._undo_division).remove)
            self._stack, self._left = stack.pop_all(), len(parts)

    def close_micro_batch(self) -> bool:
        """Count a finished micro-batch, and return whether it was the last, which ends the step.

        Raises:
            WindowError, WeightingError: as `MultiLoss.window` at its end.
        """
        self._left -= 1
        if self._left:
            return False
        stack, self._stack = self._stack, None
        if stack is not None:
            stack.close()
        return True

    def abandon(self) -> None:
        """End a step that failed or stays without its last micro-batches: no norm and no weighting moves."""
        stack, self._stack = self._stack, None
        if stack is None:
            return
        unfinished = WindowError("the step has not ended")
        stack.__exit__(WindowError, unfinished, None)  # a window that an exception leaves moves nothing

    def _undo_division(self, _module: nn.Module, _args: Any, output: Any) -> Any:
        if not torch.is_grad_enabled():  # an evaluation in the middle of a step
            return None
        total, *others = output
        return (total * self.micro_batches, *others)


def own_parameters(criterion: MultiLoss) -> Iterator[nn.Parameter]:
    """Yield the parameters that losses train; weightings average the gradients of theirs over the ranks themselves."""
    of_weightings = {id(parameter) for parameter in criterion.weighting_parameters()}
    return (p for p in criterion.parameters() if p.requires_grad and id(p) not in of_weightings)


def average_own_gradients(criterion: MultiLoss) -> None:
    """Average the gradients of the parameters of losses over the ranks, where no DistributedDataParallel does.

    Every rank must call it, after the last backward of a step.
    """
    average_gradients(own_parameters(criterion))
