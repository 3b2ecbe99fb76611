"""Train one network per problem under every way to weigh its terms: python benchmarks/trainings.py [--output FOLDER].

For each way, the learning rate is chosen on validation data from the same grid; then all seeds are trained with it and
measured on test data. It writes `PROBLEM.jsonl`, a run a line, after each run. Started again, it goes on where it was
stopped. All runs take about a quarter of an hour of one core.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from measure import Effort, in_turns
from problems import PROBLEMS, Batch, Metric, Problem
from torch import nn

from lossreg import build_compound_loss_from_config, calibrate_norms
from lossreg.atomic import replacing
from lossreg.composition.weighting.shared import AtSharedParameters

Row = dict[str, Any]
POINTS = 8
"""Points of a curve."""


@dataclass(frozen=True)
class Method:
    """A way to weigh the terms.

    Attributes:
        norms: whether terms are divided by their norms.
        schedule: whether weights that are lists change with the epoch; else each keeps its last value.
        weighting: the `weighting` of the loss.
        aggregator: the name of a TorchJD aggregator that combines the gradients of the terms.
        ones: whether all weights are 1.
        alone: whether each group of terms trains a network of its own.
    """

    norms: bool = False
    schedule: bool = False
    weighting: str | None = None
    aggregator: str | None = None
    ones: bool = False
    alone: bool = False

    @property
    def name(self) -> str:
        """What it adds to the plain sum."""
        added = {"norms": self.norms, "schedule": self.schedule, self.weighting: True, self.aggregator: True}
        return " + ".join(name for name, there in added.items() if name and there)

    def config(self, problem: Problem, terms: Sequence[str] = ()) -> dict[str, Any]:
        """Return the compound block, with all terms or some."""
        block = {**copy.deepcopy(dict(problem.config)), "normalize_losses": self.norms}
        block["losses"] = {name: term for name, term in block["losses"].items() if not terms or name in terms}
        for term in block["losses"].values():
            if self.ones or not self.schedule:
                term["weight"] = 1.0 if self.ones else last(term["weight"])
        return block if self.weighting is None else {**block, "weighting": self.weighting}


def last(weight: float | list[float] | Mapping[str, Any]) -> float:
    """Return the last value of a weight: a number, a list of values, or a schedule with such a list."""
    values = weight["values"] if isinstance(weight, Mapping) else weight
    return float(values[-1] if isinstance(values, list) else values)


REFERENCE = "plain sum"
ONES = "plain sum, all weights 1"
ALONE = "each task alone"
ADAPTIVE = ("uncertainty", "dwa", "gradnorm", "softadapt", "relobralo", "cov", "balancer", "lrannealing")
TORCHJD = ("torchjd/FAMO", "torchjd/GeometricMean", "torchjd/IMTLL", "torchjd/Random")
WITHOUT_NORMS = ("uncertainty", "gradnorm", "balancer", "lrannealing")
"""The weightings that balance terms of different scales by themselves."""
AGGREGATORS = ("UPGrad", "PCGrad")


def recipe_of(problem: Problem) -> Method:
    """Return what a problem's terms are weighed by without a weighting."""
    return Method(norms=True, schedule=problem.scheduled)


def methods_of(problem: Problem) -> dict[str, Method]:
    """Return the methods of a problem by name; weightings and aggregators come on top of its usual recipe."""
    recipe = recipe_of(problem)
    methods = {
        REFERENCE: Method(),
        ONES: Method(ones=True),
        "schedule": Method(schedule=True),
        "norms": Method(norms=True),
        "norms + schedule": Method(norms=True, schedule=True),
    }
    on_top = [replace(recipe, weighting=name) for name in (*ADAPTIVE, *TORCHJD)]
    on_top += [replace(recipe, norms=False, weighting=name) for name in WITHOUT_NORMS]
    on_top += [replace(recipe, aggregator=name) for name in AGGREGATORS]
    methods |= {ALONE: Method(norms=True, alone=True), **{method.name: method for method in on_top}}
    return {name: method for name, method in methods.items() if name not in problem.omitted}


