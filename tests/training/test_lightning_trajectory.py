"""The run that every trainer must repeat, under Lightning, and windows over accumulated batches."""

from __future__ import annotations

from importlib import import_module
from types import SimpleNamespace

import pytest
import torch
import trajectory
from torch.utils.data import DataLoader, DistributedSampler

from lossreg.errors import WindowError
from lossreg.training.accumulation import ReadAhead

pytestmark = [
    pytest.mark.needs_plugins,  # needs the extra `lightning`
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated"),
    pytest.mark.filterwarnings("ignore:You defined a `validation_step`"),
]


EPOCHS = {1: 6, 4: 20}
"""At least a hundred steps; Lightning does not resume as it should where `max_steps` is set."""
STEPS = {1: 108, 4: 100}


@pytest.fixture(scope="module")
def lightning():
    import_module("lightning.pytorch")
    import_module("pytorch_lightning")
    return import_module("lossreg.training.lightning")


def build_module(package):
    class Heads(package.LightningModule):
        def __init__(self):
            super().__init__()
            self.model, self.criterion = trajectory.Network(), trajectory.build_criterion()

        def forward(self, x):
            return self.model(x)

        def training_step(self, batch, batch_idx):
            """Give the time at which the step began to each of its batches."""
            first = batch_idx - batch_idx % self.trainer.accumulate_grad_batches
            epoch = self.current_epoch + first / self.trainer.num_training_batches
            total, _, _ = self.criterion(
                self(batch["x"]), trajectory.targets_of(batch), epoch=epoch, step=self.global_step
            )
            return total

        def validation_step(self, batch, batch_idx):
            self.criterion(self(batch["x"]), trajectory.targets_of(batch), epoch=0, step=0)

        def configure_optimizers(self):
            return trajectory.build_optimizer(self.model, self.criterion)

    return Heads()


def build_trainer(package, folder, callbacks, accumulation=1, **options):
    defaults = {
        "accelerator": "cpu", "devices": 1, "max_epochs": EPOCHS[accumulation], "logger": False,
        "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False,
        "default_root_dir": folder, "accumulate_grad_batches": accumulation, "num_sanity_val_steps": 0,
    }  # fmt: skip
    return package.Trainer(callbacks=callbacks, **defaults | options)


def loader(accumulation, **options):
    batches = trajectory.loader(**options)
    return batches if accumulation == 1 else ReadAhead(batches, accumulation, trajectory.targets_of)


def run(package, lightning, folder, accumulation, module=None, checkpoint=None, validation=None, **options):
    module, recorder = module or build_module(package), build_recorder(package)
    callbacks = [
        lightning.ComputeWeightNormLossesCallback(batch_fn=trajectory.read_batch),
        lightning.WindowsCallback(),
        lightning.LogTermsCallback(),
    ]
    trainer = build_trainer(
        package, folder, callbacks, accumulation, **{"logger": recorder, "log_every_n_steps": 1} | options
    )
    trainer.fit(module, loader(accumulation), validation, ckpt_path=checkpoint)
    return trainer, trajectory.result(module.model, module.criterion, recorder.rows)


def build_recorder(package):
    """Build a logger that keeps the terms' numbers, and counts steps from 1 on."""

    class Recorder(package.loggers.logger.Logger):
        def __init__(self):
            super().__init__()
            self.rows = []

        name, version = "recorder", 0

        def log_hyperparams(self, params, *args):
            pass

        def log_metrics(self, metrics, step=None):
            row = {name: float(value) for name, value in metrics.items() if "/" in name}
            if row:
                self.rows.append((step + 1, row))

    return Recorder()


@pytest.fixture(scope="module")
def plain():
    return {accumulation: trajectory.train(accumulation, steps=steps, every=1) for accumulation, steps in STEPS.items()}


def without_repeats(log, expected):
    """Leave out what Lightning repeats: in a step without any label of a term, it writes its last numbers again."""
    kept, before = [], {}
    for (step, row), (_, wanted) in zip(log, expected, strict=True):
        assert {name: before.get(name) for name in row.keys() - wanted.keys()}.items() <= row.items()
        kept.append((step, {name: number for name, number in row.items() if name in wanted}))
        before = row
    return kept


