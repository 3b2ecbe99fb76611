"""Norm calibration: one pass over some batches that sets the norm of every term, the same on all ranks."""

from __future__ import annotations

import copy
import math
import operator
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias, cast

import numpy as np
import torch
import torch.distributed as dist
from rich.console import Console
from rich.progress import Progress
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from lossreg.arguments import Arguments
from lossreg.composition.facts import facts
from lossreg.composition.multiloss import MultiLoss
from lossreg.composition.tracking import LEAST_NORM
from lossreg.errors import NormError, warn
from lossreg.losses.base import Loss
from lossreg.losses.elementwise import uncompiled
from lossreg.losses.nested import mapped
from lossreg.losses.norm import RunningNorm, gather_norms
from lossreg.losses.notes import note_no_gradients
from lossreg.losses.ranks import compare, several

BatchFunction: TypeAlias = Callable[[nn.Module, Any], tuple[Any, Any, int]]


def default_batch(model: nn.Module, batch: Any) -> tuple[Any, Any, int]:
    """Return `(pred_batch, gt_batch, samples)` of a mapping with `image`, or of an `(image, target)` pair.

    Raises:
        TypeError: the batch is neither; pass a `batch_fn`.
    """
    if isinstance(batch, Mapping) and "image" in batch:
        return model(batch["image"]), batch, len(batch["image"])
    if isinstance(batch, Sequence) and len(batch) == 2 and not isinstance(batch, str):
        return model(batch[0]), batch[1], len(batch[0])
    found = f"keys {sorted(map(str, batch))}" if isinstance(batch, Mapping) else type(batch).__name__
    raise TypeError(
        f"calibrate_norms: expected a batch that is a mapping with 'image' or an (image, target) pair, found {found}; "
        "pass batch_fn(model, batch) -> (pred_batch, gt_batch, samples) for another form"
    )


def calibrate_norms(
    multi_loss: MultiLoss,
    model: nn.Module,
    loader: Iterable[Any],
    *,
    max_samples: int | None = None,
    min_samples: int | None = None,
    batch_fn: BatchFunction = default_batch,
    mode: Literal["eval", "train"] = "eval",
    min_norm: float = 0.0,
    progress: bool = True,
) -> dict[str, float]:
    """Set every norm to the average raw value of its term over some samples.

    Nothing else moves: gradients are off unless a loss needs them (`Loss.needs_grad`) and none is kept, the modes,
    the model's buffers and the states of all random generators are put back, so that a calibrated run sees the same
    data order as one that is not. With a process group, every rank must call it: each goes over its own share of the
    samples, and all end with the same norms bit for bit. Where it raises, it raises on every rank and the norms are
    as they were.

    Args:
        multi_loss: the criterion.
        model: the network, wrapped (DistributedDataParallel) or not; batches go to its parameters' device.
        loader: batches.
        max_samples: stop after the batch that reaches this many, over all ranks; at least one batch is used.
            Default: the config's `normalization_params`, else 1000.
        min_samples: fewer over all ranks is an error; at most `max_samples`. Default: the config's, else 10 or
            `max_samples`, the lesser.
        batch_fn: `(model, batch) -> (pred_batch, gt_batch, samples)`.
        mode: the mode of the model meanwhile.
        min_norm: floor of every norm.
        progress: whether rank 0 shows a bar in a terminal.

    Returns:
        the norm of each normalised term by path (`group/term`).

    Raises:
        ArgumentError: with every argument that is of a wrong type or out of range.
        NormError: too few samples, or a term's average cannot divide it; names the terms and what to do.
        DistributedError: another rank failed, with its reason; or the ranks hold different criteria or were given
            different limits, with what differs.
    """
    ranks = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
    try:
        limits = _checked(multi_loss, model, loader, max_samples, min_samples, batch_fn, mode, min_norm, progress)
        means = _Means(multi_loss)
        with _unchanged(model, multi_loss, loader, mode):
            share = math.ceil(limits.max_samples / ranks)
            for batch, done in _batches(_apart(loader), share, progress):
                try:
                    pred_batch, gt_batch, samples = batch_fn(model, _to_device(batch, model))
                    means.add(pred_batch, gt_batch, samples)
                except Exception as error:
                    note_no_gradients(error)
                    raise
                done(samples)
    except Exception as failure:
        gather_norms({}, failure=failure, owner="calibrate_norms")  # the other ranks wait for this one, and are told
        raise
    return means.settle(limits, mode)


def needs_norms(multi_loss: MultiLoss, owner: str) -> bool:
    """Return whether a criterion normalises and has no norms yet: the same on all ranks; every rank must ask.

    Raises:
        DistributedError: the ranks hold different criteria, or some have norms and others have none.
    """
    if several():  # else a rank whose norms are there would leave the others waiting in their calibration
        compare(facts(multi_loss) | {"calibrated": str(bool(multi_loss.calibrated))}, owner)
    return multi_loss.normalize and not bool(multi_loss.calibrated)


