"""The result of `lossreg.diagnose`: tables, findings in words, JSON and a heat map."""

from __future__ import annotations

import json
import math
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from lossreg.atomic import replacing

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

    from lossreg.tables import Table

_APART = -0.3  # a cosine below which two terms are said to pull apart
_MOST = 0.9  # a share of all gradient norms above which a term is said to drown the others


@dataclass(frozen=True)
class TermDiagnosis:
    """What one term does on one batch.

    Attributes:
        name: its path, `group/term`.
        value: its raw value.
        norm: what the value is divided by; 1 where it is not normalised.
        weight: its weight by schedule, those of its groups multiplied in.
        coefficient: derivative of the total by `value / norm`: the weight, times the factors of adaptive
            weightings.
        contribution: `coefficient * value / norm`, its part of the total.
        share: its contribution over the sum of the magnitudes of all contributions; from -1 to 1.
        gradient_norm: Euclidean norm of the gradient of its contribution by the shared parameters.
        alignment: cosine between that gradient and the gradient of the total; None where one of them is 0.
    """

    name: str
    value: float
    norm: float
    weight: float
    coefficient: float
    contribution: float
    share: float
    gradient_norm: float
    alignment: float | None


class Report(ABC):
    """What was found, as a table and as plain data. Printed in a terminal, it fits its width."""

    @abstractmethod
    def table(self) -> RenderableType:
        """Return the tables and what stands out in them, for a `rich` console."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Return plain data, in which a number that is not finite is None."""

    def __rich__(self) -> RenderableType:
        return self.table()

    def __str__(self) -> str:
        from lossreg.tables import rendered

        return rendered(self.table(), sys.stdout)

    def to_json(self, path: str | Path | None = None) -> str:
        """Return `to_dict` as JSON, and write it to `path` where given, whole or not at all."""
        text = json.dumps(self.to_dict(), indent=2)
        if path is not None:
            with replacing(Path(path)) as draft:
                draft.write_text(text + "\n", encoding="utf-8")
        return text


