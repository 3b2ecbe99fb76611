"""The schedule, weighting or preprocess under test: build it as often as needed."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from lossreg.composition.multiloss import MultiLoss
from lossreg.config.build import build_compound_loss_from_config
from lossreg.losses.base import Loss
from lossreg.registry import catalog
from lossreg.registry.components import LOCAL, Entry
from lossreg.registry.plugins import Plugin
from lossreg.registry.specs import PreprocessSpec, ScheduleSpec, Spec, WeightingSpec
from lossreg.testing.subject import example_of

_SPECS: dict[str, type[Spec]] = {"schedule": ScheduleSpec, "weighting": WeightingSpec, "preprocess": PreprocessSpec}


@dataclass(frozen=True)
class Part:
    """The component under test.

    Attributes:
        name: the name in reports.
        spec: the spec.
        make: returns a new object; the random numbers are the same each time.
        example: returns a new example batch; None if no example is declared.
        entry: the entry of the registry; for a class or a function a new entry; None for an object.
        registered: whether the component was found by name.
    """

    name: str
    spec: Spec
    make: Callable[[], Any]
    example: Callable[[], tuple[Any, Any]] | None
    entry: Entry[Any] | None
    registered: bool

    def declares(self, capability: str) -> bool:
        """Return whether the spec declares a capability."""
        return capability in self.spec.capabilities


def part_of(kind: str, component: Any, **fields: Any) -> Part:
    """Return the part for an argument of `check_schedule`, `check_weighting` or `check_preprocess`.

    Args:
        kind: `"schedule"`, `"weighting"` or `"preprocess"`.
        component: a registered name, a spec, a class, a function, or an object.
        **fields: fields of the spec that replace the declared ones.
    """
    registered = isinstance(component, str)
    example = fields.pop("example", None)
    entry: Entry[Any] | None
    if registered:
        section = next(section for section in catalog().sections if section.kind == kind)
        entry = section.find(component)
        entry = replace(entry, spec=replace(entry.spec, **fields))
        name, spec = entry.name, entry.spec
    elif isinstance(component, Spec):
        entry = Entry(replace(component, **fields), Plugin(LOCAL))
        name, spec = component.name, entry.spec
    else:
        is_kind = inspect.isclass(component) or inspect.isfunction(component)
        name = (component if is_kind else type(component)).__name__
        if kind == "preprocess":
            fields.setdefault("provides", tuple(component.provides))
            fields.setdefault("requires", tuple(component.requires))
        spec = _SPECS[kind](name, f"{LOCAL}:{name}", **fields)
        entry = Entry(spec, Plugin(LOCAL), local=component) if is_kind else None
    make = functools.partial(_made, entry, component)
    return Part(name, spec, make, example_of(example or getattr(spec, "example", None)), entry, registered)


def _made(entry: Entry[Any] | None, component: Any) -> Any:
    if entry is None:
        return copy.deepcopy(component)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return entry.construct(entry.spec.example_args)


# --- in YAML --------------------------------------------------------------------------------------


class Mean(Loss):
    """The mean of all floating predictions, a loss that needs no plugin."""

    def compute(self, pred_batch: Any, gt_batch: Any) -> Tensor:  # noqa: ARG002
        """Return the mean of the means."""
        values = pred_batch.values() if isinstance(pred_batch, Mapping) else [pred_batch]
        found = [value.float().mean() for value in values if isinstance(value, Tensor)]
        return torch.stack(found).mean()


def from_yaml(**block: Any) -> MultiLoss:
    """Return the criterion of a compound block with a term for each of three names, whose loss is `Mean`.

    Args:
        **block: other keys of the block; `weight` goes to the first term.
    """
    weight = block.pop("weight", 1.0)
    target = f"{Mean.__module__}.{Mean.__name__}"
    terms = [{"_target_": target, "name": f"t{i}", "weight": weight if i == 0 else 1.0} for i in range(3)]
    return build_compound_loss_from_config({"loss_list": terms, **block}, allow_import=(Mean.__module__,))
