"""The run that every trainer must repeat, under MONAI's `SupervisedTrainer`."""

from __future__ import annotations

import pytest
import torch
import trajectory

from lossreg import TermLog
from lossreg.errors import WindowError
from lossreg.training.ignite import EngineLoss

pytest.importorskip("ignite", reason="needs pytorch-ignite, of tox's `trainers`")
engines = pytest.importorskip("monai.engines", reason="needs MONAI, of tox's `trainers`")
handlers = pytest.importorskip("monai.handlers")

pytestmark = pytest.mark.needs_plugins
EPOCHS, STEPS = {1: 6, 4: 20}, {1: 108, 4: 100}


def prepare_batch(batch, device=None, non_blocking=False, **options):
    return batch["x"].to(device), {name: value.to(device) for name, value in trajectory.targets_of(batch).items()}


class Setup:
    def __init__(self, accumulation, epochs, folder=None, load=None, **options):
        self.model, self.criterion = trajectory.Network(), trajectory.build_criterion()
        optimizer, self.rows = trajectory.build_optimizer(self.model, self.criterion), []
        self.log = TermLog(self.criterion, lambda numbers, step: self.rows.append((step, dict(numbers))), every=2)
        loss = EngineLoss(self.criterion, log=self.log)
        saved = {"model": self.model, "optimizer": optimizer, "criterion": self.criterion}
        around = [loss]
        if load is not None:
            around = [handlers.CheckpointLoader(str(load), saved), loss]
        if folder is not None:
            around.append(handlers.CheckpointSaver(str(folder), saved, save_final=True, final_filename="middle.pt"))
        self.trainer = engines.SupervisedTrainer(
            **{
                "device": torch.device("cpu"), "max_epochs": epochs, "train_data_loader": trajectory.loader(),
                "network": self.model, "optimizer": optimizer, "loss_function": loss, "prepare_batch": prepare_batch,
                "accumulation_steps": accumulation, "train_handlers": around,
            } | options
        )  # fmt: skip
        saved["trainer"] = self.trainer

    def result(self):
        self.log.close()
        return trajectory.result(self.model, self.criterion, self.rows)


@pytest.mark.parametrize("accumulation", [1, 4])
def test_it_trains_and_logs_as_the_plain_loop_and_resumes_in_the_middle(tmp_path, accumulation):
    epochs, steps = EPOCHS[accumulation], STEPS[accumulation]
    plain = trajectory.train(accumulation, steps=steps, every=2)
    whole = Setup(accumulation, epochs)
    whole.trainer.run()
    trajectory.assert_same(whole.result(), plain)

    before = Setup(accumulation, epochs // 2, tmp_path)
    before.trainer.run()
    resumed = Setup(accumulation, epochs, load=tmp_path / "middle.pt")
    resumed.trainer.run()
    assert resumed.trainer.state.epoch == epochs
    found, first = resumed.result(), before.result()
    trajectory.assert_same(found._replace(log=first.log + found.log), plain)


def test_a_cut_epoch_under_accumulation_is_refused_where_batches_would_be_lost():
    setup = Setup(4, 2, epoch_length=6)
    with pytest.raises(WindowError, match="expected the 2 batches of a step that begins at iteration 5, found 4"):
        setup.trainer.run()
