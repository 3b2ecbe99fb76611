"""Plots of weights over the epochs: one strip per term, each with its own scale, on a common axis."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lossreg.printable import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from lossreg.composition.schedules import Schedule
    from lossreg.config.grammar import CompoundConfig

_BLOCKS = " ▁▂▃▄▅▆▇█"
_ASCII = " .:-=+*#%@"
_SAMPLES = 240
_LEAST_STRIP = 30  # columns of a strip beside its name
_BLUE = "#1f6fb4"


@dataclass(frozen=True)
class Curve:
    """The weight of one term.

    Attributes:
        name: the name of the term; in a group `group/term`.
        weight: the function from time to weight.
        knots: the times at which the slope of the weight changes, ascending.
        moves: whether the weight depends on time.
        unit: the unit of time: `"epoch"`, `"step"`, or `"both"` if a group uses one and its term the other, so that no
            single axis can show the weight.
    """

    name: str
    weight: Callable[[float], float]
    knots: tuple[float, ...] = ()
    moves: bool = True
    unit: str = "epoch"


def curves_of(config: CompoundConfig, steps_per_epoch: float | None = None) -> list[Curve]:
    """Return the curve of every term in order; the weight of a group multiplies those of its terms.

    Args:
        config: the checked config.
        steps_per_epoch: if given, schedules of unit `step` are drawn over epochs too.
    """
    return [_product(leaf.name, leaf.schedules, steps_per_epoch) for leaf in config.leaves()]


def _product(name: str, chain: Sequence[Schedule], steps_per_epoch: float | None) -> Curve:
    moving = [schedule for schedule in chain if schedule.needs_epoch]
    rate = {"epoch": 1.0, "step": steps_per_epoch or 1.0}
    units = {schedule.unit for schedule in moving}
    unit = "epoch" if steps_per_epoch or not units else units.pop() if len(units) == 1 else "both"
    knots = {knot / rate[schedule.unit] for schedule in moving for knot in schedule.knots}

    def weight(time: float) -> float:
        try:
            value = math.prod(schedule(time * rate[schedule.unit]) for schedule in chain)
        except Exception as error:  # a third-party schedule may raise anything
            raise click.ClickException(f"{name}: its weight cannot be computed: {error}") from error
        if not math.isfinite(value):
            raise click.ClickException(f"{name}: expected a finite weight, found {value} at {time:g}")
        return value

    return Curve(name, weight, tuple(sorted(knots)), bool(moving), unit)


def last_epoch(curves: Sequence[Curve]) -> float:
    """Return the last epoch of a plot: a tenth after the last knot, or 10 without knots."""
    last = max((knot for curve in curves for knot in curve.knots), default=0.0)
    return last + max(1.0, round(last / 10)) if last > 0 else 10.0


def knots_within(curves: Sequence[Curve], epochs: float) -> list[float]:
    """Return the epochs to label: 0, every knot of every curve up to `epochs`, and `epochs` itself."""
    return sorted({0.0, epochs, *(knot for curve in curves for knot in curve.knots if 0 <= knot <= epochs)})


def times_of(curves: Sequence[Curve]) -> list[float]:
    """Return the times for which a table shows weights: 0 and every knot; only 0 if all weights are constant."""
    last = max((knot for curve in curves for knot in curve.knots), default=0.0)
    if last <= 0 and any(curve.moves for curve in curves):
        last = last_epoch(curves)
    return knots_within(curves, last)


def thinned(times: list[float], most: int) -> list[float]:
    """Return at most as many times as fit into a table, including the first and the last."""
    if len(times) <= most:
        return times
    last = len(times) - 1
    return [times[round(i * last / (most - 1))] for i in range(most)]


# --- in the terminal ------------------------------------------------------------------------------


def draw_text(
    curves: Sequence[Curve], epochs: float, *, width: int = 80, ascii_only: bool = False, unit: str = "epoch"
) -> str:
    """Return each curve as a strip of blocks above its values at its knots, in `width` columns.

    A full block is the largest weight of the term, so small weights are visible. Names that leave too little room
    beside them stand above their strips.
    """
    ramp = _ASCII if ascii_only else _BLOCKS
    names = [printable(curve.name) for curve in curves]
    margin = max(map(len, [*names, unit])) + 2
    above = width - margin < _LEAST_STRIP
    margin = len(unit) + 2 if above else margin
    columns = max(width - margin, 20)
    at = [epochs * (i / (columns - 1)) for i in range(columns)]
    lines = []
    for name, curve in zip(names, curves, strict=True):
        weights = [curve.weight(epoch) for epoch in at]
        peak = max(map(abs, weights)) or 1.0
        # every weight other than zero is visible: the lowest block is only for zero
        strip = "".join(ramp[math.ceil(abs(weight) / peak * (len(ramp) - 1) - 1e-9)] for weight in weights)
        knots = knots_within([curve], epochs) if curve.moves else [0.0]
        labels = _labels(knots, [number(curve.weight(knot)) for knot in knots], epochs, columns)
        beside = "" if above else name
        lines += [name] if above else []
        lines += [f"{beside:<{margin}}{strip}".rstrip(), f"{'':<{margin}}{labels}".rstrip(), ""]
    knots = knots_within(curves, epochs)
    lines.append(f"{unit:<{margin}}{_labels(knots, [number(knot) for knot in knots], epochs, columns)}")
    return "\n".join(lines)


def _labels(positions: Sequence[float], texts: Sequence[str], epochs: float, columns: int) -> str:
    """Return a line with each text under its epoch, without texts that would touch the previous or the last one."""
    line = [" "] * columns

    def write(position: float, text: str) -> None:
        start = min(round(position / epochs * (columns - 1)), columns - len(text))
        cells = line[max(start - 1, 0) : start + len(text) + 1]
        if start >= 0 and not "".join(cells).strip():
            line[start : start + len(text)] = text

    for i in (-1, *range(len(texts) - 1)):
        write(positions[i], texts[i])
    return "".join(line)


def number(value: float) -> str:
    """Return a number with at most four digits: `0.3333`, `10`, `1e-05`."""
    return f"{value:.4g}"


# --- as a file ------------------------------------------------------------------------------------


def draw_file(curves: Sequence[Curve], epochs: float, path: Path, *, unit: str = "epoch") -> None:
    """Draw one panel per term with the values at its knots; the suffix of `path` selects the format.

    Raises:
        ImportError: matplotlib is not installed.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    at = sorted({epochs * (i / _SAMPLES) for i in range(_SAMPLES + 1)} | set(_at_jumps(curves, epochs)))
    ticks = _apart(knots_within(curves, epochs), epochs / 20)
    columns = 1 if len(curves) <= 8 else 2
    rows = math.ceil(len(curves) / columns)
    figure = Figure(figsize=(5.2 * columns, 0.6 + 1.15 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, sharex=True, squeeze=False)
    for curve, axes in zip(curves, panels.T.flat, strict=False):
        _draw_panel(axes, curve, at, epochs)
        axes.set_xticks([tick / epochs for tick in ticks], map(number, ticks))
    for axes in list(panels.T.flat)[len(curves) :]:
        axes.set_visible(False)
    for axes in panels[-1]:
        axes.set_xlabel(unit)
    figure.savefig(path, dpi=130)


def _draw_panel(axes: Axes, curve: Curve, at: Sequence[float], epochs: float) -> None:
    """Draw a curve in fractions of the epochs and of its largest weight, so that all numbers can be drawn."""
    weights = [curve.weight(epoch) for epoch in at]
    peak = max(map(abs, weights)) or 1.0
    low, high = min(0.0, *weights) / peak, max(0.0, *weights) / peak
    span = (high - low) or 1.0
    times, heights = [epoch / epochs for epoch in at], [weight / peak for weight in weights]
    axes.plot(times, heights, color=_BLUE, linewidth=2, solid_joinstyle="miter")
    axes.fill_between(times, heights, color=_BLUE, alpha=0.12, linewidth=0)
    _mark(axes, curve, knots_within([curve], epochs) if curve.moves else [0.0], epochs, peak)
    axes.set_ylim(low - 0.12 * span, high + 0.42 * span)
    axes.set_yticks(sorted({low, high}), [number(tick * peak) for tick in sorted({low, high})])
    title = axes.set_title(printable(curve.name), loc="left", fontsize=10, fontweight="bold", pad=4)
    title.set_parse_math(False)  # a name may hold `$`
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlim(0, 1)
    axes.grid(axis="x", color="#dddddd", linewidth=0.8)
    axes.tick_params(labelsize=10)


def _mark(axes: Axes, curve: Curve, knots: Sequence[float], epochs: float, peak: float) -> None:
    """Put a dot and the value at each knot, leaving out the text where two would touch."""
    from matplotlib.patheffects import withStroke

    halo = [withStroke(linewidth=3, foreground="white")]
    heights = [curve.weight(knot) / peak for knot in knots]
    axes.plot([knot / epochs for knot in knots], heights, "o", color=_BLUE, markersize=4, clip_on=False)
    for knot in _apart(knots, epochs / 12):
        weight = curve.weight(knot)
        end = knot >= epochs
        place = (knot / epochs, weight / peak)
        offset = (0 if end else 4, 4)
        text = axes.annotate(number(weight), place, xytext=offset, textcoords="offset points")
        text.set(ha="right" if end else "left", fontsize=10, path_effects=halo, in_layout=False)


def _apart(positions: Sequence[float], distance: float) -> list[float]:
    """Return the positions without those closer than `distance` to the previous or the last one."""
    kept: list[float] = []
    for position in positions[:-1]:
        if (not kept or position - kept[-1] >= distance) and positions[-1] - position >= distance:
            kept.append(position)
    return [*kept, *positions[-1:]]


def _at_jumps(curves: Sequence[Curve], epochs: float) -> list[float]:
    """Return each knot and the largest float before it, so that jumps are drawn as vertical lines."""
    inner = [knot for knot in knots_within(curves, epochs) if 0 < knot <= epochs]
    return [*inner, *(math.nextafter(knot, 0) for knot in inner)]
