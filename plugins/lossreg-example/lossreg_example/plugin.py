"""The specs of this package. This module does not import torch; targets are strings."""

from __future__ import annotations

from collections.abc import Sequence

from lossreg import LossSpec, hookimpl


@hookimpl
def lossreg_losses() -> Sequence[LossSpec]:
    """Return one spec for each loss."""
    return (
        LossSpec(
            "MaskedL1Loss",
            "lossreg_example.losses:MaskedL1Loss",
            summary="mean absolute error over the valid pixels",
            aliases=("masked_l1",),
            tasks=("regression", "depth"),
            prediction="heights (N, 1, H, W)",
            ground_truth="heights (N, 1, H, W), and optionally which of them are valid",
            words=("MAE", "L1", "missing labels"),
            formula=r"L = \frac{\sum_i v_i |x_i - y_i|^{\mathtt{beta}}}{\sum_i v_i}",
            example="lossreg_example.examples:heights",
            nothing="lossreg_example.examples:nothing_valid",
            capabilities=("permutable",),
        ),
    )