class Training:
    """A network, its criterion and its optimizer."""

    def __init__(self, problem: Problem, method: Method, rate: float, seed: int, terms: Sequence[str] = ()) -> None:
        torch.manual_seed(seed)
        self.rate = rate
        self.network = problem.network()
        self.criterion = build_compound_loss_from_config(method.config(problem, terms))
        for module in self.criterion.modules():
            if isinstance(module, AtSharedParameters):
                module.set_shared_parameters(self.network.shared_parameters())
        if method.norms:
            calibrate_norms(self.criterion, self.network, problem.calibration, progress=False)
        self.optimizer = torch.optim.Adam([*self.network.parameters(), *self.criterion.weighting_parameters()], lr=rate)
        self.aggregator: nn.Module | None = None
        if method.aggregator:
            import torchjd.aggregation

            self.aggregator = getattr(torchjd.aggregation, method.aggregator)()

    def step(self, batch: Batch, epoch: float, progress: float = 0.0) -> None:
        """Train one step; the learning rate falls with the progress, 0 to 1, along half a cosine."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * (1 + math.cos(math.pi * progress)) / 2
        pred = self.network(batch["image"])
        self.optimizer.zero_grad()
        if self.aggregator is None:
            self.criterion(pred, batch, epoch=epoch)[0].backward()
        else:
            from torchjd.autojac import backward, jac_to_grad

            backward(self.criterion.weighted_terms(pred, batch, epoch=epoch), parallel_chunk_size=1)
            jac_to_grad(self.network.parameters(), self.aggregator)
        self.optimizer.step()

    @torch.no_grad()
    def measured(self, problem: Problem, batches: Sequence[Batch]) -> dict[str, float | None]:
        """Return the metrics on held-out data, in four digits; None for a number that is not finite."""
        (batch,) = batches
        found = problem.measure(self.network(batch["image"]), batch)
        return {name: float(f"{value:.4g}") if math.isfinite(value) else None for name, value in found.items()}


def groups(problem: Problem, method: Method) -> Mapping[tuple[str, ...], tuple[str, ...]]:
    """Return the terms of each network that a method trains, and the metrics that count of it."""
    return problem.alone if method.alone else {(): tuple(problem.metrics)}


def train(problem: Problem, method: Method, rate: float, seed: int) -> Row:
    """Return the metrics of a run: on validation data at some epochs, and at its end on both."""
    curve: dict[int, Row] = {}
    test: Row = {}
    points = {round(problem.epochs * (i + 1) / POINTS) for i in range(POINTS)}
    for terms, metrics in groups(problem, method).items():
        training = Training(problem, method, rate, seed, terms)
        for epoch in range(problem.epochs):
            batches = list(problem.batches(seed, epoch))
            for i, batch in enumerate(batches):
                now = epoch + i / len(batches)
                training.step(batch, now, now / problem.epochs)
            if epoch + 1 in points:
                found = training.measured(problem, problem.validation)
                curve.setdefault(epoch + 1, {}).update({name: found[name] for name in metrics})
        found = training.measured(problem, problem.test)
        test.update({name: found[name] for name in metrics})
    return {"curve": {str(epoch): values for epoch, values in curve.items()}, "test": test}


def score(metrics: Mapping[str, Metric], values: Mapping[str, float | None]) -> float:
    """Return the geometric mean of the errors of all metrics, which no unit of a metric changes the order of."""
    errors = [metric.error(values[name]) for name, metric in metrics.items()]
    return math.exp(sum(map(math.log, errors)) / len(errors))


def validation_score(metrics: Mapping[str, Metric], row: Row) -> float:
    """Return the score of a run on validation data, at its end."""
    return score(metrics, list(row["curve"].values())[-1])


def chosen_rate(metrics: Mapping[str, Metric], rows: Sequence[Row], seeds: Sequence[int]) -> float:
    """Return the learning rate with the least mean score of some seeds on validation data."""
    scores: dict[float, list[float]] = {}
    for row in rows:
        if row["seed"] in seeds:
            scores.setdefault(row["rate"], []).append(validation_score(metrics, row))
    return min(scores, key=lambda rate: sum(scores[rate]) / len(scores[rate]))


# --- what it costs ----------------------------------------------------------------------------------------


def costs(problem: Problem, methods: Mapping[str, Method], effort: Effort) -> list[Row]:
    """Return the processor seconds of a training step under each method, measured in turns in this process."""
    batch = next(iter(problem.batches(0, 0)))

    def timer(method: Method) -> Callable[[int], float]:
        trainings = [Training(problem, method, problem.rates[0], 0, terms) for terms in groups(problem, method)]

        def steps(number: int) -> float:
            start = time.process_time()
            for _ in range(number):
                for training in trainings:
                    training.step(batch, problem.epochs)
            return time.process_time() - start

        steps(2)
        return steps

    times = in_turns({name: timer(method) for name, method in methods.items()}, effort)
    return [
        {"kind": "cost", "method": name, "seconds": [float(f"{s:.4g}") for s in measured.seconds]}
        for name, measured in times.items()
    ]


# --- the file -----------------------------------------------------------------------------------------------

LIBRARIES = ("lossreg", "torch", "numpy", "scipy", "scikit-image", "scikit-learn", "torchjd")


def facts(name: str, problem: Problem, machine: Mapping[str, Any]) -> Row:
    """Return the first line of a file: what its runs have in common."""
    return {
        "kind": "facts",
        "problem": name,
        "metrics": {key: asdict(metric) for key, metric in problem.metrics.items()},
        "epochs": problem.epochs,
        "steps": problem.epochs * len(list(problem.batches(0, 0))),
        "rates": list(problem.rates),
        "seeds": list(problem.seeds),
        "tried": problem.tried,
        "recipe": recipe_of(problem).name,
        "parameters": sum(parameter.numel() for parameter in problem.network().parameters()),
        "cpu": machine["cpu"],
        "python": machine["python"],
        "versions": {library: v for library, v in machine["versions"].items() if library in LIBRARIES},
    }


def read(path: Path, expected: Row) -> list[Row]:
    """Return the rows of a file, or its first line alone where there is none yet.

    Raises:
        ValueError: the runs of the file were made with other settings, versions or another processor.
    """
    if not path.exists():
        return [json.loads(json.dumps(expected))]
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    different = [key for key, value in json.loads(json.dumps(expected)).items() if rows[0].get(key) != value]
    if different:
        raise ValueError(
            f"{path}: its runs differ from these in {', '.join(different)}; remove it or give another --output"
        )
    return rows


def write(path: Path, rows: Sequence[Row]) -> None:
    """Write rows, each as a line, atomically: a killed run loses only the run that it was in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as draft:
        draft.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def collect(
    path: Path,
    name: str,
    problem: Problem,
    methods: Mapping[str, Method],
    machine: Mapping[str, Any],
    effort: Effort,
    say: Callable[[str], object] = lambda _: None,
) -> None:
    """Train what a file lacks, and measure the costs where it has none."""
    rows = read(path, facts(name, problem, machine))
    runs = {(row["method"], row["rate"], row["seed"]): row for row in rows if row["kind"] == "run"}

    def add(row: Row) -> None:
        rows.append(row)
        write(path, rows)

    def run(method: str, rate: float, seed: int) -> Row:
        if (method, rate, seed) not in runs:
            start = time.process_time()
            row = {"kind": "run", "method": method, "rate": rate, "seed": seed}
            row |= train(problem, methods[method], rate, seed)
            runs[method, rate, seed] = row | {"seconds": round(time.process_time() - start, 2)}
            add(runs[method, rate, seed])
            say(f"{name}: {method}, learning rate {rate:g}, seed {seed}: {runs[method, rate, seed]['test']}\n")
        return runs[method, rate, seed]

    tried = problem.seeds[: problem.tried]
    for method in methods:
        grid = [run(method, rate, seed) for rate in problem.rates for seed in tried]
        rate = chosen_rate(problem.metrics, grid, tried)
        for seed in problem.seeds[problem.tried :]:
            run(method, rate, seed)
    if not any(row["kind"] == "cost" for row in rows):
        for row in costs(problem, methods, effort):
            add(row)


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, train and write."""
    from machine import machine

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("bench-run"), metavar="FOLDER", help="default: bench-run")
    parser.add_argument("--only", nargs="+", choices=PROBLEMS, default=list(PROBLEMS), help="problems; default: all")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    for name in options.only:
        problem = PROBLEMS[name]()
        path = options.output / f"{name}.jsonl"
        collect(path, name, problem, methods_of(problem), machine(), Effort(seconds=60.0), sys.stdout.write)


if __name__ == "__main__":
    main()
