"""The training run: calibrate the norms, then train, with a checkpoint after each epoch."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from lossreg import MultiLoss, build_loss_from_config, calibrate_norms, diagnose, load_loss
from lossreg.atomic import replacing
from lossreg.composition.record import Record
from lossreg.composition.weighting.shared import AtSharedParameters
from lossreg.config.reading import Source, plain
from lossreg.demo.distributed import rank, world_size
from lossreg.demo.files import CHECKPOINT, DIAGNOSIS_PICTURE, DIAGNOSIS_TABLE, METRICS, MONITOR_PICTURE, MONITOR_TABLE
from lossreg.demo.network import FrameFieldUNet
from lossreg.demo.samples import Samples
from lossreg.errors import ConfigError, LossregError
from lossreg.training.findings import Diagnosis
from lossreg.training.means import TermMeans, add_over_ranks
from lossreg.training.monitor import Monitor
from lossreg.training.monitor_report import MonitorReport

_KINDS = ("values", "norms", "weights")
_LEARNING_RATE = 4e-3
_DECAY = 0.9  # factor of the learning rate per epoch; independent of the number of epochs, so a run can be extended
_HELD_OUT = 32


@dataclass(frozen=True)
class Settings:
    """The settings that determine the results of a run, apart from its loss.

    Attributes:
        epochs: number of epochs.
        seed: seed of the images, the network's parameters and the order; not negative.
        image, labels: a tile and its footprints; None for generated scenes.
        count: number of training images.
        size: width and height of the images in pixels, a multiple of 8.
        batch_size: images per step, over all processes.
    """

    epochs: int = 12
    seed: int = 0
    image: str | None = None
    labels: str | None = None
    count: int = 256
    size: int = 96
    batch_size: int = 4


class Objective(nn.Module):
    """The network and its loss as one module, so that DistributedDataParallel sees the parameters of both."""

    def __init__(self, network: FrameFieldUNet, criterion: MultiLoss) -> None:
        super().__init__()
        self.network, self.criterion = network, criterion

    def forward(self, batch: dict[str, Tensor], epoch: int, step: int) -> Tensor:
        """Return the total of a batch."""
        total, _, _ = self.criterion(self.network(batch["image"]), batch, epoch=epoch, step=step)
        return cast(Tensor, total)


@dataclass
class Run:
    """The state of a run between two epochs.

    Attributes:
        settings: the settings.
        config: the YAML of the loss with resolved references.
        objective: the network and the criterion.
        optimizer: the optimizer of the parameters of both.
        training, held_out: the images.
        epoch: the next epoch, from 0.
        untrained_iou: the IoU before training, on the held-out images.
        history: a row of `metrics.csv` for each finished epoch.
    """

    settings: Settings
    config: str
    objective: Objective
    optimizer: torch.optim.Optimizer
    training: Samples
    held_out: Samples
    epoch: int = 0
    untrained_iou: float = math.nan
    history: list[dict[str, float]] = field(default_factory=list)

    @property
    def network(self) -> FrameFieldUNet:
        """The network."""
        return self.objective.network

    @property
    def criterion(self) -> MultiLoss:
        """The criterion."""
        return self.objective.criterion

    @property
    def steps(self) -> int:
        """Number of steps per epoch."""
        return len(self.training) // self.settings.batch_size


def resolved_config(path: Path) -> str:
    """Return the YAML of a loss config with resolved references, after checking that a run can use it.

    Raises:
        ConfigError: the file has mistakes; the message lists all.
    """
    criterion = load_loss(path)
    if not isinstance(criterion, MultiLoss):
        raise ConfigError(
            f"{path}: the demo trains under a loss_params.compound_loss or loss_params.multi_loss; "
            f"this file gives a single {type(criterion).__name__}"
        )
    data, problems = plain(Source.read(path).load(), str(path))
    if problems:
        raise ConfigError(problems)
    if "loss_params" not in data:  # the file is the compound block itself
        data = {"loss_params": {"compound_loss": data}}
    return OmegaConf.to_yaml(OmegaConf.create(data))


def build_run(settings: Settings, config: str) -> Run:
    """Return a new run with its images, network, criterion and optimizer.

    Args:
        settings: the settings.
        config: the result of `resolved_config`.
    """
    training, held_out = _samples(settings)
    torch.manual_seed(settings.seed)
    objective = Objective(FrameFieldUNet(training.channels), build_loss_from_config(OmegaConf.create(config)))
    weighting = list(objective.criterion.weighting_parameters())
    others = [p for p in objective.parameters() if all(p is not w for w in weighting)]
    optimizer = torch.optim.AdamW(
        [{"params": others, "weight_decay": 1e-4}, {"params": weighting, "weight_decay": 0.0}],
        lr=_LEARNING_RATE,
    )
    for module in objective.criterion.modules():
        if isinstance(module, AtSharedParameters):
            module.set_shared_parameters(objective.network.shared_parameters())
    return Run(settings, config, objective, optimizer, training, held_out)


def _samples(settings: Settings) -> tuple[Samples, Samples]:
    made: dict[str, Any] = {"size": settings.size, "seed": settings.seed}
    if settings.image is not None and settings.labels is not None:
        from lossreg.demo.tile import load_tile

        training, held_out = load_tile(Path(settings.image), Path(settings.labels), count=settings.count, **made)
    else:
        from lossreg.demo.scenes import generate_scenes

        training = generate_scenes(settings.count, **made)
        held_out = generate_scenes(min(_HELD_OUT, settings.count), **made, stream=1)
    class_freq = training.class_freq()
    return training.with_class_freq(class_freq), held_out.with_class_freq(class_freq)


# --- checkpoints ----------------------------------------------------------------------------------


def save(run: Run, output: Path) -> None:
    """Write the checkpoint and `metrics.csv`, only in the first process."""
    if rank() != 0:
        return
    state = {
        "settings": asdict(run.settings),
        "config": run.config,
        "epoch": run.epoch,
        "untrained_iou": run.untrained_iou,
        "history": run.history,
        "network": run.network.state_dict(),
        "criterion": run.criterion.state_dict(),
        "optimizer": run.optimizer.state_dict(),
        "rng": torch.get_rng_state(),
    }
    with replacing(output / CHECKPOINT) as draft:
        torch.save(state, draft)
    with replacing(output / METRICS) as draft, draft.open("w", newline="") as file:
        writer = csv.DictWriter(file, metric_columns(run.criterion), restval="")
        writer.writeheader()
        writer.writerows(run.history)


def read_checkpoint(output: Path) -> dict[str, Any]:
    """Return the checkpoint of a run.

    Raises:
        LossregError: the file is not a checkpoint of the demo.
    """
    path = output / CHECKPOINT
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        Settings(**state["settings"])
    except Exception as error:  # torch.load may raise any error
        raise LossregError(f"{path}: not a checkpoint of this demo: {error}") from error
    return dict(state)


def restore(run: Run, state: dict[str, Any]) -> None:
    """Load a checkpoint into a run that was just built."""
    run.network.load_state_dict(state["network"])
    run.criterion.load_state_dict(state["criterion"])
    run.optimizer.load_state_dict(state["optimizer"])
    run.epoch, run.untrained_iou, run.history = state["epoch"], state["untrained_iou"], state["history"]
    torch.set_rng_state(state["rng"])


def metric_columns(criterion: MultiLoss) -> list[str]:
    """Return the columns of `metrics.csv`."""
    terms = [column_of(kind, path) for path, _ in criterion.leaves() for kind in _KINDS]
    return ["epoch", "total", "iou", *terms]


def column_of(kind: str, path: str) -> str:
    """Return the column of `metrics.csv` of a mean of `TermMeans`."""
    return f"{kind.removesuffix('s')}/{path}" if path else kind


# --- training -------------------------------------------------------------------------------------


def train(
    run: Run,
    output: Path,
    on_step: Callable[[float], None] = lambda _: None,
    on_epoch: Callable[[dict[str, float]], None] = lambda _: None,
) -> None:
    """Train until the last epoch.

    In a process group each process trains on its share of every batch, and all get the same results.

    Args:
        run: a run that was just built or restored.
        output: folder for the checkpoint and `metrics.csv`.
        on_step: called with the total of each step in this process.
        on_epoch: called with the row of `metrics.csv` of each epoch.

    Raises:
        NormError: the norm of a term is invalid.
        LossregError: a term is not finite.
    """
    parallel: nn.Module = run.objective
    if run.epoch == 0 and not run.history:
        run.untrained_iou = heldout_iou(run)
        if run.criterion.normalize:
            shares = run.training.batches(run.settings.batch_size, rank=rank(), world_size=world_size())
            calibrate_norms(run.criterion, run.network, shares, progress=False)
        save(run, output)
    if world_size() > 1:
        parallel = DistributedDataParallel(run.objective)
        parallel.broadcast_buffers = False  # set here, since torch 2.13 warns of the argument
    while run.epoch < run.settings.epochs:
        row = _train_epoch(run, parallel, on_step)
        run.epoch += 1
        run.history.append({**row, "iou": heldout_iou(run)})
        save(run, output)
        on_epoch(run.history[-1])


def _train_epoch(run: Run, objective: nn.Module, on_step: Callable[[float], None]) -> dict[str, float]:
    """Train one epoch, and return its row of `metrics.csv` without the IoU."""
    objective.train()
    for group in run.optimizer.param_groups:
        group["lr"] = _LEARNING_RATE * _DECAY**run.epoch
    step = run.epoch * run.steps
    means = TermMeans(run.criterion, _KINDS)
    for batch in run.training.batches(
        run.settings.batch_size,
        seed=run.settings.seed,
        epoch=run.epoch,
        rank=rank(),
        world_size=world_size(),
    ):
        total = objective(batch, run.epoch, step)
        means.add(cast(Record, run.criterion.last_record), len(batch["image"]))
        run.optimizer.zero_grad()
        total.backward()
        run.optimizer.step()
        step += 1
        on_step(total.item())
    found = means.take(add_over_ranks)
    row = {"epoch": run.epoch, **{column_of(kind, path): mean for (kind, path), mean in found.items()}}
    _refuse_nonfinite(row)
    return row


def _refuse_nonfinite(row: dict[str, float]) -> None:
    bad = {name.removeprefix("value/"): value for name, value in row.items() if not math.isfinite(value)}
    if bad:
        listed = ", ".join(f"{name} is {value}" for name, value in bad.items())
        raise LossregError(f"epoch {row['epoch']}: {listed}; the run stops, its last checkpoint is from before")


@torch.no_grad()
def heldout_iou(run: Run) -> float:
    """Return the IoU of the interior channel over all held-out pixels, at a threshold of one half."""
    run.network.eval()
    both = torch.zeros(2, dtype=torch.float64)  # intersection, union
    for batch in run.held_out.batches(run.settings.batch_size, rank=rank(), world_size=world_size()):
        built = run.network(batch["image"])["seg"][:, 0] > 0.5
        wanted = batch["gt_polygons_image"][:, 0] > 0.5
        both += torch.stack([(built & wanted).sum(), (built | wanted).sum()])
    if world_size() > 1:
        dist.all_reduce(both)
    return float(both[0] / both[1].clamp_min(1))


def monitored(monitor: Monitor, output: Path) -> MonitorReport:
    """Write what a monitor saw, and return it."""
    report = monitor.report()
    report.to_json(output / MONITOR_TABLE)
    report.plot(output / MONITOR_PICTURE)
    return report


def diagnose_run(run: Run, output: Path) -> Diagnosis:
    """Run `diagnose` on the first training images at the last epoch, write the results and return them.

    Gradients are compared at the layer that both heads share.
    """
    batch = run.training.batch(torch.arange(run.settings.batch_size))
    run.objective.eval()
    diagnosis = diagnose(
        run.criterion,
        run.network(batch["image"]),
        batch,
        run.network.shared_parameters(),
        epoch=run.epoch - 1,
        step=run.epoch * run.steps - 1,
    )
    diagnosis.to_json(output / DIAGNOSIS_TABLE)
    diagnosis.plot(output / DIAGNOSIS_PICTURE)
    return diagnosis
