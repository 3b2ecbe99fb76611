"""What `diagnose` found is printed, drawn, and written as JSON."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

import lossreg
from lossreg.composition.weighting.uncertainty import Uncertainty


class Along(lossreg.Loss):
    """The scalar product of `pred.x` with a direction: its gradient by `pred.x` is that direction."""

    requires = ("pred.x",)

    def __init__(self, name: str, *direction: float) -> None:
        super().__init__(name)
        self.direction = torch.tensor(direction, dtype=torch.float64)

    def compute(self, pred_batch: Any, gt_batch: Any) -> Tensor:
        return self.read(pred_batch, gt_batch, "pred.x") @ self.direction


def at(*x: float) -> tuple[nn.Parameter, dict[str, Tensor]]:
    """The shared parameter, and predictions that are twice it."""
    w = nn.Parameter(torch.tensor(x, dtype=torch.float64))
    return w, {"x": 2 * w}


@pytest.fixture
def found() -> Any:
    w, pred = at(1.0, 1.0)
    losses = [Along("strong", 50.0, 0.0), Along("against", -1.0, 0.1), Along("still", 0.0, 0.0)]
    return lossreg.diagnose(lossreg.MultiLoss(losses, [1.0, 1.0, 1.0]), pred, {}, [w])


def test_printed_it_is_two_tables_and_what_stands_out(found: Any) -> None:
    text = str(found)
    lines = [line.split() for line in text.splitlines() if line]
    heads = "Term Value Norm Weight Contribution Share Gradient norm Along total"
    assert heads.split() in lines
    assert ["strong", "100", "1", "1", "100", "98.2%", "100", "1.00"] in lines
    assert ["Cosine", "1", "2", "3"] in lines
    assert ["3", "still", "-", "-", "-"] in lines
    assert text.endswith(
        "- strong has 98% of all gradient norm\n"
        "- still has no gradient at the shared parameters\n"
        "- strong and against pull apart (cosine -1.00)"
    )
    assert "\x1b" not in text


def test_rich_prints_the_same(found: Any) -> None:
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(found)
    console.file.close()
    assert [line.rstrip() for line in console.export_text().splitlines()] == str(found).splitlines()


def test_a_column_for_coefficients_is_there_where_a_weighting_moves_them() -> None:
    w, pred = at(1.0, 1.0)
    multi = lossreg.MultiLoss([Along("a", 1.0, 0.0)], [1.0], weighting=Uncertainty())
    assert "Coefficient" in str(lossreg.diagnose(multi, pred, {}, [w]))


def test_json_holds_everything(found: Any, tmp_path: Any) -> None:
    data = json.loads(found.to_json(tmp_path / "found.json"))
    assert data == json.loads((tmp_path / "found.json").read_text())
    assert data["terms"][1]["gradient_norm"] == pytest.approx(found.terms[1].gradient_norm)
    assert data["cosines"][2] == [None, None, None]
    assert data["total"] == pytest.approx(found.total)


@pytest.mark.parametrize(("suffix", "magic"), [("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_the_heat_map(found: Any, tmp_path: Any, suffix: str, magic: bytes) -> None:
    pytest.importorskip("matplotlib")
    file = tmp_path / f"cosines.{suffix}"
    found.plot(file)
    assert file.read_bytes().startswith(magic)


@pytest.mark.parametrize(("write", "suffix"), [("to_json", "json"), ("plot", "png")])
def test_a_write_that_fails_leaves_the_old_file(found: Any, tmp_path: Any, write: str, suffix: str) -> None:
    if write == "plot":
        pytest.importorskip("matplotlib")
    resource = pytest.importorskip("resource", reason="there is no limit on file sizes to fail at")
    file = tmp_path / f"found.{suffix}"
    file.write_text("old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            getattr(found, write)(file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_printed_in_a_terminal_every_line_fits_and_no_name_and_no_number_is_cut(
    columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    w, pred = at(1.0, 1.0)
    losses = [Along(f"a_term_with_a_name_of_forty_characters_{i}", 10.0**-i, 0.4322 * i) for i in range(12)]
    found = lossreg.diagnose(lossreg.MultiLoss(losses, [1.0] * 12, weighting=Uncertainty()), pred, {}, [w])
    piped = str(found)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr("sys.stdout", Terminal())
    shown = str(found)
    assert max(map(len, shown.splitlines())) <= columns
    contributions = {f"{term.contribution:.4g}" for term in found.terms}  # the column that gives way
    gone = set(piped.replace("─", "").split()) - set(shown.split())
    assert gone <= ({*contributions, "Contribution"} if columns == 60 else set())
