"""Terms that are NaN or infinite: ignored, raised, or left out."""

from __future__ import annotations

import copy
import logging
from typing import Any

import pytest
import torch
from torch import Tensor

from lossreg import Loss, MultiLoss
from lossreg.composition.weighting.cov import CoV
from lossreg.errors import NonFiniteError


class Log(Loss):
    """`log` of one prediction's mean: NaN below zero, with a NaN gradient."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.requires = (f"pred.{name}",)

    def compute(self, pred_batch: Any, gt_batch: Any) -> Tensor:
        return self.read(pred_batch, gt_batch, self.requires[0]).log().mean()


def make(on_nonfinite: Any, **options: Any) -> MultiLoss:
    return MultiLoss([Log("a"), Log("b")], [1.0, 2.0], on_nonfinite=on_nonfinite, **options)


def batch(a: float, b: float) -> dict[str, Tensor]:
    return {"a": torch.full((2,), a, requires_grad=True), "b": torch.full((2,), b, requires_grad=True)}


def test_ignore_lets_it_through() -> None:
    assert make("ignore")(batch(1.0, -1.0), {})[0].isnan()


def test_raise_names_the_term_the_epoch_and_the_ranges_and_leaves_state_alone() -> None:
    multi_loss = make("raise", weighting=CoV())
    multi_loss(batch(2.0, 3.0), {}, epoch=6)
    before = copy.deepcopy(multi_loss.state_dict())
    expected = r"'b' is nan at epoch 7; the batch: pred.a \(2,\) 1 to 1; pred.b \(2,\) -1 to -1"
    with pytest.raises(NonFiniteError, match=expected):
        multi_loss(batch(1.0, -1.0), {}, epoch=7)
    assert all(torch.equal(value, before[key]) for key, value in multi_loss.state_dict().items())


def test_the_ranges_of_lists_are_told_tensor_by_tensor() -> None:
    pred = {**batch(-1.0, 1.0), "levels": [torch.ones(1), (torch.zeros(2), torch.empty(0))]}
    expected = r"pred.levels \(1,\) 1 to 1; pred.levels \(2,\) 0 to 0; pred.levels \(0,\) is empty\."
    with pytest.raises(NonFiniteError, match=expected):
        make("raise")(pred, {}, epoch=7)


def test_skip_leaves_the_term_out_counts_it_and_keeps_gradients_finite(caplog: pytest.LogCaptureFixture) -> None:
    multi_loss, pred = make("skip_term"), batch(2.0, -1.0)
    with caplog.at_level(logging.WARNING, logger="lossreg"):
        total, values, _ = multi_loss(pred, {}, epoch=3)
    total.backward()
    assert total.item() == pytest.approx(torch.tensor(2.0).log().item())
    assert list(values) == ["a"]
    assert multi_loss.skipped.tolist() == [0, 1]
    assert pred["a"].grad.abs().sum() > 0
    assert torch.equal(pred["b"].grad, torch.zeros(2))  # still on the graph, for ranks that wait for it
    assert "left b out of this batch at epoch 3" in caplog.text


def test_skip_of_every_term_is_a_zero_on_the_graph() -> None:
    pred = batch(-1.0, -1.0)
    total, values, _ = make("skip_term")(pred, {})
    total.backward()
    assert total.item() == 0.0
    assert values == {}
    assert torch.equal(pred["a"].grad, torch.zeros(2))


def test_a_finite_batch_is_the_same_under_all_three() -> None:
    totals = {choice: make(choice)(batch(2.0, 3.0), {})[0].item() for choice in ("ignore", "raise", "skip_term")}
    assert len(set(totals.values())) == 1


def test_other_choices_are_refused() -> None:
    with pytest.raises(ValueError, match=r"on_nonfinite: expected 'ignore', 'raise' or 'skip_term', found 'drop'"):
        make("drop")
