"""A small training run that can be killed at any moment: `run.py FOLDER WEIGHTING` goes on from what is in FOLDER.

After each step it replaces one checkpoint file atomically and writes a line of the log that starts with the step;
it says `ready` once. A step costs some milliseconds, so that a random moment falls into any part of one.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lossreg import LossWrapper, MultiLoss, calibrate_norms
from lossreg.composition.weighting.dwa import DWA
from lossreg.composition.weighting.relobralo import ReLoBRaLo

WEIGHTINGS = {"none": lambda: None, "relobralo": ReLoBRaLo, "dwa": DWA}
EPOCHS, STEPS, BATCH = 6, 8, 4


def build(weighting):
    """Return everything whose state a checkpoint must hold."""
    torch.manual_seed(1)
    network = nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.Dropout(0.2), nn.Tanh(), nn.Linear(16, 2))
    group = MultiLoss([LossWrapper(nn.L1Loss(), "l1"), LossWrapper(nn.HuberLoss(), "huber")], [1.0, 2.0], name="group")
    criterion = MultiLoss(
        [LossWrapper(nn.MSELoss(), "mse"), group, LossWrapper(nn.SmoothL1Loss(), "smooth")],
        [1.0, 0.5, [0.0, 1.0]],
        epoch_thresholds=[1, EPOCHS],
        weighting=WEIGHTINGS[weighting](),
        track_norms="running",
    )
    optimizer = torch.optim.Adam([*network.parameters(), *criterion.weighting_parameters()], lr=0.01)
    return network, criterion, optimizer


def data():
    generator = torch.Generator().manual_seed(2)
    rows = STEPS * BATCH
    return TensorDataset(torch.randn(rows, 4, generator=generator), torch.randn(rows, 2, generator=generator))


def train(folder, weighting):
    """Train to the end, from the checkpoint in the folder where there is one."""
    folder = Path(folder)
    network, criterion, optimizer = parts = build(weighting)
    modules = {"network": network, "criterion": criterion, "optimizer": optimizer}
    path, step = folder / "checkpoint.pt", 0
    if path.exists():
        state = torch.load(path, weights_only=True)
        for name, part in modules.items():
            part.load_state_dict(state[name])
        torch.set_rng_state(state["rng"])
        step = state["step"]
    if not criterion.calibrated:
        random_order = DataLoader(data(), batch_size=BATCH, shuffle=True)
        calibrate_norms(criterion, network, random_order, max_samples=16, progress=False)
        save(path, modules, step)
    print("ready", flush=True)  # noqa: T201
    with (folder / "log.txt").open("a") as log:
        while step < EPOCHS * STEPS:
            epoch, position = divmod(step, STEPS)
            order = torch.randperm(STEPS * BATCH, generator=torch.Generator().manual_seed(epoch))
            image, target = data()[order[position * BATCH : (position + 1) * BATCH]]
            total, values, _ = criterion(network(image), target, epoch=epoch + position / STEPS)
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
            step += 1
            numbers = [total.detach(), *values.values(), *(term.loss.norm for _, term in criterion.leaves())]
            log.write(f"{step} {' '.join(float(number).hex() for number in numbers)}\n")
            log.flush()
            save(path, modules, step)
    return parts


def save(path, modules, step):
    """Replace the checkpoint in one move: whoever is killed here leaves the last one whole."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    state = {name: part.state_dict() for name, part in modules.items()}
    torch.save(state | {"rng": torch.get_rng_state(), "step": step}, draft)
    os.replace(draft, path)


if __name__ == "__main__":
    train(*sys.argv[1:])
