"""Preprocess nodes: each reads some keys of a batch and makes others, once, for every term that needs them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from lossreg.errors import MissingKeyError


class Preprocess(nn.Module):
    """A node that computes new keys of a batch from those that are there.

    A subclass declares `requires` and `provides`, each `pred.<key>` or `gt.<key>`, and writes `compute`.
    Called, it returns new batches and leaves the given ones alone; a key that is there already is kept.
    """

    requires: Sequence[str] = ()
    provides: Sequence[str] = ()

    @abstractmethod
    def compute(self, pred_batch: Mapping[str, Any], gt_batch: Mapping[str, Any]) -> Mapping[str, Tensor]:
        """Return `{"gt.<key>": tensor, ...}` for every key in `provides`. The batches are read only."""
        raise NotImplementedError(f"{type(self).__name__} must define compute(pred_batch, gt_batch)")

    def forward(
        self, pred_batch: Mapping[str, Any], gt_batch: Mapping[str, Any]
    ) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """Return `(pred_batch, gt_batch)` with the provided keys added.

        Raises:
            MissingKeyError: a required key is not there.
        """
        batches = {"pred": pred_batch, "gt": gt_batch}
        for key in self.requires:
            side, _, rest = key.partition(".")
            if rest not in batches[side]:
                raise MissingKeyError(
                    f"preprocess {type(self).__name__} needs {key!r} to make {', '.join(map(repr, self.provides))}; "
                    f"{side}_batch has keys {sorted(map(str, batches[side]))}"
                )
        made: dict[str, dict[str, Any]] = {"pred": {}, "gt": {}}
        for key, tensor in self.compute(pred_batch, gt_batch).items():
            side, _, rest = key.partition(".")
            made[side][rest] = tensor
        return {**made["pred"], **pred_batch}, {**made["gt"], **gt_batch}
