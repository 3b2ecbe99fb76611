"""The options of a `MultiLoss`: how each is checked, in the constructor and where it is set later."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeAlias

from lossreg.arguments import Arguments, plain
from lossreg.composition.facts import OPTIONS
from lossreg.composition.schedules import Schedule, as_schedule
from lossreg.composition.weighting.base import Weighting
from lossreg.keys import Compound, Epochs
from lossreg.values import type_of

Weight: TypeAlias = float | Sequence[float] | Schedule | Callable[[float], float]


def read_declared(argument: str, given: Arguments, value: Any) -> Any:
    """Take an argument that a key of a compound loss becomes."""
    found = given.declared(Compound, "MultiLoss", argument, value, ordered=False)
    if argument == "normalization_params":
        return {name: count for name, count in (found or {}).items() if count is not None}
    return found


def read_schedules(given: Arguments, weights: Any, epoch_thresholds: Any, names: Sequence[str]) -> tuple[Schedule, ...]:
    """Take the weights, one a term."""
    hint = "give a list in the order of loss_funcs" if isinstance(weights, Mapping) else ""
    found = given.items("weights", weights, "a list of weights, one a loss", hint)
    thresholds = None if epoch_thresholds is None else given.of("epoch_thresholds", epoch_thresholds, type_of(Epochs))
    if given.problems:
        names = [*names, *(f"loss_funcs[{i}]" for i in range(len(names), len(found)))]
    elif len(found) != len(names):
        given.report(
            "weights",
            f"expected {len(names)}, for {list(names)}, found {len(found)}",
            "give one weight a loss",
            "range",
        )
    schedules = []
    for i, (name, weight) in enumerate(zip(names, found, strict=False)):
        if thresholds is None and epoch_thresholds is not None and isinstance(plain(weight), Sequence):
            continue  # what is wrong is said of the thresholds
        try:
            schedules.append(as_schedule(weight, thresholds, name=name))
        except (TypeError, ValueError) as error:
            given.report(f"weights[{i}]", str(error), kind="type" if isinstance(error, TypeError) else "range")
    return tuple(schedules)


def read_weighting(given: Arguments, weighting: Weighting | None) -> Weighting | None:
    """Return an adaptive weighting, or None."""
    if weighting is not None and not isinstance(weighting, Weighting):
        hint = "a name is for YAML; give an object, such as DWA()" if isinstance(weighting, str) else ""
        given.wrong("weighting", "a Weighting", weighting, hint)
    return weighting


SETTINGS: Final[dict[str, Callable[[Arguments, Any], Any]]] = {
    "name": lambda given, value: given.name("name", value),
    "weights": lambda given, value: given.items("weights", value, "a list of weights, one a term"),
    **{option: partial(read_declared, option) for option in OPTIONS},
}
"""What may be set after the construction, and how it is checked."""

FIXED: Final = {
    "schedules": "set `weights`, or call set_weight(name, weight)",
    "epoch_thresholds": "call set_weight(name, weight, epoch_thresholds)",
    **dict.fromkeys(
        ("names", "terms", "loss_funcs", "pre_processes", "unnormalized", "optional_terms", "weighting", "batch_keys"),
        "give it to MultiLoss(...)",
    ),
}
"""What may not, and what to do."""
