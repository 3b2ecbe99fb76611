"""What each term of a criterion does on one batch: values, weights, gradients, and which terms pull apart."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from lossreg.composition.call import records_kept
from lossreg.composition.multiloss import MultiLoss
from lossreg.composition.record import Record
from lossreg.composition.weighting.base import Weighting
from lossreg.composition.weighting.shared import gradients
from lossreg.losses.base import Loss
from lossreg.losses.elementwise import uncompiled
from lossreg.training.findings import Diagnosis, TermDiagnosis


def diagnose(
    multi_loss: MultiLoss,
    pred_batch: Any,
    gt_batch: Any,
    parameters: nn.Module | Iterable[Tensor],
    epoch: float | None = None,
    *,
    step: float | None = None,
    normalize: bool = True,
) -> Diagnosis:
    """Take one batch apart: value, norm, weight, share and gradient of each term, and the cosines between them.

    Nothing moves: no norm, no state of a weighting, no `.grad`, no random generator, no mode; the graph of the
    predictions is kept, so that a backward can follow. It takes one backward pass a term. Under a process
    group it looks at this rank's batch alone, and may be called on one rank.

    Args:
        multi_loss: the criterion.
        pred_batch: predictions on their graph, as for the criterion.
        gt_batch: targets, as for the criterion.
        parameters: where gradients are compared: those of the last layer that all terms share tell most for
            least; or a module, whose parameters are taken.
        epoch: for scheduled weights.
        step: for schedules of `unit: step`.
        normalize: whether values are divided by their norms, as in the criterion's forward.

    Returns:
        a `Diagnosis`: print it, or see `table`, `to_json`, `plot`.

    Raises:
        ValueError: no parameter needs a gradient, or no term depends on any of them; or a term is scheduled and
            `epoch` (or `step`) is not given.
        BatchError: a batch is not what a term or a preprocess needs.
    """
    multi_loss = uncompiled(multi_loss)
    given = parameters.parameters() if isinstance(parameters, nn.Module) else parameters
    shared = [parameter for parameter in given if parameter.requires_grad]
    if not shared:
        raise ValueError("diagnose: parameters holds none that needs a gradient; give those that the terms share")
    multi_loss.learn_members(pred_batch, gt_batch)
    with observed(multi_loss) as values, torch.enable_grad():
        total, _, _ = multi_loss(pred_batch, gt_batch, normalize, epoch, step)
        record = cast(Record, multi_loss.last_record)
        rows = _gradients([values[path] for path in record], shared)
    coefficients = {path: float(term.weight * term.coefficient) for path, term in record.items()}
    norms = {path: float(term.norm) for path, term in record.items()}
    contributions = {path: coefficients[path] * float(term.value) / norms[path] for path, term in record.items()}
    whole = sum(map(abs, contributions.values()))
    compared = _compare(rows, [coefficients[path] / norms[path] for path in record])
    terms = [
        TermDiagnosis(
            name=path,
            value=float(term.value),
            norm=norms[path],
            weight=float(term.weight),
            coefficient=coefficients[path],
            contribution=contributions[path],
            share=contributions[path] / whole if whole else 0.0,
            gradient_norm=compared.lengths[i],
            alignment=compared.alignments[i],
        )
        for i, (path, term) in enumerate(record.items())
    ]
    absent = tuple(path for path, _ in multi_loss.leaves() if path not in record)
    total_value = float(total.detach())
    return Diagnosis(total_value, compared.length, tuple(terms), compared.cosines, absent, epoch, step)


# --- looking on -----------------------------------------------------------------------------------


class _Observing(threading.local):
    """Whether this thread computes terms only to look at them."""

    now: bool = False


_observing = _Observing()


def is_observed() -> bool:
    """Return whether this thread computes terms only to look at them, so that a log leaves the forward out."""
    return _observing.now


@contextmanager
def observed(multi_loss: MultiLoss) -> Iterator[dict[str, Tensor]]:
    """Catch the raw value of each term on its graph in a forward, and put back all that such a forward moves.

    Meanwhile a term of weight 0 is on the graph, one that is not finite is let through, and states stand still.
    """
    values: dict[str, Tensor] = {}
    kept = {(module, name): buffer for module in multi_loss.modules() for name, buffer in module._buffers.items()}
    before = {place: buffer.clone() for place, buffer in kept.items() if buffer is not None}
    composed = [module for module in multi_loss.modules() if isinstance(module, (MultiLoss, Weighting))]
    settings = [(module, dict(_settings(module))) for module in composed]
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()  # type: ignore[no-untyped-call]
    with ExitStack() as stack, torch.random.fork_rng(devices), records_kept(multi_loss):
        for path, term in multi_loss.leaves():
            handle = cast(Loss, term.loss).register_forward_hook(_catch(path, values))
            stack.callback(handle.remove)
        stack.callback(_restore, kept, before)
        stack.callback(setattr, _observing, "now", _observing.now)
        _observing.now = True
        for module in composed:
            if isinstance(module, MultiLoss):  # an open window waits for the forwards of the training alone
                stack.callback(setattr, module._current, "window", module._current.window)
                module._current.window = None
        for module, found in settings:
            stack.callback(_set, module, found)
            _set(module, {"training": False, "zero_weight": "keep", "on_nonfinite": "ignore"}, only=found)
        yield values


def _catch(path: str, values: dict[str, Tensor]) -> Any:
    """Return a hook that takes a term's value aside."""

    def hook(_module: nn.Module, _args: Any, output: tuple[Tensor, Any]) -> None:
        values[path] = output[0]

    return hook


