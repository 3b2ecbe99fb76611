"""A LightningModule, and runs of it that tests ask for.

It is imported, or run under torchrun as `fit.py PACKAGE SCENARIO FOLDER`.
"""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lossreg import LossWrapper, MultiLoss

SAMPLES, BATCH = 24, 4


class Pairs(TensorDataset):
    """Batches as mappings: an image and, under any name, its target."""

    def __init__(self, count=SAMPLES, seed=0):
        generator = torch.Generator().manual_seed(seed)
        super().__init__(torch.randn(count, 3, generator=generator), 5 * torch.randn(count, 2, generator=generator))

    def __getitem__(self, index):
        image, target = super().__getitem__(index)
        return {"image": image, "mask": target}


def near(pred, gt):
    return (pred - gt).abs().mean()


def far(pred, gt):
    return (pred - gt).square().mean()


def build_criterion(**options):
    losses = [LossWrapper(near, "near"), LossWrapper(far, "far")]
    return MultiLoss(losses, [1.0, [0.0, 2.0]], epoch_thresholds=[0, 4], **options)


def build_module(package, criterion=None, attribute="loss_function", **attributes):
    """Build a LightningModule of that package; both have the same source, but no common class."""

    class Module(package.LightningModule):
        def __init__(self):
            super().__init__()
            torch.manual_seed(3)
            self.model = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))
            setattr(self, attribute, build_criterion() if criterion is None else criterion)
            self.seen = []
            for name, value in attributes.items():
                setattr(self, name, value)

        def forward(self, image):
            return self.model(image)

        def compute(self, batch, where):
            total, values, _ = getattr(self, attribute)(
                self(batch["image"]), batch["mask"], epoch=self.current_epoch, step=self.global_step
            )
            self.seen.append((where, self.global_step, len(batch["image"]), {k: v.item() for k, v in values.items()}))
            return total

        def training_step(self, batch, batch_idx):
            return self.compute(batch, "train")

        def validation_step(self, batch, batch_idx):
            self.compute(batch, "val")

        def test_step(self, batch, batch_idx):
            self.compute(batch, "test")

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.01)

    return Module()


def build_recorder(package):
    """Build a logger that keeps what it is given."""

    class Recorder(package.loggers.logger.Logger):
        def __init__(self):
            super().__init__()
            self.rows = []

        name, version = "recorder", 0

        def log_hyperparams(self, params, *args):
            pass

        def log_metrics(self, metrics, step=None):
            self.rows.append((step, dict(metrics)))

    return Recorder()


def build_trainer(package, folder, callbacks, **options):
    defaults = {
        "accelerator": "cpu", "devices": 1, "max_epochs": 1, "enable_progress_bar": False, "logger": False,
        "enable_model_summary": False, "enable_checkpointing": False, "default_root_dir": folder,
        "num_sanity_val_steps": 0, "log_every_n_steps": 1,
    }  # fmt: skip
    return package.Trainer(callbacks=callbacks, **defaults | options)


def loader(count=SAMPLES, **options):
    return DataLoader(Pairs(count), batch_size=BATCH, **options)


def norms(module):
    return {path: term.loss.norm.item() for path, term in module.loss_function.leaves()}


# --- under torchrun ---------------------------------------------------------------------------------


def train(package, callbacks, folder, epochs=1, checkpoint=None, module=None, **options):
    """Fit on all ranks of torchrun; return what this rank ended with."""
    module = module or build_module(package)
    recorder = build_recorder(package)
    trainer = build_trainer(
        package, folder, callbacks, max_epochs=epochs, logger=recorder,
        devices=int(os.environ["WORLD_SIZE"]), strategy="ddp", **options,
    )  # fmt: skip
    trainer.fit(module, loader(), loader(10), ckpt_path=checkpoint)
    return trainer, module, recorder


def both(package, lightning, folder):
    """Calibrate and log on two ranks, save, and go on from the checkpoint."""
    asked = []

    def counted(model, batch):
        asked.append(len(batch["image"]))
        return lightning.image_and_target(model, batch)

    def callbacks():
        return [lightning.ComputeWeightNormLossesCallback(batch_fn=counted), lightning.LogTermsCallback()]

    trainer, module, recorder = train(package, callbacks(), folder)
    trainer.save_checkpoint(folder / "one.ckpt")
    answer = {"norms": norms(module), "rows": recorder.rows, "seen": module.seen, "asked": sum(asked)}
    _, continued, _ = train(package, callbacks(), folder, epochs=2, checkpoint=folder / "one.ckpt")
    _, uninterrupted, _ = train(package, callbacks(), folder, epochs=2)
    return answer | {
        "asked by the resumed run": sum(asked) - 2 * answer["asked"],
        "resumed": [norms(continued), [p.tolist() for p in continued.model.parameters()]],
        "uninterrupted": [norms(uninterrupted), [p.tolist() for p in uninterrupted.model.parameters()]],
    }


def absent(package, lightning, folder):
    """Train with an optional term that only the first rank's batches ever have."""
    criterion = MultiLoss(
        [LossWrapper(near, "near", gt_key="mask"), LossWrapper(far, "far", gt_key="extra")], [1.0, 1.0],
        optional_terms=["far"],
    )  # fmt: skip
    module = build_module(package, criterion)

    def compute(batch, where):
        batch = {**batch, "extra": batch["mask"]} if module.global_rank == 0 else batch
        return criterion(module(batch["image"]), batch)[0]

    module.compute = compute
    _, _, recorder = train(package, [lightning.LogTermsCallback()], folder, module=module)
    return {"rows": recorder.rows}


def main(package_name, scenario, folder):
    package = import_module(package_name)
    answer = globals()[scenario](package, import_module("lossreg.training.lightning"), Path(folder))
    rows = [(step, {k: float(v) for k, v in row.items()}) for step, row in answer.pop("rows")]
    Path(folder, f"{os.environ['RANK']}.json").write_text(json.dumps({"rows": rows, **answer}))


if __name__ == "__main__":
    main(*sys.argv[1:])