@dataclass(frozen=True)
class Diagnosis(Report):
    """What `diagnose` found.

    Printed, it is a table of the terms, a table of the cosines, and what stands out in them.

    Attributes:
        total: the total of the batch.
        gradient_norm: Euclidean norm of its gradient by the shared parameters.
        terms: one entry a term that the batch has, in order.
        cosines: (k, k) cosines between the gradients of the terms; None where a gradient is 0 or not finite.
            A term of negative weight counts with its direction turned, one of weight 0 with that of its value.
        absent: optional terms that the batch lacks the keys of.
        epoch, step: the time, as it was given.
    """

    total: float
    gradient_norm: float
    terms: tuple[TermDiagnosis, ...]
    cosines: tuple[tuple[float | None, ...], ...]
    absent: tuple[str, ...] = ()
    epoch: float | None = None
    step: float | None = None

    def findings(self) -> list[str]:
        """Say in words what stands out: values that are not finite, no gradient, one that drowns, conflicts."""
        found = []
        gradients = sum(term.gradient_norm for term in self.terms if math.isfinite(term.gradient_norm))
        for i, term in enumerate(self.terms):
            if not math.isfinite(term.value):
                found.append(f"{term.name} is {term.value}")
            elif not math.isfinite(term.gradient_norm):
                found.append(f"{term.name} has a gradient that is not finite")
            elif self.cosines[i][i] is None:
                found.append(f"{term.name} has no gradient at the shared parameters")
            elif len(self.terms) > 1 and term.gradient_norm > _MOST * gradients:
                found.append(f"{term.name} has {term.gradient_norm / gradients:.0%} of all gradient norm")
        for i, row in enumerate(self.cosines):
            for j, cosine in enumerate(row[:i]):
                if cosine is not None and cosine < _APART:
                    found.append(f"{self.terms[j].name} and {self.terms[i].name} pull apart (cosine {cosine:.2f})")
        return found

    def table(self) -> RenderableType:
        """Return the tables and findings, for a `rich` console."""
        from rich.console import Group
        from rich.text import Text

        time = ", ".join(f"{unit} {t:g}" for unit, t in (("epoch", self.epoch), ("step", self.step)) if t is not None)
        lines = [f"total {self.total:.4g}, gradient norm {self.gradient_norm:.4g}" + (f", {time}" if time else "")]
        lines += [f"absent from the batch: {', '.join(self.absent)}"] if self.absent else []
        tables = (_terms_table(self.terms), "", _cosines_table(self.terms, self.cosines))
        return Group(*map(Text, lines), "", *tables, listed(self.findings()))

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, in which a number that is not finite is None."""
        return cast("dict[str, Any]", finite(asdict(self)))

    def plot(self, path: str | Path) -> None:
        """Draw the cosines as a heat map beside the gradient norms, and save it as the suffix of `path` says.

        The file is written whole or not at all.

        Raises:
            ImportError: matplotlib is not installed (`pip install 'lossreg[plot]'`).
        """
        with replacing(Path(path)) as draft:
            _draw(self, draft)


def finite(data: Any) -> Any:
    """Return plain data with None for numbers that are not finite."""
    if isinstance(data, dict):
        return {key: finite(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


def _shown(cosine: float | None) -> str:
    return "-" if cosine is None else f"{cosine:.2f}"


def _terms_table(terms: Sequence[TermDiagnosis]) -> Table:
    adaptive = any(not math.isclose(t.coefficient, t.weight, rel_tol=1e-5, abs_tol=1e-12) for t in terms)
    factors = ("Weight", "Coefficient") if adaptive else ("Weight",)
    rows = []
    for t in terms:
        numbers = (t.value, t.norm, t.weight, *((t.coefficient,) if adaptive else ()), t.contribution)
        shown = [f"{number:.4g}" for number in numbers]
        rows.append((t.name, *shown, f"{t.share:.1%}", f"{t.gradient_norm:.4g}", _shown(t.alignment)))
    headings = ("Value", "Norm", *factors, "Contribution", "Share", "Gradient norm", "Along total")
    return numbers_table("Term", headings, rows, first_to_go="Contribution")


def _cosines_table(terms: Sequence[TermDiagnosis], cosines: Sequence[Sequence[float | None]]) -> Table:
    from rich.text import Text

    rows = []
    for number, (term, row) in enumerate(zip(terms, cosines, strict=True), 1):
        cells: list[str | Text] = [Text(_shown(c), style="red" if c is not None and c < _APART else "") for c in row]
        rows.append([f"{number} {term.name}", *cells])
    return numbers_table("Cosine", [str(number) for number in range(1, len(terms) + 1)], rows)


def numbers_table(
    first: str, others: Sequence[str], rows: Sequence[Sequence[str | Text]], first_to_go: str | None = None
) -> Table:
    """Return a table of names and numbers, whose column `first_to_go` is left out where not all fit."""
    from lossreg.tables import Column, Table

    columns = [Column(heading, "number", rank=int(heading == first_to_go)) for heading in others]
    return Table([Column(first), *columns], rows)


def listed(texts: Sequence[str]) -> RenderableType:
    """Return texts as a list with a dash before each."""
    from rich.table import Table as Grid
    from rich.text import Text

    grid = Grid.grid(padding=(0, 1, 0, 0))
    for text in texts:
        grid.add_row("-", Text(text))
    return grid


def _draw(diagnosis: Diagnosis, path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = [term.name for term in diagnosis.terms]
    size = 0.55 * len(names)
    figure = Figure(figsize=(size + 4.2, 1.5 * size + 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    upper, lower = figure.subplots(2, 1, height_ratios=(size + 2.0, 0.5 * size + 1.0))
    grid = [[math.nan if cosine is None else cosine for cosine in row] for row in diagnosis.cosines]
    image = upper.imshow(grid, cmap="RdBu", vmin=-1, vmax=1)
    upper.set_xticks(range(len(names)), names, rotation=40, ha="right", rotation_mode="anchor")
    upper.set_yticks(range(len(names)), names)
    upper.set_title("cosine between gradients", fontsize=10)
    upper.set_facecolor("#dddddd")
    for i, row in enumerate(diagnosis.cosines):
        for j, cosine in enumerate(row):
            dark = cosine is not None and abs(cosine) > 0.6
            upper.text(j, i, _shown(cosine), ha="center", va="center", fontsize=10, color="white" if dark else "black")
    figure.colorbar(image, ax=upper, shrink=0.8)
    lengths = [term.gradient_norm if math.isfinite(term.gradient_norm) else 0.0 for term in diagnosis.terms]
    bars = lower.barh(range(len(names)), lengths, color="#1f6fb4")
    lower.bar_label(bars, [f"{term.gradient_norm:.3g}" for term in diagnosis.terms], padding=3)
    lower.set_yticks(range(len(names)), names)
    lower.set_ylim(len(names) - 0.5, -0.5)
    lower.margins(x=0.25)
    lower.spines[["top", "right"]].set_visible(False)
    lower.set_title("gradient norm of the contribution", fontsize=10)
    figure.savefig(path, dpi=130)
