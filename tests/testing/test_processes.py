"""The two processes of the kit: errors if they do not answer, and a restart for the next loss."""

from __future__ import annotations

import pytest
import torch

from lossreg import LossWrapper
from lossreg.testing import processes
from lossreg.testing.contract import Broken


def test_processes_that_do_not_answer_in_time_are_ended_and_the_next_loss_has_new_ones(monkeypatch):
    loss = LossWrapper(torch.nn.MSELoss(), "mse")
    share = ({"seg": torch.ones(1, 1, 2, 2)}, {"gt_polygons_image": torch.zeros(1, 1, 2, 2)})
    processes._end()
    with monkeypatch.context() as patched:
        patched.setattr(processes, "_TIMEOUT", 0.05)  # less than Python takes to start
        with pytest.raises(Broken, match=r"one of two processes died, or did not answer within 0\.05 s"):
            processes.ask(loss, [share, share])
    assert processes.ask(loss, [share, share]) == [(1.0, 2.0), (1.0, 2.0)]
    processes._end()
