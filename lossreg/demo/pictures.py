"""Two pictures of a run: the terms over the epochs, and predictions for held-out images."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from torch import Tensor

from lossreg.atomic import replacing
from lossreg.demo.files import PANEL, TERMS
from lossreg.demo.train import Run

_CHANNELS = np.array([[0.20, 0.45, 0.95], [1.00, 0.78, 0.10], [0.95, 0.15, 0.25]])  # interior, edge, vertex
_ROWS = 3
_WIDTH = 7.2  # of a picture, in inches
_TEXT = 14  # in points; it can be read where a picture is as narrow as a phone
_SPACING = 5  # pixels between the crosses of the frame field

Floats = NDArray[np.float64]


def draw_pictures(run: Run, output: Path) -> None:
    """Write both pictures into the folder of a run."""
    for name, draw in ((TERMS, _draw_terms), (PANEL, _draw_panel)):
        with mpl.rc_context({"font.size": _TEXT, "axes.titlesize": _TEXT}), replacing(output / name) as draft:
            figure = draw(run)
            FigureCanvasAgg(figure)
            figure.savefig(draft, format="png", dpi=110, metadata={"Software": None})


# --- terms ----------------------------------------------------------------------------------------


def _draw_terms(run: Run) -> Figure:
    """Return a figure of each term divided by its norm, the weights, and the held-out IoU over the epochs."""
    figure = Figure(figsize=(_WIDTH, 6.4), layout="constrained")
    (values, weights), (iou, names) = figure.subplots(2, 2)
    rows = run.history
    epochs = [row["epoch"] for row in rows]
    paths = [path for path, _ in run.criterion.leaves()]
    palette = mpl.colormaps["tab10"].resampled(max(10, len(paths)))
    for i, path in enumerate(paths):
        colour = palette(i)
        value = [row.get(f"value/{path}", np.nan) / row.get(f"norm/{path}", np.nan) for row in rows]
        values.plot(epochs, value, color=colour, label=path, marker=".")
        weights.plot(epochs, [row.get(f"weight/{path}", np.nan) for row in rows], color=colour, marker=".")
    values.set(title="terms: value / norm", yscale="log")
    weights.set(title="effective weights")
    weights.set_yscale("symlog", linthresh=1e-2)
    weights.set_ylim(bottom=0)
    iou.plot(epochs, [row["iou"] for row in rows], color="black", marker=".", label="trained")
    iou.axhline(run.untrained_iou, color="grey", linestyle="--", label="untrained")
    iou.set(title="IoU, held-out images", ylim=(0, 1))
    iou.legend(frameon=False)
    names.legend(*values.get_legend_handles_labels(), loc="center", frameon=False)
    names.set_axis_off()
    for axes in (values, weights, iou):
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


# --- panel ----------------------------------------------------------------------------------------


@torch.no_grad()
def _draw_panel(run: Run) -> Figure:
    """Return a figure of held-out images with their targets, predictions and frame fields."""
    chosen = _with_buildings(run.held_out.tensors["gt_polygons_image"])
    batch = run.held_out.batch(chosen)
    run.network.eval()
    predicted = run.network(batch["image"])
    figure = Figure(figsize=(_WIDTH, 1.8 * len(chosen) + 0.4), layout="constrained")
    grid = figure.subplots(len(chosen), 4, squeeze=False)
    for row, axes in enumerate(grid):
        picture = _rgb(batch["image"][row])
        axes[0].imshow(picture)
        axes[1].imshow(_overlay(picture, batch["gt_polygons_image"][row]))
        axes[2].imshow(_overlay(picture, predicted["seg"][row]))
        axes[3].imshow(_faded(picture))
        _draw_field(axes[3], predicted["crossfield"][row], predicted["seg"][row])
    for axes, title in zip(grid[0], ("image", "target", "prediction", "frame field"), strict=True):
        axes.set_title(title)
    for axes in grid.flat:
        axes.set_axis_off()
    return figure


def _with_buildings(targets: Tensor) -> Tensor:
    """Return the indices of the first images with more than 1 % buildings; other images follow if there are too few."""
    covered = targets[:, 0].mean(dim=(1, 2)) > 0.01
    return torch.argsort(~covered, stable=True)[:_ROWS].sort().values


def _rgb(image: Tensor) -> Floats:
    """Return the first three bands of an image, or the first one as grey, with shape (H, W, 3)."""
    bands = image[:3] if len(image) >= 3 else image[:1].expand(3, -1, -1)
    return np.asarray(bands.permute(1, 2, 0).clamp(0, 1), dtype=np.float64)


def _faded(picture: Floats) -> Floats:
    grey: Floats = picture.mean(axis=2, keepdims=True).repeat(3, axis=2)
    return 0.55 * grey + 0.1


def _overlay(picture: Floats, channels: Tensor) -> Floats:
    """Return a grey picture with interior, edge and vertex (3, H, W), 0 to 1, drawn over it."""
    result: Floats = _faded(picture)
    for channel, colour, strength in zip(
        np.asarray(channels, dtype=np.float64), _CHANNELS, (0.6, 0.9, 1.0), strict=True
    ):
        opacity = strength * channel[..., None]
        result = (1 - opacity) * result + opacity * colour
    return np.clip(result, 0, 1)


def field_directions(crossfield: Tensor) -> NDArray[np.complex128]:
    """Return the two directions of a frame field (4, H, W) as unit complex numbers (2, H, W), row + i column.

    They are the roots of `z^4 + c2 z^2 + c0`, up to the sign.
    """
    real0, imag0, real2, imag2 = crossfield.double().numpy()
    c0, c2 = real0 + 1j * imag0, real2 + 1j * imag2  # (H, W)
    root = np.sqrt(c2**2 - 4 * c0)
    directions = np.sqrt(np.stack([-c2 + root, -c2 - root]) / 2)
    return np.asarray(directions / np.maximum(np.abs(directions), 1e-9), dtype=np.complex128)


def _draw_field(axes: Axes, crossfield: Tensor, seg: Tensor) -> None:
    """Draw the field as crosses, which are bright on buildings."""
    directions = field_directions(crossfield)
    half = _SPACING // 2
    rows, columns = np.mgrid[half : seg.shape[1] : _SPACING, half : seg.shape[2] : _SPACING].reshape(2, -1)
    opacity = 0.15 + 0.85 * np.asarray(seg.amax(dim=0))[rows, columns]
    for direction, colour in zip(directions, ((0.1, 0.9, 0.9), (1.0, 0.45, 0.75)), strict=True):
        arm = 0.45 * _SPACING * direction[rows, columns]
        steps = np.stack([arm.imag, arm.real], axis=1)  # (K, 2), as x and y
        centre = np.stack([columns, rows], axis=1)
        segments = np.stack([centre - steps, centre + steps], axis=1)
        colours = [(*colour, alpha) for alpha in opacity]
        axes.add_collection(LineCollection(list(segments), colors=colours, linewidths=1.2), autolim=False)
