"""What to do about a term whose value is not a finite number."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias, cast

import torch
from torch import Tensor

from lossreg.composition.vectors import stacked
from lossreg.errors import NonFiniteError
from lossreg.losses.nested import tensors_in
from lossreg.losses.ranks import add_up, several

OnNonfinite: TypeAlias = Literal["ignore", "raise", "skip_term"]

_log = logging.getLogger("lossreg")


def raise_nonfinite(
    names: Sequence[str], values: Tensor, batches: Mapping[str, Any], owner: str, epoch: float | None
) -> None:
    """Raise where a value is not finite; this reads the values back to the host.

    Args:
        names: the terms.
        values: (k,) their raw values.
        batches: `pred` and `gt`, for the ranges of their keys.
        owner: the `MultiLoss`.
        epoch: for the message, if one was passed.

    Raises:
        NonFiniteError: names the terms with their values, the epoch, and each key's range.
    """
    if bool(values.isfinite().all()):
        return
    bad = {name: value for name, value in zip(names, values.tolist(), strict=True) if not abs(value) < float("inf")}
    ranges = [f"{side}.{line}" for side, batch in batches.items() for line in _ranges(batch)]
    raise NonFiniteError(
        f"{owner}: {', '.join(f'{name!r} is {value}' for name, value in bad.items())}{_at(epoch)}; "
        f"the batch: {'; '.join(ranges) or 'no tensors'}. Norms and weighting are as they were"
    )


def agree_on_finite(values: Sequence[Tensor | None], like: Tensor, owner: str, together: bool) -> list[bool]:
    """Say which terms have a finite value; a term that a rank does not have is no obstacle there.

    Args:
        values: of the terms that this rank has.
        like: a tensor of the device.
        owner: the `MultiLoss`, for errors.
        together: whether a term must be finite on every rank: then one small collective under a process group, which
            every rank must enter. One read to the host in any case.
    """
    there = [value.detach() for value in values if value is not None]
    finite = iter(stacked(there).isfinite().unbind() if there else ())
    yes = like.new_ones((), dtype=torch.bool)
    kept = torch.stack([yes if value is None else next(finite) for value in values])
    if together and several():
        kept = add_up(kept.logical_not().to(like), owner) == 0
    return cast("list[bool]", kept.tolist())


def log_skipped(names: Sequence[str], owner: str, epoch: float | None) -> None:
    """Log which terms were left out of a batch."""
    _log.warning("%s: left %s out of this batch%s: not finite on some rank", owner, ", ".join(names), _at(epoch))


def _at(epoch: float | None) -> str:
    return "" if epoch is None else f" at epoch {epoch}"


def _ranges(batch: Any) -> list[str]:
    values = batch if isinstance(batch, Mapping) else {"": batch}
    lines = []
    for key, tensor in ((key, tensor) for key, value in values.items() for tensor in tensors_in(value)):
        if tensor.numel() == 0:
            lines.append(f"{key} {tuple(tensor.shape)} is empty")
            continue
        flat = tensor.detach().double().flatten()
        finite = flat[flat.isfinite()]
        span = f"{finite.min().item():.6g} to {finite.max().item():.6g}" if finite.numel() else "nothing finite"
        lost = flat.numel() - finite.numel()
        lines.append(f"{key} {tuple(tensor.shape)} {span}" + (f", {lost} not finite" if lost else ""))
    return lines
