"""One training run that every trainer must repeat: a network of two heads, its data, a criterion and a plain loop.

The samples come in their order. `SAMPLES` is no multiple of a micro-batch, nor the micro-batches of the four of an
accumulation, so that the last micro-batch and the last step of an epoch are short. Any number of the labels of a
micro-batch is missing, so that a mean of means over micro-batches is not the mean over all.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

import lossreg
from lossreg import MultiLoss, TermLog, calibrate_norms

STEPS = 100
SAMPLES = 70
MICRO_BATCH = 4
EVERY = 10  # steps between two rows of the log
LEARNING_RATE = 0.2
MOMENTUM = 0.5  # and not Adam, to which the scale of a gradient is all the same

CONFIG = """
normalization_params: {min_samples: 8, max_samples: 32}
weighting: uncertainty
epoch_thresholds: [0, 2, 4]
losses:
  depth: {loss: torch/SmoothL1Loss, pred_key: depth, gt_key: depth, mask: gt.has_depth, weight: [0.2, 1.0, 0.5]}
  classes:
    weighting: cov
    losses:
      kind: {loss: torch/CrossEntropyLoss, pred_key: kind, gt_key: kind, sample_weight: gt.weight}
      margin: {loss: torch/MultiMarginLoss, pred_key: kind, gt_key: first, weight: 0.5}
"""
"""A schedule, a mask, weighted samples, labels to ignore, norms, a weighting with parameters and one with a state."""

TARGETS = ("depth", "has_depth", "kind", "weight", "first")


class Run(NamedTuple):
    """What a run ends with."""

    parameters: dict[str, Tensor]
    """Of the model and of the criterion, by name."""
    criterion: dict[str, Tensor]
    """The state of the criterion: norms, counts and what its weightings hold."""
    log: list[tuple[int, dict[str, float]]]
    """What `TermLog` wrote: the step, and means by name."""


class Network(nn.Module):
    """Two heads on one body, in float64: what differs is then no rounding."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.body = nn.Linear(5, 6)
            self.depth, self.kind = nn.Linear(6, 4), nn.Linear(6, 3)
        self.double()

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return the prediction of each head."""
        hidden = self.body(x).tanh()
        return {"depth": self.depth(hidden), "kind": self.kind(hidden)}


class Samples(Dataset[dict[str, Tensor]]):
    """Inputs `x` and targets; NaN where there is no depth, -100 where there is no kind."""

    def __init__(self, count: int = SAMPLES) -> None:
        make = torch.Generator().manual_seed(1)
        x = torch.randn(count, 5, generator=make, dtype=torch.float64)
        kind = x[:, :3].argmax(1)
        has_depth = torch.rand(count, generator=make) < 0.6
        depth = 2 * x[:, 1:] + 0.3 * torch.randn(count, 4, generator=make, dtype=torch.float64)
        self.columns = {
            "x": x,
            "depth": depth.masked_fill(~has_depth[:, None], torch.nan),
            "has_depth": has_depth,
            "kind": kind.masked_fill(torch.rand(count, generator=make) < 0.3, -100),
            "weight": torch.rand(count, generator=make, dtype=torch.float64),
            "first": kind,
        }

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.columns["x"])

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return a sample."""
        return {name: column[index] for name, column in self.columns.items()}


def build_criterion(**changes: Any) -> MultiLoss:
    """Build the criterion, with other settings at the top of its config."""
    return lossreg.build_compound_loss_from_config(yaml.safe_load(CONFIG) | changes)


def build_optimizer(*modules: nn.Module) -> torch.optim.Optimizer:
    """Build the optimizer of a model and a criterion."""
    parameters = [parameter for module in modules for parameter in module.parameters()]
    return torch.optim.SGD(parameters, lr=LEARNING_RATE, momentum=MOMENTUM)


def loader(samples: int = SAMPLES, micro_batch: int = MICRO_BATCH) -> DataLoader[dict[str, Tensor]]:
    """Return the micro-batches of an epoch in their order."""
    return DataLoader(Samples(samples), batch_size=micro_batch)