@dataclass(frozen=True)
class _Limits:
    max_samples: int
    min_samples: int
    min_norm: float


def _checked(
    multi_loss: Any,
    model: Any,
    loader: Any,
    max_samples: Any,
    min_samples: Any,
    batch_fn: Any,
    mode: Any,
    min_norm: Any,
    progress: Any,
) -> _Limits:
    """Check the arguments, and return the limits with their defaults."""
    given = Arguments("calibrate_norms")
    if not isinstance(uncompiled(multi_loss), MultiLoss):
        given.refuse("multi_loss", "a MultiLoss", multi_loss, _inside(multi_loss))
    if not isinstance(model, nn.Module):
        given.wrong("model", "the network, a module", model)
    if not isinstance(loader, Iterable) and not hasattr(loader, "__getitem__"):
        given.wrong("loader", "an iterable of batches", loader)
    if not callable(batch_fn) or isinstance(batch_fn, type):
        given.wrong("batch_fn", "a function (model, batch) -> (pred_batch, gt_batch, samples)", batch_fn)
    params = multi_loss.normalization_params
    most, fewest = params.get("max_samples", 1000), params.get("min_samples")
    if max_samples is not None:
        most = given.count("max_samples", max_samples, "a number of samples above 0")
    if min_samples is not None:
        fewest = given.count("min_samples", min_samples, "a number of samples, 0 or more", least=0)
    if fewest is None:
        fewest = min(10, most)
    elif fewest > most > 0:
        given.report(
            "min_samples", f"expected at most max_samples, which is {most}, found {fewest}", "lower it", "conflict"
        )
    given.choice("mode", mode, ("eval", "train"))
    min_norm = given.number("min_norm", min_norm, "a finite number of 0 or more", lambda n: 0.0 <= n < math.inf)
    given.flag("progress", progress)
    given.done()
    return _Limits(most, fewest, min_norm)


def _inside(wrapped: Any) -> str:
    """Say where a `MultiLoss` is in what was given for one."""
    if isinstance(wrapped, nn.Module):
        paths = [path for path, module in wrapped.named_modules() if isinstance(module, MultiLoss)]
        return f"it holds one: give .{paths[0]}" if paths else ""
    return ""


class _Means:
    """Averages beside the norms, which are set at the end: not before all is well, and not by DDP's broadcasts."""

    def __init__(self, multi_loss: MultiLoss) -> None:
        self.multi_loss = multi_loss
        self.by_loss: defaultdict[int, RunningNorm] = defaultdict(RunningNorm)
        self.samples = 0

    @torch.no_grad()
    def add(self, pred_batch: Any, gt_batch: Any, samples: int) -> None:
        for loss, value, part in list(self.multi_loss.raw_values(pred_batch, gt_batch)):
            self.by_loss[id(loss)].to(value.device).record(value, samples, part)
        self.samples += operator.index(samples)

    def settle(self, limits: _Limits, mode: str) -> dict[str, float]:
        """Agree with the other ranks, check, and set the norms; or raise alike on all ranks.

        Each rank keeps the sum and count of all ranks: whichever rank's state DistributedDataParallel or a
        checkpoint copies to the others, a later sync leaves the norms as they are.
        """
        norms = {path: cast(Loss, term.loss) for path, term in self.multi_loss.leaves()}  # batches may bring some
        fresh = {path: self.by_loss[id(loss)] for path, loss in norms.items()}
        own = {"mode of calibrate_norms": mode, **{key: repr(limit) for key, limit in asdict(limits).items()}}
        averages, total = gather_norms(
            fresh, facts=facts(self.multi_loss) | own, samples=self.samples, owner="calibrate_norms"
        )
        if total < limits.min_samples:
            raise NormError(
                f"calibrate_norms: the loader gave {total} samples, at least {limits.min_samples} are needed; "
                "lower min_samples or give more data"
            )
        normalized = [path for path, term in self.multi_loss.leaves() if term.normalize]
        values = {path: _floored(averages[path].norm, limits.min_norm) for path in normalized}
        _check(values)
        self._warn_unseen([path for path in normalized if averages[path].count == 0])
        for path, value in values.items():
            norm, count = norms[path], averages[path].count
            norm.norm.fill_(value)
            norm.norm_sum.fill_(value * count)
            norm.norm_count.fill_(count)
        self._mark(self.multi_loss)
        return values

    def _warn_unseen(self, unseen: list[str]) -> None:
        if unseen and self.samples:
            warn(f"calibrate_norms: no batch had what {', '.join(map(repr, unseen))} needs; its norm is 1")

    def _mark(self, multi_loss: MultiLoss) -> None:
        for module in multi_loss.modules():
            if isinstance(module, MultiLoss):
                module.calibrated.fill_(True)


