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
            example="lossreg_example.examples:heights",
            nothing="lossreg_example.examples:nothing_valid",
            capabilities=("permutable",),
        ),
    )
