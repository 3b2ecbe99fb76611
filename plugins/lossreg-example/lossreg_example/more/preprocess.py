"""A preprocess: a node that computes keys of a batch for the terms that need them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lossreg import Preprocess


class KnownHeights(Preprocess):
    """Computes `gt.known`, 1 where `gt.height` is finite and 0 elsewhere; use it as the `mask` of a term.

    Reads `gt.height` of any shape and computes `gt.known` of the same shape in float32.
    """

    requires = ("gt.height",)
    provides = ("gt.known",)

    def compute(
        self,
        pred_batch: Mapping[str, Any],  # noqa: ARG002
        gt_batch: Mapping[str, Any],
    ) -> dict[str, Tensor]:
        """Return `{"gt.known": tensor}`; the batches are read only."""
        return {"gt.known": torch.isfinite(gt_batch["height"]).float()}
