"""The results of the benchmark: rows with ratios, and targets for some of them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from measure import Times

FORWARD, BOTH, SAVED, PEAK = "forward", "forward + backward", "saved for backward", "peak"


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        section: the table of the row.
        case: the part of lossreg that is measured.
        against: what it is compared with.
        setting: shape, dtype, threads and so on.
        phase: a forward, a forward and a backward, or the kind of bytes.
        unit: the unit of the numbers: `"s"`, `"B"`, or none for a number of things.
        ours, theirs: medians.
        ours_least, theirs_least: minima over the rounds.
        ratio: `theirs / ours`, above 1 if lossreg is faster or smaller.
        low, high: quartiles of the ratio over the rounds.
        rounds: number of rounds.
        bar: key of the target for the row; may be empty.
        measured: the number for the target.
    """

    section: str
    case: str
    against: str
    setting: Mapping[str, Any]
    phase: str
    unit: str
    ours: float
    theirs: float
    ours_least: float
    theirs_least: float
    ratio: float
    low: float
    high: float
    rounds: int = 1
    bar: str = ""
    measured: float | None = None


@dataclass(frozen=True)
class Bar:
    """A target ratio; the worst of its rows counts.

    Attributes:
        what: what is compared with what.
        limit: the smallest or largest acceptable number.
        at_least: whether `limit` is a minimum.
        unit: the unit of the number.
    """

    what: str
    limit: float
    at_least: bool = True
    unit: str = "times faster"

    def worst(self, measured: Sequence[float]) -> float:
        """Return the worst number, which is compared with the target."""
        return min(measured) if self.at_least else max(measured)

    def met(self, measured: float) -> bool:
        """Return whether a number meets the target."""
        return measured >= self.limit if self.at_least else measured <= self.limit


_TIMES = "of the other's time"
_BYTES = "of the textbook's bytes"
BARS: Mapping[str, Bar] = {
    "seg hard": Bar("SegLoss (BCE + Dice), hard targets, against the textbook formula", 2.5),
    "seg soft": Bar("the same, soft targets", 2.5),
    "monai": Bar("SegLoss on logits against MONAI's DiceCELoss(sigmoid=True), same coefficients", 1.5),
    "tversky": Bar("SegLoss with the focal Tversky term against SegLoss without", 1.1, False, _TIMES),
    "seg compiled": Bar("SegLoss compiled against the eager textbook formula", 6.3),
    "seg both compiled": Bar("SegLoss compiled against the textbook formula compiled", 1.0),
    "frame": Bar("six frame-field terms through MultiLoss against the textbook formulation", 6.0),
    "frame compiled": Bar("the same compiled against the eager textbook formulation", 13.0),
    "frame both compiled": Bar("the same compiled against the textbook formulation compiled", 5.0),
    "seg saved": Bar("SegLoss: saved for backward beyond the inputs", 64, False, "bytes a plane (n, c)"),
    "frame saved": Bar("six frame-field terms: saved for backward", 0.25, False, _BYTES),
    "composition": Bar("MultiLoss of 20 trivial terms, constant weights, against a sum by hand", 1.0),
    "composition scheduled": Bar("the same, scheduled weights", 1.0),
    "schedule": Bar("a scheduled weight at an epoch already seen against scipy's interp1d", 20.0),
    "list": Bar("`lossreg list` against `python -c 'import torch'`", 0.2, False, _TIMES),
    "check": Bar("`lossreg check` of ten good terms against `python -c 'import torch'`", 0.2, False, _TIMES),
    "classes": Bar("SegLoss on class indices, 3 and 19 classes, float32, against the textbook formula", 1.5),
    "classes monai": Bar("the same, float32 and bfloat16, against MONAI's DiceCELoss", 1.3),
    "classes peak": Bar("the same, 19 classes, float32: peak", 1.25, False, "of logits + gradient"),
    "half logits": Bar("SegLoss on logits in bfloat16, two channels or classes, against the textbook formula", 1.2),
    "half": Bar("peak of a forward + backward in bfloat16 against float32", 0.6, False, "of the float32 bytes"),
    "launches probabilities": Bar("SegLoss on probabilities, no `ignore_index`", 28, False, "launches"),
    "launches logits": Bar("SegLoss on logits, no `ignore_index`", 30, False, "launches"),
    "launches ignore": Bar("SegLoss on either, with `ignore_index`", 38, False, "launches"),
    "launches classes": Bar("SegLoss on class indices, no `ignore_index`", 36, False, "launches"),
    "launches classes ignore": Bar("the same with `ignore_index`", 36, False, "launches"),
    "launches frame": Bar("six frame-field terms with their preprocesses", 220, False, "launches"),
    "bytes": Bar("read and written, float32, no `ignore_index`; also the frame field", 1.0, False, _BYTES),
    "bytes ignore": Bar("the same with `ignore_index`", 1.5, False, _BYTES),
    "bytes half": Bar("the same, bfloat16, with and without `ignore_index`", 2.0, False, _BYTES),
    "bytes classes": Bar("read and written, 19 classes, float32", 0.5, False, _BYTES),
    "bytes classes half": Bar("the same, bfloat16", 0.8, False, _BYTES),
    "host reads": Bar("times that the host waits for a value, anywhere", 0, False, "host reads"),
    "blocking copies": Bar("copies that the host waits for, also while the epoch moves", 0, False, "blocking copies"),
    "kernels": Bar("SegLoss compiled, two channels", 4, False, "kernels"),
    "kernels classes": Bar("SegLoss compiled, class indices", 8, False, "kernels"),
}


