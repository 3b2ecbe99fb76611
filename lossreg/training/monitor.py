"""A monitor: every so many steps it looks at each term of a criterion, and says what goes wrong."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lossreg.arguments import Arguments
from lossreg.composition.multiloss import read_criterion
from lossreg.composition.record import Record
from lossreg.composition.weighting.shared import gradients
from lossreg.losses.nested import mapped
from lossreg.training.diagnosis import is_observed, observed
from lossreg.training.log import is_first, writer_of
from lossreg.training.means import TermMeans, add_over_ranks, leaves
from lossreg.training.monitor_report import MonitorReport, shares
from lossreg.training.verdicts import Sample, TermSample, Verdict, verdicts

_log = logging.getLogger("lossreg")
_JUDGED = 4, 8  # samples: the first and the last


class Monitor:
    """Watch the terms of a criterion during training, and say once what is wrong with one.

    At every so many forwards with gradients it computes the terms once more, on detached predictions, and the gradient
    of each at the predictions; the network is not touched. What it finds is a warning of the logger `lossreg`, on
    rank 0, and is in `verdicts`: a term that is *dead* (no gradient though there are labels), *dominant* (99.9 % of
    all gradients), *in conflict* with another, *counted twice*, *stuck*, *never present*, *not finite*, or whose *norm
    explodes* or is of other data. All ranks look at the gradients of all, and come to the same verdicts.
    A copy of the criterion, by pickle or `copy.deepcopy`, has a copy of the monitor, which writes nothing.

    Args:
        criterion: a `MultiLoss`, or what `torch.compile` made of it.
        every: forwards in training between two looks; the first forward is looked at. On several ranks all of them
            must make the same number of forwards, as they do under DistributedDataParallel.
        writer: where to write `shares/{term}`, the share that a term has of the lengths of all gradients at the
            predictions; as for `TermLog`. By default nowhere.

    Attributes:
        verdicts: what was found so far, each once.
        samples: what it saw at each look.

    Raises:
        ArgumentError: `criterion` is no `MultiLoss`, or `every` is no number of steps.
    """

    def __init__(self, criterion: nn.Module, *, every: int = 50, writer: Any = None) -> None:
        given = Arguments("Monitor")
        multi_loss = read_criterion(given, criterion)
        self.every = given.count("every", every, "a number of steps")
        self._write = writer_of(given, writer) if writer is not None and is_first() else None
        given.done()
        self.criterion = multi_loss
        self.verdicts: list[Verdict] = []
        self.samples: list[Sample] = []
        self._device = self.criterion.calibrated.device
        self._means = TermMeans(self.criterion, ["values"])
        self._forwards = 0
        self._hook = criterion.register_forward_hook(self._take, with_kwargs=True)

    @property
    def _paths(self) -> tuple[str, ...]:
        return tuple(path for path, _ in self.criterion.leaves())  # a group may get members

    def close(self) -> None:
        """Stop watching."""
        self._hook.remove()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_write": None}

    def __enter__(self) -> Monitor:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _take(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], _output: Any) -> None:
        record = None if torch.compiler.is_compiling() or is_observed() else self.criterion.last_record
        if record is None or not (torch.is_grad_enabled() and self.criterion.training):
            return
        number, self._forwards = self._forwards, self._forwards + 1
        self._means.add(record, 1)
        self._means.close_step()
        if number % self.every:
            return
        names = ("pred_batch", "gt_batch", "normalize")
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        self._judge(self._look(number, record, given["pred_batch"], given["gt_batch"], given.get("normalize", True)))

    def _judge(self, sample: Sample) -> None:
        """Add a sample, and say what it shows for the first time."""
        self.samples.append(sample)
        if self._write is not None:
            self._write({f"shares/{path}": share for path, share in shares(sample).items()}, sample.step)
        first, last = _JUDGED
        judged = [*self.samples[:first], *self.samples[first:][-last:]]
        known = {(verdict.kind, verdict.terms) for verdict in self.verdicts}
        for verdict in verdicts(judged, self._paths):
            if (verdict.kind, verdict.terms) not in known:
                self.verdicts.append(verdict)
                if is_first():
                    _log.warning("%s", verdict)

    def report(self) -> MonitorReport:
        """Return what was seen so far: print it, or see `to_json` and `plot`."""
        return MonitorReport(self._paths, tuple(self.samples), tuple(self.verdicts))

    # --- one look

    def _look(self, number: int, record: Record, pred_batch: Any, gt_batch: Any, normalize: bool) -> Sample:
        """Return what the terms of a batch are, over all ranks, by two collectives, each with one read of the host."""
        inputs, paths = _Inputs(), self._paths
        normalized = {path: is_normalized for path, is_normalized, _ in leaves(self.criterion)}
        detached = inputs.detach(pred_batch)
        with observed(self.criterion) as values, torch.enable_grad():
            self.criterion(detached, gt_batch, normalize, record.epoch, record.step)
            nothing: Sequence[Tensor | None] = [None] * len(inputs.leaves)
            known = values if inputs.leaves else {}
            found = [gradients(known[path], inputs.leaves) if path in known else nothing for path in paths]
        numbers = [_numbers(record, path, self._device) for path in paths]
        seen = torch.stack([inputs.seen_by(row, numbers[0]) for row in found])
        table = torch.cat([torch.stack(numbers), seen, _gram(found, numbers[0])], 1)
        rows = add_over_ranks(table).tolist()
        means = {path: mean for (_, path), mean in self._means.take(add_over_ranks).items() if path}
        terms = {
            path: _term(row, math.sqrt(row[_NUMBERS + i]), normalize and normalized[path])
            for i, (path, row) in enumerate(zip(paths, rows, strict=True))
            if row[0]
        }
        return Sample(number, terms, means, dict(_cosines(paths, [row[_NUMBERS:] for row in rows])))


class _Inputs:
    """Predictions cut off from the network, as the leaves of a graph of their own.

    Attributes:
        leaves: the tensors that have gradients.
        attached: for each whether it depends on a parameter of the network.
    """

    def __init__(self) -> None:
        self.leaves: list[Tensor] = []
        self.attached: list[bool] = []

    def detach(self, batch: Any) -> Any:
        """Return a copy of a batch whose tensors are leaves."""
        return mapped(batch, self._leaf)

    def _leaf(self, tensor: Tensor) -> Tensor:
        if not (tensor.is_floating_point() or tensor.is_complex()):
            return tensor
        leaf = tensor.detach().requires_grad_()
        self.leaves.append(leaf)
        self.attached.append(tensor.requires_grad)
        return leaf

    def seen_by(self, gradients: Sequence[Tensor | None], like: Tensor) -> Tensor:
        """Return of a term with such gradients whether it reaches a parameter, and whether all it sees is constant."""
        places = [i for i, gradient in enumerate(gradients) if gradient is not None and gradient.numel()]
        reached = like.new_tensor(float(any(self.attached[i] for i in places)))
        constant = [self.leaves[i].detach() for i in places if not self.leaves[i].is_complex()]
        if not constant or len(constant) < len(places):
            return torch.stack([reached, torch.zeros_like(reached)])
        same = torch.stack([(leaf.amax() == leaf.amin()) & (leaf.numel() > 1) for leaf in constant])
        return torch.stack([reached, same.all().to(like)])


_NUMBERS = 8
"""Columns before those of the products of gradients."""


def _numbers(record: Record, path: str, device: torch.device) -> Tensor:
    """Return six numbers: whether a term was there, whether it was labelled, value, norm, weight and factor."""
    dtype = torch.float32 if device.type == "mps" else torch.float64
    one = torch.ones((), dtype=dtype, device=device)
    term = record.get(path)
    if term is None:
        return torch.zeros(_NUMBERS - 2, dtype=dtype, device=device)
    labelled = one if term.count is None else (term.count > 0)
    factor = term.weight * term.coefficient / term.norm
    return torch.stack([n.to(one) for n in (one, labelled, term.value, term.norm, term.weight, factor)])


def _gram(gradients: Sequence[Sequence[Tensor | None]], like: Tensor) -> Tensor:
    """Return (k, k) the scalar products of the gradients of k terms, over all leaves."""
    products = like.new_zeros(len(gradients), len(gradients))
    for of_leaf in zip(*gradients, strict=True):
        places = [i for i, gradient in enumerate(of_leaf) if gradient is not None]
        if places:
            rows = torch.stack([_flat(gradient) for gradient in of_leaf if gradient is not None])
            at = torch.tensor(places, device=like.device)
            products[at[:, None], at] += (rows @ rows.T).to(like)
    return products


def _flat(gradient: Tensor) -> Tensor:
    """Return a gradient as a vector, in float32 where it is half precision."""
    real = torch.view_as_real(gradient) if gradient.is_complex() else gradient
    return real.reshape(-1).to(torch.promote_types(real.dtype, torch.float32))


def _term(row: Sequence[float], length: float, normalized: bool) -> TermSample:
    """Return a term from sums over the ranks that had it."""
    ranks, labelled, value, norm, weight, factor, reached, constant = row[:_NUMBERS]
    return TermSample(
        value=value / ranks,
        is_labelled=labelled > 0,
        norm=norm / ranks if normalized else None,
        weight=weight / ranks,
        factor=factor / ranks,
        length=length,
        reached=reached > 0,
        is_constant=constant == ranks,
    )


def _cosines(paths: Sequence[str], products: Sequence[Sequence[float]]) -> Iterator[tuple[tuple[str, str], float]]:
    """Yield the cosine of each pair of gradients that have lengths."""
    for i, first in enumerate(paths):
        for j in range(i + 1, len(paths)):
            whole = math.sqrt(products[i][i]) * math.sqrt(products[j][j])
            if 0 < whole < math.inf:
                yield (first, paths[j]), products[i][j] / whole
