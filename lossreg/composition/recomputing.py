"""Activation checkpointing around a criterion: its forward runs a second time, inside of the backward."""

from __future__ import annotations

import torch

from lossreg.errors import RecomputedError


def recomputing() -> bool:
    """Say whether a backward is running in this thread, so that a forward is one that is computed again."""
    return torch._C._current_graph_task_id() != -1


def refuse_recomputing(owner: str, what: str) -> None:
    """Refuse a forward that is computed again where each forward moves a state.

    It would be divided and weighed by another state than at first, so that its gradients were wrong too.

    Raises:
        RecomputedError: names whose state, and what to do.
    """
    if recomputing():
        raise RecomputedError(
            f"{owner}: activation checkpointing computes the forward again in the backward, and {what} moved; "
            "expected one forward a batch: checkpoint the network alone and call the criterion outside of it"
        )
