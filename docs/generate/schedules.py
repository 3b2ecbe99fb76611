"""Draw every schedule as `schedule-NAME.svg`: python docs/generate/schedules.py [FOLDER]."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from lossreg.composition.schedules import (
    Akima,
    Chain,
    Constant,
    Cosine,
    Cyclic,
    Exponential,
    Pchip,
    Piecewise,
    Polynomial,
    Schedule,
    Sigmoid,
    Step,
)

VALUES, THRESHOLDS = [0.0, 0.0, 1.0, 0.4, 0.4], [0, 10, 20, 40, 50]

DRAWN: dict[str, dict[str, Schedule]] = {
    "constant": {"value: 0.5": Constant(0.5)},
    "piecewise": {"": Piecewise(VALUES, THRESHOLDS)},
    "step": {"": Step([1.0, 0.5, 0.1], [0, 20, 40])},
    "polynomial": {f"power: {power}": Polynomial(1, 0, 50, 10, power) for power in (0.5, 1, 2)},
    "cosine": {"": Cosine(0, 1, 50, 10)},
    "exponential": {"": Exponential(1, 0.01, 50, 10)},
    "sigmoid": {"": Sigmoid(0, 1, 50, 10)},
    "cyclic": {f"ratio: {ratio}": Cyclic(0, 1, 50, 10, cycles=4, ratio=ratio) for ratio in (0.5, 1)},
    "pchip": {"piecewise": Piecewise(VALUES, THRESHOLDS), "pchip": Pchip(VALUES, THRESHOLDS)},
    "akima": {"piecewise": Piecewise(VALUES, THRESHOLDS), "akima": Akima(VALUES, THRESHOLDS)},
    "chain": {"": Chain([Cosine(0, 1, 10), 1.0, Polynomial(1, 0.2, 20)], [10, 35])},
}


def draw(schedules: dict[str, Schedule], path: Path) -> None:
    """Draw schedules of one kind over 60 epochs, with ticks at their knots."""
    figure = Figure(figsize=(4.6, 2.1), layout="constrained")
    axes = figure.subplots()
    epochs = np.linspace(-5, 60, 1301)
    for number, (label, schedule) in enumerate(schedules.items()):
        reference = len(schedules) > 1 and label == "piecewise"
        style = {"color": "0.6", "linestyle": ":"} if reference else {"color": f"C{number}"}
        axes.plot(epochs, [schedule(epoch) for epoch in epochs], label=label, **style)
    knots = sorted({knot for schedule in schedules.values() for knot in schedule.knots})
    axes.set(xlabel="epoch", ylabel="weight", xlim=(-5, 60), xticks=knots or [0, 20, 40, 60])
    axes.grid(axis="x", color="0.85")
    axes.spines[["top", "right"]].set_visible(False)
    if any(schedules):
        axes.legend(frameon=False)
    figure.savefig(path, transparent=True)


def main(folder: Path) -> None:
    """Write one SVG per schedule into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, schedules in DRAWN.items():
        draw(schedules, folder / f"schedule-{name}.svg")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1] / "generated")
