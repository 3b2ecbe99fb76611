"""Diagnose on rank 0 alone, under every setting that talks to other ranks in a forward."""

import datetime

import torch
import torch.distributed as dist

import lossreg
from lossreg.composition.weighting.dwa import DWA
from lossreg.composition.weighting.uncertainty import Uncertainty


def main():
    dist.init_process_group("gloo", timeout=datetime.timedelta(seconds=60))
    rank = dist.get_rank()
    w = torch.nn.Parameter(torch.ones(3))
    pred = {"x": w * 2}
    for weighting in (DWA(), Uncertainty()):
        first = lossreg.LossWrapper(torch.nn.MSELoss(), "a", pred_key="x", gt_key="y")
        second = lossreg.LossWrapper(torch.nn.L1Loss(), "b", pred_key="x", gt_key="y")
        settings = {"weighting": weighting, "on_nonfinite": "skip_term", "track_norms": "running"}
        multi_loss = lossreg.MultiLoss([first, second], [1.0, 1.0], **settings)
        if rank == 0:
            found = lossreg.diagnose(multi_loss, pred, {"y": torch.zeros(3)}, [w])
            assert [term.value for term in found.terms] == [4.0, 2.0]
        number = torch.tensor(float(rank + 1))
        dist.all_reduce(number)  # a collective of rank 0 before would meet this one of rank 1
        assert number == 3.0
    dist.destroy_process_group()
