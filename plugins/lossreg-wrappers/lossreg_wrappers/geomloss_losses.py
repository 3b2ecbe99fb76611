"""Plugin `geomloss`: the loss of geomloss between point clouds; imports neither it nor torch."""

from __future__ import annotations

from collections.abc import Sequence

from lossreg import LossSpec, hookimpl
from lossreg_wrappers.describe import library_loss
from lossreg_wrappers.geomloss_facts import FACTS
from lossreg_wrappers.wrap import lossreg_wrap

__all__ = ["lossreg_losses", "lossreg_wrap"]


@hookimpl
def lossreg_losses() -> Sequence[LossSpec]:
    """Return the spec of the loss of geomloss."""
    return (
        library_loss(
            "geomloss",
            "SamplesLoss",
            "distance of point clouds: Sinkhorn divergence, or MMD by an energy, Gaussian or Laplacian kernel",
            {
                "takes": "values",
                "target_shape": "any",
                "unit": (
                    *(({"loss": kernel}, "samples by sample") for kernel in ("energy", "gaussian", "laplacian")),
                    ({"diameter": None}, "none"),
                    ({}, "samples by sample"),
                ),
                "unmasked": "its steps depend on the diameter of all points of the batch; set `diameter`",
            },
            facts=FACTS,
            page="https://www.kernel-operations.io/geomloss/api/pytorch-api.html#geomloss.{name}",
            package="geomloss>=0.3.1",
            # functions, formulas for a compiler, and what returns no loss
            hidden=("cost", "kernel", "potentials", "verbose"),
            example="point_clouds",
            args={"diameter": 2.0},
        ),
    )
