"""Draw each first-party loss as `loss-NAME.svg`, computed with the loss, and list the losses of other libraries.

`python docs/generate/losses.py [FOLDER]`
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

import lossreg
from lossreg.registry import catalog

Batch = dict[str, Tensor]


def value(loss: lossreg.Loss, pred: Batch, gt: Batch) -> Tensor:
    """Return the loss of each sample of a batch, with shape (N,)."""
    samples = range(len(next(iter(pred.values()))))
    return torch.stack([loss(*({k: t[i : i + 1] for k, t in side.items()} for side in (pred, gt)))[0] for i in samples])


def ones(*channels: float, samples: int = 1) -> Tensor:
    """Return constant planes of shape (samples, C, 3, 3)."""
    return torch.tensor(channels).reshape(1, -1, 1, 1).repeat(samples, 1, 3, 3)


def seg() -> Figure:
    """Draw the parts of SegLoss and their slopes while a prediction goes from wrong to right."""
    figure, (left, right) = _figure(2)
    side = torch.linspace(-1, 1, 32)
    disc = ((side**2 + side[:, None] ** 2) < 0.25).float()[None, None]
    right_by = torch.linspace(0.02, 0.98, 97)
    for part in ("bce", "dice", "tversky_focal"):
        coefs = {f"{name}_coef": float(name == part) for name in ("bce", "dice", "tversky_focal")}
        loss = lossreg.create_loss("seg/SegLoss", gt_channel_selector=0, **coefs)
        x = right_by.clone().requires_grad_()
        pred = disc * x.reshape(-1, 1, 1, 1) + (1 - disc) * (1 - x.reshape(-1, 1, 1, 1))
        values = value(loss, {"seg": pred}, {"gt_polygons_image": disc.expand_as(pred)})
        (slopes,) = torch.autograd.grad(values.sum(), x)
        left.plot(right_by, values.detach(), label=part.removesuffix("_focal"))
        right.plot(right_by, slopes)
    left.set(xlabel="probability of the right class", ylabel="value")
    right.set(xlabel="probability of the right class", ylabel="slope", ylim=(-6, 0.2))
    left.legend(frameon=False)
    return figure


def _directions(loss: str) -> Figure:
    figure, (axes,) = _figure(1)
    angle = torch.linspace(0, torch.pi, 181)
    tangent = torch.stack([angle.cos(), angle.sin()], 1).reshape(-1, 2, 1, 1).repeat(1, 1, 3, 3)
    for second in (90, 60, 30):
        u, v = torch.tensor([0.0, second]).deg2rad().mul(2j).exp()
        c0, c2 = u * v, -(u + v)
        field = ones(c0.real, c0.imag, c2.real, c2.imag, samples=len(angle))
        edges = ones(1.0, 1.0, 0.0, samples=len(angle))
        criterion = lossreg.create_loss(f"crossfield/{loss}")
        values = value(criterion, {"crossfield": field}, {"gt_field": tangent, "gt_polygons_image": edges})
        axes.plot(angle.rad2deg(), values, label=f"field at 0 and {second} degrees")
    axes.set(xlabel="angle of the edge's tangent", ylabel="value", xticks=range(0, 181, 30))
    axes.legend(frameon=False)
    return figure


def align() -> Figure:
    """Draw the alignment loss over the angle of an edge."""
    return _directions("CrossfieldAlignLoss")


def align90() -> Figure:
    """Draw the alignment loss of the normal over the angle of an edge."""
    return _directions("CrossfieldAlign90Loss")


def smooth() -> Figure:
    """Draw a noisy field and the negative gradient, which smooths it away from an edge."""
    figure, (left, right) = _figure(2, width=5.5)
    torch.manual_seed(0)
    row = torch.arange(24.0)
    step = torch.where(row < 12, -1.0, 1.0) + 0.25 * torch.randn(24, 24)
    field = step.expand(1, 4, 24, 24).clone().requires_grad_()
    edge = ((row - 11.5).abs() < 1).float().expand(24, 24)
    mask = torch.stack([torch.zeros(24, 24), edge, torch.zeros(24, 24)])[None]
    loss, _ = lossreg.create_loss("crossfield/CrossfieldSmoothLoss")({"crossfield": field}, {"gt_polygons_image": mask})
    (slope,) = torch.autograd.grad(loss, field)
    for axes, plane, title in ((left, step, "a plane of the field"), (right, -slope[0, 0], "negative gradient")):
        limit = float(plane.abs().max())
        axes.imshow(plane, cmap="PuOr", vmin=-limit, vmax=limit)
        axes.set(title=title, xticks=[11.5], xticklabels=["edge"], yticks=[])
    return figure


def seg_crossfield() -> Figure:
    """Draw the coupling loss over the direction and the magnitude of a slope."""
    figure, (axes,) = _figure(1)
    angle, size = torch.meshgrid(torch.linspace(0, torch.pi, 61), torch.linspace(0, 1, 31), indexing="ij")
    direction = torch.stack([angle.cos(), angle.sin()], -1).reshape(-1, 1, 2, 1, 1).repeat(1, 1, 1, 3, 3)
    pred = {
        "crossfield": ones(-1.0, 0.0, 0.0, 0.0, samples=angle.numel()),
        "seg_grads_normed": direction,
        "seg_grad_norm": size.reshape(-1, 1, 1, 1).repeat(1, 1, 3, 3),
    }
    values = value(lossreg.create_loss("crossfield/SegCrossfieldLoss", pred_channel=0), pred, {})
    shown = axes.contourf(angle.rad2deg(), size, values.reshape(angle.shape), levels=20, cmap="Blues")
    shown.set_edgecolor("face")  # no thin lines between the levels
    axes.set(xlabel="direction of the slope, field at 0 and 90 degrees", ylabel="magnitude", xticks=range(0, 181, 30))
    figure.colorbar(shown, label="value")
    return figure


def seg_edge_interior() -> Figure:
    """Draw the coupling loss over the edge and the slope of the interior, outside and inside a building."""
    figure, panels = _figure(2, width=6.5)
    edge, slope = torch.meshgrid(torch.linspace(0, 1, 41), torch.linspace(0, 1, 41), indexing="ij")
    loss = lossreg.create_loss("crossfield/SegEdgeInteriorLoss")
    for axes, interior, where in zip(panels, (0.0, 1.0), ("outside", "inside"), strict=True):
        planes = torch.stack([torch.full_like(edge, interior), edge], -1).reshape(-1, 2, 1, 1).repeat(1, 1, 3, 3)
        norm = slope.reshape(-1, 1, 1, 1).repeat(1, 1, 3, 3)
        values = value(loss, {"seg": planes, "seg_grad_norm": norm}, {}).reshape(edge.shape)
        shown = axes.contourf(edge, slope, values, levels=torch.linspace(0, 1, 21).tolist(), cmap="Blues")
        shown.set_edgecolor("face")
        axes.set(xlabel="predicted edge", ylabel="slope of the interior", title=f"{where} a building")
    figure.colorbar(shown, ax=panels, label="value")
    return figure


def _figure(panels: int, width: float = 7.0) -> tuple[Figure, list]:
    figure = Figure(figsize=(width, 2.8), layout="constrained")
    return figure, list(figure.subplots(1, panels, squeeze=False)[0])


DRAWN: dict[str, Callable[[], Figure]] = {
    "SegLoss": seg,
    "CrossfieldAlignLoss": align,
    "CrossfieldAlign90Loss": align90,
    "CrossfieldSmoothLoss": smooth,
    "SegCrossfieldLoss": seg_crossfield,
    "SegEdgeInteriorLoss": seg_edge_interior,
}


def table(plugin: str) -> str:
    """Return the losses of a plugin, installed or not, as a Markdown table."""
    losses = catalog().losses
    entries = [entry for entry in (*losses, *(e for e, _ in losses.absent)) if entry.plugin.name == plugin]
    rows = [f"| `{entry.name}` | {entry.spec.summary} |" for entry in sorted(entries, key=lambda entry: entry.name)]
    return "\n".join(["| name | summary |", "|---|---|", *rows]) + "\n"


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1] / "generated"
    folder.mkdir(parents=True, exist_ok=True)
    for name, draw in DRAWN.items():
        draw().savefig(folder / f"loss-{name}.svg", transparent=True)
    for library in ("torch", "smp", "monai", "kornia", "torchvision"):
        (folder / f"losses-{library}.md").write_text(table(library), encoding="utf-8")
