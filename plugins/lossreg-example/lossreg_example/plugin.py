"""What this package offers lossreg. It only describes: no torch here, targets are named as text."""

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
