"""A fusion of torch's compiler is off before torch 2.9 from the first loss on that is compiled."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from lossreg import Loss
from lossreg.losses import base
from lossreg.losses.inductor import FAULTY, stay_inside_of_buffers


class Peak(Loss):
    requires = ("pred.x",)

    def compute(self, pred_batch: Any, gt_batch: Any) -> Tensor:
        return self.read(pred_batch, gt_batch, "pred.x").amax()


def test_the_releases_that_have_the_fault() -> None:
    release = tuple(int(part) for part in torch.__version__.split(".")[:2])
    assert (release < (2, 9)) is FAULTY


def test_the_fusion_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._inductor.codegen.cpp import CppScheduling

    monkeypatch.setattr(CppScheduling, "_get_outer_loop_fusion_depth", None)  # and restore it
    stay_inside_of_buffers()
    scheduling = object.__new__(CppScheduling)
    assert scheduling._get_outer_loop_fusion_depth("one loop", "another") == 0


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.torch.jit.script:FutureWarning")
@pytest.mark.parametrize("faulty", [False, True])
def test_it_is_turned_off_while_a_loss_is_traced(monkeypatch: pytest.MonkeyPatch, faulty: bool) -> None:
    calls = []

    def turn_off() -> None:
        calls.append(torch.compiler.is_compiling())

    turn_off._dynamo_marked_constant = stay_inside_of_buffers._dynamo_marked_constant  # type: ignore[attr-defined]
    monkeypatch.setattr(base, "FAULTY", faulty)
    monkeypatch.setattr(base, "stay_inside_of_buffers", turn_off)
    torch._dynamo.reset()
    loss = Peak("peak")
    compiled = torch.compile(loss, fullgraph=True, backend="eager")
    assert [compiled({"x": torch.arange(4.0) + i}, {})[0].item() for i in range(2)] == [3.0, 4.0]
    assert len(calls) == faulty
    assert loss({"x": torch.ones(1)}, {})[0] == 1.0
    assert len(calls) == faulty  # not where nothing is compiled
