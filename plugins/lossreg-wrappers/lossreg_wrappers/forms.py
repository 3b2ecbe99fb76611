"""The forms in which losses take their predictions and targets, as data: no torch here.

A spec's `wrap` says them with three keys:

- `takes`, the form of the predictions: `"sigmoid logits"`, `"softmax logits"`, `"sigmoid probabilities"`,
  `"softmax probabilities"` or `"softmax log-probabilities"`. Without an activation, `"probabilities"` are of
  a loss that does not say over what they are normalised, and `"logits"` of one that needs the logits
  themselves, which probabilities give up to a constant only. `"values"` is anything else. A loss for which
  it depends on its constructor arguments gives rules, `((attributes, form), ...)`: the first whose
  attributes the built loss has, holds.
- `target`, the form of the target: `"indices"` (class indices without a channel axis), `"channel indices"`
  (with a channel axis of size 1), `"one-hot"` (the prediction's own shape), `"mask"` (numbers, often 0 and 1),
  `"mask without channel"` or `"values"` (as it comes). It may be given by rules too.
- `advice`, what to write in a config where the prediction or the target is not of the form that is taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Literal, TypeAlias

Rules: TypeAlias = str | Sequence[tuple[Mapping[str, Any], str]]

PREDICTIONS = ("values", "logits", "probabilities", "log-probabilities")
TARGETS = ("values", "mask", "mask without channel", "one-hot", "indices", "channel indices")


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
