"""Write the runs of `trainings.py` as tables and plots: python benchmarks/trainings_report.py FOLDER TO."""

from __future__ import annotations

import json
import math
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from problems import Metric
from report import table
from scipy.stats import t as student
from trainings import ALONE, REFERENCE, Row, chosen_rate, score, validation_score

from lossreg.atomic import replacing

VERDICTS = ("better", "no clear difference", "worse")
CONFIDENCE = 0.95
RECIPES = ("norms", "norms + schedule")


@dataclass(frozen=True)
class Comparison:
    """The test errors of one method over those of another, as pairs of runs of one seed.

    The error of a run is the geometric mean of the errors of all metrics.

    Attributes:
        ratios: one for each seed.
    """

    ratios: tuple[float, ...]

    @property
    def mean(self) -> float:
        """The geometric mean of the ratios."""
        return statistics.geometric_mean(self.ratios)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % confidence interval of the mean (Student's t, on logarithms)."""
        logs = [math.log(ratio) for ratio in self.ratios]
        half = student.ppf((1 + CONFIDENCE) / 2, len(logs) - 1) * statistics.stdev(logs) / math.sqrt(len(logs))
        return math.exp(statistics.mean(logs) - half), math.exp(statistics.mean(logs) + half)

    @property
    def verdict(self) -> str:
        """Which side of 1 the interval is on."""
        low, high = self.interval
        return VERDICTS[0] if high < 1 else VERDICTS[2] if low > 1 else VERDICTS[1]


@dataclass(frozen=True)
class Outcome:
    """What a method came to.

    Attributes:
        name: its name.
        rate: its learning rate.
        runs: a run for each seed.
        cost: the processor time of a step over that of the plain sum: the median and the quartiles over the turns.
    """

    name: str
    rate: float
    runs: tuple[Row, ...]
    cost: tuple[float, float, float]

    def values(self, metric: str) -> list[float]:
        """Return a metric on the test data for each seed; NaN where a run has none."""
        return [math.nan if run["test"][metric] is None else run["test"][metric] for run in self.runs]


@dataclass(frozen=True)
class Results:
    """The results of one problem.

    Attributes:
        facts: the first line of its file.
        metrics: the metrics by name.
        outcomes: the methods by name.
        seconds: processor time of all runs.
        step: processor seconds of a step of the plain sum.
        rate_matters: the plain sum's validation error at the worst learning rate over that at the best, with one seed.
    """

    facts: Row
    metrics: Mapping[str, Metric]
    outcomes: Mapping[str, Outcome]
    seconds: float
    step: float
    rate_matters: float

    def compare(self, name: str, other: str = REFERENCE) -> Comparison:
        """Return how a method compares with another one."""
        pairs = zip(self.outcomes[name].runs, self.outcomes[other].runs, strict=True)
        return Comparison(tuple(score(self.metrics, a["test"]) / score(self.metrics, b["test"]) for a, b in pairs))

    def weightings(self) -> list[str]:
        """Return the methods that come on top of the usual recipe, the least error first."""
        recipe = self.facts["recipe"]
        names = [name for name in self.outcomes if name.startswith(f"{recipe} + ") and name not in RECIPES]
        return sorted(names, key=lambda name: self.compare(name, recipe).mean)


def load(path: Path) -> Results:
    """Return the results of a file; a method counts once all its seeds are there."""
    facts, *rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    metrics = {name: Metric(**own) for name, own in facts["metrics"].items()}
    seconds = {row["method"]: row["seconds"] for row in rows if row["kind"] == "cost"}
    runs: dict[str, list[Row]] = {}
    for row in rows:
        if row["kind"] == "run":
            runs.setdefault(row["method"], []).append(row)
    picked: dict[str, dict[int, Row]] = {}
    for name, own in runs.items():
        rate = chosen_rate(metrics, own, facts["seeds"][: facts["tried"]])
        picked[name] = {row["seed"]: row for row in own if row["rate"] == rate}
    picked = {name: own for name, own in picked.items() if sorted(own) == sorted(facts["seeds"])}

    def outcome(name: str) -> Outcome:
        runs = tuple(picked[name][seed] for seed in facts["seeds"])
        each = [a / b for a, b in zip(seconds[name], seconds[REFERENCE], strict=True)]
        low, _, high = statistics.quantiles(each, n=4)
        return Outcome(name, runs[0]["rate"], runs, (statistics.median(each), low, high))

    tried = [validation_score(metrics, row) for row in runs[REFERENCE] if row["seed"] == facts["seeds"][0]]
    return Results(
        facts,
        metrics,
        {name: outcome(name) for name in picked},
        seconds=sum(row["seconds"] for own in runs.values() for row in own),
        step=statistics.median(seconds[REFERENCE]),
        rate_matters=max(tried) / min(tried),
    )


# --- text ---------------------------------------------------------------------------------------------------


SPACE = "\N{NO-BREAK SPACE}"


def interval(middle: float, low: float, high: float, digits: int, mark: str = "") -> str:
    """Return a number and the interval around it, on one line."""
    return f"{mark}{middle:.{digits}f}{mark}{SPACE}({low:.{digits}f}\N{EN DASH}\N{WORD JOINER}{high:.{digits}f})"


def spread(values: Sequence[float]) -> str:
    """Return mean ± standard deviation, with one digit of the deviation, or two if the first one is 1."""
    mean, deviation = statistics.mean(values), statistics.stdev(values)
    digits = max(0, -math.floor(math.log10(deviation / 2))) if deviation > 0 else 2
    return f"{mean:.{digits}f}{SPACE}±{SPACE}{deviation:.{digits}f}"


def compared(comparison: Comparison) -> str:
    """Return the mean and the interval of a comparison, in bold if it is clear."""
    mark = "" if comparison.verdict == VERDICTS[1] else "**"
    return interval(comparison.mean, *comparison.interval, 3, mark)


def results_table(results: Results) -> str:
    """Return the table of the metrics of a problem."""
    recipe = results.facts["recipe"]
    header = ["terms weighed by", *(metric.label for metric in results.metrics.values())]
    header += ["error / plain sum's", f"error / *{recipe}*"]
    rows = []
    for name, outcome in results.outcomes.items():
        cells = [spread(outcome.values(metric)) for metric in results.metrics]
        cells.append("1" if name == REFERENCE else compared(results.compare(name)))
        cells.append(compared(results.compare(name, recipe)) if name in results.weightings() else "")
        rows.append([name, *cells])
    return table(header, rows)


def cost_table(results: Results) -> str:
    """Return the table of what each method costs, with its learning rate."""
    header = ["terms weighed by", "learning rate", "time of a step / plain sum's"]
    return table(
        header,
        [
            [name, f"{outcome.rate:g}", "1" if name == REFERENCE else interval(*outcome.cost, 2)]
            for name, outcome in results.outcomes.items()
        ],
    )


def verdict_list(results: Results) -> str:
    """Return which methods are better, and which are not: than the plain sum, and than norms without a weighting."""
    on_top, recipe = results.weightings(), results.facts["recipe"]
    others = [name for name in results.outcomes if name not in (*on_top, REFERENCE, ALONE)]
    return _verdicts(results, others, REFERENCE) + _verdicts(results, on_top, recipe)


def _verdicts(results: Results, names: Sequence[str], other: str) -> str:
    words = (f"Better than *{other}*", f"No clear difference from *{other}*", f"Worse than *{other}*")
    lines = []
    for verdict, beginning in zip(VERDICTS, words, strict=True):
        found = {name: results.compare(name, other) for name in names}
        found = {name: one for name, one in found.items() if one.verdict == verdict}
        ordered = sorted(found, key=lambda name: found[name].mean)
        lines.append(f"- {beginning}: {', '.join(f'{n} ({found[n].mean:.2f})' for n in ordered) or 'none'}.\n")
    return "".join(lines)


def facts_text(results: Results) -> str:
    """Return how the runs were made."""
    facts = results.facts
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    rates = ", ".join(f"{rate:g}" for rate in facts["rates"])
    return (
        f"{len(results.outcomes)} ways, {len(facts['seeds'])} seeds ({facts['seeds'][0]} to {facts['seeds'][-1]}), "
        f"{facts['steps']} steps in {facts['epochs']} epochs, learning rates {rates}; a network of "
        f"{facts['parameters']} parameters. All runs took {results.seconds / 60:.0f} minutes of processor time; a step "
        f"of the plain sum takes {1000 * results.step:.1f} ms. Over the grid, the learning rate alone changes the "
        f"plain sum's validation error by a factor of {results.rate_matters:.2f}. {facts['cpu']}, one thread, Python "
        f"{facts['python']}, {versions}.\n"
    )


# --- plots --------------------------------------------------------------------------------------------------

STYLE = {"font.size": 10, "axes.labelsize": 10, "xtick.labelsize": 10, "ytick.labelsize": 10, "axes.titlesize": 10}
"""Letters of 13 pixels, and of 9 on a phone."""
WIDTH = 5.0


def overview(results: Results) -> Figure:
    """Return a figure of the error of each method over that of the plain sum: each seed, mean and interval."""
    names = [name for name in results.outcomes if name != REFERENCE]
    figure = Figure(figsize=(WIDTH, 0.6 + 0.24 * len(names)), layout="constrained")
    axes = figure.subplots()
    colours = dict(zip(VERDICTS, ("C0", "0.45", "C3"), strict=True))
    for place, name in enumerate(names):
        found = results.compare(name)
        colour = colours[found.verdict]
        axes.plot(found.ratios, [place] * len(found.ratios), "|", color=colour, alpha=0.6, markersize=7)
        axes.plot(found.interval, [place, place], color=colour, linewidth=2)
        axes.plot([found.mean], [place], "o", color=colour, markersize=5)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel("test error / plain sum's")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def drawn(results: Results) -> Iterator[Outcome]:
    """Yield the outcomes whose curves are drawn, the best and the worst weighting among them."""
    weightings = results.weightings()
    names = [REFERENCE, "norms", "norms + schedule", *weightings[:1], *weightings[-1:], ALONE]
    yield from (results.outcomes[name] for name in names if name in results.outcomes)


def curves(results: Results) -> Figure:
    """Return a figure of each metric on validation data over the epochs: mean and standard deviation over the seeds."""
    outcomes = list(drawn(results))
    figure = Figure(figsize=(WIDTH, 2.0 * len(results.metrics) + 0.22 * len(outcomes)), layout="constrained")
    panels = figure.subplots(len(results.metrics), sharex=True, squeeze=False)[:, 0]
    for axes, (name, metric) in zip(panels, results.metrics.items(), strict=True):
        for number, outcome in enumerate(outcomes):
            points = list(outcome.runs[0]["curve"])
            each = np.array([[run["curve"][p][name] for p in points] for run in outcome.runs], dtype=float)
            epochs, mean, deviation = [int(p) for p in points], each.mean(axis=0), each.std(axis=0, ddof=1)
            colour = f"C{number}"
            label = outcome.name if axes is panels[0] else None
            axes.plot(epochs, mean, color=colour, label=label, linestyle="--" if outcome.name == ALONE else "-")
            axes.fill_between(epochs, mean - deviation, mean + deviation, color=colour, alpha=0.15, linewidth=0)
        axes.set_title(metric.label, loc="left")
        axes.spines[["top", "right"]].set_visible(False)
    panels[-1].set_xlabel("epoch")
    figure.legend(frameon=False, loc="outside upper left", ncols=1)
    return figure


def write(source: Path, folder: Path, names: Sequence[str] = ("digits", "buildings")) -> None:
    """Write the tables and plots of problems, atomically.

    Args:
        source: the folder of the `.jsonl` files.
        folder: where to write `results-PROBLEM-PART.md` and `.svg`.
        names: the problems.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        results = load(source / f"{name}.jsonl")
        parts = {"table": results_table, "cost": cost_table, "verdicts": verdict_list, "facts": facts_text}
        for part, text in parts.items():
            with replacing(folder / f"results-{name}-{part}.md") as draft:
                draft.write_text(text(results), encoding="utf-8")
        for part, draw in (("overview", overview), ("curves", curves)):
            with rc_context(STYLE), replacing(folder / f"results-{name}-{part}.svg") as draft:
                draw(results).savefig(draft, transparent=True)


if __name__ == "__main__":
    write(Path(sys.argv[1]), Path(sys.argv[2]))
