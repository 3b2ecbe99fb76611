"""Write a page for each registered loss, from its spec and `lossreg show`, the table of all losses, and the pictures.

`python docs/generate/losses.py [DOCS]` writes `losses/PLUGIN/NAME.md`, `generated/losses.md` and
`generated/loss-NAME.svg` in the folder of the documentation. The loss of a library that is not installed is described
by its spec alone. The pictures are computed with the losses.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from click.testing import CliRunner
from matplotlib.figure import Figure
from torch import Tensor

import lossreg
from lossreg.cli import main as program
from lossreg.registry import catalog
from lossreg.registry.components import Entry
from lossreg.registry.packages import install_line

Batch = dict[str, Tensor]

CLASSES = {"seg": "lossreg_seg", "crossfield": "lossreg_crossfield"}
"""The plugins whose docstrings are written for these pages, each with the module of its classes."""

# --- pictures -------------------------------------------------------------------------------------


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
    figure, (left, right) = _figure(2)
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
    axes.set(xlabel="direction of the slope; field at 0 and 90 degrees", ylabel="magnitude", xticks=range(0, 181, 30))
    figure.colorbar(shown, label="value")
    return figure


def seg_edge_interior() -> Figure:
    """Draw the coupling loss over the edge and the slope of the interior, outside and inside a building."""
    figure, panels = _figure(2)
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


def _figure(panels: int) -> tuple[Figure, list]:
    figure = Figure(figsize=(4.6, 2.6 * panels), layout="constrained")  # its text can be read on a phone
    return figure, list(figure.subplots(panels, squeeze=False)[:, 0])


class Picture(NamedTuple):
    """The plot of a loss, and what it shows."""

    draw: Callable[[], Figure]
    caption: str


DRAWN = {
    "SegLoss": Picture(
        seg,
        "The parts of the loss and their slopes over the probability of the correct class, for a disc in a 32x32 "
        "image.",
    ),
    "CrossfieldAlignLoss": Picture(
        align, "The value over the angle of an edge, for a field with right angles and for two with skew angles."
    ),
    "CrossfieldAlign90Loss": Picture(
        align90, "The value over the angle of an edge. The field is compared with the edge's normal."
    ),
    "CrossfieldSmoothLoss": Picture(
        smooth,
        "A noisy plane with a step at an edge, and the negative gradient. On the edge the gradient is 0, so the step "
        "may stay.",
    ),
    "SegCrossfieldLoss": Picture(
        seg_crossfield, "The value over the direction and the magnitude of a slope, for a field with right angles."
    ),
    "SegEdgeInteriorLoss": Picture(
        seg_edge_interior, "The value over the predicted edge and the slope of the interior."
    ),
}

# --- pages ----------------------------------------------------------------------------------------

Loss = Entry[lossreg.LossSpec]


def described() -> list[Loss]:
    """Return all losses whose plugin describes them, also those of libraries that are not installed, by name."""
    losses = catalog().losses
    every = [*losses, *(absent for absent, _ in losses.absent)]
    return sorted((entry for entry in every if entry.spec.tasks), key=lambda entry: entry.name.lower())


def page(entry: Loss) -> str:
    """Return the page of a loss."""
    spec = entry.spec
    shown = _shown(entry)
    parts = [
        "---\norphan: true\n---",
        f"# {entry.name}",
        f"{spec.summary[0].upper()}{plain(spec.summary[1:])}. [All losses](../../losses.md)",
        "\n".join(f"- **{title}:** {text}" for title, text in _facts(entry, shown)),
    ]
    if spec.formula:
        parts += ["## Formula", *(f"$${equation}$$" for equation in spec.formula.split(r" \qquad "))]
    parts += ["## In YAML", f"```yaml\n{_yaml(entry, shown)}```"]
    if picture := DRAWN.get(spec.name):
        parts += [
            f":::{{figure}} ../../generated/loss-{spec.name}.svg\n:alt: {picture.caption}\n\n{picture.caption}\n:::"
        ]
    if entry.plugin.name in CLASSES:
        module = CLASSES[entry.plugin.name]
        parts += ["## Reference", f"```{{eval-rst}}\n.. autoclass:: {module}.{spec.name}\n```"]
    elif parameters := shown.get("parameters"):
        parts += ["## Parameters", _table(parameters)]
    return "\n\n".join(parts) + "\n"


def _shown(entry: Loss) -> dict[str, Any]:
    """Return what `lossreg show --json` prints; nothing for a loss that is not installed."""
    if entry not in list(catalog().losses):
        return {}
    result = CliRunner().invoke(program, ["show", entry.name, "--json"], catch_exceptions=False)
    return dict(json.loads(result.stdout))


def _facts(entry: Loss, shown: dict[str, Any]) -> Iterator[tuple[str, str]]:
    spec = entry.spec
    keys = [*shown.get("requires", ()), *(f"{key} (optional)" for key in shown.get("optional", ()))]
    facts = {
        "For": ", ".join(spec.tasks),
        "Prediction": plain(spec.prediction),
        "Target": plain(spec.ground_truth),
        "Keys": ", ".join(re.sub(r"^\S+", r"`\g<0>`", key) for key in keys) or _keys_of_a_term(entry),
        "A mask chooses": _masking(spec.masking or ("elements; with a count" if shown.get("mask") == "yes" else "")),
        "Search words": plain(", ".join(spec.words)),
        "Other names": ", ".join(f"`{alias}`" for alias in spec.aliases),
        "Source": _linked(spec.source),
        "Documentation": f"[{spec.url.partition('://')[2].partition('/')[0]}]({spec.url})" if spec.url else "",
        "Install": f"`{install_line(spec.package)}`" if spec.package else "",
    }
    return ((title, text) for title, text in facts.items() if text)


def _keys_of_a_term(entry: Loss) -> str:
    """Return what names the tensors of a wrapped loss that reads no keys of its own."""
    if "inputs" in entry.spec.wrap or entry.plugin.name in CLASSES:
        return ""
    return "`pred_key` of the term" if entry.spec.ground_truth == "none" else "`pred_key` and `gt_key` of the term"


def _masking(text: str) -> str:
    """Return what a mask chooses, or why the loss takes none."""
    return f"nothing: {plain(text.removeprefix('no: '))}" if text.startswith("no: ") else plain(text)


def _linked(source: str) -> str:
    """Return a source with its arXiv number or its DOI as a link."""
    text = plain(re.sub(r", (arXiv|doi):\S+$", "", source))
    if found := re.search(r"(arXiv|doi):(\S+)$", source):
        home = {"arXiv": "https://arxiv.org/abs", "doi": "https://doi.org"}[found[1]]
        return f"{text}, [{found[1]}:{plain(found[2])}](<{home}/{found[2]}>)"
    return text


def _yaml(entry: Loss, shown: dict[str, Any]) -> str:
    """Return the term of a config, one key a line."""
    line = shown.get("yaml", f"- {{loss: {entry.name}, weight: 1.0}}")
    (term,) = yaml.safe_load(line)
    return yaml.safe_dump([{**term, "loss": entry.name}], sort_keys=False, default_flow_style=False)


def _table(parameters: list[dict[str, Any]]) -> str:
    rows = [
        f"| `{p['name']}` | {_code(p['type'] or 'any')} | {'required' if p['required'] else _code(_default(p))} "
        f"| {plain(p['doc'])} |"
        for p in parameters
    ]
    return _styled("keys", ("parameter", "type", "default", "meaning"), rows)


def _styled(style: str, head: tuple[str, ...], rows: list[str]) -> str:
    """Return a table of a class of the style sheet."""
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|", *rows]
    return "\n".join([f":::{{table}}\n:class: {style}\n", *lines, ":::"])


def _default(parameter: dict[str, Any]) -> str:
    return json.dumps(parameter.get("default"), default=repr)


def _code(text: str) -> str:
    return f"`{text}`".replace("|", "\\|")


_ROLE = re.compile(
    r":[\w:]+:`~?([^`<]*?)(?: *<[^`]*>)?`"
)  # :attr:`margin`, :class:`~torch.Tensor`, :ref:`text <target>`
_LINK = re.compile(r"`([^`<]+?) *<[^`>]*>`_+")  # `text <address>`_
_CODE = re.compile(r"``?([^`]+)``?")


def plain(text: str) -> str:
    """Return a library's sentence as Markdown: its reStructuredText roles as code, all other characters as they are."""
    text = _LINK.sub(r"\1", _ROLE.sub(r"`\1`", text))
    text = re.sub(r"\s*\.\. math::.*", " (a formula)", text)
    text = re.sub(r"\.\. [\w-]+::\s*", "", text)
    pieces = _CODE.split(text)  # every other piece is code
    return "".join(
        _code(piece.replace("\n", " ")) if i % 2 else re.sub(r"([\\*_{}\[\]<>|$#`~])", r"\\\1", piece)
        for i, piece in enumerate(pieces)
    )


def table(entries: list[Loss]) -> str:
    """Return the table of all losses; the script of the page filters it by task."""
    rows = [
        f"| [{entry.name}](losses/{entry.name}.md) | {plain(entry.spec.summary)} | {', '.join(entry.spec.tasks)} |"
        for entry in entries
    ]
    return _styled("losses", ("loss", "what it is", "for"), rows) + "\n"


def pages() -> dict[str, str]:
    """Return the text of each page by its path in the folder of the documentation."""
    entries = described()
    return {
        "generated/losses.md": table(entries),
        **{f"losses/{entry.name}.md": page(entry) for entry in entries},
    }


def main(docs: Path) -> None:
    """Write the pages and the pictures into the folder of the documentation."""
    for path, text in pages().items():
        (docs / path).parent.mkdir(parents=True, exist_ok=True)
        (docs / path).write_text(text, encoding="utf-8")
    for name, picture in DRAWN.items():
        picture.draw().savefig(docs / "generated" / f"loss-{name}.svg", transparent=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1])
