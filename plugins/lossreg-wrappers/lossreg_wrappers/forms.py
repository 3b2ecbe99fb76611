"""The forms of predictions and targets of losses; this module does not import torch.

A spec's `wrap` declares them with these keys:

- `takes`: the form of the predictions: `"sigmoid logits"`, `"softmax logits"`, `"sigmoid probabilities"`,
  `"softmax probabilities"` or `"softmax log-probabilities"`. `"probabilities"` without an activation means that their
  normalisation is not known. `"logits"` without an activation means that the loss needs exact logits, which
  probabilities determine only up to a constant. `"values"` is any other form. `"nothing"` means that parts of the loss
  take different forms, which is an error. If the form depends on constructor arguments, use rules
  `((attributes, form), ...)`: the first rule whose attributes match those of the built loss is used.
- `target`: the form of the target, or rules. Class indices: `"indices"` (without a channel axis), `"channel indices"`
  (with a channel axis of size 1), `"indices or distribution"` (also one probability per class in the prediction's
  shape), `"label lists"` (several classes per sample, padded with -1). Numbers, cast to the prediction's dtype:
  `"mask"` (0 to 1), `"mask without channel"`, `"one-hot"` (0 to 1, in the prediction's shape), `"signs"` (1 or -1),
  `"counts"` (0 or more), `"distribution"` (probabilities), `"log-distribution"` (their logarithms) and `"values"`.
  `"any"` is not checked or converted.
- `place`: the position of the target in `inputs`; without it, targets in `inputs` are not checked or converted.
- `compared`: the number of arguments that must have the same shape; see `target_shape` of `LossWrapper`.
- `classes`: the attribute with the number of classes, if it is not the size of the class axis.
- `advice`: what to write in a config if the prediction or the target has another form.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Literal, TypeAlias

Rules: TypeAlias = str | Sequence[tuple[Mapping[str, Any], str]]

_PREDICTIONS = ("values", "nothing", "logits", "probabilities", "log-probabilities")
FORMS = ("values", *(f"{a} {k}".strip() for k in _PREDICTIONS[2:] for a in ("sigmoid", "softmax", "")))
INDICES = ("indices", "indices or distribution", "channel indices", "label lists")
RANGES: Mapping[str, tuple[float, float]] = {
    "mask": (0, 1),
    "mask without channel": (0, 1),
    "one-hot": (0, 1),
    "counts": (0, math.inf),
    "distribution": (0, 1),
    "log-distribution": (-math.inf, 0),
}
"""The range of the numbers of each form of target."""
TARGETS = (*INDICES, *RANGES, "signs", "values", "any")


@dataclass(frozen=True)
class Form:
    """The form of a prediction.

    Attributes:
        kind: the kind of numbers, such as logits or probabilities.
        activation: the function from logits to probabilities; empty if it is not known.
    """

    kind: str
    activation: Literal["", "sigmoid", "softmax"] = ""

    @classmethod
    def parse(cls, text: str) -> Form:
        """Return the form for a text such as `"softmax logits"`.

        Raises:
            ValueError: the text is not one of the forms.
        """
        activation, _, kind = text.rpartition(" ")
        if kind not in _PREDICTIONS or activation not in ("", "sigmoid", "softmax"):
            raise ValueError(f"takes: expected [sigmoid|softmax] {'|'.join(_PREDICTIONS)}, found {text!r}")
        return cls(kind, activation)  # type: ignore[arg-type]  # narrowed by the line above


def choose(rules: Rules, loss: Any) -> str:
    """Return the form of the first rule whose attributes match those of a built loss."""
    if isinstance(rules, str):
        return rules
    return next(form for attributes, form in rules if all(_has(loss, *item) for item in attributes.items()))


def _has(loss: Any, path: str, value: object) -> bool:
    try:
        return bool(attrgetter(path)(loss) == value)
    except AttributeError:  # another release of the library may not have it
        return False
