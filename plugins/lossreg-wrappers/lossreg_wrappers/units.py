"""The option `unit` of a spec's `wrap`: what a library's loss has one value for; imports no torch.

A text such as `"positions"` or `"positions by kornia_focal"`, or rules as in `lossreg_wrappers.forms`:

- `"values"`: each number of the target; `"positions"`: each pixel or token, with the classes on axis 1 of the
  prediction; `"planes"`: each channel of each sample; `"samples"`.
- `"pooled"`: nothing, since the loss is a ratio of sums over the batch; a masked pixel is then in none of the sums.
- `"none"`: nothing, and the loss takes no mask.

`by` names the function of `lossreg_wrappers.readers` that returns the values; by default the loss with
`reduction="none"`. A loss without `unit` takes no mask, and the option `unmasked` says why.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lossreg_wrappers.forms import Rules

UNITS = ("values", "positions", "planes", "samples", "pooled", "none")


def parsed(text: str) -> tuple[str, str]:
    """Return the unit and the name of the reader, which may be empty.

    Raises:
        ValueError: the text names no unit.
    """
    unit, _, reader = text.partition(" by ")
    if unit not in UNITS:
        raise ValueError(f"unit: expected one of {'|'.join(UNITS)}, found {text!r}")
    return unit, reader


def texts(rules: Rules) -> list[str]:
    """Return the texts of all rules."""
    return [rules] if isinstance(rules, str) else [text for _, text in rules]


def masking(wrap: Mapping[str, Any]) -> str:
    """Return in one line what a mask of a loss chooses, or why it takes none.

    Args:
        wrap: the options of a spec.
    """
    readers = dict.fromkeys(parsed(text) for text in texts(wrap.get("unit", "none")))
    units = [unit for unit, _ in readers if unit != "none"]
    if not units:
        return f"no: {wrap['unmasked']}"
    counted = [unit for unit in units if unit != "pooled"]
    overlap = any(reader.endswith("_overlap") for _, reader in readers)
    if overlap:
        return f"pixels, in none of the sums; {'a mean over samples' if counted else 'no count'}"
    return f"{' or '.join(dict.fromkeys(counted))}; with a count"
