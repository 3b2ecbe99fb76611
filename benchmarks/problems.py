"""The two problems of the page `results`: data, network, loss and held-out metrics."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from lossreg.demo.command import DEMO_CONFIG
from lossreg.demo.network import FrameFieldUNet

Batch = Mapping[str, Tensor]


@dataclass(frozen=True)
class Metric:
    """A number of held-out data.

    Attributes:
        label: its name and unit on the page.
        higher: whether more is better; its error is then 1 minus the number.
    """

    label: str
    higher: bool = False

    def error(self, value: float | None) -> float:
        """Return the error, above 0; infinite for a run that has no number."""
        if value is None:
            return math.inf
        return max(1 - value if self.higher else value, 1e-6)


@dataclass(frozen=True)
class Problem:
    """Data, network and loss.

    Attributes:
        config: the compound block of the loss, whose weights may be lists: one value at each of its thresholds.
        alone: groups of terms that one network each is trained on, with the metrics of each group.
        metrics: the metrics by name.
        network: makes the network; it has `shared_parameters()`.
        batches: `(seed, epoch)` to the training batches of an epoch.
        calibration: batches for the norms.
        validation, test: held-out batches.
        measure: predictions and targets of held-out data, in one batch each, to the metrics.
        epochs: epochs of a run.
        rates: the learning rates to choose from.
        seeds: the seeds of the reported runs.
        tried: how many of them the learning rate is chosen with.
        scheduled: whether the usual recipe has the schedule; weightings come on top of that recipe.
        omitted: methods that are left out, to keep the run short.
    """

    config: Mapping[str, Any]
    alone: Mapping[tuple[str, ...], tuple[str, ...]]
    metrics: Mapping[str, Metric]
    network: Callable[[], nn.Module]
    batches: Callable[[int, int], Iterator[Batch]]
    calibration: list[Batch]
    validation: list[Batch]
    test: list[Batch]
    measure: Callable[[Batch, Batch], dict[str, float]]
    epochs: int
    rates: tuple[float, ...]
    seeds: tuple[int, ...]
    tried: int = 1
    scheduled: bool = False
    omitted: tuple[str, ...] = ()


# --- digits ---------------------------------------------------------------------------------------------

DIGITS_CONFIG = Path(__file__).with_name("digits.yaml")
_TRAINING, _VALIDATION = 900, 400  # the other 497 are the test images
_LABELLED = 4  # one in four training images has its digit
_NOISE, _PATCH = 3.0, 3  # grey levels, pixels


class DigitNetwork(nn.Module):
    """Two shared layers, and a linear head for each task."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())
        self.digit, self.image, self.centre = nn.Linear(64, 10), nn.Linear(64, 64), nn.Linear(64, 2)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Return logits (N, 10), the clean image (N, 64) and the centre (N, 2) of corrupted images (N, 8, 8)."""
        features = self.body(image / 16)
        return {"digit": self.digit(features), "image": self.image(features), "centre": self.centre(features)}

    def shared_parameters(self) -> list[nn.Parameter]:
        """Return the parameters of the last shared layer."""
        return list(self.body[3].parameters())


def digits(epochs: int = 25) -> Problem:
    """Return scikit-learn's digits: from a corrupted image to the digit, the clean image and the centre of the stroke.

    The targets keep their own units: classes, grey levels (0 to 16) and pixels from the middle of the image.
    """
    from sklearn.datasets import load_digits

    data = load_digits()
    order = torch.randperm(len(data.images), generator=torch.Generator().manual_seed(0))
    clean = torch.from_numpy(data.images).float()[order]  # (1797, 8, 8)
    ink = clean.sum(dim=(1, 2))
    places = torch.arange(8.0) - 3.5
    centre = torch.stack([(clean.sum(dim=2) * places).sum(dim=1), (clean.sum(dim=1) * places).sum(dim=1)], dim=1)
    targets = {
        "digit": torch.from_numpy(data.target)[order],
        "image": clean.flatten(1),
        "centre": centre / ink[:, None],
        "has_digit": torch.arange(len(clean)) % _LABELLED == 0,
    }

    def batch(index: Tensor, seed: int) -> Batch:
        """Return samples at an index with corrupted images; "image" is the input, and its target is "clean"."""
        picked = {key: tensor[index] for key, tensor in targets.items()}
        return {**picked, "clean": picked["image"], "image": corrupted(clean[index], seed)}

    def batches(seed: int, epoch: int) -> Iterator[Batch]:
        make = torch.Generator().manual_seed(1000 * seed + epoch)
        for number, index in enumerate(torch.randperm(_TRAINING, generator=make).split(50)):
            yield batch(index, 10**6 + 10**5 * seed + 100 * epoch + number)

    return Problem(
        config=compound(DIGITS_CONFIG),
        alone={("digit",): ("digit",), ("image",): ("image",), ("centre",): ("centre",)},
        metrics={
            "digit": Metric("wrong digits, %"),
            "image": Metric("image, RMS error in grey levels"),
            "centre": Metric("centre, mean distance in pixels"),
        },
        network=DigitNetwork,
        batches=batches,
        calibration=[batch(torch.arange(_TRAINING), 0)],
        validation=[batch(torch.arange(_TRAINING, _TRAINING + _VALIDATION), 1)],
        test=[batch(torch.arange(_TRAINING + _VALIDATION, len(clean)), 2)],
        measure=digit_metrics,
        epochs=epochs,
        rates=(3e-3, 1e-2, 2e-2, 4e-2),
        seeds=tuple(range(6)),
        omitted=("plain sum, all weights 1",),  # all weights are 1
    )


def corrupted(images: Tensor, seed: int) -> Tensor:
    """Return images (N, 8, 8) with noise, and with a square of each erased."""
    make = torch.Generator().manual_seed(seed)
    noisy = images + _NOISE * torch.randn(images.shape, generator=make)
    corner = torch.randint(0, 8 - _PATCH + 1, (2, len(images), 1), generator=make)
    rows, columns = ((torch.arange(8) >= c) & (torch.arange(8) < c + _PATCH) for c in corner)  # (N, 8) each
    return noisy.masked_fill(rows[:, :, None] & columns[:, None, :], 0.0)


def digit_metrics(pred: Batch, gt: Batch) -> dict[str, float]:
    """Return the metrics of the digits."""
    return {
        "digit": 100 * float((pred["digit"].argmax(1) != gt["digit"]).float().mean()),
        "image": float((pred["image"] - gt["clean"]).square().mean().sqrt()),
        "centre": float((pred["centre"] - gt["centre"]).norm(dim=1).mean()),
    }


# --- buildings ------------------------------------------------------------------------------------------


def buildings(epochs: int = 12, training: int = 64, held_out: int = 32) -> Problem:
    """Return the data and the loss of `lossreg demo` at 32 pixels, with a U-Net of two scales."""
    from lossreg.demo.scenes import generate_scenes

    size = 32
    samples = generate_scenes(training, size, seed=0)
    frequency = samples.class_freq()
    samples, validation, test = (
        some.with_class_freq(frequency)
        for some in (samples, *(generate_scenes(held_out, size, seed=0, stream=stream) for stream in (1, 2)))
    )
    return Problem(
        config=compound(DEMO_CONFIG),
        alone={
            ("seg",): ("interior", "edge"),
            ("crossfield_align", "crossfield_align90", "crossfield_smooth"): ("angle",),
        },
        metrics={
            "interior": Metric("interior, IoU", higher=True),
            "edge": Metric("edges, IoU", higher=True),
            "angle": Metric("frame field, error in degrees"),
        },
        network=lambda: FrameFieldUNet(3, (8, 16)),
        batches=lambda seed, epoch: samples.batches(4, seed=seed, epoch=epoch),
        calibration=list(samples.batches(4)),
        validation=list(validation.batches(held_out)),
        test=list(test.batches(held_out)),
        measure=building_metrics,
        epochs=epochs,
        rates=(3e-3, 1e-2, 3e-2),
        seeds=tuple(range(5)),
        scheduled=True,
        omitted=(
            "schedule + gradnorm",
            "schedule + balancer",
            "schedule + lrannealing",
            "norms + schedule + torchjd/GeometricMean",
            "norms + schedule + torchjd/IMTLL",
            "norms + schedule + UPGrad",
            "norms + schedule + PCGrad",
        ),
    )


def building_metrics(pred: Batch, gt: Batch) -> dict[str, float]:
    """Return the metrics of the buildings."""
    found, wanted = pred["seg"] > 0.5, gt["gt_polygons_image"] > 0.5
    both, either = (found & wanted).sum(dim=(0, 2, 3)), (found | wanted).sum(dim=(0, 2, 3)).clamp_min(1)
    interior, edge, _ = (both / either).tolist()
    angles = gt["gt_crossfield_angle"][:, 0][wanted[:, 1]]
    field = pred["crossfield"].movedim(1, -1)[wanted[:, 1]]
    return {"interior": interior, "edge": edge, "angle": float(angle_errors(field, angles).mean())}


def angle_errors(field: Tensor, angles: Tensor) -> Tensor:
    """Return (K,) the angles in degrees, 0 to 90, between tangents and the nearer direction of a frame field.

    Args:
        field: (K, 4) real and imaginary parts of `c0` and `c2`; its directions are the roots of `z^4 + c2 z^2 + c0`.
        angles: (K,) radians of the tangents, of which the opposite is as good.
    """
    c0, c2 = torch.view_as_complex(field.reshape(-1, 2, 2).double()).unbind(1)
    root = (c2 * c2 - 4 * c0).sqrt()
    squares = torch.stack([(root - c2) / 2, (-root - c2) / 2])  # (2, K) of the two directions
    turns = (squares * torch.polar(torch.ones_like(angles), -2 * angles).to(squares)).angle().abs() / 2
    return torch.rad2deg(turns.amin(dim=0))


# --- configs --------------------------------------------------------------------------------------------


def compound(path: Path) -> dict[str, Any]:
    """Return the compound block of a loss file, with its terms as a mapping from name to term."""
    block = dict(yaml.safe_load(path.read_text(encoding="utf-8"))["loss_params"]["compound_loss"])
    listed = block.pop("loss_list", None)
    if listed is not None:
        block["losses"] = {term.get("name", term["loss"]): term for term in listed}
    return block


PROBLEMS: Mapping[str, Callable[[], Problem]] = {"digits": digits, "buildings": buildings}
