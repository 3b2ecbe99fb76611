"""Preprocess nodes: each reads some keys of a batch and makes others, once, for every term that needs them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from lossreg.errors import MissingKeyError
from lossreg.losses.base import found_at
from lossreg.losses.wrapper import DEFAULT_KEYS


class Preprocess(nn.Module):
    """A node that computes new keys of a batch from those that are there.

    A subclass declares `requires` and `provides`, each `pred.<key>` or `gt.<key>`, and writes `compute`.
    Called, it returns new batches and leaves the given ones alone; a key that is there already is kept. A key with None
    is not there.
    """

    requires: Sequence[str] = ()
    provides: Sequence[str] = ()

    @abstractmethod
    def compute(self, pred_batch: Mapping[str, Any], gt_batch: Mapping[str, Any]) -> Mapping[str, Tensor]:
        """Return `{"gt.<key>": tensor, ...}` for every key in `provides`. The batches are read only."""
        raise NotImplementedError(f"{type(self).__name__} must define compute(pred_batch, gt_batch)")

    def forward(self, pred_batch: Any, gt_batch: Any) -> tuple[Any, Any]:
        """Return `(pred_batch, gt_batch)` with the provided keys added.

        A bare tensor stands for the only key that is required of its side, and comes back bare where nothing is added.

        Raises:
            MissingKeyError: a required key is not there.
        """
        given = {"pred": pred_batch, "gt": gt_batch}
        batches = {side: self._keyed(side, batch) for side, batch in given.items()}
        for key in self.requires:
            side, _, rest = key.partition(".")
            if rest not in batches[side]:
                raise MissingKeyError(
                    f"preprocess {type(self).__name__} needs {key!r} to make {', '.join(map(repr, self.provides))}; "
                    + found_at(key, given[side])
                )
        made: dict[str, dict[str, Any]] = {"pred": {}, "gt": {}}
        for key, tensor in self.compute(batches["pred"], batches["gt"]).items():
            side, _, rest = key.partition(".")
            made[side][rest] = tensor
        pred_batch, gt_batch = (
            {**made[side], **batches[side]} if made[side] or isinstance(batch, Mapping) else batch
            for side, batch in given.items()
        )
        return pred_batch, gt_batch

    def _keyed(self, side: str, batch: Any) -> Mapping[str, Any]:
        if isinstance(batch, Mapping):
            lacks = any(value is None for value in batch.values())
            return {key: value for key, value in batch.items() if value is not None} if lacks else batch
        own = [key.removeprefix(f"{side}.") for key in self.requires if key.startswith(f"{side}.")]
        if batch is None or len(own) > 1:
            return {}
        return {own[0] if own else DEFAULT_KEYS[side]: batch}
