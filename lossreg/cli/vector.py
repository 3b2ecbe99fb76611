"""Write a drawing as SVG: boxes in columns by their distance from the batch, arrows from left to right."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean
from xml.sax.saxutils import escape

from lossreg.cli.drawing import Arrow, Box, Drawing
from lossreg.printable import printable

FILL = {
    "batch key": "#f2f2f2",
    "preprocess": "#fdebc8",
    "key": "#fdf6e8",
    "term": "#d6e6f5",
    "group": "#d9efdc",
    "total": "#cfcfe8",
}
_LETTER = 7.0  # mean width of a 12 px sans-serif letter
_HEIGHT, _FREE, _GAP, _BETWEEN, _MARGIN = 38, 4, 16, 80, 16


@dataclass(frozen=True)
class _Place:
    left: float
    middle: float
    width: float


def svg(drawing: Drawing) -> str:
    """Return the SVG of a drawing; boxes have the width of their text, and the picture fits the boxes."""
    level = _levels(drawing)
    routes = [_route(arrow, level) for arrow in drawing.arrows]
    places, width, height = _places(drawing, _columns(drawing, level, routes))
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" font-family="sans-serif" font-size="12">',
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto"><path d="M0 0L8 4L0 8z" fill="#666"/></marker></defs>',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for arrow, route in zip(drawing.arrows, routes, strict=True):
        lines.append(_arrow([places[stop] for stop in route], arrow.dashed))
    lines += [_box(box, places[box.id]) for box in drawing.boxes]
    return "\n".join([*lines, "</svg>"])


def _levels(drawing: Drawing) -> dict[str, int]:
    """Return the column of each box, after all that it reads; terms share one, batch keys are next to their readers."""
    level = {box.id: 0 for box in drawing.boxes}
    reads, readers = defaultdict(list), defaultdict(list)
    for arrow in drawing.arrows:
        reads[arrow.end].append(arrow.start)
        readers[arrow.start].append(arrow.end)
    terms = [box.id for box in drawing.boxes if box.kind == "term"]
    for _ in range(2):  # the second pass moves what follows the terms behind them
        for box in drawing.boxes:
            level[box.id] = max([level[box.id], *(level[start] + 1 for start in reads[box.id])])
        level |= dict.fromkeys(terms, max((level[term] for term in terms), default=0))
    for box in drawing.boxes:
        if box.kind == "batch key":
            level[box.id] = min(level[end] for end in readers[box.id]) - 1
    return level


def _route(arrow: Arrow, level: Mapping[str, int]) -> list[str]:
    """Return the stops of an arrow: its two boxes, and a free place in each column between them."""
    between = range(level[arrow.start] + 1, level[arrow.end])
    return [arrow.start, *(f"{arrow.start}>{arrow.end}@{i}" for i in between), arrow.end]


def _columns(drawing: Drawing, level: Mapping[str, int], routes: Sequence[Sequence[str]]) -> list[list[str]]:
    """Return the boxes and free places of each column, sorted so that few arrows cross."""
    columns: list[list[str]] = [[] for _ in range(max(level.values()) + 1)]
    before: dict[str, list[str]] = defaultdict(list)
    after: dict[str, list[str]] = defaultdict(list)
    for box in drawing.boxes:
        columns[level[box.id]].append(box.id)
    for route in routes:
        for i, stop in enumerate(route[1:-1], level[route[0]] + 1):
            columns[i].append(stop)
        for start, end in pairwise(route):
            before[end].append(start)
            after[start].append(end)
    row = {stop: i - len(column) / 2 for column in columns for i, stop in enumerate(column)}
    for neighbours, order in ((before, columns), (after, columns[::-1])) * 4:
        for column in order:
            column.sort(key=lambda stop: fmean([row[n] for n in neighbours[stop]] or [row[stop]]))
            row |= {stop: i - len(column) / 2 for i, stop in enumerate(column)}
    return columns


def _places(drawing: Drawing, columns: list[list[str]]) -> tuple[dict[str, _Place], float, float]:
    """Return the places of all boxes and free places, and the width and height of the picture."""
    widths = {box.id: 22 + _LETTER * max(len(box.title), len(box.detail), 3) for box in drawing.boxes}
    heights = [sum(_HEIGHT if stop in widths else _FREE for stop in c) + _GAP * (len(c) - 1) for c in columns]
    places = {}
    left = float(_MARGIN)
    for column, height in zip(columns, heights, strict=True):
        widest = max((widths[stop] for stop in column if stop in widths), default=0.0)
        top = _MARGIN + (max(heights) - height) / 2
        for stop in column:
            width, own = (widths[stop], _HEIGHT) if stop in widths else (widest, _FREE)
            places[stop] = _Place(left + (widest - width) / 2, top + own / 2, width)
            top += own + _GAP
        left += widest + _BETWEEN
    return places, left - _BETWEEN + _MARGIN, 2 * _MARGIN + max(heights)


def _arrow(stops: Sequence[_Place], dashed: bool) -> str:
    """Return a curve from the right of the first stop to the left of the last, horizontal at the stops between."""
    path = f"M{stops[0].left + stops[0].width:.1f} {stops[0].middle:.1f}"
    for start, end in pairwise(stops):
        x0, x1 = start.left + start.width, end.left
        half = (x0 + x1) / 2
        path += f"H{x0:.1f}C{half:.1f} {start.middle:.1f} {half:.1f} {end.middle:.1f} {x1:.1f} {end.middle:.1f}"
    dashes = ' stroke-dasharray="5 4"' if dashed else ""
    return f'<path d="{path}" fill="none" stroke="#666"{dashes} marker-end="url(#tip)"/>'


def _box(box: Box, place: _Place) -> str:
    centre = place.left + place.width / 2
    rounding = {"preprocess": 12, "total": 19}.get(box.kind, 3)
    titles = [(box.title, ' font-weight="bold"' if box.kind in ("term", "group", "total") else "", "#111")]
    titles += [(box.detail, ' font-size="11"', "#444")] if box.detail else []
    first = place.middle + 4 - 7.5 * (len(titles) - 1)
    texts = [
        f'<text x="{centre:.1f}" y="{first + 15 * i:.1f}" text-anchor="middle" fill="{colour}"{style}>'
        f"{escape(printable(line))}</text>"
        for i, (line, style, colour) in enumerate(titles)
    ]
    frame = (
        f'<rect x="{place.left:.1f}" y="{place.middle - _HEIGHT / 2:.1f}" width="{place.width:.1f}" '
        f'height="{_HEIGHT}" rx="{rounding}" fill="{FILL[box.kind]}" stroke="#888"/>'
    )
    return "\n".join([frame, *texts])