def _floored(value: float, floor: float) -> float:
    """Return a value or the floor, if there is one, in the precision that a norm is kept in."""
    return float(np.float32(max(value, floor) if floor > 0 else value))


def _check(values: Mapping[str, float]) -> None:
    bad = {path: value for path, value in values.items() if not (math.isfinite(value) and value >= LEAST_NORM)}
    if bad:
        listed = ", ".join(f"{path!r} (average {value:.6g})" for path, value in bad.items())
        advice = "Set `normalize: false` for that term, or give a floor: min_norm"
        if not all(map(math.isfinite, bad.values())):
            advice = (
                "Give the term a `mask` where labels are missing; otherwise see with `lossreg show` what its loss "
                "expects, such as logits or probabilities. No floor mends an average that is not finite"
            )
        raise NormError(
            f"calibrate_norms: cannot divide by the average of {listed}; expected a finite number of at least "
            f"{LEAST_NORM:g}. {advice}"
        )


def _batches(loader: Iterable[Any], share: int, progress: bool) -> Iterator[tuple[Any, Callable[[int], None]]]:
    """Yield batches until `share` samples are done, and a function to say how many each had."""
    first_rank = not (dist.is_available() and dist.is_initialized()) or dist.get_rank() == 0
    console = Console(stderr=True)
    console.quiet = not (progress and first_rank and console.is_terminal)
    with Progress(console=console, disable=console.quiet, transient=True) as bar:
        task = bar.add_task("calibrating norms", total=share)
        seen = 0

        def done(samples: int) -> None:
            nonlocal seen
            seen += samples
            bar.update(task, completed=min(seen, share))

        for batch in loader:
            yield batch, done
            if seen >= share:
                return


@contextmanager
def _unchanged(model: nn.Module, multi_loss: MultiLoss, loader: Iterable[Any], mode: str) -> Iterator[None]:
    """Put modes, the model's buffers and every random state back; no forward of the model waits for other ranks."""
    modes = {module: module.training for root in (model, multi_loss) for module in root.modules()}
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()} if mode == "train" else {}
    generators = {id(g): g for g in _generators(loader)}.values()
    states = [(g, g.get_state()) for g in generators]
    python_state, numpy_state = random.getstate(), np.random.get_state()
    # a rank that has no batch left, or failed, takes no part in broadcasts of buffers
    broadcasts = {m: m.require_forward_param_sync for m in model.modules() if isinstance(m, DistributedDataParallel)}
    needs_grad = any(cast(Loss, term.loss).needs_grad for _, term in multi_loss.leaves())
    with torch.random.fork_rng(), torch.set_grad_enabled(needs_grad):
        try:
            model.train(mode == "train")
            multi_loss.eval()
            for wrapped in broadcasts:
                wrapped.require_forward_param_sync = False
            yield
        finally:
            for module, training in modes.items():
                module.training = training
            with torch.no_grad():
                for name, buffer in model.named_buffers():
                    if name in buffers:
                        buffer.copy_(buffers[name])
            for wrapped, broadcast in broadcasts.items():
                wrapped.require_forward_param_sync = broadcast
            _reshard(model)
            for generator, state in states:
                generator.set_state(state)
            random.setstate(python_state)
            np.random.set_state(numpy_state)


def _reshard(model: nn.Module) -> None:
    """Shard again what FSDP2 leaves whole after a forward without a backward; an optimizer made then trains copies."""
    if not (dist.is_available() and dist.is_initialized()):
        return
    from torch.distributed import fsdp

    for module in model.modules():
        if isinstance(module, getattr(fsdp, "FSDPModule", ())):  # there since torch 2.6
            module.reshard()  # type: ignore[operator]


def _apart(loader: Iterable[Any]) -> Iterable[Any]:
    """Return a loader of the same batches that leaves nothing of what the run keeps.

    Workers that persist would begin the run in the middle of their random numbers. A loader of Accelerate notes that
    it is being read, and counts the epochs that it seeds its order by; what it reads from does not.
    """
    loader = getattr(loader, "base_dataloader", loader)
    if isinstance(loader, DataLoader) and loader.persistent_workers:
        own = copy.copy(loader)
        own._iterator = None
        return own
    return loader


def _generators(loader: Any) -> Iterator[torch.Generator]:
    """Yield the generators of a loader, and of its samplers at any depth."""
    for name in ("base_dataloader", "sampler", "batch_sampler"):
        if (inner := getattr(loader, name, None)) is not None:
            yield from _generators(inner)
    if isinstance(generator := getattr(loader, "generator", None), torch.Generator):
        yield generator


def _to_device(batch: Any, model: nn.Module) -> Any:
    """Move the tensors of a batch, at any depth, to the device of the model's first parameter."""
    parameter = next(model.parameters(), None)
    return batch if parameter is None else mapped(batch, lambda t: t.to(parameter.device, non_blocking=True))
