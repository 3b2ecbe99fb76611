"""The training run of `trajectory.py` by Accelerate, on one process and on two."""

from __future__ import annotations

import itertools
import os
import sys
from pathlib import Path

import torch
from accelerate import Accelerator

sys.path.insert(0, str(Path(__file__).parent))  # a rank of its own imports `trajectory.py` from there

import trajectory

from lossreg import TermLog
from lossreg.training.accelerate import accumulate, steps


class Training:
    """A model, a criterion and an optimizer as Accelerate prepares them, and the loop."""

    def __init__(self, accumulation, samples=trajectory.SAMPLES, every=trajectory.EVERY, **changes):
        self.accelerator = Accelerator(cpu=True, gradient_accumulation_steps=accumulation)
        self.criterion = trajectory.build_criterion(**changes)
        model, loader = trajectory.Network(), trajectory.loader(samples)
        optimizer = trajectory.build_optimizer(model, self.criterion)
        self.model, self.optimizer, self.loader = self.accelerator.prepare(model, optimizer, loader)
        self.accelerator.register_for_checkpointing(self.criterion)
        self.every, self.rows, self.done = every, [], 0

    def run(self, most, evaluate=lambda: None):
        """Train until so many steps are done; from the middle of an epoch where some are done already."""
        step_size, whole = self.accelerator.gradient_accumulation_steps, len(self.loader)
        in_epoch = -(-whole // step_size)
        if not self.criterion.calibrated:
            trajectory.calibrate(self.criterion, self.model, self.loader)
        with TermLog(self.criterion, lambda *_: None, every=self.every) as log:  # what it writes, it returns
            for epoch in itertools.count(self.done // in_epoch):
                skipped = self.done % in_epoch
                loader = self.accelerator.skip_first_batches(self.loader, skipped * step_size)
                for number, micro_batches in enumerate(steps(self.accelerator, loader), skipped):
                    if self.done == most:
                        return
                    self.step(micro_batches, epoch + number * step_size / whole, evaluate)
                    if numbers := log.step(self.done):
                        self.rows.append((self.done, numbers))

    def step(self, micro_batches, epoch, evaluate=lambda: None):
        """Make one step."""
        targets = trajectory.targets_of
        with accumulate(self.accelerator, self.criterion, self.model, micro_batches, targets) as batches:
            for batch in batches:
                time = {"epoch": epoch, "step": self.done}
                total, _, _ = self.criterion(self.model(batch["x"]), targets(batch), **time)
                self.accelerator.backward(total)
                evaluate()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.done += 1

    def result(self):
        """Return what the run ended with."""
        return trajectory.result(self.accelerator.unwrap_model(self.model), self.criterion, self.rows)


def main(folder, accumulation, changes):
    """Train on this rank of two, and save what it ended with."""
    training = Training(accumulation, samples=48, every=1, **changes)
    training.run(30)
    torch.save(tuple(training.result()), Path(folder, f"{os.environ['RANK']}.pt"))
    training.accelerator.end_training()
