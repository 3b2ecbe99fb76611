"""Write the results of a benchmark as tables and a plot: python benchmarks/report.py RESULTS.json FOLDER."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from results import BOTH, Bar, Row

from lossreg.atomic import replacing

Results = Mapping[str, Any]

SECTIONS = {
    "losses": "Losses against the textbook formulas",
    "peers": "Losses against other libraries",
    "sizes": "Sizes",
    "sweeps": "Batches, threads, dtypes and targets",
    "memory": "Memory",
    "composition": "Composition",
    "sync": "Norms over processes",
    "startup": "Start-up",
    "counts": "What a device is asked for",
    "gpu": "GPU",
}
GREY = "#80858c"  # readable on white and on black
COLOURS = ("#2f7ebc", "#d9772b", "#3a9a5b", "#a05fb4")


def rows_of(results: Results, section: str | None = None) -> list[Row]:
    """Return the rows of a section, or all rows."""
    rows = [Row(**row) for row in results["rows"]]
    return [row for row in rows if section in (None, row.section)]


# --- numbers ------------------------------------------------------------------------------------------


def seconds(value: float) -> str:
    """Return seconds in a unit with one to three digits before the point."""
    for unit, scale in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if value * scale >= 1:
            return f"{value * scale:.3g} {unit}"
    return f"{value * 1e9:.3g} ns"


def size(value: float) -> str:
    """Return bytes in the largest unit in which they are at least 1."""
    for unit, scale in (("MiB", 2**20), ("KiB", 2**10)):
        if value >= scale:
            return f"{value / scale:.3g} {unit}"
    return f"{value:.0f} B"


def factor(value: float) -> str:
    """Return a ratio with two or three digits, and a number of things as it is."""
    if isinstance(value, int):
        return str(value)
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def setting(row: Row) -> str:
    """Return the setting of a row in words."""
    words = []
    for key, value in row.setting.items():
        if key == "shape":
            words.append("x".join(map(str, value)))
        elif key == "threads":
            words.append(f"{value} thread{'s' * (value > 1)}")
        elif key in ("terms", "processes", "distributions"):
            words.append(f"{value} {key}")
        elif (key, value) not in {("device", "cpu"), ("dtype", "float32")}:
            words.append(f"{value} weights" if key == "weights" else str(value))
    return ", ".join(words)


# --- tables -------------------------------------------------------------------------------------------


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table, or a sentence if there are no rows."""
    if not rows:
        return "Not measured in this run.\n"
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def section_table(rows: Sequence[Row]) -> str:
    """Return the table of a section; ratios below 1 are bold."""
    cells = []
    for row in rows:
        show = size if row.unit == "B" else seconds
        ratio = factor(row.ratio)
        spread = f" ({factor(row.low)} to {factor(row.high)})" if row.rounds > 1 else ""
        mark = "**" if row.ratio < 1 else ""
        against = f"{row.against}"
        cells.append(
            [
                row.case,
                against,
                setting(row),
                row.phase,
                show(row.ours),
                show(row.theirs),
                f"{mark}{ratio}{mark}{spread}",
            ]
        )
    return table(["lossreg", "compared with", "setting", "phase", "lossreg's", "the other's", "ratio"], cells)


def counts_table(rows: Sequence[Row]) -> str:
    """Return the table of counts, with a line for each setting and "lossreg's / the other's" for each kind of count."""
    phases = list(dict.fromkeys(row.phase for row in rows))
    lines: dict[tuple[str, ...], dict[str, str]] = {}
    for row in rows:
        show = size if row.unit == "B" else str
        cell = f"{show(row.ours)} / {show(row.theirs)}"
        lines.setdefault((row.case, row.against, setting(row)), {})[row.phase] = cell
    cells = [[*line, *(of_phase.get(phase, "") for phase in phases)] for line, of_phase in lines.items()]
    return table(["lossreg", "compared with", "setting", *phases], cells)


def bars_table(results: Results) -> str:
    """Return the table of the targets."""
    cells = []
    for verdict in results["bars"]:
        bar = Bar(verdict["what"], verdict["limit"], verdict["at_least"], verdict["unit"])
        limit = f"{'at least' if bar.at_least else 'at most'} {bar.limit:g} {bar.unit}"
        measured = "not measured" if verdict["measured"] is None else factor(verdict["measured"])
        met = {None: "", True: "yes", False: "**no**"}[verdict["met"]]
        cells.append([bar.what, limit, measured, met])
    return table(["what", "target", "worst row", "met"], cells)


