"""Plugin `coral`: the losses of coral-pytorch for ordered classes; imports neither it nor torch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from lossreg import LossSpec, hookimpl
from lossreg_wrappers.coral_facts import FACTS
from lossreg_wrappers.describe import library_loss
from lossreg_wrappers.wrap import lossreg_wrap

__all__ = ["lossreg_losses", "lossreg_wrap"]

_loss = partial(
    library_loss,
    "coral_pytorch.losses",
    facts=FACTS,
    page="https://raschka-research-group.github.io/coral-pytorch/api_subpackages/coral_pytorch.losses/#{name}",
    package="coral-pytorch>=1.4",
)


@hookimpl
def lossreg_losses() -> Sequence[LossSpec]:
    """Return the specs of the losses of coral-pytorch, sorted by name."""
    return (
        _loss(
            "CoralLoss",
            "ordinal regression by one binary task for each step between classes, with shared weights (CORAL)",
            {"takes": "sigmoid logits", "target": "mask", "unit": "samples by coral"},
            example="ordered_levels",
        ),
        _loss(
            "CornLoss",
            "ordinal regression by one conditional task for each step between classes (CORN)",
            {
                "takes": "sigmoid logits",
                "target": "indices",
                "classes": "num_classes",
                "unit": "none",
                "unmasked": "it counts each sample once for every step that it has reached; use coral/CoralLoss",
            },
            example="ordered_classes",
            args={"num_classes": 4},
        ),
    )
