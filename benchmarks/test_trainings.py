"""The runs behind the page `results`: each method trains what it says, and a run goes on where it was stopped."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import problems
import pytest
import torch
import trainings
from measure import Effort
from problems import Metric
from trainings import REFERENCE, Method, Training, chosen_rate, collect, costs, methods_of, read, score

pytestmark = pytest.mark.needs_plugins

TINY = Effort(seconds=0, rounds=2)
MACHINE = {"cpu": "A processor", "python": "3.11", "versions": {"torch": "2.13.0", "monai": "1.6.1"}}
METRICS = {"a": Metric("a"), "b": Metric("b", higher=True)}


@pytest.fixture(scope="module")
def buildings() -> problems.Problem:
    return replace(problems.buildings(epochs=1, training=12, held_out=4), rates=(1e-3, 1e-2), seeds=(0, 1, 2))


@pytest.fixture
def digits() -> problems.Problem:
    pytest.importorskip("sklearn", reason="tox's `results` has it")
    return problems.digits(epochs=1)


# --- problems -------------------------------------------------------------------------------------------


def test_the_error_of_an_angle_is_that_to_the_nearest_root():
    rng = np.random.default_rng(0)
    field, angles = rng.normal(size=(50, 4)), rng.uniform(-7, 7, 50)
    expected = []
    for (a, b, c, d), angle in zip(field, angles, strict=True):
        roots = np.roots([1, 0, complex(c, d), 0, complex(a, b)])
        apart = [abs((np.angle(root) - angle + np.pi / 2) % np.pi - np.pi / 2) for root in roots]
        expected.append(np.degrees(min(apart)))
    found = problems.angle_errors(torch.tensor(field), torch.tensor(angles))
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_the_metrics_of_buildings_are_those_by_hand():
    seg = torch.tensor([[0.9, 0.9, 0.1, 0.1], [0.9, 0.1, 0.9, 0.1], [0.1] * 4]).reshape(1, 3, 2, 2)
    gt = torch.tensor([[1.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 1.0], [0.0] * 4]).reshape(1, 3, 2, 2)
    field = torch.zeros(1, 4, 2, 2)
    field[:, 0] = -1.0  # z^4 = 1: along the axes
    angle = torch.full((1, 1, 2, 2), math.radians(100))
    found = problems.building_metrics(
        {"seg": seg, "crossfield": field}, {"gt_polygons_image": gt, "gt_crossfield_angle": angle}
    )
    assert found == {"interior": 0.5, "edge": pytest.approx(1 / 3), "angle": pytest.approx(10.0, abs=1e-4)}


def test_the_metrics_of_digits_are_those_by_hand():
    pred = {"digit": torch.eye(10)[[1, 2, 3, 3]], "image": torch.zeros(4, 64), "centre": torch.zeros(4, 2)}
    gt = {
        "digit": torch.tensor([1, 2, 3, 4]),
        "clean": torch.full((4, 64), 2.0),
        "centre": torch.tensor([[3.0, 4.0], [0.0, 0.0], [0.0, 1.0], [2.0, 0.0]]),
    }
    assert problems.digit_metrics(pred, gt) == {"digit": 25.0, "image": 2.0, "centre": 2.0}


def test_a_corrupted_image_has_one_square_erased():
    images = torch.full((20, 8, 8), 100.0)
    found = problems.corrupted(images, seed=3)
    assert ((found == 0).sum(dim=(1, 2)) == 9).all()
    rows, columns = ((found == 0).any(dim=dim).sum(dim=1) for dim in (2, 1))
    assert (rows == 3).all()
    assert (columns == 3).all()
    torch.testing.assert_close(found, problems.corrupted(images, seed=3), rtol=0, atol=0)


def test_the_targets_of_digits_are_of_their_clean_images(digits):
    (batch,) = digits.test
    image = batch["clean"].reshape(-1, 8, 8).double().numpy()
    rows, columns = np.mgrid[:8, :8] - 3.5
    expected = np.stack([(image * axis).sum((1, 2)) / image.sum((1, 2)) for axis in (rows, columns)], axis=1)
    np.testing.assert_allclose(batch["centre"], expected, atol=1e-5)
    assert [len(part[0]["digit"]) for part in (digits.calibration, digits.validation, digits.test)] == [900, 400, 497]
    seen = torch.cat([batch["has_digit"] for batch in digits.batches(0, 0)])
    assert (len(seen), int(seen.sum())) == (900, 225)


def test_no_training_image_is_held_out(digits):
    parts = [
        {tuple(row.tolist()) for row in part[0]["clean"]}
        for part in (digits.calibration, digits.validation, digits.test)
    ]
    assert not parts[0] & parts[1]
    assert not parts[0] & parts[2]
    assert not parts[1] & parts[2]


# --- methods --------------------------------------------------------------------------------------------


def test_a_method_changes_the_loss_as_its_name_says(buildings):
    plain = Method().config(buildings)
    assert plain["normalize_losses"] is False
    assert "weighting" not in plain
    assert {name: term["weight"] for name, term in plain["losses"].items()} == {
        "seg": 10.0, "crossfield_align": 1.0, "crossfield_align90": 0.2, "crossfield_smooth": 0.005,
        "seg_interior_crossfield": 0.2, "seg_edge_crossfield": 0.2, "seg_edge_interior": 0.2,
    }  # fmt: skip
    assert {term["weight"] for term in Method(ones=True).config(buildings)["losses"].values()} == {1.0}
    full = Method(norms=True, schedule=True, weighting="dwa")
    assert (full.name, full.config(buildings)["weighting"]) == ("norms + schedule + dwa", "dwa")
    assert full.config(buildings)["normalize_losses"] is True
    assert full.config(buildings)["losses"]["seg_edge_interior"]["weight"] == [0.0, 0.1, 0.2]


def test_every_method_of_buildings_trains(buildings):
    methods = methods_of(buildings)
    assert len(methods) == 17
    for name, method in methods.items():
        found = trainings.train(buildings, method, 1e-3, 0)
        assert all(value is not None for value in found["test"].values()), name
        assert found["curve"]["1"].keys() == found["test"].keys() == buildings.metrics.keys(), name


def test_every_method_of_digits_trains(digits):
    methods = methods_of(digits)
    assert {"norms + UPGrad", "norms + PCGrad", "lrannealing"} < methods.keys()
    for name, method in methods.items():
        found = trainings.train(digits, method, 1e-2, 0)
        assert all(value is not None for value in found["test"].values()), name


def test_alone_each_group_trains_a_network_of_its_own(buildings):
    found = trainings.train(buildings, Method(norms=True, alone=True), 1e-3, 0)
    only = replace(buildings, alone={("seg",): ("interior", "edge")})
    assert trainings.train(only, Method(norms=True, alone=True), 1e-3, 0)["test"].items() < found["test"].items()


def test_a_run_is_the_same_each_time(buildings):
    runs = [trainings.train(buildings, Method(norms=True), 1e-3, 1) for _ in range(2)]
    assert runs[0] == runs[1]


def test_the_learning_rate_falls_along_half_a_cosine(buildings):
    training = Training(buildings, Method(), 0.5, 0)
    batch = next(iter(buildings.batches(0, 0)))
    rates = []
    for progress in (0.0, 0.5, 1.0):
        training.step(batch, 0, progress)
        rates.append(training.optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([0.5, 0.25, 0.0])


def test_an_aggregator_takes_the_place_of_the_sum_of_the_gradients(buildings):
    batch = next(iter(buildings.batches(0, 0)))
    ends = []
    for aggregator in (None, "Sum"):
        training = Training(buildings, Method(norms=True, aggregator=aggregator), 1e-3, 0)
        training.step(batch, 0)
        ends.append(torch.cat([p.grad.flatten() for p in training.network.parameters()]))
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-3, atol=1e-6)


# --- the choice of a learning rate ------------------------------------------------------------------------


def test_a_score_is_the_geometric_mean_of_the_errors():
    assert score(METRICS, {"a": 4.0, "b": 0.75}) == pytest.approx(1.0)  # sqrt(4 * (1 - 0.75))
    assert score(METRICS, {"a": None, "b": 0.75}) == math.inf


def test_the_learning_rate_is_chosen_by_the_last_validation_of_the_seeds_that_count():
    def row(rate: float, seed: int, a: float) -> dict:
        return {
            "rate": rate,
            "seed": seed,
            "curve": {"1": {"a": 9.0 / a, "b": 0.0}, "2": {"a": a, "b": 0.0}},
            "test": {},
        }

    rows = [row(1.0, 0, 2.0), row(2.0, 0, 1.0), row(1.0, 1, 1.0), row(2.0, 1, 3.0)]
    assert chosen_rate(METRICS, rows, [0]) == 2.0
    assert chosen_rate(METRICS, rows, [0, 1]) == 1.0


# --- the file ---------------------------------------------------------------------------------------------


def test_a_stopped_run_goes_on_where_it_was(buildings, tmp_path, monkeypatch):
    path, ways = tmp_path / "buildings.jsonl", {REFERENCE: Method(), "norms": Method(norms=True)}
    trained: list[tuple[bool, float, int]] = []

    def train(_, method, rate, seed):
        if len(trained) == 3 and not path.with_suffix(".again").exists():
            raise KeyboardInterrupt
        trained.append((method.norms, rate, seed))
        values = {"interior": 0.5, "edge": 0.5, "angle": 100 * rate + seed}
        return {"curve": {"1": values}, "test": values}

    monkeypatch.setattr(trainings, "train", train)
    monkeypatch.setattr(trainings, "costs", lambda *_: [])
    with pytest.raises(KeyboardInterrupt):
        collect(path, "buildings", buildings, ways, MACHINE, TINY)
    assert len(path.read_text().splitlines()) == 1 + 3
    path.with_suffix(".again").touch()
    collect(path, "buildings", buildings, ways, MACHINE, TINY)
    assert len(trained) == len(set(trained)) == 2 * (2 + 2)
    assert len(path.read_text().splitlines()) == 1 + len(trained)


def test_the_command_writes_every_run_and_the_costs_and_does_nothing_the_second_time(buildings, tmp_path, monkeypatch):
    path, ways = tmp_path / "new" / "buildings.jsonl", {REFERENCE: Method(), "norms": Method(norms=True)}
    said: list[str] = []
    collect(path, "buildings", buildings, ways, MACHINE, TINY, said.append)
    facts, *rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert (facts["steps"], facts["versions"]) == (3, {"torch": "2.13.0"})
    runs = [(row["method"], row["rate"], row["seed"]) for row in rows if row["kind"] == "run"]
    assert len(set(runs)) == len(runs) == len(said) == 2 * (2 + 2)  # two rates with one seed, two more seeds
    assert [row["method"] for row in rows if row["kind"] == "cost"] == list(ways)
    monkeypatch.setattr(trainings, "train", lambda *_: pytest.fail("trained again"))
    monkeypatch.setattr(trainings, "costs", lambda *_: pytest.fail("measured again"))
    collect(path, "buildings", buildings, ways, MACHINE, TINY)


def test_runs_of_other_settings_are_not_mixed(buildings, tmp_path):
    path = tmp_path / "buildings.jsonl"
    facts = trainings.facts("buildings", buildings, MACHINE)
    trainings.write(path, [facts])
    assert len(read(path, facts)) == 1
    other = trainings.facts("buildings", replace(buildings, rates=(1.0,)), {**MACHINE, "cpu": "Another"})
    with pytest.raises(ValueError, match="its runs differ from these in rates, cpu"):
        read(path, other)


def test_a_cost_has_a_time_for_each_turn(buildings):
    measured = costs(buildings, {REFERENCE: Method(), "alone": Method(alone=True)}, TINY)
    assert [row["method"] for row in measured] == [REFERENCE, "alone"]
    assert all(len(row["seconds"]) == TINY.rounds and min(row["seconds"]) > 0 for row in measured)


# --- the committed runs -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", problems.PROBLEMS)
def test_the_runs_behind_the_page_are_all_there(name, request):
    problem = problems.buildings(training=12) if name == "buildings" else request.getfixturevalue("digits")
    path = Path(__file__).parents[1] / "docs" / "benchmarks" / f"{name}.jsonl"
    facts, *rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    methods = methods_of(problem)
    assert (facts["rates"], facts["seeds"], facts["tried"]) == (
        list(problem.rates), list(problem.seeds), problem.tried,
    )  # fmt: skip
    assert len(facts["seeds"]) >= 5
    runs = {(row["method"], row["rate"], row["seed"]) for row in rows if row["kind"] == "run"}
    assert {(m, r, s) for m in methods for r in problem.rates for s in problem.seeds[: problem.tried]} <= runs
    assert {(m, s) for m in methods for s in problem.seeds} == {(m, s) for m, _, s in runs}
    assert {row["method"] for row in rows if row["kind"] == "cost"} == set(methods)