@pytest.mark.parametrize(
    ("name", "accumulation"), [("lightning.pytorch", 1), ("lightning.pytorch", 4), ("pytorch_lightning", 4)]
)
def test_it_trains_and_logs_as_the_plain_loop(plain, lightning, tmp_path, name, accumulation):
    _, found = run(import_module(name), lightning, tmp_path, accumulation)
    expected = plain[accumulation]
    trajectory.assert_same(found._replace(log=without_repeats(found.log, expected.log)), expected)


@pytest.mark.parametrize("accumulation", [1, 4])
def test_resumed_in_the_middle_it_ends_as_uninterrupted(plain, lightning, tmp_path, accumulation):
    package = import_module("lightning.pytorch")
    trainer, before = run(package, lightning, tmp_path, accumulation, max_epochs=EPOCHS[accumulation] // 2)
    trainer.save_checkpoint(tmp_path / "middle")
    _, found = run(package, lightning, tmp_path, accumulation, checkpoint=tmp_path / "middle")
    expected = plain[accumulation]
    assert len(before.log) == STEPS[accumulation] // 2
    trajectory.assert_same(found._replace(log=without_repeats(before.log + found.log, expected.log)), expected)


def test_accumulated_without_a_window_it_is_another_run(plain, lightning, tmp_path):
    """So the test above would fail; this is what Lightning alone does."""
    package = import_module("lightning.pytorch")
    module = build_module(package)
    callback = lightning.ComputeWeightNormLossesCallback(batch_fn=trajectory.read_batch)
    build_trainer(package, tmp_path, [callback], 4).fit(module, trajectory.loader())
    found = trajectory.result(module.model, module.criterion, [])
    with pytest.raises(AssertionError, match="not close"):
        trajectory.assert_same(found, plain[4]._replace(log=[]), tolerance=1e-3)


# --- windows --------------------------------------------------------------------------------------


def train(package, lightning, folder, accumulation=4, data=None, module=None, callbacks=None, **options):
    module = module or build_module(package)
    trainer = build_trainer(package, folder, callbacks or [lightning.WindowsCallback()], accumulation, **options)
    trainer.fit(module, loader(accumulation) if data is None else data)
    return trajectory.result(module.model, module.criterion, [])


def test_validation_in_the_middle_of_a_step_changes_nothing(lightning, tmp_path):
    package = import_module("lightning.pytorch")
    options = {"max_steps": 6, "val_check_interval": 3}
    module = build_module(package)
    module.val_dataloader = trajectory.loader
    validated = train(package, lightning, tmp_path, module=module, **options)
    trajectory.assert_same(validated, train(package, lightning, tmp_path, max_steps=6), tolerance=0)


def test_an_epoch_that_is_cut_short_ends_with_a_short_step(lightning, tmp_path):
    package = import_module("lightning.pytorch")
    cut = train(package, lightning, tmp_path, max_epochs=2, limit_train_batches=6)
    short = ReadAhead(list(trajectory.loader())[:6], 4, trajectory.targets_of)
    expected = train(package, lightning, tmp_path, max_epochs=2, data=short)
    trajectory.assert_same(cut, expected, tolerance=0)


def test_a_loader_of_unknown_length_is_read_one_batch_further(lightning, tmp_path):
    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter(trajectory.loader())

    package = import_module("lightning.pytorch")
    data = ReadAhead(DataLoader(Stream(), batch_size=None), 4, trajectory.targets_of)
    module = build_module(package)
    module.training_step = lambda batch, batch_idx: module.criterion(
        module(batch["x"]), trajectory.targets_of(batch), epoch=0, step=0
    )[0]
    callbacks = [lightning.ComputeWeightNormLossesCallback(batch_fn=trajectory.read_batch), lightning.WindowsCallback()]
    streamed = train(package, lightning, tmp_path, module=module, data=data, callbacks=callbacks, max_steps=7)
    other = build_module(package)
    other.training_step = lambda batch, batch_idx: other.criterion(
        other(batch["x"]), trajectory.targets_of(batch), epoch=0, step=0
    )[0]
    sized = train(package, lightning, tmp_path, module=other, callbacks=callbacks, max_steps=7)
    trajectory.assert_same(streamed, sized, tolerance=0)


def test_a_failed_step_leaves_no_window_open(lightning, tmp_path):
    package = import_module("lightning.pytorch")
    module = build_module(package)

    def fail(batch, batch_idx):
        raise RuntimeError("planted")

    module.training_step = fail
    before = {name: value.clone() for name, value in module.criterion.state_dict().items()}
    with pytest.raises(RuntimeError, match="planted"):
        train(package, lightning, tmp_path, module=module)
    assert all(torch.equal(value, before[name]) for name, value in module.criterion.state_dict().items())
    with module.criterion.window([]):
        pass


def test_an_epoch_that_is_left_within_a_step_leaves_no_window_open(lightning, tmp_path):
    package = import_module("lightning.pytorch")
    module, seen = build_module(package), []
    module.on_train_batch_start = lambda batch, batch_idx: -1 if batch_idx == 2 else seen.append(batch_idx)
    train(package, lightning, tmp_path, module=module, max_epochs=2)
    assert seen == [0, 1, 0, 1]
    with module.criterion.window([]):
        pass


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (trajectory.loader, r"expected the training loader as ReadAhead\(loader, 4\) .*found DataLoader"),
        (lambda: ReadAhead(trajectory.loader(), 3), r"ReadAhead\(loader, 4\) .*found ReadAhead\(\.\.\., 3\)"),
    ],
)
def test_a_loader_that_does_not_read_ahead_is_refused(lightning, tmp_path, data, told):
    with pytest.raises(WindowError, match=told):
        train(import_module("lightning.pytorch"), lightning, tmp_path, data=data())


