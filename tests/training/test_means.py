"""The means of what terms came to, beside sums by hand in float64."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from lossreg import Loss, LossWrapper, MultiLoss
from lossreg.composition.weighting.dwa import DWA
from lossreg.training.means import TermMeans, columns


class Key(Loss):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.requires = (f"pred.{name}",)

    def compute(self, pred_batch: Any, gt_batch: Any) -> Tensor:
        return pred_batch[self.name]


def grouped():
    group = MultiLoss([Key("b")], [3.0], name="g")
    criterion = MultiLoss([Key("a"), group], [1.0, 2.0], optional_terms=["g"])
    criterion.loss_funcs[0].norm.fill_(2.0)
    return criterion


def fed(criterion, batches, kinds, samples=1):
    means = TermMeans(criterion, kinds)
    for batch in batches:
        criterion({key: torch.tensor(value) for key, value in batch.items()}, {})
        means.add(criterion.last_record, samples)
    return means


def test_means_are_over_the_forwards_that_had_a_term():
    means = fed(grouped(), [{"a": 1.0}, {"a": 2.0, "b": 4.0}], ["values", "losses", "norms", "weights"])
    assert means.take() == pytest.approx(
        {("total", ""): 12.75, ("values", "a"): 1.5, ("losses", "a"): 0.75, ("norms", "a"): 2.0, ("weights", "a"): 1.0}
        | {("values", "g/b"): 4.0, ("losses", "g/b"): 4.0, ("norms", "g/b"): 1.0, ("weights", "g/b"): 6.0}
    )


def test_what_is_taken_is_forgotten():
    means = fed(grouped(), [{"a": 1.0}], ["values"])
    means.take()
    assert means.take() == {}


def test_more_forwards_than_are_kept_are_added_up():
    numbers = [0.1 * i for i in range(200)]
    means = fed(grouped(), [], ["values"])
    criterion = grouped()
    for number in numbers:
        criterion({"a": torch.tensor(number)}, {})
        means.add(criterion.last_record, 1)
        means.close_step()
    assert means.take()["values", "a"] == pytest.approx(math.fsum(numbers) / 200)


def test_a_value_is_averaged_over_what_it_is_a_mean_of():
    """Ten elements in one batch and two in the other; samples tell nothing where elements are counted."""
    criterion = MultiLoss([LossWrapper(torch.nn.L1Loss(), "near", pred_key="y", gt_key="y")], [1.0])
    means = TermMeans(criterion, ["values"])
    for values in (torch.arange(10.0), torch.tensor([100.0, 200.0])):
        criterion({"y": values}, {"y": torch.zeros_like(values)})
        means.add(criterion.last_record, 1)
    assert means.take()["values", "near"] == pytest.approx((45 + 300) / 12)


def test_a_value_without_a_count_is_averaged_over_samples():
    means = fed(grouped(), [{"a": 1.0}], ["values"], samples=3)
    criterion = grouped()
    criterion({"a": torch.tensor(5.0)}, {})
    means.add(criterion.last_record, 1)
    assert means.take()["values", "a"] == pytest.approx((3 * 1 + 5) / 4)


def test_a_term_that_no_element_counts_for_is_left_out():
    near = LossWrapper(torch.nn.L1Loss(), "near", pred_key="y", gt_key="y")
    near.take_mask("gt.valid")
    criterion = MultiLoss([near], [2.0])
    means = TermMeans(criterion, ["values", "norms", "weights"])
    batch = torch.ones(2, 3)
    for valid in (torch.zeros(2, 3), torch.ones(2, 3)):
        criterion({"y": batch}, {"y": 0 * batch, "valid": valid.bool()})
        means.add(criterion.last_record, 2)
    assert means.take() == pytest.approx(
        {("values", "near"): 1.0, ("norms", "near"): 1.0, ("weights", "near"): 2.0, ("total", ""): 1.0}
    )


def test_the_micro_batches_of_a_window_add_up_to_one_total():
    criterion = MultiLoss([LossWrapper(torch.nn.L1Loss(), "near", pred_key="y", gt_key="y")], [2.0])
    batches = [(torch.arange(4.0), torch.zeros(4)), (torch.tensor([10.0]), torch.zeros(1))]
    means = TermMeans(criterion, ["values"])
    for _ in range(2):
        with criterion.window([target for _, target in batches]):
            for pred, target in batches:
                criterion(pred.clone().requires_grad_(), target)
                means.add(criterion.last_record, len(pred))
        means.close_step()
    assert means.take() == pytest.approx({("values", "near"): 16 / 5, ("total", ""): 2 * 16 / 5})


def test_columns_are_what_there_is_to_say():
    inner = MultiLoss([Key("b")], [1.0], name="g", normalize=False)
    criterion = MultiLoss([Key("a"), Key("c"), inner], [1.0, 1.0, 1.0], unnormalized=["c"])
    assert [path for kind, path in columns(criterion) if kind == "norms"] == ["a"]
    assert not [path for kind, path in columns(criterion) if kind == "coefficients"]
    weighted = MultiLoss([Key("a"), inner], [1.0, 1.0], weighting=DWA())
    assert [path for kind, path in columns(weighted) if kind == "coefficients"] == ["a", "g/b"]
