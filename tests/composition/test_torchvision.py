"""A detector of torchvision trained by its own losses, which one YAML file weighs beside a loss of a plugin."""

from __future__ import annotations

import pytest
import torch
import yaml
from torch import Tensor

from lossreg import build_compound_loss_from_config, calibrate_norms, diagnose

pytestmark = [pytest.mark.needs_torchvision, pytest.mark.needs_plugins]

FILE = """
epoch_thresholds: [0, 4]
loss_list:
  - loss: from_dict
    name: det
    key: losses
    weighting: dwa
    terms:
      loss_classifier: 1.0
      loss_box_reg: [0.5, 2.0]
      loss_*: 0.5
  - {loss: torch/MSELoss, name: decay, pred_key: weight, gt_key: weight, normalize: false, weight: 0.001}
"""
MEMBERS = ["det/loss_classifier", "det/loss_box_reg", "det/loss_objectness", "det/loss_rpn_box_reg"]


def scene(seed: int) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Return two images, each with one bright square, and the square's box."""
    random = torch.Generator().manual_seed(seed)
    images, targets = [], []
    for _ in range(2):
        image = torch.rand(3, 64, 64, generator=random) * 0.2
        left, top = (int(n) for n in torch.randint(4, 28, (2,), generator=random))
        image[:, top : top + 32, left : left + 32] += 0.7
        images.append(image)
        box = torch.tensor([[left, top, left + 32, top + 32]], dtype=torch.float32)
        targets.append({"boxes": box, "labels": torch.tensor([1])})
    return images, targets


def test_a_detector_trains() -> None:
    from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_320_fpn

    torch.manual_seed(0)
    model = fasterrcnn_mobilenet_v3_large_320_fpn(
        weights=None, weights_backbone=None, num_classes=2, min_size=64, max_size=64
    )
    head = model.roi_heads.box_predictor.cls_score.weight
    criterion = build_compound_loss_from_config(yaml.safe_load(FILE))
    none = {"weight": torch.zeros_like(head)}
    scenes = [scene(0)]

    def batch(_model: object, given: tuple[list[Tensor], list[dict[str, Tensor]]]) -> tuple[object, object, int]:
        return {"losses": model(*given), "weight": head}, none, len(given[0])

    norms = calibrate_norms(criterion, model, scenes, batch_fn=batch, mode="train", min_samples=2)
    assert sorted(norms) == sorted(MEMBERS)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    classified = []
    for epoch in range(6):
        losses = model(*scenes[0])
        expected = {name: losses[name.removeprefix("det/")].item() / norms[name] for name in MEMBERS}
        total, values, _ = criterion({"losses": losses, "weight": head}, none, epoch=epoch)
        assert {name: values[name].item() for name in MEMBERS} == pytest.approx(expected, rel=1e-5)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        classified.append(float(values["det/loss_classifier"]))
    assert classified[-1] < 0.7 * classified[0]
    assert criterion.effective_weights(2)["det/loss_box_reg"] == 1.25
    images, targets = scenes[0]
    found = diagnose(criterion, {"losses": model(images, targets), "weight": head}, none, model.backbone.body, epoch=3)
    lengths = {term.name: term.gradient_norm for term in found.terms}
    assert min(lengths[name] for name in MEMBERS) > 0
    assert lengths["decay"] == 0
    assert criterion.last_record is not None
    assert criterion.last_record["det/loss_objectness"].weight == 0.5
