"""One file with losses of seven libraries beside the dictionary of a torchvision detector, trained."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from lossreg import calibrate_norms, load_loss

pytestmark = [pytest.mark.needs_torchvision, pytest.mark.needs_plugins]

CONFIG = Path(__file__).parents[2] / "docs" / "examples" / "detector.yaml"
LIBRARIES = ("torchvision", "piq", "torchmetrics", "timm", "pytorch_metric_learning", "geomloss")
TERMS = ["near", "alike", "colour", "mask", "kind", "identity", "colours"]

for library in LIBRARIES:
    if find_spec(library) is None:
        pytest.skip(f"{library} is not installed", allow_module_level=True)


class Model(nn.Module):
    """A detector, and a small network that cleans the image, finds the square and tells its colour."""

    def __init__(self) -> None:
        from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_320_fpn as detector

        super().__init__()
        self.detector = detector(weights=None, weights_backbone=None, num_classes=2, min_size=64, max_size=64)
        self.body = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU())
        self.image, self.mask = nn.Conv2d(16, 3, 1), nn.Conv2d(16, 1, 1)
        self.embedding, self.kind = nn.Linear(16, 8), nn.Linear(8, 3)

    def forward(self, images: Tensor, boxes: list[dict[str, Tensor]]) -> dict[str, object]:
        features = self.body(images)
        clean, embedding = self.image(features).sigmoid(), self.embedding(features.amax((2, 3)))
        return {
            "losses": self.detector(list(images), boxes),
            "image": clean,
            "mask": self.mask(features),
            "embedding": embedding,
            "kind": self.kind(embedding),
            "colours": colours(clean),
        }


def colours(images: Tensor) -> Tensor:
    """Return every 97th pixel of each image as a point in the space of colours."""
    return images.flatten(2)[:, :, ::97].mT.contiguous()


def scene() -> tuple[Tensor, list[dict[str, Tensor]], dict[str, Tensor]]:
    """Return six noisy images, each with one square of one of three colours; the boxes; and the other targets."""
    random = torch.Generator().manual_seed(0)
    kinds = torch.arange(6) % 3
    clean, mask, boxes = torch.full((6, 3, 64, 64), 0.1), torch.zeros(6, 1, 64, 64), []
    for i, kind in enumerate(kinds):
        left, top = (int(n) for n in torch.randint(4, 28, (2,), generator=random))
        clean[i, kind, top : top + 32, left : left + 32] = 0.9
        mask[i, :, top : top + 32, left : left + 32] = 1
        box = torch.tensor([[left, top, left + 32, top + 32]], dtype=torch.float32)
        boxes.append({"boxes": box, "labels": torch.tensor([1])})
    noise = 0.1 * torch.rand(clean.shape, generator=random)
    return clean * 0.9 + noise, boxes, {"image": clean, "mask": mask, "kind": kinds, "colours": colours(clean)}


def test_it_trains() -> None:
    torch.manual_seed(0)
    model, criterion = Model(), load_loss(CONFIG)
    images, boxes, gt = scene()
    norms = calibrate_norms(
        criterion, model, [0], batch_fn=lambda model, _: (model(images, boxes), gt, 6), mode="train", min_samples=6
    )
    members = {name for name in norms if name.startswith("det/")}
    assert members == {f"det/loss_{name}" for name in ("classifier", "box_reg", "objectness", "rpn_box_reg")}
    assert set(norms) - members == set(TERMS)
    heads = [parameter for name, parameter in model.named_parameters() if not name.startswith("detector.")]
    groups = [{"params": model.detector.parameters(), "lr": 3e-4}, {"params": heads, "lr": 1e-2}]
    optimizer = torch.optim.Adam(groups)
    seen = []
    for epoch in range(15):
        total, values, _ = criterion(model(images, boxes), gt, epoch=epoch)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        seen.append({name: float(value) for name, value in values.items()})
    for name in ("det/loss_classifier", "near", "alike", "mask", "colours"):
        assert seen[-1][name] < seen[0][name], name
    assert criterion.effective_weights(4)["kind"] == 1
    assert all(parameter.grad is not None for parameter in model.image.parameters())