def _settings(module: nn.Module) -> Iterator[tuple[str, Any]]:
    for name in ("training", "zero_weight", "on_nonfinite"):
        if hasattr(module, name):
            yield name, getattr(module, name)


def _set(module: nn.Module, values: Mapping[str, Any], only: Iterable[str] | None = None) -> None:
    for name in values if only is None else only:
        setattr(module, name, values[name])


def _restore(kept: Mapping[Any, Tensor | None], before: Mapping[Any, Tensor]) -> None:
    """Put back the buffers that have changed, and those alone: a graph of the caller's may hold the others."""
    for place, buffer in kept.items():
        module, name = place
        if module._buffers.get(name) is not buffer:
            module._buffers[name] = buffer
        if buffer is not None and not torch.equal(buffer, before[place]):
            with torch.no_grad():
                buffer.copy_(before[place])


# --- gradients ------------------------------------------------------------------------------------


def _gradients(values: Sequence[Tensor], shared: Sequence[Tensor]) -> Tensor:
    """Return (k, p) gradients of the raw values by all shared parameters, those of no dependence zero."""
    rows = []
    reached = False
    for value in values:
        found = gradients(value, shared)
        reached = reached or any(gradient is not None for gradient in found)
        rows.append(torch.cat([_flat(g, p, shared[0].device) for g, p in zip(found, shared, strict=True)]))
    if not reached:
        raise ValueError(
            "diagnose: no term depends on any of the parameters; compute the predictions with gradients, from "
            "the model that they belong to"
        )
    return torch.stack(rows)


def _flat(gradient: Tensor | None, parameter: Tensor, device: torch.device) -> Tensor:
    dtype = torch.promote_types(parameter.dtype, torch.float32)
    if gradient is None:
        return torch.zeros(parameter.numel(), dtype=dtype, device=device)
    return (gradient.to_dense() if gradient.is_sparse else gradient).reshape(-1).to(device, dtype)


@dataclass(frozen=True)
class _Compared:
    length: float  # of the gradient of the total
    lengths: list[float]  # of the gradient of each contribution
    alignments: list[float | None]
    cosines: tuple[tuple[float | None, ...], ...]


def _compare(rows: Tensor, derivatives: Sequence[float]) -> _Compared:
    """Measure (k, p) gradients of raw values against one another, and those of the contributions."""
    factors = torch.tensor(derivatives, dtype=rows.dtype, device=rows.device)
    lengths = torch.linalg.vector_norm(rows, dim=1)
    signs = torch.where(factors < 0, -1.0, 1.0)
    unit = rows * torch.where(lengths > 0, signs / lengths, 0.0)[:, None]
    directions = [row if 0 < size < math.inf else None for row, size in zip(unit, lengths.tolist(), strict=True)]
    own = factors.abs() * lengths
    total = (unit * own[:, None])[own != 0].sum(0)  # without terms of weight 0
    length = float(torch.linalg.vector_norm(total))
    along = total / length if length else None
    every = range(len(directions))
    return _Compared(
        length,
        own.tolist(),
        [_cosine(row, along) for row in directions],
        # the greater index first, so that the matrix is symmetric to the last bit
        tuple(tuple(_cosine(directions[max(i, j)], directions[min(i, j)]) for j in every) for i in every),
    )


def _cosine(a: Tensor | None, b: Tensor | None) -> float | None:
    """Return the cosine between unit vectors; None where there is none."""
    if a is None or b is None:
        return None
    cosine = float(a @ b)
    return max(-1.0, min(cosine, 1.0)) if math.isfinite(cosine) else None
