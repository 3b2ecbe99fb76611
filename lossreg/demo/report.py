"""The output of a run: a progress bar, and a table of the terms after each epoch."""

from __future__ import annotations

import os
from types import TracebackType

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from lossreg.printable import printable, takes_styles

Row = dict[str, float]


class _Quiet(Console):
    """A console that becomes silent if the reader of its pipe closes it, so that the run continues."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.file.fileno())
        os.close(nowhere)


class Report:
    """A context manager that prints the progress of a run.

    Args:
        epochs: number of epochs of the whole run.
        steps: number of steps per epoch.
        done: number of epochs done before.
        quiet: print nothing; for all processes except the first.
    """

    def __init__(self, epochs: int, steps: int, done: int = 0, *, quiet: bool = False) -> None:
        self.console = _Quiet(quiet=quiet, highlight=False)
        if not takes_styles(self.console.file):
            self.console = _Quiet(quiet=quiet, highlight=False, color_system=None)
        self.epochs, self.steps, self.finished = epochs, steps, done
        self._bar = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.3f}"),
            TimeRemainingColumn(),
            console=self.console,
            disable=quiet or not self.console.is_terminal,
            transient=True,
        )
        self._task = self._bar.add_task("", total=epochs * steps, completed=done * steps, epoch=done, loss=float("nan"))

    def __enter__(self) -> Report:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def say(self, text: str) -> None:
        """Print a line."""
        self.console.print(printable(text, keep="\n"), markup=False, soft_wrap=True)

    def show(self, tables: object) -> None:
        """Print tables: fitted to a terminal, and not wrapped elsewhere."""
        if self.console.is_terminal:
            self.console.print(tables)
        else:
            self.say(str(tables))

    def step(self, total: float) -> None:
        """Advance the progress bar by one step."""
        self._bar.update(self._task, advance=1, loss=total)

    def epoch(self, row: Row) -> None:
        """Print the table of an epoch, a row of `metrics.csv`."""
        self.finished += 1
        self.console.print(_terms_table(row, self.epochs))
        self._bar.update(self._task, epoch=min(self.finished, self.epochs - 1))


def _terms_table(row: Row, epochs: int) -> Table:
    """Return a table of the terms of an epoch: raw value, norm, their ratio, weight, and share of the total.

    Epochs count from 0, like thresholds in the YAML.
    """
    table = Table(
        title=f"epoch {row['epoch']:.0f} ({row['epoch'] + 1:.0f} of {epochs}): total {row['total']:.4f}, "
        f"held-out IoU {row['iou']:.4f}",
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("term", no_wrap=True)
    for heading in ("value", "norm", "value / norm", "weight", "share"):
        table.add_column(heading, justify="right", no_wrap=True)
    paths = [key.removeprefix("value/") for key in row if key.startswith("value/")]
    shares = {p: row[f"value/{p}"] / row[f"norm/{p}"] * row[f"weight/{p}"] for p in paths}
    whole = sum(shares.values())
    for path in paths:
        value, norm, weight = (row[f"{column}/{path}"] for column in ("value", "norm", "weight"))
        share = f"{shares[path] / whole:.1%}" if whole else ""
        table.add_row(
            escape(printable(path)), f"{value:.4g}", f"{norm:.4g}", f"{value / norm:.4g}", f"{weight:.4g}", share
        )
    return table
