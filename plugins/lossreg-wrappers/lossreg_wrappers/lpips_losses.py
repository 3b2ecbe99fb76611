"""Plugin `lpips`: the loss of lpips; imports neither it nor torch."""

from __future__ import annotations

from collections.abc import Sequence

from lossreg import LossSpec, hookimpl
from lossreg_wrappers.describe import library_loss
from lossreg_wrappers.lpips_facts import FACTS
from lossreg_wrappers.wrap import lossreg_wrap

__all__ = ["lossreg_losses", "lossreg_wrap"]


@hookimpl
def lossreg_losses() -> Sequence[LossSpec]:
    """Return the spec of the loss of lpips."""
    return (
        library_loss(
            "lpips",
            "LPIPS",
            "learned distance of features of a network; downloads the network at first use",
            {"takes": "values", "unit": "samples by sample"},
            facts=FACTS,
            page="https://github.com/richzhang/PerceptualSimilarity#{name}",
            package="lpips>=0.1.4",
            target="lossreg_wrappers.lpips_modules:LPIPS",
            example="photos",
            args={"pnet_rand": True, "net": "squeeze", "normalize": True},
        ),
    )
