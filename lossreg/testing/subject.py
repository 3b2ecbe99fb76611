"""The loss under test, with the means to build it again and again and to make batches for it."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any, TypeAlias

import torch
from torch import Tensor

from lossreg.errors import PluginError
from lossreg.losses.base import Batch, Loss
from lossreg.losses.create import adopt
from lossreg.losses.wrapper import LossWrapper
from lossreg.registry import catalog
from lossreg.registry.components import LOCAL, Entry
from lossreg.registry.plugins import Plugin
from lossreg.registry.specs import LossSpec

Batches: TypeAlias = tuple[Batch, Batch]
Change: TypeAlias = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Subject:
    """A loss as the checks see it.

    Attributes:
        name: for reports.
        spec: what is declared of it.
        make: builds it anew.
        example: makes a batch anew, or None where nothing is declared.
        entry: its place in the registry, or for a class or function a place of its own; None for an object.
        registered: whether it can be found by name.
    """

    name: str
    spec: LossSpec
    make: Callable[[], Loss]
    example: Callable[[], Batches] | None
    entry: Entry[LossSpec] | None
    registered: bool

    def loss(self) -> Loss:
        """Build the loss, with the same random numbers each time and without touching the caller's."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return self.make()

    def batch(self, pred: Change | None = None, gt: Change | None = None) -> Batches:
        """Make a batch, its tensors changed; floating predictions are leaves that require a gradient."""
        preds, gts = (self.example or functools.partial(_plain_example, self.loss()))()
        return mapped(preds, lambda t: _leaf(pred(t) if pred else t)), mapped(gts, gt or (lambda t: t))

    def value(self, loss: Callable[..., Any] | None = None, batch: Batches | None = None) -> Tensor:
        """Return the raw value; a loss that draws random numbers draws the same ones at every call."""
        loss = self.loss() if loss is None else loss
        pred, gt = self.batch() if batch is None else batch
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            value: Tensor = loss(pred, gt, normalize=False)[0]
            return value

    def seed(self) -> None:
        """Start the random numbers that a loss may draw at the same place."""
        torch.manual_seed(0)

    def samples(self) -> int:
        """Return the size of the predictions' first axis."""
        return min(len(t) if t.dim() else 0 for t in tensors(self.batch()[0]))


def subject_of(loss: Any, example: Any = None, **fields: Any) -> Subject:
    """Find out what is to be checked.

    Args:
        loss: a registered name, a spec, a class, a function, or an object.
        example: as for `check_loss`.
        **fields: fields of `LossSpec` in place of those declared.
    """
    registered = isinstance(loss, str)
    entry: Entry[LossSpec] | None
    if registered:
        entry = catalog().losses.find(loss)
        entry = replace(entry, spec=replace(entry.spec, **fields))
        name = entry.name
    elif isinstance(loss, LossSpec):
        entry = Entry(replace(loss, **fields), Plugin(LOCAL))
        name = loss.name
    else:
        kind = loss if inspect.isclass(loss) or inspect.isfunction(loss) else type(loss)
        name = kind.__name__
        spec = LossSpec(name, f"{LOCAL}:{name}", **fields)
        entry = Entry(spec, Plugin(LOCAL), local=loss) if kind is loss else None
    spec = entry.spec if entry else spec
    make = functools.partial(adopt, entry, spec.name, spec.example_args) if entry else functools.partial(_copied, loss)
    return Subject(name, spec, make, _example_of(example or spec.example), entry, registered)


def _copied(loss: Any) -> Loss:
    return copy.deepcopy(loss) if isinstance(loss, Loss) else LossWrapper(copy.deepcopy(loss))


def _example_of(example: Any) -> Callable[[], Batches] | None:
    if example is None:
        return None
    if isinstance(example, str):
        example = imported(example)
    return example if callable(example) else functools.partial(copy.deepcopy, example)


def imported(target: str) -> Any:
    """Return what `"package.module:attribute"` names.

    Raises:
        PluginError: it cannot be imported.
    """
    module, _, attribute = target.partition(":")
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise PluginError(f"{target!r} cannot be imported: {error}") from error


def _plain_example(loss: Loss) -> Batches:
    """Two maps of numbers between 0 and 1, (2, 3, 8, 8), under each key that the loss declares."""
    generator = torch.Generator().manual_seed(0)

    def side(name: str, default: str) -> dict[str, Tensor]:
        keys = [key.partition(".")[2] for key in loss.requires if key.startswith(f"{name}.")]
        return {key: torch.rand(2, 3, 8, 8, generator=generator) for key in keys or [default]}

    return side("pred", "seg"), side("gt", "gt_polygons_image")


# --- batches ----------------------------------------------------------------------------------------


def mapped(batch: Batch, change: Change) -> Batch:
    """Return a batch with each of its tensors changed."""
    if isinstance(batch, Tensor):
        return change(batch)
    return {key: change(value) if isinstance(value, Tensor) else value for key, value in batch.items()}


def tensors(*batches: Batch) -> list[Tensor]:
    """Return the tensors of batches."""
    found: list[Tensor] = []
    for batch in batches:
        values = batch.values() if isinstance(batch, Mapping) else [batch]
        found += [value for value in values if isinstance(value, Tensor)]
    return found


def floating(dtype: torch.dtype) -> Change:
    """Return the cast of floating tensors to a dtype."""
    return lambda t: t.to(dtype) if t.is_floating_point() else t


def gradients(value: Tensor, batch: Batches) -> list[Tensor]:
    """Return the gradients of the predictions; zeros for those that a value does not depend on."""
    leaves = [t for t in tensors(batch[0]) if t.requires_grad]
    return list(torch.autograd.grad(value, leaves, allow_unused=True, materialize_grads=True))


def close(first: Tensor, second: Tensor, tolerance: float = 1e-4) -> bool:
    """Say whether two values agree, whatever their dtypes."""
    return torch.allclose(first.double(), second.double(), rtol=tolerance, atol=tolerance / 10)


def _leaf(tensor: Tensor) -> Tensor:
    return tensor.detach().clone().requires_grad_(tensor.is_floating_point())
