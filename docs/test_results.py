"""The page of results shows what the committed runs say, and no other number."""

from __future__ import annotations

import json
import math
import re
import runpy
import statistics
import sys
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import ttest_1samp

DOCS = Path(__file__).parent
PAGE = (DOCS / "results.md").read_text("utf-8")
PROBLEMS = ("digits", "buildings")


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("generated")
    runpy.run_path(str(DOCS / "generate" / "results.py"))["import_module"]("trainings_report").write(
        DOCS / "benchmarks", folder
    )
    return folder


def rows_of(problem: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the first line of a file, and the others."""
    facts, *rows = map(json.loads, (DOCS / "benchmarks" / f"{problem}.jsonl").read_text("utf-8").splitlines())
    return facts, rows


def error(facts: dict[str, Any], values: dict[str, float]) -> float:
    """Return the product of the errors of a run."""
    return math.prod(1 - v if facts["metrics"][name]["higher"] else v for name, v in values.items())


def cells_of(folder: Path, problem: str, part: str = "table") -> dict[str, list[str]]:
    """Return the cells of a table of a problem by the name of the method."""
    lines = (folder / f"results-{problem}-{part}.md").read_text("utf-8").splitlines()[2:]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    return {name: cells for name, *cells in rows}


def test_the_page_shows_every_generated_table_and_plot(generated: Path):
    shown = re.findall(r"generated/(results-[\w-]+\.\w+)", PAGE)
    assert sorted(shown) == sorted(path.name for path in generated.iterdir())


@pytest.mark.parametrize("problem", PROBLEMS)
def test_the_numbers_of_the_table_are_those_of_the_file(problem: str, generated: Path):
    facts, rows = rows_of(problem)
    runs = [row for row in rows if row["kind"] == "run"]
    seconds = {row["method"]: row["seconds"] for row in rows if row["kind"] == "cost"}
    table, cost = cells_of(generated, problem), cells_of(generated, problem, "cost")
    assert table.keys() == cost.keys() == {row["method"] for row in runs}
    finals: dict[str, dict[int, dict[str, float]]] = {}
    for method, cells in table.items():
        own = [row for row in runs if row["method"] == method]
        tried = {row["rate"]: error(facts, row["curve"][str(facts["epochs"])]) for row in own if row["seed"] == 0}
        assert set(tried) == set(facts["rates"])
        rate = min(tried, key=lambda rate: tried[rate])
        assert float(cost[method][0]) == rate
        finals[method] = {row["seed"]: row["test"] for row in own if row["rate"] == rate}
        assert sorted(finals[method]) == facts["seeds"]
        for name, cell in zip(facts["metrics"], cells, strict=False):
            values = [test[name] for test in finals[method].values()]
            for shown, expected in zip(
                cell.split("±"), (statistics.mean(values), statistics.stdev(values)), strict=True
            ):
                digits = len(shown.strip().partition(".")[2])
                assert float(shown) == pytest.approx(expected, abs=0.51 * 10**-digits)
    for method, cells in table.items():
        if method == "plain sum":
            assert (cells[-2:], cost[method][1]) == (["1", ""], "1")
            continue
        on_top = method.startswith(f"{facts['recipe']} + ") and method != "norms + schedule"
        assert bool(cells[-1]) == on_top
        for other, cell in zip(("plain sum", facts["recipe"]), cells[-2:] if on_top else cells[-2:-1], strict=False):
            logs = [
                math.log(error(facts, finals[method][seed]) / error(facts, finals[other][seed])) / len(facts["metrics"])
                for seed in facts["seeds"]
            ]
            interval = ttest_1samp(logs, 0.0).confidence_interval(0.95)
            expected = [math.exp(number) for number in (statistics.mean(logs), interval.low, interval.high)]
            assert [float(n) for n in re.findall(r"[\d.]+", cell)] == pytest.approx(expected, abs=0.00051)
            assert cell.startswith("**") == (not interval.low <= 0 <= interval.high)
        ratios = [a / b for a, b in zip(seconds[method], seconds["plain sum"], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        assert [float(n) for n in re.findall(r"[\d.]+", cost[method][1])] == pytest.approx(
            [middle, low, high], abs=0.0051
        )


@pytest.mark.parametrize("problem", PROBLEMS)
def test_every_method_is_better_or_worse_or_neither_as_its_cell_says(problem: str, generated: Path):
    lines = (generated / f"results-{problem}-verdicts.md").read_text("utf-8").splitlines()
    recipe = rows_of(problem)[0]["recipe"]
    shown = {line.partition(":")[0]: dict(re.findall(r"(?:: |\), )(.+?) \(([\d.]+)(?=\))", line)) for line in lines}
    expected: dict[str, dict[str, float]] = {key: {} for key in shown}
    for method, cells in cells_of(generated, problem).items():
        if method not in ("plain sum", "each task alone"):
            other, cell = (recipe, cells[-1]) if cells[-1] else ("plain sum", cells[-2])
            mean = float(re.findall(r"[\d.]+", cell)[0])
            word = "No clear difference from" if "**" not in cell else "Better than" if mean < 1 else "Worse than"
            expected[f"- {word} *{other}*"][method] = pytest.approx(mean, abs=0.0056)
    assert {key: {name: float(mean) for name, mean in found.items()} for key, found in shown.items()} == expected
    assert len(shown) == 6


def test_the_text_of_the_page_has_no_result_of_its_own():
    prose = re.sub(r"^(`{3}|:{3}).*?^\1", "", PAGE, flags=re.DOTALL | re.MULTILINE)
    assert re.findall(r"\d+\.\d+", prose) == []


@pytest.mark.usefixtures("generated")
def test_the_summary_is_true_of_the_runs():
    """Each sentence of the summary, in order; a sentence that new runs do not bear out fails here."""
    report = sys.modules["trainings_report"]
    digits, buildings = (report.load(DOCS / "benchmarks" / f"{problem}.jsonl") for problem in PROBLEMS)

    def verdict(results: Any, name: str, other: str = "plain sum") -> str:
        return results.compare(name, other).verdict

    def on_top(results: Any, name: str) -> str:
        recipe = results.facts["recipe"]
        return verdict(results, f"{recipe} + {name}", recipe)

    better, unclear, worse = report.VERDICTS
    assert verdict(digits, "norms") == better
    assert digits.outcomes["norms"].cost[0] < 1.1
    assert better not in {verdict(buildings, name) for name in buildings.outcomes}
    assert buildings.compare("plain sum, all weights 1").interval[0] > 1.2
    assert (verdict(buildings, "norms"), verdict(buildings, "norms + schedule")) == (worse, unclear)
    assert max(buildings.outcomes["norms"].values("edge")) < min(buildings.outcomes["plain sum"].values("edge"))
    for results in (digits, buildings):
        recipe = results.facts["recipe"]
        assert on_top(results, "uncertainty") == better
        assert results.compare(f"{recipe} + uncertainty", recipe).mean > 0.95
        assert results.outcomes[f"{recipe} + uncertainty"].cost[0] < 1.25
        for name in ("dwa", "softadapt", "relobralo", "cov", "balancer", "lrannealing"):
            assert on_top(results, name) == unclear, name
        assert results.rate_matters > 1 / min(results.compare(name, recipe).mean for name in results.weightings())
    assert (on_top(digits, "gradnorm"), on_top(buildings, "gradnorm")) == (unclear, better)
    assert on_top(digits, "torchjd/IMTLL") == better
    assert {name: verdict(digits, name) for name in ("lrannealing", "balancer", "uncertainty", "gradnorm")} == {
        "lrannealing": better, "balancer": better, "uncertainty": worse, "gradnorm": worse,
    }  # fmt: skip
    for name in ("UPGrad", "PCGrad"):
        assert on_top(digits, name) == unclear
        assert 1.5 < digits.outcomes[f"norms + {name}"].cost[0] < 2.5
    assert on_top(digits, "torchjd/Random") == worse


@pytest.mark.parametrize("problem", PROBLEMS)
def test_letters_of_a_plot_have_nine_pixels_on_a_phone(problem: str, generated: Path):
    for part in ("overview", "curves"):
        svg = (generated / f"results-{problem}-{part}.svg").read_text("utf-8")
        (width,) = re.findall(r'<svg [^>]*width="([\d.]+)pt"', svg)
        scales = [
            float(scale) for scale in re.findall(r"scale\(([\d.]+) -", svg)
        ]  # matplotlib scales glyphs of 100 units
        assert scales
        assert 100 * min(scales) * min(1.0, 343 / (float(width) * 4 / 3)) * 4 / 3 >= 9.0
