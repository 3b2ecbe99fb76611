"""The loss under test: build it and its example batches as often as needed."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any, TypeAlias

import torch
from torch import Tensor

from lossreg.errors import PluginError
from lossreg.losses.base import Batch, Loss
from lossreg.losses.create import adopt
from lossreg.losses.nested import mapped, tensors_in
from lossreg.losses.wrapper import LossWrapper
from lossreg.registry import catalog
from lossreg.registry.components import LOCAL, Entry
from lossreg.registry.plugins import Plugin
from lossreg.registry.specs import LossSpec

Batches: TypeAlias = tuple[Batch, Batch]
Change: TypeAlias = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Subject:
    """The loss under test.

    Attributes:
        name: the name in reports.
        spec: the spec.
        make: returns a new loss.
        example: returns a new example batch; None if no example is declared.
        entry: the entry of the registry; for a class or a function a new entry; None for an object.
        registered: whether the loss was found by name.
    """

    name: str
    spec: LossSpec
    make: Callable[[], Loss]
    example: Callable[[], Batches] | None
    entry: Entry[LossSpec] | None
    registered: bool

    def loss(self) -> Loss:
        """Return a new loss; the random numbers are the same each time, and the global random state is kept."""
        with torch.random.fork_rng(devices=[]):
            self.seed()
            return self.make()

    def batch(self, pred: Change | None = None, gt: Change | None = None) -> Batches:
        """Return a new batch with changed tensors; floating predictions are leaves that require a gradient."""
        preds, gts = self.given()
        return mapped(preds, lambda t: _leaf(pred(t) if pred else t)), mapped(gts, gt or (lambda t: t))

    def given(self) -> Batches:
        """Return what the example returns, or a plain example if none is declared."""
        return (self.example or functools.partial(_plain_example, self.loss()))()

    def value(self, loss: Callable[..., Any] | None = None, batch: Batches | None = None, epoch: float = 0) -> Tensor:
        """Return the raw value, at an epoch if the loss takes one; random numbers are the same at every call."""
        loss = self.loss() if loss is None else loss
        pred, gt = self.batch() if batch is None else batch
        with torch.random.fork_rng(devices=[]):
            self.seed()
            value: Tensor = loss(pred, gt, normalize=False, **at_epoch(loss, epoch))[0]
            return value

    def seed(self) -> None:
        """Seed the random numbers of a loss."""
        if torch.accelerator.is_available():
            torch.manual_seed(0)
        else:  # the same without the traces that torch formats for each kind of device that may come
            torch.default_generator.manual_seed(0)

    def samples(self) -> int:
        """Return the number of samples, the size of axis 0 of the predictions."""
        return min(len(t) if t.dim() else 0 for t in tensors(self.batch()[0]))


def at_epoch(loss: Any, epoch: float = 0) -> dict[str, float]:
    """Return the keyword argument `epoch` for a loss that takes it, and nothing for another."""
    return {"epoch": epoch} if loss.takes_epoch else {}


def subject_of(loss: Any, example: Any = None, **fields: Any) -> Subject:
    """Return the subject for an argument of `check_loss`.

    Args:
        loss: a registered name, a spec, a class, a function, or an object.
        example: as for `check_loss`.
        **fields: fields of `LossSpec` that replace the declared ones.
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
    return Subject(name, spec, make, example_of(example or spec.example), entry, registered)


def _copied(loss: Any) -> Loss:
    return copy.deepcopy(loss) if isinstance(loss, Loss) else LossWrapper(copy.deepcopy(loss))


def example_of(example: Any) -> Callable[[], Batches] | None:
    """Return a function that returns an example batch, from a function, its import path, or a batch."""
    if example is None:
        return None
    if isinstance(example, str):
        example = imported(example)
    return example if callable(example) else functools.partial(copy.deepcopy, example)


def imported(target: str) -> Any:
    """Import and return `"package.module:attribute"`, where an attribute may be `Class.method`.

    Raises:
        PluginError: it cannot be imported.
    """
    module, _, attribute = target.partition(":")
    try:
        return functools.reduce(getattr, attribute.split("."), import_module(module))
    except (ImportError, AttributeError) as error:
        raise PluginError(f"{target!r} cannot be imported: {error}") from error


def _plain_example(loss: Loss) -> Batches:
    """Return maps (2, 3, 8, 8) of numbers between 0 and 1 under each key that the loss requires."""
    generator = torch.Generator().manual_seed(0)

    def side(name: str, default: str) -> dict[str, Tensor]:
        keys = [key.partition(".")[2] for key in loss.requires if key.startswith(f"{name}.")]
        return {key: torch.rand(2, 3, 8, 8, generator=generator) for key in keys or [default]}

    return side("pred", "seg"), side("gt", "gt_polygons_image")


# --- batches ----------------------------------------------------------------------------------------


def tensors(*batches: Batch) -> list[Tensor]:
    """Return the tensors of batches, those in lists too."""
    return list(tensors_in(batches))


def floating(dtype: torch.dtype) -> Change:
    """Return a function that casts floating tensors to a dtype."""
    return lambda t: t.to(dtype) if t.is_floating_point() else t


def gradients(value: Tensor, batch: Batches) -> list[Tensor]:
    """Return the gradients of the predictions, with zeros for unused ones."""
    leaves = [t for t in tensors(batch[0]) if t.requires_grad]
    return list(torch.autograd.grad(value, leaves, retain_graph=True, allow_unused=True, materialize_grads=True))


def close(first: Tensor, second: Tensor, tolerance: float = 1e-4) -> bool:
    """Return whether two values of any dtypes agree."""
    return torch.allclose(first.double(), second.double(), rtol=tolerance, atol=tolerance / 10)


def _leaf(tensor: Tensor) -> Tensor:
    return tensor.detach().clone().requires_grad_(tensor.is_floating_point())
