"""`lossreg check`: every mistake of a file at its line, or a table of what it builds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lossreg.cli.loading import as_data, mistakes, show_mistakes, source
from lossreg.errors import ConfigError

if TYPE_CHECKING:
    from rich.table import Table

    from lossreg.cli.curves import Curve
    from lossreg.composition.multiloss import MultiLoss

_MOST_COLUMNS = 8


@click.command("check", epilog="Example: lossreg check config.yaml --key loss_params.compound_loss")
@source
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check_command(file: Path, key: str | None, as_json: bool) -> None:
    """Check the loss that FILE describes.

    Exits with 0 and a table of its terms with their weights over the epochs, or with 1 and every mistake
    with its line, its column and how to mend it.
    """
    from lossreg.cli import console
    from lossreg.composition.multiloss import MultiLoss
    from lossreg.config.build import load_loss

    try:
        loss = load_loss(file, key)
    except ConfigError as error:
        found = mistakes(file, error)
        if as_json:
            console.show_json({"file": str(file), "ok": False, "errors": [as_data(m) for m in found]})
        else:
            show_mistakes(file, found)
        raise click.exceptions.Exit(1) from None
    if as_json:
        built = _described(loss) if isinstance(loss, MultiLoss) else {"loss": type(loss).__name__}
        console.show_json({"file": str(file), "ok": True, "errors": [], **built})
    elif isinstance(loss, MultiLoss):
        _show(file, loss)
    else:
        click.echo(f"{file}: ok, a single loss: {type(loss).__name__}")


def _described(loss: MultiLoss) -> dict[str, Any]:
    """Return what a file builds, as data: terms with weights at their knots, weighting, preprocesses."""
    from lossreg.cli.curves import curves_of
    from lossreg.cli.graph import flat, running

    terms = [
        {
            "name": curve.name,
            "loss": type(term.loss).__name__,
            "unit": curve.unit,
            "weights": [[time, curve.weight(time)] for time in _times([curve])],
            "normalize": term.normalize,
            "optional": term.optional,
            "requires": list(term.loss.requires),
        }
        for curve, (_, term) in zip(curves_of(loss), loss.leaves(), strict=True)
    ]
    weighting = None if loss.weighting is None else type(loss.weighting).__name__
    nodes = [item["name"] for item in flat(running(loss.plan())) if item["kind"] == "preprocess"]
    return {"terms": terms, "weighting": weighting, "preprocesses": nodes}


def _times(curves: list[Curve]) -> list[float]:
    """Return the times at which to tell weights: 0 and every knot; 0 alone where nothing moves."""
    from lossreg.cli.curves import knots_within, last_epoch

    last = max((knot for curve in curves for knot in curve.knots), default=0.0)
    if last <= 0 and any(curve.moves for curve in curves):
        last = last_epoch(curves)
    return knots_within(curves, last)


def _show(file: Path, loss: MultiLoss) -> None:
    from lossreg.cli import console
    from lossreg.cli.curves import curves_of

    described = _described(loss)
    count = len(described["terms"])
    click.echo(f"{file}: ok, {count} term{'' if count == 1 else 's'}")
    rows = list(zip(curves_of(loss), described["terms"], strict=True))
    for unit in sorted({curve.unit for curve, _ in rows if curve.moves}) or ["epoch"]:
        click.echo()
        if unit == "both":
            names = ", ".join(curve.name for curve, _ in rows if curve.unit == unit)
            click.echo(f"By epoch and by step: {names}; see `lossreg plot --steps-per-epoch N`")
        else:
            chosen = [(curve, term) for curve, term in rows if curve.unit == unit or not curve.moves]
            console.show(_table(unit, chosen))
    if described["weighting"]:
        click.echo(f"\nWeighting: {described['weighting']}, multiplied by the weights above")
    if described["preprocesses"]:
        click.echo(f"\nPreprocesses: {', '.join(described['preprocesses'])}")


def _table(unit: str, rows: list[tuple[Curve, dict[str, Any]]]) -> Table:
    from lossreg.cli.console import table
    from lossreg.cli.curves import number

    times = _thinned(_times([curve for curve, _ in rows]))
    moving = any(curve.moves for curve, _ in rows)
    headings = [f">{unit} {number(time)}" for time in times] if moving else [">Weight"]
    cells = [
        [term["name"], term["loss"], *(number(curve.weight(time)) for time in times), _notes(term)]
        for curve, term in rows
    ]
    notes = any(row[-1] for row in cells)
    columns = ["Term", "Loss", *headings, *(["Notes"] if notes else [])]
    return table(columns, [row if notes else row[:-1] for row in cells])


def _notes(term: dict[str, Any]) -> str:
    notes = {"not normalised": not term["normalize"], "optional": term["optional"]}
    return ", ".join(note for note, holds in notes.items() if holds)


def _thinned(times: list[float]) -> list[float]:
    """Keep at most so many times as a table has room for, the first and the last among them."""
    if len(times) <= _MOST_COLUMNS:
        return times
    last = len(times) - 1
    return [times[round(i * last / (_MOST_COLUMNS - 1))] for i in range(_MOST_COLUMNS)]
