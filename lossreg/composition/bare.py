"""Bare tensors in the place of batches: each is a batch of one key, under the name that its reader has for it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import torch

from lossreg.composition.dependencies import Node
from lossreg.losses.notes import note_preprocess
from lossreg.losses.wrapper import DEFAULT_KEYS

Names: TypeAlias = Mapping[str, tuple[str, ...]]
"""For each side, the keys that a bare tensor stands for."""


def names_of_bare(asked: Iterable[Sequence[str]], batch_keys: Collection[str]) -> Names:
    """Say what a bare tensor stands for: the only key of its side that each reader asks of a batch.

    Args:
        asked: what each reader asks of the batch; nothing where it does not say what it reads.
        batch_keys: the keys of every batch; the only one of a side is the tensor's.
    """
    asked = list(asked)
    names = {}
    for side, usual in DEFAULT_KEYS.items():
        known = _of_side(side, batch_keys)
        if len(known) != 1:
            known = [own[0] for keys in asked if len(own := _of_side(side, keys)) == 1]
            known += [usual] if not known or not all(asked) else []
        names[side] = tuple(dict.fromkeys(known))
    return names


def _of_side(side: str, keys: Iterable[str]) -> list[str]:
    return [key.removeprefix(f"{side}.") for key in keys if key.startswith(f"{side}.")]


def keys_in(pred_batch: Any, gt_batch: Any, names: Names) -> set[str]:
    """Return the keys of two batches, each with its side, without those where there is None."""
    sides = (("pred", pred_batch), ("gt", gt_batch))
    # an iteration over a TensorDict is one over its rows
    return {
        f"{side}.{key}"
        for side, batch in sides
        for key, value in _keyed(batch, names[side]).items()
        if value is not None
    }


def run_nodes(nodes: Iterable[Node], pred_batch: Any, gt_batch: Any, names: Names) -> tuple[Any, Any]:
    """Run preprocesses one after the other, and return the batches that they make.

    A function that declares nothing gets a bare tensor where one came; a `Preprocess` gets it under its names. A bare
    tensor stays one as long as no key is made beside it.
    """
    batches = {"pred": pred_batch, "gt": gt_batch}
    made: dict[str, dict[str, Any]] = {"pred": {}, "gt": {}}
    for node in nodes:
        if node.opaque:
            given = [_copied(batch) for batch in batches.values()]
        else:
            given = [{**_keyed(batch, names[side]), **made[side]} for side, batch in batches.items()]
        for side, result in zip(("pred", "gt"), _call(node, *given), strict=True):
            if node.opaque and isinstance(result, Mapping):
                batches[side], made[side] = {**made[side], **result}, {}
            elif isinstance(batches[side], Mapping) or not isinstance(result, Mapping):
                batches[side] = result
            else:
                came = _keyed(batches[side], names[side])
                made[side] = {key: value for key, value in result.items() if key not in came}
    pred_batch, gt_batch = (
        {**_keyed(batch, names[side]), **made[side]} if made[side] else batch for side, batch in batches.items()
    )
    return pred_batch, gt_batch


def _keyed(batch: Any, names: Sequence[str]) -> Mapping[str, Any]:
    if isinstance(batch, Mapping):
        return batch
    return {} if batch is None else dict.fromkeys(names, batch)


def _copied(batch: Any) -> Any:
    """Copy a batch, so that a function that writes into it leaves the caller's alone."""
    if isinstance(batch, Mapping):
        return dict(batch)
    return list(batch) if isinstance(batch, list) else batch


def _call(node: Node, pred_batch: Any, gt_batch: Any) -> tuple[Any, Any]:
    try:
        result = node.function(pred_batch, gt_batch)
    except Exception as error:
        if not torch.compiler.is_compiling():
            note_preprocess(error, node.name, node.requires, pred_batch, gt_batch)
        raise
    if not (isinstance(result, tuple) and len(result) == 2):
        raise TypeError(
            f"preprocess {node.name!r}: expected (pred_batch, gt_batch) from compute, found {type(result).__name__}"
        )
    return result