def calls_table(results: Results) -> str:
    """Return the table of absolute times of single calls."""
    cells = [
        [c["name"], seconds(c["median"]), seconds(c["min"]), seconds(c["iqr"]), str(c["rounds"])]
        for c in results["calls"]
    ]
    return table(["call", "median", "fastest", "between the quartiles", "rounds"], cells)


def machine_text(results: Results) -> str:
    """Return the description of the machine."""
    machine = results["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    caches = ", ".join(f"{name.upper()} {size(value)}" for name, value in machine["caches"].items())
    lines = [
        f"{machine['cpu']}, {machine['cores']} cores, {machine['instructions']}{', ' if caches else ''}{caches}, "
        f"{machine['memory_gib']} GiB of memory; {machine['system']}, Python {machine['python']}.",
        f"{versions}.",
        f"GPU: {machine['gpu'] or 'none, so its section was skipped'}.",
        f"Measured on {results['date']} in {results['minutes']:.0f} minutes; "
        f"the load of the machine before was {machine['load_before']}.",
    ]
    if results["quick"]:
        lines.append("This was a quick run: few rounds, no compiler, no sweeps.")
    lines += [
        f"{', '.join(SECTIONS[section] for section in run['sections'])}: from another run, on {run['date']}, "
        f"{run['machine']['gpu'] or run['machine']['cpu']}, torch {run['machine']['versions']['torch']}."
        for run in results.get("later", [])
    ]
    return "\n".join(f"- {line}" for line in lines) + "\n"


def tables(results: Results) -> dict[str, str]:
    """Return the Markdown of each part by name."""
    parts = {name: section_table(rows_of(results, name)) for name in SECTIONS}
    parts["counts"] = counts_table(rows_of(results, "counts"))
    if not rows_of(results, "gpu"):
        parts["gpu"] = "The machine had no GPU, so this section was skipped.\n"
    return {
        "machine": machine_text(results),
        "bars": bars_table(results),
        **parts,
        "calls": calls_table(results),
    }


def markdown(results: Results) -> str:
    """Return all parts as one page."""
    titles = {"machine": "Machine", "bars": "Targets", **SECTIONS, "calls": "Single calls"}
    parts = tables(results)
    return "# Benchmark\n\n" + "\n".join(f"## {title}\n\n{parts[name]}" for name, title in titles.items())


# --- plot ---------------------------------------------------------------------------------------------


def plot(results: Results) -> Figure:
    """Return a figure of the ratio over the size of the image, with a line for each pair of the section `sizes`."""
    figure = Figure(figsize=(4.6, 3.4), layout="constrained")
    axes = figure.subplots()
    lines: dict[tuple[str, str], list[Row]] = {}
    for row in rows_of(results, "sizes"):
        if row.phase == BOTH:
            lines.setdefault((row.case, row.against), []).append(row)
    for number, ((case, against), rows) in enumerate(lines.items()):
        rows = sorted(rows, key=lambda row: int(row.setting["shape"][-1]))
        sizes = [row.setting["shape"][-1] for row in rows]
        colour = COLOURS[number % len(COLOURS)]
        axes.plot(sizes, [row.ratio for row in rows], marker="o", color=colour, label=f"{case} against {against}")
        axes.fill_between(
            sizes, [row.low for row in rows], [row.high for row in rows], color=colour, alpha=0.2, linewidth=0
        )
    axes.axhline(1, color=GREY, linewidth=1, linestyle=":")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("height and width in pixels", color=GREY)
    axes.set_ylabel("times faster", color=GREY)
    axes.tick_params(which="both", color=GREY, labelcolor=GREY)
    for name, spine in axes.spines.items():
        spine.set(color=GREY, visible=name in ("left", "bottom"))
    if lines:
        figure.legend(frameon=False, fontsize="small", loc="outside upper left", ncols=2, labelcolor=GREY)
    return figure


def write(results: Results, folder: Path, prefix: str = "performance-") -> None:
    """Write each part as Markdown, and the plot as SVG, atomically."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in tables(results).items():
        with replacing(folder / f"{prefix}{name}.md") as draft:
            draft.write_text(text, encoding="utf-8")
    draw(results, folder / f"{prefix}sizes.svg")


def draw(results: Results, path: Path) -> None:
    """Write the plot."""
    with replacing(path) as draft:
        plot(results).savefig(draft, transparent=True)


if __name__ == "__main__":
    write(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), Path(sys.argv[2]))
