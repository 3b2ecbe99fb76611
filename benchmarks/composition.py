"""Measure the overhead of MultiLoss, compared with a hand-written loop, and the cost of a schedule."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from measure import Effort, interleaved
from results import BOTH, FORWARD, Row, timed
from scipy.interpolate import interp1d
from torch import Tensor

from lossreg import Loss, MultiLoss

VALUES, THRESHOLDS, EPOCH = [0.0, 1.0, 0.5], [0, 10, 20], 5.0
Outputs = tuple[Tensor, dict[str, Tensor], dict[str, Any]]


class Trivial(Loss):
    """A loss that only sums four numbers, so that the rest is timed."""

    requires = ("pred.x",)

    def compute(self, pred_batch: Mapping[str, Tensor], gt_batch: Any) -> Tensor:  # noqa: ARG002
        """Return the sum."""
        return pred_batch["x"].sum()


def trivial(terms: int, *, scheduled: bool = False) -> MultiLoss:
    """Return a criterion of trivial terms with constant or scheduled weights."""
    weight: Any = VALUES if scheduled else 0.5
    losses = [Trivial(f"term{i}") for i in range(terms)]
    return MultiLoss(losses, [weight] * terms, THRESHOLDS if scheduled else None)


def by_hand(multi: MultiLoss, epoch: float) -> Callable[[Any, Any], Outputs]:
    """Return a hand-written loop over the same losses with precomputed weights."""
    losses = [(term.name, term.loss, term.schedule(epoch)) for term in multi.terms]

    def loop(pred_batch: Any, gt_batch: Any) -> Outputs:
        total: Any = 0.0
        values, extra_info = {}, {}
        for name, loss, weight in losses:
            value, extra_info[name] = loss(pred_batch, gt_batch)
            total = total + weight * value
            values[name] = value.detach()
        return total, values, extra_info

    return loop


def by_functions(multi: MultiLoss, epoch: float) -> Callable[[Any, Any], Outputs]:
    """Return the same loop over functions, without the checks and the extra info of a `Loss`."""
    losses = [(term.name, torch.ones(()), term.schedule(epoch)) for term in multi.terms]

    def loop(pred_batch: Any, gt_batch: Any) -> Outputs:  # noqa: ARG001
        total: Any = 0.0
        values: dict[str, Tensor] = {}
        for name, norm, weight in losses:
            value = pred_batch["x"].sum() / norm
            total = total + weight * value
            values[name] = value.detach()
        return total, values, {}

    return loop


def overhead(terms: int, scheduled: bool, effort: Effort) -> list[Row]:
    """Time a MultiLoss and the two loops, which return the same totals and values."""
    x = torch.rand(4, requires_grad=True)
    batch: tuple[Any, Any] = ({"x": x}, {})
    multi = trivial(terms, scheduled=scheduled)
    hand, functions = by_hand(multi, EPOCH), by_functions(multi, EPOCH)
    sides: dict[str, Callable[[], Outputs]] = {
        "MultiLoss": lambda: multi(*batch, epoch=EPOCH),
        "a sum by hand over the same losses": lambda: hand(*batch),
        "a sum by hand over functions": lambda: functions(*batch),
    }
    expected = sides["MultiLoss"]()
    for side in sides.values():
        total, values, _ = side()
        torch.testing.assert_close((total, values), expected[:2])

    def backward(side: Callable[[], Outputs]) -> Callable[[], object]:
        return lambda: torch.autograd.grad(side()[0], x)

    setting = {"terms": terms, "weights": "scheduled" if scheduled else "constant", "threads": 1}
    bar = "composition scheduled" if scheduled else "composition"
    rows = []
    for phase in (FORWARD, BOTH):
        times = interleaved({n: backward(s) if phase == BOTH else s for n, s in sides.items()}, effort, threads=1)
        for name in list(sides)[1:]:
            held = bar if phase == BOTH and terms == 20 and name.endswith("losses") else ""
            rows.append(timed("composition", "MultiLoss", name, setting, phase, times["MultiLoss"], times[name], held))
    return rows


def schedule(effort: Effort) -> list[Row]:
    """Time one scheduled weight at the same epoch, and at an epoch that changes at each call."""
    ours = trivial(1, scheduled=True).schedules[0]
    theirs = interp1d(THRESHOLDS, VALUES, bounds_error=False, fill_value=(VALUES[0], VALUES[-1]))
    turn = [0.0]

    def moving(function: Callable[[float], Any]) -> Callable[[], object]:
        def call() -> object:
            turn[0] = (turn[0] + 0.37) % 25
            return function(turn[0])

        return call

    sides = {
        "an epoch already seen": (lambda: ours(EPOCH), lambda: theirs(EPOCH), "schedule"),
        "an epoch that changes": (moving(ours), moving(theirs), ""),
    }
    rows = []
    for name, (own, other, bar) in sides.items():
        times = interleaved({"ours": own, "theirs": other}, effort)
        setting = {"epoch": name}
        rows.append(
            timed(
                "composition", "a scheduled weight", "scipy interp1d", setting, "call",
                times["ours"], times["theirs"], bar,
            )
        )  # fmt: skip
    return rows


def cases(effort: Effort) -> Iterator[tuple[str, Callable[[], list[Row]]]]:
    """Yield the comparisons with labels for the progress bar."""
    for scheduled in (False, True):
        for terms in (1, 5, 20, 100) if effort.sweeps else (20,):
            label = f"{terms} {'scheduled' if scheduled else 'constant'} terms"
            yield label, lambda t=terms, s=scheduled: overhead(t, s, effort)
    yield "a schedule", lambda: schedule(effort)
