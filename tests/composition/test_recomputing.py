"""Activation checkpointing around a criterion: right, or refused by name; no state moves twice in silence."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from lossreg import Loss, MultiLoss
from lossreg.composition.weighting.dwa import DWA
from lossreg.composition.weighting.uncertainty import Uncertainty
from lossreg.errors import RecomputedError


class Square(Loss):
    def compute(self, pred_batch: Any, gt_batch: Any) -> Tensor:
        return pred_batch["x"].square().sum()


class Log(Loss):
    def compute(self, pred_batch: Any, gt_batch: Any) -> Tensor:
        return (pred_batch["x"] * 0).log().sum()


def run(criterion: MultiLoss, reentrant: bool) -> Tensor:
    """Return the gradient at `[1, 2]` of a checkpointed forward."""
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    checkpoint(lambda x: criterion({"x": x}, {}, epoch=0)[0], x, use_reentrant=reentrant).backward()
    return x.grad


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("options", [{}, {"weighting": Uncertainty}])
def test_where_nothing_moves_the_gradient_is_the_plain_one(options: dict[str, Any], reentrant: bool) -> None:
    made = {key: value() for key, value in options.items()}
    factor = 1.0 if not made else 0.5  # exp(-s) / 2 at s = 0
    assert torch.equal(run(MultiLoss([Square("a")], [3.0], **made), reentrant), torch.tensor([6.0, 12.0]) * factor)


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize(
    ("options", "what"), [({"track_norms": "running"}, "its norms moved"), ({"weighting": DWA}, "its weighting moved")]
)
@pytest.mark.parametrize("group", [False, True])
def test_where_a_state_moves_it_is_refused(options: dict[str, Any], what: str, group: bool, reentrant: bool) -> None:
    made = {key: value() if callable(value) else value for key, value in options.items()}
    criterion = MultiLoss([Square("a")], [1.0], name="inner", **made)
    with pytest.raises(RecomputedError, match=rf"'inner': activation checkpointing .*{what}.*checkpoint the network"):
        run(MultiLoss([criterion], [1.0]) if group else criterion, reentrant)


def test_in_evaluation_nothing_moves_and_nothing_is_refused() -> None:
    criterion = MultiLoss([Square("a")], [1.0], track_norms="running", weighting=DWA()).eval()
    assert torch.equal(run(criterion, reentrant=False), torch.tensor([2.0, 4.0]))


def test_a_skipped_term_is_counted_once() -> None:
    criterion = MultiLoss([Square("a"), Log("b")], [1.0, 1.0], on_nonfinite="skip_term")
    assert torch.equal(run(criterion, reentrant=False), torch.tensor([2.0, 4.0]))
    assert criterion.skipped.tolist() == [0, 1]
