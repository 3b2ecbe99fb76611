"""Steps over several micro-batches with Hugging Face's Accelerate."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import islice
from typing import Any

from torch import nn

from lossreg.training.accumulation import StepWindow, average_own_gradients, default_targets


def steps(accelerator: Any, loader: Iterable[Any]) -> Iterator[list[Any]]:
    """Yield the micro-batches of each step of the optimizer: `gradient_accumulation_steps`, or fewer at the end.

    Args:
        accelerator: an `Accelerator`.
        loader: the batches of an epoch.
    """
    batches = iter(loader)
    while micro_batches := list(islice(batches, accelerator.gradient_accumulation_steps)):
        yield micro_batches


@contextmanager
def accumulate(
    accelerator: Any,
    criterion: nn.Module,
    model: nn.Module,
    micro_batches: list[Any],
    targets: Callable[[Any], Any] = default_targets,
) -> Iterator[Iterator[Any]]:
    """Yield the micro-batches of a step one by one, so that their gradient is that of one joined batch of all ranks.

    It takes the place of `accelerator.accumulate(model)`. The criterion is in a window (`MultiLoss.window`), and its
    total is multiplied by what `accelerator.backward` divides by. Gradients are exchanged at the last micro-batch
    alone, and only there an optimizer steps that `accelerator.prepare` was given. With `gradient_accumulation_steps=1`
    there is no window: set `reduce_over: ranks` for several ranks.

    ::

        for micro_batches in steps(accelerator, loader):
            with accumulate(accelerator, criterion, model, micro_batches, targets) as batches:
                for batch in batches:
                    total, _, _ = criterion(model(batch["image"]), targets(batch), epoch=epoch)
                    accelerator.backward(total)
            optimizer.step()
            optimizer.zero_grad()

    Args:
        accelerator: an `Accelerator`.
        criterion: a `MultiLoss`, or what `torch.compile` made of it; not prepared.
        model: the model, as `accelerator.prepare` returned it.
        micro_batches: of one step, as `steps` yields them.
        targets: a function that returns the targets of a batch, as the criterion takes them; by default the second of
            a pair, or all of a mapping.

    Raises:
        ArgumentError: `criterion` is no `MultiLoss`.
        WindowError, CountError, WeightingError, DistributedError: as `MultiLoss.window`. After an exception inside, no
            norm and no weighting has moved.
    """
    divided_by = accelerator.gradient_accumulation_steps
    window = StepWindow(criterion, divided_by)
    batches = _one_by_one(accelerator, model, micro_batches)
    try:
        if divided_by > 1:
            window.open([targets(batch) for batch in micro_batches])
        yield batches
        if window.is_open:
            for _ in micro_batches:
                window.close_micro_batch()
        average_own_gradients(window.criterion)
    finally:
        window.abandon()  # after an exception
        batches.close()  # gradients are exchanged again
        accelerator.sync_gradients = True


def _one_by_one(accelerator: Any, model: nn.Module, micro_batches: list[Any]) -> Generator[Any, None, None]:
    """Yield each micro-batch, and let gradients be exchanged at the last alone."""
    for left, batch in zip(reversed(range(len(micro_batches))), micro_batches, strict=True):
        accelerator.sync_gradients = not left
        with accelerator.no_sync(model) if left else nullcontext():
            yield batch
