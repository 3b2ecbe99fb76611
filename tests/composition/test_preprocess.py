"""A preprocess adds keys to new batches, keeps those that are there, and names a key that is missing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from lossreg import Preprocess
from lossreg.errors import MissingKeyError


class Double(Preprocess):
    requires, provides = ("pred.x", "gt.y"), ("pred.twice", "gt.sum")

    def compute(self, pred_batch: Any, gt_batch: Any) -> dict[str, Tensor]:
        return {"pred.twice": 2 * pred_batch["x"], "gt.sum": pred_batch["x"] + gt_batch["y"]}


class Thin(Preprocess):
    requires, provides = ("pred.x",), ("pred.twice",)

    def compute(self, pred_batch: Any, gt_batch: Any) -> dict[str, Tensor]:
        return {"pred.twice": 2 * pred_batch["x"]}


X, Y = torch.tensor([1.0]), torch.tensor([5.0])


def test_both_sides_get_their_keys_and_the_given_batches_stay() -> None:
    pred, gt = {"x": X}, {"y": Y}
    assert Double()(pred, gt) == ({"x": X, "twice": torch.tensor([2.0])}, {"y": Y, "sum": torch.tensor([6.0])})
    assert (list(pred), list(gt)) == (["x"], ["y"])


def test_a_key_that_is_there_is_kept() -> None:
    pred, gt = Double()({"x": X, "twice": Y}, {"y": Y})
    assert pred["twice"] is Y
    assert gt["sum"] == 6.0


def test_a_bare_tensor_is_the_only_key_of_its_side_and_stays_bare_where_nothing_is_added() -> None:
    pred, gt = Double()(X, Y)
    assert (sorted(pred), sorted(gt)) == (["twice", "x"], ["sum", "y"])
    pred, gt = Thin()(X, Y)
    assert sorted(pred) == ["twice", "x"]
    assert gt is Y


@pytest.mark.parametrize(
    ("batches", "says"),
    [
        (
            ({"a": X}, {"y": Y}),
            "preprocess Double needs 'pred.x' to make 'pred.twice', 'gt.sum'; pred_batch has keys ['a']",
        ),
        (({"x": X}, None), "needs 'gt.y' to make 'pred.twice', 'gt.sum'; gt_batch has a bare tensor"),
    ],
)
def test_a_missing_key_is_named_with_what_is_there(batches: Any, says: str) -> None:
    with pytest.raises(MissingKeyError) as caught:
        Double()(*batches)
    assert says in str(caught.value)


def test_without_compute_it_says_what_to_write() -> None:
    with pytest.raises(NotImplementedError, match=r"Preprocess must define compute\(pred_batch, gt_batch\)"):
        Preprocess()({}, {})
