"""`lossreg check`: print the mistakes of a file with their lines, or a table of its terms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from lossreg.cli.import_option import importing
from lossreg.cli.loading import as_data, mistakes, show_mistakes, source
from lossreg.cli.output import echo, show_json
from lossreg.errors import ConfigError
from lossreg.printable import counted, printable

if TYPE_CHECKING:
    from lossreg.cli.curves import Curve
    from lossreg.config.grammar import Component, CompoundConfig
    from lossreg.config.reading import Source
    from lossreg.tables import Table

_MOST_COLUMNS = 8


@click.command("check", epilog="Example: lossreg check config.yaml --key loss_params.compound_loss")
@source
@importing
@click.option("--build", is_flag=True, help="Also make each loss, and the graph, as training would.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check_command(file: Source, key: str | None, build: bool, as_json: bool) -> None:
    """Check the loss that FILE describes.

    Exits with 0 and a table of its terms with their weights over the epochs, or with 1 and every mistake
    with its line, its column and how to fix it.

    Names, parameters, weights and thresholds are checked without importing PyTorch. What only a loss's own
    constructor or the graph of keys can refuse is found by --build, which takes seconds.
    """
    from lossreg.config.grammar import Component
    from lossreg.config.parsing import Permissions, parse_source

    try:
        config = parse_source(file, key, Permissions())
        built = _built(config) if build else {}
    except ConfigError as error:
        found = mistakes(file, error)
        if as_json:
            show_json({"file": file.name, "ok": False, "errors": [as_data(m) for m in found]})
        else:
            show_mistakes(file, found)
        raise click.exceptions.Exit(1) from None
    if as_json:
        described = {"loss": config.entry.name} if isinstance(config, Component) else _described(config)
        show_json({"file": file.name, "ok": True, "errors": [], **described, **built})
    elif isinstance(config, Component):
        echo(f"{printable(file.name)}: ok, a single loss: {config.entry.name}")
    else:
        _show(file, config, built)


def _built(config: CompoundConfig | Component) -> dict[str, Any]:
    """Build a config and return the preprocesses that run, which are known only then."""
    from lossreg.cli.graph import flat, running
    from lossreg.composition.multiloss import MultiLoss
    from lossreg.config.build import build

    loss = build(config)
    if not isinstance(loss, MultiLoss):
        return {}
    return {"preprocesses": [item["name"] for item in flat(running(loss.plan())) if item["kind"] == "preprocess"]}


def _described(config: CompoundConfig) -> dict[str, Any]:
    """Return the terms of a config with their weights at the knots, and its weighting, as data."""
    from lossreg.cli.curves import curves_of, times_of

    terms = [
        {
            "name": curve.name,
            "loss": leaf.term.loss_name,
            "unit": curve.unit,
            "weights": [[time, curve.weight(time)] for time in times_of([curve])],
            "normalize": leaf.normalize,
            "optional": leaf.optional,
        }
        for curve, leaf in zip(curves_of(config), config.leaves(), strict=True)
    ]
    return {"terms": terms, "weighting": None if config.weighting is None else config.weighting.entry.name}


def _show(file: Source, config: CompoundConfig, built: dict[str, Any]) -> None:
    from lossreg.cli import console
    from lossreg.cli.curves import curves_of

    described = _described(config)
    count = len(described["terms"])
    console.say(f"{file.name}: ok, {counted(count, 'term')}", rest="  ")
    rows = list(zip(curves_of(config), described["terms"], strict=True))
    for unit in sorted({curve.unit for curve, _ in rows if curve.moves}) or ["epoch"]:
        echo()
        if unit == "both":
            names = ", ".join(curve.name for curve, _ in rows if curve.unit == unit)
            console.say(f"By epoch and by step: {names}; see `lossreg plot --steps-per-epoch N`", rest="  ")
        else:
            chosen = [(curve, term) for curve, term in rows if curve.unit == unit or not curve.moves]
            console.show(_table(unit, chosen))
    if described["weighting"]:
        echo()
        console.say(f"Weighting: {described['weighting']}, multiplied by the weights above", rest="  ")
    if built.get("preprocesses"):
        echo()
        console.say(f"Preprocesses: {', '.join(built['preprocesses'])}", rest="  ")


def _table(unit: str, rows: list[tuple[Curve, dict[str, Any]]]) -> Table:
    from lossreg.cli.curves import number, thinned, times_of
    from lossreg.tables import Column, Table

    times = thinned(times_of([curve for curve, _ in rows]), _MOST_COLUMNS)
    moving = any(curve.moves for curve, _ in rows)
    headings = [f"{unit} {number(time)}" for time in times] if moving else ["Weight"]
    cells = [
        [term["name"], term["loss"], *(number(curve.weight(time)) for time in times), _notes(term)]
        for curve, term in rows
    ]
    columns = [Column("Term"), Column("Loss"), *(Column(heading, "number") for heading in headings)]
    if any(row[-1] for row in cells):
        columns.append(Column("Notes", "prose"))
    return Table(columns, [row[: len(columns)] for row in cells])


def _notes(term: dict[str, Any]) -> str:
    notes = {"not normalised": not term["normalize"], "optional": term["optional"]}
    return ", ".join(note for note, holds in notes.items() if holds)