def test_what_steps_by_itself_is_refused(lightning, tmp_path):
    package = import_module("lightning.pytorch")
    module = build_module(package)
    module.automatic_optimization = False
    trainer = build_trainer(package, tmp_path, [])
    trainer.accumulate_grad_batches = 4
    with pytest.raises(WindowError, match="expected automatic optimization, found a Heads that steps by itself"):
        lightning.WindowsCallback().on_train_epoch_start(trainer, module)


def test_a_module_without_a_criterion_is_refused(lightning, tmp_path):
    package = import_module("lightning.pytorch")
    module = build_module(package)
    module.criterion = torch.nn.L1Loss()
    module.configure_optimizers = lambda: trajectory.build_optimizer(module.model)
    with pytest.raises(ValueError, match="WindowsCallback: Heads has no MultiLoss"):
        train(package, lightning, tmp_path, module=module)


def test_ranks_that_would_read_the_same_batches_are_refused(lightning):
    samples = trajectory.Samples()
    shared = DataLoader(samples, batch_size=4, sampler=DistributedSampler(samples, 2, 0))
    module = SimpleNamespace(automatic_optimization=True, criterion=trajectory.build_criterion())

    def begin(data):
        trainer = SimpleNamespace(accumulate_grad_batches=4, world_size=2, train_dataloader=ReadAhead(data, 4))
        lightning.WindowsCallback().on_train_epoch_start(trainer, module)

    with pytest.raises(WindowError, match=r"SequentialSampler; .*give the DataLoader a .*DistributedSampler"):
        begin(trajectory.loader())
    for data in (shared, [1, 2]):
        with pytest.raises(AttributeError, match="named_modules"):  # it has gone on to look for the criterion
            begin(data)


def test_the_sampler_of_ranks_gets_each_epoch(lightning, tmp_path):
    samples, epochs = trajectory.Samples(), []

    class Noted(DistributedSampler):
        def set_epoch(self, epoch):
            epochs.append(epoch)
            super().set_epoch(epoch)

    data = DataLoader(samples, batch_size=4, sampler=Noted(samples, 2, 0))
    train(import_module("lightning.pytorch"), lightning, tmp_path, data=ReadAhead(data, 4), max_epochs=2)
    assert sorted(set(epochs)) == [0, 1]
