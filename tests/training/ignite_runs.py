"""The training run of `trajectory.py` by Ignite on one rank of two."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from ignite.engine import create_supervised_trainer
from torch.nn.parallel import DistributedDataParallel

sys.path.insert(0, str(Path(__file__).parent))  # a rank of its own imports `trajectory.py` from there

import trajectory

from lossreg import TermLog
from lossreg.training.ignite import EngineLoss


def prepare_batch(batch, device=None, non_blocking=False):
    return batch["x"], trajectory.targets_of(batch)


def main(folder, accumulation, epochs):
    """Train on every second micro-batch of an epoch of 48 samples, and save what the rank ended with."""
    dist.init_process_group("gloo")
    rank, rows = dist.get_rank(), []
    network, criterion = trajectory.Network(), trajectory.build_criterion()
    model, optimizer = DistributedDataParallel(network), trajectory.build_optimizer(network, criterion)
    options = {"gradient_accumulation_steps": accumulation, "prepare_batch": prepare_batch}
    with TermLog(criterion, lambda *_: None) as log:  # what it writes, it returns
        loss = EngineLoss(criterion, model, log=log, **options)
        trainer = create_supervised_trainer(model, optimizer, loss, **options)
        loss.attach(trainer)
        count = log.step
        log.step = lambda step: rows.append((step, count(step))) or rows[-1][1]
        trainer.run(list(trajectory.loader(48))[rank::2], max_epochs=epochs)
    torch.save(tuple(trajectory.result(network, criterion, rows)), Path(folder, f"{os.environ['RANK']}.pt"))
    dist.destroy_process_group()
