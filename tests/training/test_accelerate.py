"""Steps over micro-batches in real loops of Accelerate."""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module

import pytest
import torch
import trajectory

from lossreg.errors import WindowError

accelerate = pytest.importorskip("accelerate", reason="needs accelerate; tox's `trainers` has it")

from accelerate.utils import DataLoaderConfiguration  # noqa: E402

from lossreg.training.accelerate import accumulate, steps  # noqa: E402

runs = import_module("accelerate_runs")

pytestmark = pytest.mark.needs_plugins  # needs the extra `accelerate`


@pytest.mark.parametrize("accumulation", [1, 4])
def test_it_trains_as_the_plain_loop(accumulation):
    training = runs.Training(accumulation)
    training.run(trajectory.STEPS)
    trajectory.assert_same(training.result(), trajectory.train(accumulation))


@pytest.mark.parametrize(("accumulation", "changes"), [(4, {}), (1, {"reduce_over": "ranks"})])
def test_two_processes_train_as_one(in_two_processes, tmp_path, accumulation, changes):
    in_two_processes(f"{runs.__file__}:main", tmp_path, accumulation, changes)
    trajectory.assert_ranks_trained_as_one(tmp_path, accumulation, **changes)


@pytest.mark.parametrize("accumulation", [1, 4])
def test_a_run_resumed_in_the_middle_of_an_epoch_ends_as_the_uninterrupted_one(tmp_path, accumulation):
    whole = runs.Training(accumulation, every=1)
    whole.run(7)
    whole.accelerator.save_state(tmp_path)
    whole.run(13)
    resumed = runs.Training(accumulation, every=1)
    resumed.accelerator.load_state(tmp_path)
    resumed.done, resumed.rows = 7, whole.rows[:7]
    resumed.run(13)
    trajectory.assert_same(resumed.result(), whole.result(), tolerance=0)


def test_an_evaluation_between_two_micro_batches_changes_nothing():
    training = runs.Training(4)

    @torch.no_grad()
    def evaluate():
        batch = next(iter(trajectory.loader()))
        training.criterion.eval()
        training.criterion(training.model(batch["x"]), trajectory.targets_of(batch), epoch=0.0)
        training.criterion.train()

    training.run(10, evaluate)
    trajectory.assert_same(training.result(), trajectory.train(4, steps=10))


def test_an_optimizer_may_step_after_each_micro_batch_as_under_accelerate_itself():
    training = runs.Training(4)
    step = training.optimizer.step
    training.run(10, evaluate=lambda: (step(), training.optimizer.zero_grad()))
    trajectory.assert_same(training.result(), trajectory.train(4, steps=10))


@pytest.mark.parametrize(("samples", "stepped"), [(64, 3 + 4), (70, 4 + 0)])
def test_accelerate_itself_cannot_be_given_batches_that_were_read_ahead(samples, stepped):
    """There are 4 steps, and 4 and a short one: it steps at each micro-batch of the last, or not in it at all."""
    training, found = runs.Training(4, samples=samples), 0
    training.accelerator.step = 0
    for micro_batches in steps(training.accelerator, training.loader):
        for _ in micro_batches:
            with training.accelerator.accumulate(training.model):
                found += training.accelerator.sync_gradients
    assert found == stepped


def test_the_last_step_of_an_epoch_has_what_is_left():
    training = runs.Training(4)
    assert [len(micro_batches) for micro_batches in steps(training.accelerator, training.loader)] == [4, 4, 4, 4, 2]


def test_a_step_that_fails_moves_nothing_and_leaves_nothing_behind():
    training = runs.Training(4)
    training.run(1)
    before = {name: value.clone() for name, value in training.criterion.state_dict().items()}
    with suppress(ZeroDivisionError):
        training.step(list(training.loader)[:4], 0.0, evaluate=lambda: 1 / 0)
    assert training.accelerator.sync_gradients
    with training.criterion.window([]):
        pass
    torch.testing.assert_close(training.criterion.state_dict(), before, rtol=0, atol=0)


def test_a_micro_batch_that_is_left_out_is_told():
    training = runs.Training(4)
    batches = list(training.loader)[:4]
    parts = training.accelerator, training.criterion, training.model, batches, trajectory.targets_of

    def leave_three_out():
        with accumulate(*parts) as some:
            batch = next(some)
            training.criterion(training.model(batch["x"]), trajectory.targets_of(batch), epoch=0.0)

    with pytest.raises(WindowError, match=r"term 'depth': expected forwards over"):
        leave_three_out()


@pytest.mark.parametrize("seedable", [True, False])
@pytest.mark.parametrize("samples", [8, 70])
def test_a_calibrated_run_sees_the_same_order_of_the_data(seedable, samples):
    def order(calibrated):
        torch.manual_seed(0)
        accelerator = accelerate.Accelerator(
            cpu=True, dataloader_config=DataLoaderConfiguration(use_seedable_sampler=seedable)
        )  # fmt: skip
        loader = accelerator.prepare(torch.utils.data.DataLoader(trajectory.Samples(samples), 4, shuffle=True))
        if calibrated:
            trajectory.calibrate(trajectory.build_criterion(), trajectory.Network(), loader)
            assert accelerator.gradient_state.active_dataloader is not loader
        return [batch["x"].tolist() for _ in range(2) for batch in loader]

    assert order(True) == order(False)
