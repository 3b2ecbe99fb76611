"""What a monitor saw: a table, JSON and a picture."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from lossreg.atomic import replacing
from lossreg.training.findings import Report, finite, listed, numbers_table
from lossreg.training.verdicts import Sample, Verdict

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True)
class MonitorReport(Report):
    """What a monitor saw. Printed, it is a table of the terms at the last look, and what was wrong with one.

    Attributes:
        paths: all terms.
        samples: each look.
        verdicts: what was wrong, each once.
    """

    paths: tuple[str, ...]
    samples: tuple[Sample, ...]
    verdicts: tuple[Verdict, ...]

    def shares_at_the_end(self) -> dict[str, float]:
        """Return the share that each term had of the lengths of all gradients at the last look."""
        return shares(self.samples[-1]) if self.samples else {}

    def table(self) -> RenderableType:
        """Return the table and the verdicts, for a `rich` console."""
        from rich.console import Group

        if not self.samples:
            return "nothing was looked at yet"
        last = self.samples[-1]
        rows = []
        share = shares(last)
        for path in self.paths:
            term = last.terms.get(path)
            seen = sum(path in sample.means for sample in self.samples)
            if term is None:
                rows.append((path, "-", "-", "-", "-", f"{seen} of {len(self.samples)}"))
                continue
            norm = "-" if term.norm is None else f"{term.norm:.4g}"
            numbers = (f"{term.value:.4g}", norm, f"{term.weight:.4g}", f"{share[path]:.1%}")
            rows.append((path, *numbers, f"{seen} of {len(self.samples)}"))
        headings = ("Value", "Norm", "Weight", "Gradient share", "Looks with it")
        table = numbers_table("Term", headings, rows, first_to_go="Looks with it")
        found = listed([str(verdict) for verdict in self.verdicts] or ["nothing stands out"])
        return Group(f"{len(self.samples)} looks, the last at forward {last.step}", "", table, "", found)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, in which a number that is not finite is None."""
        samples = []
        for sample in self.samples:
            share = shares(sample)
            terms = {path: {**asdict(term), "share": share[path]} for path, term in sample.terms.items()}
            cosines = [{"terms": list(pair), "cosine": cosine} for pair, cosine in sample.cosines.items()]
            samples.append({"step": sample.step, "terms": terms, "cosines": cosines})
        return cast("dict[str, Any]", finite({"samples": samples, "verdicts": [asdict(v) for v in self.verdicts]}))

    def plot(self, path: str | Path) -> None:
        """Draw values over norms and shares of the gradient over the run, with a mark for each verdict.

        The file is written whole or not at all, in the format of its suffix.

        Raises:
            ImportError: matplotlib is not installed (`pip install 'lossreg[plot]'`).
        """
        with replacing(Path(path)) as draft:
            _draw(self, draft)


def shares(sample: Sample) -> dict[str, float]:
    """Return the share that each term has of the lengths of all gradients at the predictions."""
    pulls = {path: term.pull for path, term in sample.terms.items()}
    whole = sum(pulls.values())
    return {path: pull / whole if whole else 0.0 for path, pull in pulls.items()}


def _draw(report: MonitorReport, path: Path) -> None:
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.4, 6.4), layout="constrained")
    FigureCanvasAgg(figure)
    upper, lower = figure.subplots(2, 1, sharex=True)
    steps = [sample.step for sample in report.samples]
    pulls = [shares(sample) for sample in report.samples]
    colours = mpl.colormaps["tab10"].resampled(max(10, len(report.paths)))
    for i, term in enumerate(report.paths):
        seen = [sample.terms.get(term) for sample in report.samples]
        values = [math.nan if t is None else abs(t.value / (t.norm or 1.0)) for t in seen]
        upper.plot(steps, values, color=colours(i), label=term, marker=".")
        lower.plot(steps, [share.get(term, math.nan) for share in pulls], color=colours(i), marker=".")
    upper.set_yscale("log")
    upper.set_title("value over norm", fontsize=10)
    lower.set_title("share of the gradient at the predictions", fontsize=10)
    lower.set_ylim(0, 1.02)
    lower.set_xlabel("forward")
    for axes in (upper, lower):
        axes.spines[["top", "right"]].set_visible(False)
        for verdict in report.verdicts:
            axes.axvline(verdict.step, color="#c0392b", linewidth=0.8, linestyle=":")
    for number, verdict in enumerate(report.verdicts):
        lower.annotate(
            f"{' and '.join(verdict.terms)}: {verdict.kind}",
            (verdict.step, 0.95 - 0.08 * number),
            fontsize=10,
            color="#c0392b",
        )
    figure.legend(loc="outside lower center", ncols=min(len(report.paths), 3), fontsize=10)
    figure.savefig(path, dpi=130)
