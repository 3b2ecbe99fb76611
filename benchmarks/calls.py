"""Measure absolute times of single calls with pytest-benchmark: `pytest benchmarks/calls.py`."""

from __future__ import annotations

from typing import Any

import batches
import pytest
import torch

import lossreg
from lossreg.registry import catalog

TERMS = ("CrossfieldAlignLoss", "CrossfieldAlign90Loss", "CrossfieldSmoothLoss", "SegEdgeInteriorLoss")


@pytest.fixture(autouse=True)
def _two_threads() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("tversky", [False, True], ids=["SegLoss", "SegLoss with Tversky"])
def test_seg_loss(benchmark: Any, tversky: bool) -> None:
    """Time SegLoss, forward and backward, for 8x2x256x256."""
    pred, target = batches.segmentation((8, 2, 256, 256))
    loss = batches.seg_loss(tversky=tversky)
    benchmark(lambda: torch.autograd.grad(loss({"seg": pred}, {"gt_polygons_image": target})[0], pred))


@pytest.mark.parametrize("name", [*TERMS, "SegCrossfieldLoss"])
def test_a_frame_field_loss(benchmark: Any, name: str) -> None:
    """Time one term without its preprocesses, forward and backward, for 4x256x256."""
    pred, gt = batches.frame_field(4, 256)
    for node in ("GtField", "SegGrads"):
        pred, gt = catalog().preprocesses.find(f"crossfield/{node}").load()()(pred, gt)
    pred = {key: planes.detach().requires_grad_() for key, planes in pred.items()}
    options = {"pred_channel": 0} if name == "SegCrossfieldLoss" else {}
    loss = lossreg.create_loss(f"crossfield/{name}", **options)
    inputs = [pred[key.partition(".")[2]] for key in loss.requires if key.startswith("pred.")]
    benchmark(lambda: torch.autograd.grad(loss(pred, gt)[0], inputs))


def test_the_frame_field_set(benchmark: Any) -> None:
    """Time the six terms with their preprocesses, forward and backward, for 4x256x256."""
    pred, gt = batches.frame_field(4, 256)
    loss = batches.frame_field_loss()
    benchmark(lambda: torch.autograd.grad(loss(pred, gt)[0], tuple(pred.values())))
