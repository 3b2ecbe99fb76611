"""`lossreg plot`: draw the weight of each term over the epochs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lossreg.cli.import_option import importing
from lossreg.cli.loading import load_config, source
from lossreg.cli.output import echo, refuse_suffix, stream, writing
from lossreg.config.bounds import MAX_EPOCH

if TYPE_CHECKING:
    from lossreg.cli.curves import Curve
    from lossreg.config.reading import Source

_SUFFIXES = (".png", ".svg", ".pdf")
_MOST_PANELS, _MOST_LABELS = 20, 160  # matplotlib takes seconds to draw these


class _Count(click.FloatRange):
    """A number in a range that is not NaN; the ranges of click accept NaN."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        if math.isnan(number):
            self.fail(f"expected a number, found {value}", param, ctx)
        return number


_EPOCHS = _Count(min=1e-6, max=MAX_EPOCH)
_STEPS = _Count(min=1, max=MAX_EPOCH)


@click.command("plot", epilog="Example: lossreg plot config.yaml -o weights.svg --epochs 100")
@source
@importing
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Picture to write; its suffix says as what: .png, .svg or .pdf.",
)
@click.option(
    "--epochs",
    type=_EPOCHS,
    help="How many epochs to show; by default a little beyond the last threshold.",
)
@click.option("--steps-per-epoch", type=_STEPS, help="Show schedules that count steps over epochs of so many.")
@click.option("--text", is_flag=True, help="Draw in the terminal, without matplotlib.")
def plot_command(
    file: Source,
    key: str | None,
    output: Path | None,
    epochs: float | None,
    steps_per_epoch: float | None,
    text: bool,
) -> None:
    """Plot the weight of each term of FILE over the epochs, with its values at the thresholds.

    Without -o, the plot is drawn in the terminal. An adaptive weighting is not shown: it multiplies these weights by
    what it learns in training.
    """
    from lossreg.cli.curves import curves_of, draw_text, last_epoch

    if output is not None and not text and output.suffix.lower() not in _SUFFIXES:
        refuse_suffix(output, _SUFFIXES)
    if output is not None and text and output.suffix.lower() in _SUFFIXES:
        raise click.UsageError(f"{output}: --text writes no picture; leave it out, or write a .txt")
    config = load_config(file, key)
    curves = curves_of(config, steps_per_epoch)
    unit = _one_unit(curves)
    labels = sum(min(len(curve.knots) + 1, 20) for curve in curves)  # a panel shows at most 20
    if output is not None and not text and (len(curves) > _MOST_PANELS or labels > _MOST_LABELS):
        raise click.ClickException(
            f"{file.name}: expected at most {_MOST_PANELS} losses and {_MOST_LABELS} thresholds for a picture, "
            f"found {len(curves)} and {labels}; --text draws all"
        )
    reach = epochs if epochs is not None else last_epoch(curves)
    if output is not None and not text:
        _write(curves, reach, output, unit)
    else:
        drawing = draw_text(curves, reach, width=_width(), ascii_only=not _prints_blocks(), unit=unit)
        if output is None:
            echo(drawing)
        else:
            with writing(output) as draft:
                draft.write_text(drawing + "\n", encoding="utf-8")
    if config.weighting is not None:
        echo(f"\nWeighting: {config.weighting.entry.spec.name}, multiplied by these weights", err=True)


def _one_unit(curves: list[Curve]) -> str:
    """Return the unit of the axis; raise if the changing weights have several units."""
    units = {curve.unit for curve in curves if curve.moves}
    if len(units) > 1 or "both" in units:
        steps = ", ".join(curve.name for curve in curves if curve.moves and curve.unit != "epoch")
        raise click.UsageError(f"some weights count epochs and some steps ({steps}); give --steps-per-epoch")
    return units.pop() if units else "epoch"


def _write(curves: list[Curve], epochs: float, output: Path, unit: str) -> None:
    """Write the picture."""
    from lossreg.cli.curves import draw_file

    try:
        with writing(output) as draft:
            draw_file(curves, epochs, draft, unit=unit)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "matplotlib":
            raise
        raise click.ClickException(
            f"{output} is not written, since matplotlib is not installed: pip install 'lossreg[plot]', or draw in the "
            "terminal with --text"
        ) from None


def _width() -> int:
    import shutil

    shown_on = stream()
    return shutil.get_terminal_size((80, 24)).columns if shown_on is not None and shown_on.isatty() else 80


def _prints_blocks() -> bool:
    """Return whether standard output can encode block characters."""
    try:
        "█".encode(getattr(stream(), "encoding", None) or "ascii")
    except UnicodeEncodeError:
        return False
    return True
