"""The facts of the loss of geomloss."""

from __future__ import annotations

from collections.abc import Mapping

from lossreg_wrappers.facts import Facts

FACTS: Mapping[str, Facts] = {
    "SamplesLoss": Facts(
        "optimal transport, generation, registration",
        r"L = \mathrm{OT}_{\varepsilon}(x, y) - \frac{1}{2} \mathrm{OT}_{\varepsilon}(x, x) - \frac{1}{2} "
        r"\mathrm{OT}_{\varepsilon}(y, y) \qquad \varepsilon = \mathtt{blur}^{\mathtt{p}}",
        "Sinkhorn, Wasserstein, earth mover, EMD, MMD, maximum mean discrepancy, energy distance, point cloud, "
        "domain adaptation",
        "Feydy et al. 2018, Interpolating between optimal transport and MMD, arXiv:1810.08278",
        "point clouds (N, P, D); with their weights by `inputs: [pred.weights, pred.points, gt.weights, gt.points]`",
        "point clouds (N, Q, D)",
    ),
}
"""The facts by name of the loss."""
