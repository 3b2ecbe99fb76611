"""Compare lossreg with textbook formulas and other libraries: python benchmarks/run.py [--quick] [--output FOLDER].

It writes `results.json`, `results.md` and `sizes.svg` into the folder atomically, and prints the targets. It is not a
test: a missed target does not change the exit code.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import composition
import counts
import losses
import report
import startup
import sync
import torch
from machine import machine
from measure import QUICK, Effort
from results import Row, merge, verdicts
from rich.console import Console
from rich.markdown import Markdown
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from lossreg.atomic import replacing

PARTS = {
    "counts": counts.cases,
    "losses": losses.cases,
    "gpu": losses.gpu_cases,
    "composition": composition.cases,
    "sync": sync.cases,
    "startup": startup.cases,
}
FEW_ROUNDS = ("--benchmark-max-time=0.1", "--benchmark-min-rounds=3")


def compiles() -> bool:
    """Return whether PyTorch finds a compiler on this machine."""
    try:
        torch.compile(torch.sin)(torch.ones(2))
    except RuntimeError:
        return False
    return True


def single_calls(quick: bool) -> list[dict[str, Any]]:
    """Return the absolute times from pytest-benchmark; empty if it is not installed."""
    if find_spec("pytest_benchmark") is None:
        return []
    script = Path(__file__).with_name("calls.py")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "calls.json"
        command = [sys.executable, "-m", "pytest", "-q", str(script), f"--benchmark-json={file}"]
        run = subprocess.run([*command, *(FEW_ROUNDS if quick else ())], capture_output=True, text=True)
        if run.returncode:
            raise RuntimeError(f"{' '.join(command)} ended with {run.returncode}:\n{run.stdout}{run.stderr}")
        benchmarks = json.loads(file.read_text(encoding="utf-8"))["benchmarks"]
    return [
        {
            "name": b["param"] or b["name"].removeprefix("test_").replace("_", " "),
            **{key: b["stats"][key] for key in ("median", "min", "iqr", "rounds")},
        }
        for b in benchmarks
    ]


def collect(effort: Effort, parts: Sequence[str], console: Console) -> list[Row]:
    """Measure the parts one after another, with a progress bar."""
    cases: list[tuple[str, Callable[[], list[Row]]]] = [case for part in parts for case in PARTS[part](effort)]
    columns = (TextColumn("{task.description:<44}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    rows: list[Row] = []
    with Progress(*columns, console=console, refresh_per_second=2) as progress:
        task = progress.add_task("", total=len(cases))
        for label, measure in cases:
            progress.update(task, description=label)
            rows += measure()
            progress.advance(task)
    return rows


def measure_all(effort: Effort, parts: Sequence[str], console: Console) -> dict[str, Any]:
    """Return the machine, all rows, the single calls and the targets, as JSON data."""
    start, where = time.monotonic(), machine()
    rows = collect(effort, parts, console)
    calls = single_calls(quick=effort == QUICK) if "losses" in parts else []
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "minutes": round((time.monotonic() - start) / 60, 1),
        "quick": effort == QUICK,
        "machine": where,
        "bars": verdicts(rows),
        "rows": [asdict(row) for row in rows],
        "calls": calls,
    }


def write(results: dict[str, Any], folder: Path) -> None:
    """Write the JSON, the tables and the plot."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (
        ("results.json", json.dumps(results, indent=1, ensure_ascii=False) + "\n"),
        ("results.md", report.markdown(results)),
    ):
        with replacing(folder / name) as draft:
            draft.write_text(text, encoding="utf-8")
    report.draw(results, folder / "sizes.svg")


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, measure, write the results, and print the targets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few rounds, no compiler, no sweeps: about a minute")
    parser.add_argument("--output", type=Path, default=Path("bench-run"), metavar="FOLDER", help="default: bench-run")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="parts to run; default: all")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="a results.json, of which the other parts are kept")
    options = parser.parse_args(arguments)
    console = Console()
    effort = QUICK if options.quick else Effort()
    if effort.compiled and not compiles():
        console.print("no compiler found, so nothing is compiled", style="yellow")
        effort = replace(effort, compiled=False)
    if "counts" in options.only and (lacking := counts.standin.missing()):
        console.print(f"nothing is counted: the stand-in device {lacking}", style="yellow")
    results = measure_all(effort, options.only, console)
    if options.keep:
        results = merge(json.loads(options.keep.read_text(encoding="utf-8")), results)
    write(results, options.output)
    console.print(Markdown(report.bars_table(results)))
    console.print(f"wrote results.json, results.md and sizes.svg into {options.output}")


if __name__ == "__main__":
    main()