def targets_of(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the targets of a micro-batch."""
    return {name: batch[name] for name in TARGETS}


def read_batch(model: nn.Module, batch: Mapping[str, Tensor]) -> tuple[Any, Any, int]:
    """Return predictions, targets and the number of samples, as `calibrate_norms` wants them."""
    return model(batch["x"]), targets_of(batch), len(batch["x"])


def calibrate(criterion: MultiLoss, model: nn.Module, batches: DataLoader[dict[str, Tensor]]) -> None:
    """Set the norms over the first samples."""
    calibrate_norms(criterion, model, batches, batch_fn=read_batch)


def train(
    accumulation: int,
    samples: int = SAMPLES,
    micro_batch: int = MICRO_BATCH,
    steps: int = STEPS,
    windowed: bool = True,
    every: int = EVERY,
    **changes: Any,
) -> Run:
    """Train in a plain loop.

    Args:
        accumulation: micro-batches of a step; one is a plain forward, more are a window.
        samples: of an epoch.
        micro_batch: samples of a micro-batch.
        steps: of the optimizer.
        windowed: whether micro-batches share a window; else the mean of their totals is taken, which is not the same.
        every: steps between two rows of the log.
        changes: of the config.
    """
    model, criterion = Network(), build_criterion(**changes)
    optimizer, batches = build_optimizer(model, criterion), loader(samples, micro_batch)
    calibrate(criterion, model, batches)
    rows: list[tuple[int, dict[str, float]]] = []
    with TermLog(criterion, lambda numbers, step: rows.append((step, dict(numbers))), every=every) as log:
        for step, (epoch, micro_batches) in enumerate(itertools.islice(_steps(batches, accumulation), steps)):
            time = {"epoch": epoch, "step": step}
            if accumulation == 1:
                criterion(model(micro_batches[0]["x"]), targets_of(micro_batches[0]), **time)[0].backward()
            elif windowed:
                with criterion.window([targets_of(batch) for batch in micro_batches]):
                    for batch in micro_batches:
                        criterion(model(batch["x"]), targets_of(batch), **time)[0].backward()
            else:
                for batch in micro_batches:
                    (criterion(model(batch["x"]), targets_of(batch), **time)[0] / len(micro_batches)).backward()
            optimizer.step()
            optimizer.zero_grad()
            log.step()
    return result(model, criterion, rows)


def _steps(
    batches: DataLoader[dict[str, Tensor]], accumulation: int
) -> Iterator[tuple[float, list[dict[str, Tensor]]]]:
    """Yield the micro-batches of each step, and the epoch at which the step begins: a fraction within an epoch."""
    for epoch in itertools.count():
        every = list(batches)
        for first in range(0, len(every), accumulation):
            yield epoch + first / len(every), every[first : first + accumulation]


def result(model: nn.Module, criterion: MultiLoss, log: list[tuple[int, dict[str, float]]]) -> Run:
    """Return what a run ended with."""
    parameters = {f"model.{name}": p.detach().clone() for name, p in model.named_parameters()}
    parameters |= {f"criterion.{name}": p.detach().clone() for name, p in criterion.named_parameters()}
    return Run(parameters, {name: value.clone() for name, value in criterion.state_dict().items()}, log)


def assert_same(found: Run, expected: Run, tolerance: float = 1e-6) -> None:
    """Compare two runs: parameters, the state of the criterion, and the log."""
    options = {"rtol": tolerance, "atol": tolerance}
    torch.testing.assert_close(found.parameters, expected.parameters, **options)
    torch.testing.assert_close(found.criterion, expected.criterion, **options)
    assert [step for step, _ in found.log] == [step for step, _ in expected.log]
    for (step, row), (_, wanted) in zip(found.log, expected.log, strict=True):
        assert row.keys() == wanted.keys(), step
        numbers = [torch.tensor([numbers[name] for name in wanted], dtype=torch.float64) for numbers in (row, wanted)]
        torch.testing.assert_close(*numbers, **options, msg=lambda text, step=step: f"the log of step {step}: {text}")


def assert_ranks_trained_as_one(folder: Path, accumulation: int, **changes: Any) -> None:
    """Compare what two ranks have saved as `RANK.pt` with one process that has the samples of both."""
    expected = train(accumulation, samples=48, micro_batch=2 * MICRO_BATCH, steps=30, every=1, **changes)
    for rank in range(2):
        assert_same(Run(*torch.load(folder / f"{rank}.pt", weights_only=True)), expected)
