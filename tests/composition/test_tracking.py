"""Norms that go on during training."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from lossreg import Loss, MultiLoss
from lossreg.composition.tracking import track_norms
from lossreg.losses.norm import RunningNorm


class Log(Loss):
    """`log` of one prediction's mean."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.requires = (f"pred.{name}",)

    def compute(self, pred_batch: Any, gt_batch: Any) -> Tensor:
        return self.read(pred_batch, gt_batch, self.requires[0]).log().mean()


def make(**options: Any) -> MultiLoss:
    return MultiLoss([Log("a"), Log("b")], [1.0, 2.0], **options)


def batch(a: float, b: float) -> dict[str, Tensor]:
    return {name: torch.full((4,), value, requires_grad=True) for name, value in (("a", a), ("b", b))}


def test_they_follow_an_exponential_average_of_raw_values() -> None:
    multi_loss = make(track_norms="running", norm_momentum=0.25)
    value = torch.tensor(2.0).log().item()
    multi_loss(batch(2.0, 3.0), {})
    assert multi_loss.loss_funcs[0].norm.item() == pytest.approx(value)
    multi_loss(batch(4.0, 3.0), {})
    assert multi_loss.loss_funcs[0].norm.item() == pytest.approx(value + 0.25 * value)


def test_a_batch_is_divided_by_the_norm_before_it() -> None:
    multi_loss = make(track_norms="running", unnormalized=["b"])
    first = multi_loss(batch(4.0, 3.0), {})[1]["a"].item()
    assert first == pytest.approx(torch.tensor(4.0).log().item())
    assert multi_loss(batch(4.0, 3.0), {})[1]["a"].item() == pytest.approx(1.0)
    assert multi_loss.loss_funcs[1].norm.item() == 1.0


@pytest.mark.parametrize("bad", [-1.0, 1.0, 0.5])
def test_what_cannot_divide_leaves_the_norm_alone(bad: float) -> None:
    multi_loss = make(track_norms="running")
    multi_loss(batch(2.0, 3.0), {})
    before = multi_loss.loss_funcs[0].norm.item()
    multi_loss(batch(bad, 3.0), {})
    assert multi_loss.loss_funcs[0].norm.item() == before


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
def test_a_value_that_is_not_finite_leaves_the_norm_alone(bad: float) -> None:
    norm = RunningNorm()
    for value in (2.0, bad):
        track_norms([norm], {0: torch.tensor(value)}, 0.5)
        assert (norm.norm.item(), norm.norm_sum.item()) == (2.0, 2.0)


def test_eval_and_no_grad_leave_them_alone() -> None:
    multi_loss = make(track_norms="running")
    with torch.no_grad():
        multi_loss(batch(2.0, 3.0), {})
    multi_loss.eval()(batch(2.0, 3.0), {})
    assert multi_loss.loss_funcs[0].norm.item() == 1.0


def test_a_momentum_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"norm_momentum: expected a number above 0 and at most 1, found 0"):
        make(norm_momentum=0)


def test_over_ranks_they_follow_the_mean_that_counts_weigh(on_ranks: Any) -> None:
    norms = [[RunningNorm(), RunningNorm()] for _ in range(2)]
    given = [({0: 2.0, 1: 5.0}, {0: 1}), ({0: 6.0}, {0: 3})]

    def track(rank: int) -> None:
        values, counts = given[rank]
        track_norms(norms[rank], {i: torch.tensor(value) for i, value in values.items()}, 0.5, counts)

    assert on_ranks(partial(track, 0), partial(track, 1)) == [None, None]
    for of_rank in norms:
        assert [norm.norm.item() for norm in of_rank] == [(2 * 1 + 6 * 3) / 4, 5.0]


@pytest.mark.parametrize("bad", [-1.0, 0.0, math.inf, math.nan])
def test_over_ranks_what_cannot_divide_counts_for_nothing(on_ranks: Any, bad: float) -> None:
    norms = [RunningNorm(), RunningNorm()]
    calls = zip(norms, (3.0, bad), strict=True)
    on_ranks(*(partial(track_norms, [norm], {0: torch.tensor(value)}, 0.5) for norm, value in calls))
    assert [norm.norm.item() for norm in norms] == [3.0, 3.0]
    on_ranks(*(partial(track_norms, [norm], {0: torch.tensor(bad)}, 0.5) for norm in norms))
    assert [norm.norm.item() for norm in norms] == [3.0, 3.0]


def test_a_rank_without_terms_takes_the_norms_of_the_others(on_ranks: Any) -> None:
    norms = [RunningNorm(), RunningNorm()]
    values: list[dict[int, Tensor]] = [{0: torch.tensor(4.0)}, {}]
    on_ranks(*(partial(track_norms, [norm], own, 0.5) for norm, own in zip(norms, values, strict=True)))
    assert [norm.norm.item() for norm in norms] == [4.0, 4.0]


@pytest.mark.parametrize("count", [0, torch.tensor(0.0)])
def test_a_value_over_nothing_leaves_its_norm_alone_and_moves_the_others(count: Any) -> None:
    norms = [RunningNorm(), RunningNorm()]
    track_norms(norms, {0: torch.tensor(4.0), 1: torch.tensor(5.0)}, 0.5, {0: count})
    assert [norm.norm.item() for norm in norms] == [1.0, 5.0]
    assert [norm.norm_count.item() for norm in norms] == [0.0, 1.0]


def test_a_norm_that_is_1_by_its_samples_moves_by_the_momentum() -> None:
    norm = RunningNorm()
    for value in (1.0, 3.0):
        track_norms([norm], {0: torch.tensor(value)}, 0.25)
    assert norm.norm.item() == 1.0 + 0.25 * (3.0 - 1.0)
    assert norm.norm_sum.item() == norm.norm.item() * norm.norm_count.item()


def test_a_norm_of_many_samples_keeps_their_number() -> None:
    norm = RunningNorm()
    norm.record(torch.tensor(2.0), 10)
    track_norms([norm], {0: torch.tensor(4.0)}, 0.5)
    assert (norm.norm.item(), norm.norm_count.item(), norm.norm_sum.item()) == (3.0, 10.0, 30.0)
