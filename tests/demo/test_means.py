"""The means of an epoch: of the total, and of each term's value, norm and weight."""

from typing import Any

import pytest
import torch
from torch import Tensor

from lossreg import Loss, MultiLoss
from lossreg.demo.means import StepMeans

pytestmark = pytest.mark.needs_plugins  # the extra `demo`, without which nothing here is collected


class Key(Loss):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.requires = (f"pred.{name}",)

    def compute(self, pred_batch: Any, gt_batch: Any) -> Tensor:
        return pred_batch[self.name]


def test_means_are_over_the_steps_that_had_a_term() -> None:
    group = MultiLoss([Key("b")], [3.0], name="g")
    criterion = MultiLoss([Key("a"), group], [1.0, 2.0], optional_terms=["g"])
    criterion.loss_funcs[0].norm.fill_(2.0)
    means = StepMeans(["a", "g/b"])
    for batch in ({"a": 1.0}, {"a": 2.0, "b": 4.0}):
        criterion({key: torch.tensor(value) for key, value in batch.items()}, {})
        means.add(criterion.last_record)
    means.gather()
    assert means.row() == pytest.approx(
        {"total": 12.75, "value/a": 1.5, "norm/a": 2.0, "weight/a": 1.0}
        | {"value/g/b": 4.0, "norm/g/b": 1.0, "weight/g/b": 6.0}
    )