def timed(
    section: str,
    case: str,
    against: str,
    setting: Mapping[str, Any],
    phase: str,
    ours: Times,
    theirs: Times,
    bar: str = "",
) -> Row:
    """Return the row of two times; the number for its target is the ratio, or the inverse for a maximum."""
    ratios = [other / own for own, other in zip(ours.seconds, theirs.seconds, strict=True)]
    low, _, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else (*ratios, *ratios, *ratios)
    ratio = theirs.median / ours.median
    measured = None if not bar else ratio if BARS[bar].at_least else 1 / ratio
    return Row(
        section, case, against, setting, phase, "s",
        ours.median, theirs.median, ours.least, theirs.least, ratio, low, high, len(ratios), bar, measured,
    )  # fmt: skip


def counted(
    section: str,
    case: str,
    against: str,
    setting: Mapping[str, Any],
    phase: str,
    ours: int,
    theirs: int,
    bar: str = "",
    measured: float | None = None,
    unit: str = "B",
) -> Row:
    """Return the row of two numbers of bytes, or of something else."""
    ratio = theirs / max(ours, 1)
    return Row(
        section, case, against, setting, phase, unit, ours, theirs, ours, theirs, ratio, ratio, ratio, 1, bar, measured
    )


def verdicts(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return each target with the worst number of its rows, which is None if nothing was measured."""
    worst_rows = []
    for key, bar in BARS.items():
        measured = [row.measured for row in rows if row.bar == key and row.measured is not None]
        worst = bar.worst(measured) if measured else None
        met = None if worst is None else bar.met(worst)
        worst_rows.append({"bar": key, **asdict(bar), "measured": worst, "met": met})
    return worst_rows


def merge(results: Mapping[str, Any], later: Mapping[str, Any]) -> dict[str, Any]:
    """Return results whose sections that a later run has measured are replaced, with the date and machine of that run.

    The list `"later"` of the results has an entry for each such run that still has a section.
    """
    sections = {row["section"] for row in later["rows"]}
    kept = [row for row in results["rows"] if row["section"] not in sections]
    rows = [Row(**row) for row in (*kept, *later["rows"])]
    runs = [{**run, "sections": sorted({*run["sections"]} - sections)} for run in results.get("later", [])]
    run = {"sections": sorted(sections), **{key: later[key] for key in ("date", "minutes", "quick", "machine")}}
    return {
        **results,
        "bars": verdicts(rows),
        "rows": [asdict(row) for row in rows],
        "calls": later["calls"] or results["calls"],
        "later": [run for run in (*runs, run) if run["sections"]],
    }
