"""A criterion as the loss of Ignite's and of MONAI's engines: the run that every trainer must repeat, and the rest."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
import torch
import trajectory
from torch import nn

from lossreg import LossWrapper, MultiLoss, TermLog
from lossreg.errors import ArgumentError, DistributedError, WindowError
from lossreg.training import ignite as ours
from lossreg.training.ignite import EngineLoss

pytest.importorskip("ignite", reason="needs pytorch-ignite, of tox's `trainers`")

import ignite_runs as runs
from ignite.engine import Engine, Events, create_supervised_evaluator, create_supervised_trainer
from ignite.handlers import Checkpoint, DiskSaver

pytestmark = pytest.mark.needs_plugins  # the criterion has losses of lossreg-wrappers

RUNS = {1: {"samples": 70, "epochs": 6, "steps": 108}, 4: {"samples": 64, "epochs": 26, "steps": 104}}
"""Where Ignite accumulates, an epoch must end with a step: 64 samples are 16 micro-batches."""
prepare_batch = runs.prepare_batch


class Setup:
    """A trainer with a checkpoint of everything at the end of some epoch."""

    def __init__(self, folder, accumulation, epochs, every=2):
        self.model, self.criterion = trajectory.Network(), trajectory.build_criterion()
        self.optimizer, self.rows = trajectory.build_optimizer(self.model, self.criterion), []
        self.log = TermLog(self.criterion, lambda numbers, step: self.rows.append((step, dict(numbers))), every=every)
        options = {"gradient_accumulation_steps": accumulation, "prepare_batch": prepare_batch}
        self.loss = EngineLoss(self.criterion, self.model, log=self.log, **options)
        self.trainer = create_supervised_trainer(self.model, self.optimizer, self.loss, **options)
        self.loss.attach(self.trainer)
        self.saved = {name: getattr(self, name) for name in ("model", "optimizer", "criterion", "trainer")}
        saver = DiskSaver(folder, require_empty=False)
        checkpoint = Checkpoint(self.saved, saver, filename_pattern="{name}.pt")
        if epochs is not None:
            self.trainer.add_event_handler(Events.EPOCH_COMPLETED(once=epochs), checkpoint)

    def result(self):
        self.log.close()
        return trajectory.result(self.model, self.criterion, self.rows)


@pytest.fixture(scope="module")
def plain():
    return {n: trajectory.train(n, samples=run["samples"], steps=run["steps"], every=2) for n, run in RUNS.items()}


@pytest.mark.parametrize("accumulation", [1, 4])
def test_it_trains_and_logs_as_the_plain_loop_and_resumes_in_the_middle(plain, tmp_path, accumulation):
    run = RUNS[accumulation]
    loader, middle = trajectory.loader(run["samples"]), run["epochs"] // 2
    whole = Setup(tmp_path, accumulation, middle)
    whole.trainer.run(loader, max_epochs=run["epochs"])
    assert whole.trainer.state.metrics == whole.rows[-1][1]
    trajectory.assert_same(whole.result(), plain[accumulation])

    resumed = Setup(tmp_path, accumulation, None)
    Checkpoint.load_objects(resumed.saved, torch.load(tmp_path / "checkpoint.pt", weights_only=True))
    assert resumed.trainer.state.epoch == middle
    resumed.trainer.run(loader, max_epochs=run["epochs"])
    found = resumed.result()
    before = [row for row in whole.rows if row[0] <= run["steps"] // 2]
    trajectory.assert_same(found._replace(log=before + found.log), plain[accumulation])


def test_two_processes_train_as_one(in_two_processes, tmp_path):
    in_two_processes(f"{runs.__file__}:main", tmp_path, 3, 10)
    expected = trajectory.train(3, samples=48, micro_batch=2 * trajectory.MICRO_BATCH, steps=20, every=1)
    for rank in range(2):
        found = trajectory.Run(*torch.load(tmp_path / f"{rank}.pt", weights_only=True))
        trajectory.assert_same(found, expected)


def test_accumulated_without_a_window_it_is_another_run(plain, tmp_path):
    """So the test above would fail; this is what Ignite alone does."""
    setup = Setup(tmp_path, 4, None)
    setup.loss._accumulation = 1
    setup.trainer.run(trajectory.loader(64), max_epochs=26)
    with pytest.raises(AssertionError, match="not close"):
        trajectory.assert_same(setup.result()._replace(log=[]), plain[4]._replace(log=[]), tolerance=1e-3)


def test_an_epoch_that_ends_within_a_step_is_refused(tmp_path):
    setup = Setup(tmp_path, 4, None)
    with pytest.raises(WindowError, match=r"divides, found 18: .*run\(\.\.\., epoch_length=16\)"):
        setup.trainer.run(trajectory.loader(), max_epochs=1)


def test_a_cut_epoch_of_whole_steps_goes_on_in_the_next(tmp_path):
    """16 of 18 micro-batches an epoch: Ignite begins the next with the other two, and the windows follow."""
    setup = Setup(tmp_path, 4, None)
    with pytest.raises(WindowError, match="expected the 4 batches of a step that begins at iteration 17, found 2"):
        setup.trainer.run(trajectory.loader(), max_epochs=2, epoch_length=16)


def test_a_loader_of_unknown_length_is_refused_under_accumulation_alone(tmp_path):
    def stream():
        yield from trajectory.loader()

    with pytest.raises(WindowError, match="expected a loader and a known length of an epoch"):
        Setup(tmp_path, 4, None).trainer.run(stream(), max_epochs=1)
    setup = Setup(tmp_path, 1, None)
    setup.criterion.calibrated.fill_(True)
    setup.trainer.run(stream(), max_epochs=1)
    assert setup.trainer.state.iteration == 18
    assert setup.loss.epoch == 0


def test_a_checkpoint_from_within_a_step_is_refused(tmp_path):
    setup = Setup(tmp_path, 4, None)
    setup.trainer.load_state_dict({"iteration": 6, "epoch_length": 16, "max_epochs": 2})
    with pytest.raises(WindowError, match="found iteration 6; load a checkpoint that was saved at the end of a step"):
        setup.trainer.run(trajectory.loader(64))


def test_an_evaluation_within_a_step_changes_nothing(tmp_path):
    runs = []
    for evaluates in (False, True):
        setup = Setup(tmp_path, 4, None)
        if evaluates:
            evaluator = create_supervised_evaluator(setup.model, prepare_batch=prepare_batch)

            @evaluator.on(Events.ITERATION_COMPLETED)
            def evaluate(engine, loss=setup.loss):
                loss.eval()  # else the weightings would move
                with torch.no_grad():
                    loss(*engine.state.output)
                loss.train()

            setup.trainer.add_event_handler(
                Events.ITERATION_COMPLETED(every=3), lambda _, run=evaluator.run: run(trajectory.loader(8))
            )
        setup.trainer.run(trajectory.loader(64), max_epochs=2)
        runs.append(setup.result())
    trajectory.assert_same(runs[0], runs[1], tolerance=0)


@pytest.mark.parametrize("ended", ["failed", "terminated"])
def test_after_a_step_that_was_not_made_the_loss_may_be_run_again(tmp_path, ended):
    setup = Setup(tmp_path, 4, None)

    @setup.trainer.on(Events.ITERATION_COMPLETED(once=6))
    def stop():
        if ended == "failed":
            raise RuntimeError("planted")
        setup.trainer.terminate()

    loader = trajectory.loader(64)
    if ended == "failed":
        with pytest.raises(RuntimeError, match="planted"):
            setup.trainer.run(loader, max_epochs=1)
    else:
        setup.trainer.run(loader, max_epochs=1)
        assert setup.trainer.state.dataloader is loader
        with setup.criterion.window([]):
            pass
    again = create_supervised_trainer(
        setup.model, setup.optimizer, setup.loss, gradient_accumulation_steps=4, prepare_batch=prepare_batch
    )
    setup.loss.attach(again)
    again.run(loader, max_epochs=1)
    assert again.state.iteration == 16


def test_norms_that_are_there_are_kept_and_without_a_model_none_are_made(tmp_path):
    setup = Setup(tmp_path, 1, None)
    setup.criterion.calibrated.fill_(True)
    setup.trainer.run(trajectory.loader(), max_epochs=1)
    assert all(float(term.loss.norm) == 1 for _, term in setup.criterion.leaves())
    criterion = trajectory.build_criterion()
    EngineLoss(criterion, prepare_batch=prepare_batch)._begin(Engine(lambda engine, batch: None))
    assert not criterion.calibrated


def test_pairs_need_no_function():
    model = nn.Linear(2, 1)
    criterion = MultiLoss([LossWrapper(nn.L1Loss(), "near")], [1.0])
    loss = EngineLoss(criterion, model, gradient_accumulation_steps=2)
    trainer = create_supervised_trainer(
        model, torch.optim.SGD(model.parameters(), 0.1), loss, gradient_accumulation_steps=2
    )
    loss.attach(trainer)
    batches = [(torch.ones(n, 2), torch.zeros(n, 1)) for n in (8, 3)]
    with torch.no_grad():
        expected = float(model(torch.ones(1, 2)).abs())
    trainer.run(batches, max_epochs=1)
    assert float(criterion.loss_funcs[0].norm) == pytest.approx(expected)


def test_parameters_of_losses_are_refused_on_several_ranks(monkeypatch):
    loss = LossWrapper(nn.L1Loss(), "near")
    loss.scale = nn.Parameter(torch.ones(()))
    engine_loss = EngineLoss(MultiLoss([loss], [1.0]))
    monkeypatch.setattr(ours, "several", lambda: True)
    with pytest.raises(DistributedError, match="expected losses without parameters on several ranks"):
        engine_loss._begin(SimpleNamespace())


@pytest.mark.parametrize(
    "options",
    [{"model": 3}, {"gradient_accumulation_steps": 0}, {"log": print}],
    ids=lambda options: next(iter(options)),
)
def test_arguments_of_a_wrong_kind(options):
    with pytest.raises(ArgumentError, match=next(iter(options))):
        EngineLoss(trajectory.build_criterion(), **options)


def test_without_the_library_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ignite.engine", None)
    with pytest.raises(ImportError, match=r'pip install "lossreg\[ignite\]"'):
        EngineLoss(trajectory.build_criterion()).attach(None)
