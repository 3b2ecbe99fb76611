"""The forms in which losses take their predictions and targets, as data: no torch here.

A spec's `wrap` says them with three keys:

- `takes`, the form of the predictions: `"sigmoid logits"`, `"softmax logits"`, `"sigmoid probabilities"`,
  `"softmax probabilities"` or `"softmax log-probabilities"`. Without an activation, `"probabilities"` are of
  a loss that does not say over what they are normalised, and `"logits"` of one that needs the logits
  themselves, which probabilities give up to a constant only. `"values"` is anything else, and `"nothing"` is of a
  loss whose parts take different forms as it is configured: it is refused. A loss for which
  it depends on its constructor arguments gives rules, `((attributes, form), ...)`: the first whose
  attributes the built loss has, holds.
- `target`, the form of the target. Class indices: `"indices"` (without a channel axis), `"channel indices"` (with one
  of size 1), `"indices or distribution"` (or one probability a class, in the prediction's shape), `"label lists"`
  (several classes a sample, filled up with -1). Numbers, in the prediction's dtype: `"mask"` (0 to 1),
  `"mask without channel"`, `"one-hot"` (0 to 1, the prediction's own shape), `"signs"` (1 or -1), `"counts"` (0 or
  more), `"distribution"` (probabilities), `"log-distribution"` (their logarithms) and `"values"`. `"any"` is given as
  it comes. It may be given by rules too.
- `place`, which argument the target is, where `inputs` names them; without, their targets are given as they come.
- `compared`, how many arguments must be of one shape, where not all must; see `target_shape` of `LossWrapper`.
- `classes`, the attribute with the number of classes, where the prediction's axis does not tell it.
- `advice`, what to write in a config where the prediction or the target is not of the form that is taken.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Literal, TypeAlias

Rules: TypeAlias = str | Sequence[tuple[Mapping[str, Any], str]]

PREDICTIONS = ("values", "nothing", "logits", "probabilities", "log-probabilities")
FORMS = ("values", *(f"{a} {k}".strip() for k in PREDICTIONS[2:] for a in ("sigmoid", "softmax", "")))
INDICES = ("indices", "indices or distribution", "channel indices", "label lists")
RANGES: Mapping[str, tuple[float, float]] = {
    "mask": (0, 1),
    "mask without channel": (0, 1),
    "one-hot": (0, 1),
    "counts": (0, math.inf),
    "distribution": (0, 1),
    "log-distribution": (-math.inf, 0),
}
"""Within which range the numbers of a target lie."""
TARGETS = (*INDICES, *RANGES, "signs", "values", "any")


@dataclass(frozen=True)
class Form:
    """What a loss takes as its prediction.

    Attributes:
        kind: what the numbers are.
        activation: the function from logits to probabilities that belongs to it; empty where it is not known.
    """

    kind: str
    activation: Literal["", "sigmoid", "softmax"] = ""

    @classmethod
    def parse(cls, text: str) -> Form:
        """Read `"softmax logits"`.

        Raises:
            ValueError: it is none of the forms.
        """
        activation, _, kind = text.rpartition(" ")
        if kind not in PREDICTIONS or activation not in ("", "sigmoid", "softmax"):
            raise ValueError(f"takes: expected [sigmoid|softmax] {'|'.join(PREDICTIONS)}; got {text!r}")
        return cls(kind, activation)  # type: ignore[arg-type]  # narrowed by the line above


def choose(rules: Rules, loss: Any) -> str:
    """Return the form that holds for a built loss: the first whose attributes it has with their values."""
    if isinstance(rules, str):
        return rules
    return next(form for attributes, form in rules if all(_has(loss, *item) for item in attributes.items()))


def _has(loss: Any, path: str, value: object) -> bool:
    try:
        return bool(attrgetter(path)(loss) == value)
    except AttributeError:  # another release of the library may not have it
        return False
