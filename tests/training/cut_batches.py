"""Train heads with missing labels in Lightning, over batches that ranks and micro-batches cut, and in a plain loop."""

from __future__ import annotations

import itertools
import json
import os
from importlib import import_module
from pathlib import Path

import torch
from torch import nn

from lossreg import LossWrapper, MultiLoss
from lossreg.training.accumulation import ReadAhead

STEPS = 4
SIZES = [[1, 0, 5], [4, 2, 3]]
"""Of the micro-batches of each rank."""


def batch(step):
    """Return the joined batch of a step, NaN where there is no label, and a step without any class."""
    make = torch.Generator().manual_seed(step)
    n = sum(map(sum, SIZES))
    gt = {
        "depth": torch.rand(n, 1, 4, generator=make, dtype=torch.float64),
        "labels": torch.randint(0, 3, (n, 4), generator=make),
        "has_depth": torch.rand(n, generator=make) < 0.5,
        "weight": torch.rand(n, 4, generator=make, dtype=torch.float64),
    }
    gt["labels"][torch.rand(n, 4, generator=make) < (1.0 if step == 2 else 0.4)] = -100
    gt["depth"][~gt["has_depth"]] = float("nan")
    return torch.randn(n, 5, generator=make, dtype=torch.float64), gt


def cut(whole, start, stop):
    """Return some samples of a batch."""
    return whole[0][start:stop], {key: t[start:stop] for key, t in whole[1].items()}


def micro_batches(step, rank):
    """Return the micro-batches of a rank."""
    ends = [sum(map(sum, SIZES[:rank]))]
    for size in SIZES[rank]:
        ends.append(ends[-1] + size)
    return [cut(batch(step), *some) for some in itertools.pairwise(ends)]


def criterion(**options):
    """Return the criterion of two heads."""
    depth = LossWrapper(nn.SmoothL1Loss(), "depth", pred_key="depth", gt_key="depth")
    depth.take_mask("gt.has_depth")
    classes = LossWrapper(nn.CrossEntropyLoss(), "classes", pred_key="classes", gt_key="labels")
    classes.take_mask(sample_weight="gt.weight")
    return MultiLoss([depth, classes], [1.0, 0.5], **options).train()


def network():
    """Return the same network on each rank."""
    torch.manual_seed(0)
    return nn.Linear(5, 16).double()


def heads(out):
    """Return the heads of the network's output."""
    return {"depth": out[:, :4].reshape(-1, 1, 4), "classes": out[:, 4:].reshape(-1, 3, 4)}


def module(package, way):
    """Return a LightningModule that steps after a window of micro-batches, or that Lightning steps."""

    class Heads(package.LightningModule):
        automatic_optimization = way != "window"

        def __init__(self):
            super().__init__()
            self.net = network()
            self.criterion = criterion(**({"reduce_over": "ranks"} if way == "reduce_over" else {}))

        def training_step(self, given, batch_idx):
            if way != "window":
                return self.criterion(heads(self.net(given[0])), given[1])[0]
            optimizer = self.optimizers()
            with self.criterion.window([targets for _, targets in given]):
                for inputs, targets in given:
                    self.manual_backward(self.criterion(heads(self.net(inputs)), targets)[0])
            optimizer.step()
            optimizer.zero_grad()
            return None

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.5)

    return Heads()


def joined():
    """Return the parameters after a plain loop over the joined batches."""
    net, loss = network(), criterion()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    for step in range(STEPS):
        inputs, targets = batch(step)
        loss(heads(net(inputs)), targets)[0].backward()
        optimizer.step()
        optimizer.zero_grad()
    return [p.tolist() for p in net.parameters()]


def main(name, way, folder):
    """Fit on this rank of two, and write the parameters."""
    package, rank = import_module(name), int(os.environ["RANK"])
    steps = [micro_batches(step, rank) for step in range(STEPS)]
    if way == "reduce_over":
        whole = [sum(map(sum, SIZES[:rank])), sum(map(sum, SIZES[: rank + 1]))]
        steps = [cut(batch(step), *whole) for step in range(STEPS)]
    loader = torch.utils.data.DataLoader(steps, batch_size=None, collate_fn=lambda some: some)
    options = {}
    if way == "callback":
        accumulated = len(SIZES[rank])
        loader = ReadAhead([some for step in steps for some in step], accumulated)
        callback = import_module("lossreg.training.lightning").WindowsCallback()
        options = {"accumulate_grad_batches": accumulated, "callbacks": [callback]}
    fitted = module(package, way)
    trainer = package.Trainer(
        accelerator="cpu", devices=2, strategy="ddp", max_epochs=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False, default_root_dir=folder,
        **options,
    )  # fmt: skip
    trainer.fit(fitted, loader)
    Path(folder, f"{rank}.json").write_text(json.dumps([p.tolist() for p in fitted.net.parameters()]))
