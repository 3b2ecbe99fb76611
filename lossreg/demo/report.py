"""The output of a run: a progress bar, and a table of the terms after each epoch."""

from __future__ import annotations

import os
import sys
from types import TracebackType

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lossreg.printable import paragraph, takes_styles, width_of
from lossreg.tables import UNLIMITED, Column, Table

Row = dict[str, float]
_BESIDE_BAR = 44  # columns of a terminal that the bar leaves to the texts beside it


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
        calibrates: whether norms are calibrated before the first epoch.
        quiet: print nothing; for all processes except the first.
    """

    def __init__(self, epochs: int, steps: int, done: int = 0, *, calibrates: bool = True, quiet: bool = False) -> None:
        self._width = width_of(sys.stdout)
        self.console = _Quiet(
            quiet=quiet,
            highlight=False,
            markup=False,
            width=self._width or UNLIMITED,
            height=100,  # without a height, `rich` ignores the width of a dumb terminal
            color_system="auto" if takes_styles(sys.stdout) else None,
        )
        self.epochs, self.steps, self.finished = epochs, steps, done
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(max(8, min(40, (self._width or UNLIMITED) - _BESIDE_BAR))),
            MofNCompleteColumn(),
            TextColumn("{task.fields[loss]}", markup=False),
            TimeRemainingColumn(),
            console=self.console,
            disable=quiet or not self.console.is_terminal,
            transient=True,
        )
        begin = "calibrating" if calibrates and done == 0 else self._epoch()
        self._task = self._bar.add_task(begin, total=epochs * steps, completed=done * steps, loss="")

    def __enter__(self) -> Report:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def say(self, text: str) -> None:
        """Print lines, wrapped between words in a terminal."""
        lines = (paragraph(line, self._width, rest="  ") for line in text.split("\n"))
        self.console.print("\n".join(lines), soft_wrap=True)

    def show(self, tables: RenderableType) -> None:
        """Print tables: fitted to a terminal, and not wrapped elsewhere."""
        self.console.print(tables)

    def step(self, total: float) -> None:
        """Advance the progress bar by one step."""
        self._bar.update(self._task, advance=1, description=self._epoch(), loss=f"loss {total:.3f}")

    def epoch(self, row: Row) -> None:
        """Print the table of an epoch, a row of `metrics.csv`."""
        self.finished += 1
        self.say(
            f"\nepoch {row['epoch']:.0f} ({row['epoch'] + 1:.0f} of {self.epochs}): total {row['total']:.4f}, "
            f"held-out IoU {row['iou']:.4f}"
        )
        self.show(_terms_table(row))

    def _epoch(self) -> str:
        return f"epoch {min(self.finished, self.epochs - 1)}"


def _terms_table(row: Row) -> Table:
    """Return a table of the terms of an epoch: raw value, norm, their ratio, weight, and share of the total."""
    paths = [key.removeprefix("value/") for key in row if key.startswith("value/")]
    shares = {p: row[f"value/{p}"] / row[f"norm/{p}"] * row[f"weight/{p}"] for p in paths}
    whole = sum(shares.values())
    rows = []
    for path in paths:
        value, norm, weight = (row[f"{column}/{path}"] for column in ("value", "norm", "weight"))
        share = f"{shares[path] / whole:.1%}" if whole else ""
        rows.append((path, *(f"{number:.4g}" for number in (value, norm, value / norm, weight)), share))
    ratio = Column("value / norm", "number", rank=1)
    numbers = [Column("value", "number"), Column("norm", "number"), ratio]
    return Table([Column("term"), *numbers, Column("weight", "number"), Column("share", "number")], rows)
