"""Draw the weights of every weighting for one made-up run as `weighting-NAME.svg`.

python docs/generate/weightings.py [FOLDER]
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from lossreg.composition.weighting.balancer import Balancer
from lossreg.composition.weighting.base import Weighting
from lossreg.composition.weighting.cov import CoV
from lossreg.composition.weighting.dwa import DWA
from lossreg.composition.weighting.gradnorm import GradNorm
from lossreg.composition.weighting.lrannealing import LRAnnealing
from lossreg.composition.weighting.relobralo import ReLoBRaLo
from lossreg.composition.weighting.shared import AtSharedParameters
from lossreg.composition.weighting.softadapt import SoftAdapt
from lossreg.composition.weighting.uncertainty import Uncertainty

STEPS, STEPS_AN_EPOCH = 600, 20
TERMS = ("falls fast", "falls slowly", "falls slowly, 10 times as large")

DRAWN: dict[str, Weighting] = {
    "uncertainty": Uncertainty(),
    "dwa": DWA(temperature=0.5),
    "gradnorm": GradNorm(),
    "softadapt": SoftAdapt(),
    "relobralo": ReLoBRaLo(alpha=0.95, beta=0.99),
    "cov": CoV(),
    "balancer": Balancer(beta=0.95),
    "lrannealing": LRAnnealing(),
}


def losses() -> np.ndarray:
    """Return made-up losses of shape (steps, 3), with noise."""
    t = np.arange(STEPS) / STEPS
    curves = np.stack([np.exp(-6 * t) + 0.02, np.exp(-1.5 * t), 10 * np.exp(-1.5 * t)], axis=1)
    return curves * np.random.default_rng(0).lognormal(0, 0.05, curves.shape)


def weights(weighting: Weighting) -> np.ndarray:
    """Return the weights of each step, with shape (steps, 3)."""
    weighting.bind(TERMS)
    shared = torch.nn.Parameter(torch.ones(1))
    if isinstance(weighting, AtSharedParameters):
        weighting.set_shared_parameters([shared])
    parameters = list(weighting.weighting_parameters())
    optimizer = torch.optim.Adam(parameters, lr=0.02) if parameters else None
    rows = []
    for step, row in enumerate(losses()):
        values = torch.tensor(row, dtype=torch.float32) * shared
        predictions = {"predictions": shared} if weighting.reads_predictions else {}
        coefficients = weighting(values, epoch=step // STEPS_AN_EPOCH, **predictions)
        rows.append(coefficients.weights.detach().numpy())
        if optimizer is not None:
            optimizer.zero_grad()
            coefficients.of(values).sum().backward()
            optimizer.step()
    return np.array(rows)


def draw(curves: np.ndarray, path: Path, label: str) -> None:
    """Draw the curves of the three terms, on a logarithmic axis if they are far apart."""
    figure = Figure(figsize=(4.6, 2.3), layout="constrained")
    axes = figure.subplots()
    epochs = np.arange(STEPS) / STEPS_AN_EPOCH
    for i, name in enumerate(TERMS):
        axes.plot(epochs, curves[:, i], label=name, color=f"C{i}", linestyle=(0, (5, 3)) if i == 2 else "-")
    axes.set(xlabel="epoch", ylabel=label, xlim=(0, STEPS / STEPS_AN_EPOCH))
    if curves.max() > 5 * curves.min():
        axes.set_yscale("log")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(
        frameon=False, fontsize=9, loc="outside upper left", ncols=len(TERMS), columnspacing=1, handlelength=1.4
    )
    figure.savefig(path, transparent=True)


def main(folder: Path) -> None:
    """Write the plot of the losses, and one SVG per weighting, into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    draw(losses(), folder / "weighting-losses.svg", "loss")
    for name, weighting in DRAWN.items():
        draw(weights(weighting), folder / f"weighting-{name}.svg", "weight")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1] / "generated")
