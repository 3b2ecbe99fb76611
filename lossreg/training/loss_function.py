"""A criterion as trainers call a loss: a function of predictions and targets that returns a scalar."""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor, nn

from lossreg.arguments import Arguments
from lossreg.composition.multiloss import read_criterion


class LossFunction(nn.Module):
    """Call a criterion, and return its total alone.

    Attributes:
        criterion: the criterion.
        epoch, step: the time of the next calls, for scheduled weights; the adapter of a trainer sets them.

    Args:
        criterion: a `MultiLoss`, or what `torch.compile` made of it.

    Raises:
        ArgumentError: it is neither.
    """

    def __init__(self, criterion: nn.Module) -> None:
        super().__init__()
        given = Arguments("LossFunction")
        read_criterion(given, criterion)
        given.done()
        self.criterion = criterion
        self.epoch: float | None = None
        self.step: float | None = None

    def forward(self, pred_batch: Any, gt_batch: Any) -> Tensor:
        """Return the total of a batch; `criterion.last_record` has each term."""
        return cast(Tensor, self.criterion(pred_batch, gt_batch, epoch=self.epoch, step=self.step)[0])
