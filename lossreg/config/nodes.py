"""Nodes of Hydra's config group `loss`, as a composed config holds them: their `_target_` says what they describe."""

from __future__ import annotations

from collections.abc import Mapping

from lossreg.config.reading import Data
from lossreg.keys import IGNORED_KEYS, LISTS

CRITERION = "lossreg.config.hydra.criterion"
COMPOUND = "lossreg.config.hydra.compound"


def loss_block(data: Data) -> tuple[Data, bool]:
    """Return what a block `loss` means to the grammar, and whether that is a compound loss.

    A node's `_target_` is compared as a text, and left out. Any other block comes back as it is.
    """
    target = data.get("_target_") if isinstance(data, Mapping) else None
    if target not in (CRITERION, COMPOUND):
        return data, False
    block = {key: value for key, value in data.items() if key not in ("_target_", *IGNORED_KEYS)}
    return (named_terms(block), True) if target == COMPOUND else (block, False)


def named_terms(block: Mapping[str, Data]) -> dict[str, Data]:
    """Give each term of a mapping that names no loss its key for one: `losses: {seg: {weight: 2}}`."""
    return {
        key: {name: _named(name, term) for name, term in value.items()}
        if key in LISTS and isinstance(value, Mapping)
        else value
        for key, value in block.items()
    }


def _named(name: str, term: Data) -> Data:
    if isinstance(term, Mapping) and not {"loss", "_target_", *LISTS} & set(term):
        return {"loss": name, **term}
    return term
