"""Fixtures: a way to call the command, and losses for its files."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from torch import Tensor

import lossreg
import lossreg.registry
from lossreg.cli import main


@pytest.fixture(autouse=True)
def local_losses(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(lossreg.registry, "_local", {})

    @lossreg.register("HeightLoss", aliases=("height",), targets=("old.place.HeightLoss",))
    class HeightLoss(lossreg.Loss):
        """Mean absolute height.

        Args:
            name: the term's name.
            scale: metres a unit.
            weight: of each class.
        """

        requires, optional = ("pred.height",), ("gt.valid",)

        def __init__(self, name: str, scale: float, weight: list[float] | None = None) -> None:
            super().__init__(name)
            self.scale = scale

        def compute(self, pred_batch: Any, gt_batch: Any) -> Tensor:
            return (self.read(pred_batch, gt_batch, "pred.height") * self.scale).abs().mean()

    @lossreg.register("SlopeLoss", aliases=("slope",))
    class SlopeLoss(lossreg.Loss):
        """Mean slope."""

        requires = ("pred.slope",)

        def compute(self, pred_batch: Any, gt_batch: Any) -> Tensor:
            return self.read(pred_batch, gt_batch, "pred.slope").mean()

    @lossreg.register("Slopes", kind="preprocess")
    class Slopes(lossreg.Preprocess):
        """Slopes of heights."""

        requires, provides = ("pred.height",), ("pred.slope",)

        def compute(self, pred_batch: Any, gt_batch: Any) -> dict[str, Tensor]:
            return {"pred.slope": pred_batch["height"].diff()}

    yield
    monkeypatch.undo()
    lossreg.refresh()


@pytest.fixture
def run() -> Callable[..., Result]:
    """Call the command; an exception that it does not turn into a message fails the test."""

    def call(*arguments: object) -> Result:
        return CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False, prog_name="lossreg")

    return call


class Terminal(io.StringIO):
    """A terminal, to which a command prints."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.fixture
def at_width(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Call the command in a terminal of some columns, without styles, and return what it shows."""

    def call(columns: int, *arguments: object) -> str:
        terminal = Terminal()
        with monkeypatch.context() as patched:
            patched.setenv("COLUMNS", str(columns))
            patched.setenv("NO_COLOR", "1")
            patched.setattr("sys.stdout", terminal)
            patched.setattr("sys.stderr", terminal)
            with suppress(SystemExit):
                main([str(a) for a in arguments], prog_name="lossreg")
        return terminal.getvalue()

    return call


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    """Write a YAML file and return its path."""

    def save(text: str, name: str = "config.yaml") -> Path:
        file = tmp_path / name
        file.write_text(text, encoding="utf-8")
        return file

    return save


GOOD = """\
loss_params:
  compound_loss:
    epoch_thresholds: [0, 5, 10]
    loss_list:
      - {loss: height, scale: 2.0, weight: 3.0}
      - {loss: slope, weight: [0, 0, 1], normalize: false}
      - name: aux
        weight: 0.5
        loss_list:
          - {loss: height, name: small, scale: 0.1, weight: {schedule: cosine, start: 1, end: 0, end_epoch: 20}}
          - {loss: slope, weight: 2, optional: true}
"""


@pytest.fixture
def good(write: Callable[[str], Path]) -> Path:
    """A file with two terms, and a group of two more."""
    return write(GOOD)
