"""The plain loop that every trainer must repeat is itself right, and sees the usual mistakes."""

from __future__ import annotations

import pytest
import torch
import trajectory

pytestmark = pytest.mark.needs_plugins  # its losses are lossreg-wrappers'


@pytest.fixture(scope="module")
def accumulated():
    return trajectory.train(4)


def test_four_micro_batches_are_trained_on_as_the_batch_that_they_are_of():
    """64 samples, so that both have the same fractions of an epoch; both weightings move after a forward."""
    found = trajectory.train(4, samples=64)
    trajectory.assert_same(found, trajectory.train(1, samples=64, micro_batch=16))


def test_a_mean_of_means_is_seen(accumulated):
    means = trajectory.train(4, windowed=False)
    with pytest.raises(AssertionError, match="not close"):
        trajectory.assert_same(means, accumulated, tolerance=1e-3)
    largest = max(float(parameter.abs().max()) for parameter in accumulated.parameters.values())
    away = max(float((p - accumulated.parameters[name]).abs().max()) for name, p in means.parameters.items())
    assert (away, largest) == (pytest.approx(1.8, abs=0.05), pytest.approx(3.0, abs=0.05))  # so says the page


@pytest.mark.parametrize("accumulation", [1, 4])
def test_it_trains(accumulation):
    run = trajectory.train(accumulation)
    assert len(run.log) == trajectory.STEPS / trajectory.EVERY
    (_, first), (_, last) = run.log[0], run.log[-1]
    assert all(last[f"losses/train_{path}"] < 0.8 * first[f"losses/train_{path}"] for path in ("depth", "classes/kind"))
    assert first["weights/depth"] != last["weights/depth"]
    assert first["coefficients/classes/kind"] != last["coefficients/classes/kind"]
    assert {round(value, 3) for name, value in first.items() if name.startswith("norms/")} != {1.0}


def test_a_difference_in_a_parameter_or_in_the_log_is_seen(accumulated):
    parameters = {**accumulated.parameters, "model.body.bias": accumulated.parameters["model.body.bias"] + 1e-5}
    log = [(step, row | {"total/train": row["total/train"] * (1 + 1e-5)}) for step, row in accumulated.log]
    for other in (accumulated._replace(parameters=parameters), accumulated._replace(log=log)):
        with pytest.raises(AssertionError, match="not close"):
            trajectory.assert_same(other, accumulated)


def test_the_last_step_of_an_epoch_is_short():
    steps = [len(batches) for _, batches in trajectory.itertools.islice(trajectory._steps(trajectory.loader(), 4), 6)]
    assert steps == [4, 4, 4, 4, 2, 4]
    assert len(list(trajectory.loader())[-1]["x"]) == 2
    counts = torch.stack([batch["has_depth"].sum() for batch in trajectory.loader()])
    assert len(counts.unique()) > 2
