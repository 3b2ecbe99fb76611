"""The installed plugin: names, specs and old paths."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points

import lossreg_seg
import torch

from lossreg import Loss, Preprocess, create_loss, find_loss


def test_describing_imports_no_torch() -> None:
    code = "import sys, lossreg_seg, lossreg_seg.plugin as p; p.lossreg_losses(); p.lossreg_preprocesses()\n"
    code += "assert 'torch' not in sys.modules, 'torch'"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_entry_point() -> None:
    (point,) = entry_points(group="lossreg", name="seg")
    assert point.load().__name__ == "lossreg_seg.plugin"


def test_is_found_by_name_alias_and_old_path() -> None:
    old = "pytorch_segmentation_models_trainer.custom_losses.base_loss.SegLoss"
    assert old in find_loss("seg").targets
    assert find_loss("seg") == find_loss("SegLoss") == find_loss("seg/SegLoss")


def test_is_made_by_name() -> None:
    loss = create_loss("seg", name="buildings", gt_channel_selector={"start": 0, "stop": 2}, dice_coef=1.0)
    assert isinstance(loss, Loss)
    value, _ = loss(torch.rand(1, 2, 4, 4), torch.rand(1, 3, 4, 4).round())
    assert value.shape == ()


def test_public_names() -> None:
    assert issubclass(lossreg_seg.SegLossWeights, Preprocess)
    assert set(lossreg_seg.__all__) <= set(dir(lossreg_seg))
    assert all(hasattr(lossreg_seg, name) for name in lossreg_seg.__all__)
