"""The training run of `trajectory.py` by a `MultiLossTrainer`, on one process and on two."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
from transformers import TrainingArguments

sys.path.insert(0, str(Path(__file__).parent))  # a rank of its own imports `trajectory.py` from there

import trajectory

from lossreg.training.huggingface import MultiLossTrainer


def build_arguments(folder, **options):
    """Return arguments for steps in the order of the samples, of which none is saved."""
    defaults = {
        "per_device_train_batch_size": trajectory.MICRO_BATCH, "max_steps": trajectory.STEPS, "seed": 1,
        "logging_steps": trajectory.EVERY, "train_sampling_strategy": "sequential", "save_strategy": "no",
        "label_names": list(trajectory.TARGETS), "report_to": "none", "disable_tqdm": True, "use_cpu": True,
        "lr_scheduler_type": "constant", "max_grad_norm": 0.0, "ddp_backend": "gloo" if "RANK" in os.environ else None,
    }  # fmt: skip
    return TrainingArguments(str(folder), **defaults | options)


def build_trainer(folder, samples=trajectory.SAMPLES, trainer_class=MultiLossTrainer, changes=None, **options):
    """Return a trainer; `options` are its own where it has them, else those of `TrainingArguments`."""
    sgd = {"lr": trajectory.LEARNING_RATE, "momentum": trajectory.MOMENTUM}
    own = {"windows", "criterion", "optimizers", "eval_dataset", "callbacks", "model_init", "compute_metrics"}
    given = {name: options.pop(name) for name in own & options.keys()}
    if "optimizers" not in given:
        given["optimizer_cls_and_kwargs"] = (torch.optim.SGD, sgd)
    if "model_init" not in given:
        given["model"] = trajectory.Network()
    given.setdefault("criterion", trajectory.build_criterion(**changes or {}))
    return trainer_class(
        args=build_arguments(folder, **options), train_dataset=trajectory.Samples(samples), **given
    )  # fmt: skip


def log_of(trainer, name="total/train"):
    """Return the rows of the log that have a name, with the means of the terms."""
    rows = [row for row in trainer.state.log_history if name in row]
    return [(row["step"], {key: value for key, value in row.items() if "/" in key}) for row in rows]


def result(trainer):
    """Return what a run ended with."""
    return trajectory.result(trainer.model, trainer.criterion, log_of(trainer))


def main(folder, accumulation, changes):
    """Train on this rank of two, and save what it ended with."""
    trainer = build_trainer(
        folder, samples=48, gradient_accumulation_steps=accumulation, max_steps=30, logging_steps=1, changes=changes
    )  # fmt: skip
    trainer.train()
    torch.save(tuple(result(trainer)), Path(folder, f"{os.environ['RANK']}.pt"))
    torch.distributed.destroy_process_group()
