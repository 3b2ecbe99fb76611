"""Generate scenes: rotated buildings with textured roofs and shadows, roads, trees and yards."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from shapely import Point, Polygon, affinity, box
from skimage.draw import disk
from skimage.draw import polygon as draw_polygon

from lossreg.demo.samples import Samples
from lossreg.demo.targets import Array, draw_targets

Floats = NDArray[np.float64]
_Indices = NDArray[np.intp]

_ROOFS = np.array([[0.62, 0.33, 0.24], [0.46, 0.44, 0.45], [0.50, 0.36, 0.27], [0.76, 0.73, 0.68], [0.38, 0.42, 0.50]])
_GRASS, _SOIL, _TREE, _ASPHALT = (
    np.array(colour) for colour in ([0.36, 0.46, 0.26], [0.55, 0.49, 0.37], [0.16, 0.28, 0.14], [0.47, 0.46, 0.45])
)


def generate_scenes(count: int, size: int, seed: int, stream: int = 0) -> Samples:
    """Return `count` RGB scenes of `size` x `size` pixels with their targets.

    Args:
        count: number of scenes, at least 1.
        size: side in pixels.
        seed: not negative; scene k of a seed and stream is the same for every `count`.
        stream: scenes of different streams are independent (training and held-out scenes).
    """
    scenes = []
    for k in range(count):
        rng = np.random.default_rng([seed, stream, k])
        buildings = place_buildings(rng, size)
        scenes.append({"image": _paint(rng, buildings, size), **draw_targets(buildings, size, size)})
    return Samples.stack(scenes)


def place_buildings(rng: Generator, size: int) -> list[Polygon]:
    """Return buildings that do not touch; most follow one street direction, and some cross the border."""
    street = rng.uniform(0, 180)
    wanted = rng.integers(3, 3 + max(1, round((size / 40) ** 2)))
    placed: list[Polygon] = []
    for _ in range(20 * wanted):
        angle = street + rng.choice([0, 90]) + rng.normal(0, 4) if rng.random() < 0.8 else rng.uniform(0, 180)
        building = affinity.rotate(_outline(rng), angle, origin=(0, 0))
        building = affinity.translate(building, *rng.uniform(0, size, 2))
        if all(building.distance(other) > 5 for other in placed):
            placed.append(building)
        if len(placed) == wanted:
            break
    return placed


def _outline(rng: Generator) -> Polygon:
    """Return the outline of a building at the origin: a rectangle, possibly with parts cut out."""
    length = rng.uniform(18, 40)
    width = length * rng.uniform(0.5, 0.95)
    whole = box(-length / 2, -width / 2, length / 2, width / 2)
    kind = rng.choice(["rectangle", "L", "T", "U"], p=[0.45, 0.3, 0.15, 0.1])
    dx, dy = length * rng.uniform(0.3, 0.5), width * rng.uniform(0.3, 0.5)
    corner = box(-length, -width, -length / 2 + dx, -width / 2 + dy)
    if kind == "L":
        return whole - corner
    if kind == "T":
        return whole - corner - affinity.scale(corner, -1, 1, origin=(0, 0))
    if kind == "U":
        return whole - box(-length / 6, -width, length / 6, -width / 2 + dy)
    return whole


def _paint(rng: Generator, buildings: list[Polygon], size: int) -> Array:
    """Return the image of a scene from above, (3, size, size) in 0 to 1."""
    image = _ground(rng, size)  # (size, size, 3)
    sun = rng.uniform(0, 2 * np.pi)
    sunward = np.array([np.cos(sun), np.sin(sun)])
    weather = 1 + 0.06 * _noise(rng, size, 4)
    _roads(rng, image, weather)
    for building in buildings:
        shadow = affinity.translate(building, *(-rng.uniform(3, 7) * sunward))
        image[_inside(shadow, size)] *= 0.45
        _roof(rng, image, building, sunward, weather)
    _trees(rng, image, sunward, buildings)
    image = gaussian_filter(image, (0.6, 0.6, 0)) * rng.uniform(0.8, 1.15)
    image += rng.normal(0, 0.025, image.shape)
    return np.ascontiguousarray(image.clip(0, 1).transpose(2, 0, 1), dtype=np.float32)


def _ground(rng: Generator, size: int) -> Floats:
    """Return the ground: patches of meadow and bare soil, with a fine grain."""
    soil = 1 / (1 + np.exp(-3 * (_noise(rng, size, 16) - 0.6)))[..., None]
    grain = 1 + 0.10 * _noise(rng, size, 3) + 0.08 * _noise(rng, size, 8)
    return (_GRASS * (1 - soil) + _SOIL * soil) * grain[..., None]


def _roads(rng: Generator, image: Floats, weather: Floats) -> None:
    """Draw a straight road, and a paved yard that looks similar to a roof, in most scenes."""
    size = len(image)
    angle = rng.uniform(0, 180)
    road = box(-2 * size, 0, 2 * size, rng.uniform(7, 12))
    yard = box(0, 0, *rng.uniform(12, 36, 2))
    for paved in (road, yard):
        if rng.random() < 0.7:
            turned = affinity.rotate(paved, angle, (0, 0))
            _pave(rng, image, weather, affinity.translate(turned, *rng.uniform(0, size, 2)))


def _pave(rng: Generator, image: Floats, weather: Floats, area: Polygon) -> None:
    inside = _inside(area, len(image))
    image[inside] = _ASPHALT * rng.uniform(0.8, 1.2) * weather[inside][:, None]


def _roof(rng: Generator, image: Floats, building: Polygon, sunward: Floats, weather: Floats) -> None:
    """Draw a roof: rows of tiles along the building, with different light on the two sides of the ridge."""
    rows, columns = _inside(building, len(image))
    corners = np.asarray(building.minimum_rotated_rectangle.exterior.coords)
    sides = np.diff(corners[:3], axis=0)
    along = max(sides, key=np.linalg.norm)
    along = along / np.linalg.norm(along)
    across = np.array([-along[1], along[0]])
    height = (np.stack([columns, rows], axis=1) + 0.5 - corners[:4].mean(axis=0)) @ across  # (K,)
    light = 1 + 0.28 * np.sign(height) * (across @ sunward)
    courses = 1 + rng.uniform(0.03, 0.10) * np.sin(2 * np.pi * height / rng.uniform(3, 5))
    colour = rng.choice(_ROOFS) * rng.uniform(0.85, 1.15)
    image[rows, columns] = colour * (light * courses * weather[rows, columns])[:, None]


def _trees(rng: Generator, image: Floats, sunward: Floats, buildings: list[Polygon]) -> None:
    """Draw round trees with shadows; a few reach over a roof."""
    size = len(image)
    for _ in range(rng.integers(3, 3 + max(1, size // 10))):
        centre, radius = rng.uniform(0, size, 2), rng.uniform(2.5, 6)  # (x, y)
        if any(building.contains(Point(centre)) for building in buildings):
            continue
        image[disk((centre - 0.6 * radius * sunward)[::-1], radius, shape=(size, size))] *= 0.6
        rows, columns = disk(centre[::-1], radius, shape=(size, size))
        lit = ((np.stack([columns, rows], axis=1) - centre) @ sunward) / radius  # (K,), -1 to 1
        image[rows, columns] = _TREE * (1.2 + 0.5 * lit + rng.normal(0, 0.15, len(lit)))[:, None]


def _inside(area: Polygon, size: int) -> tuple[_Indices, _Indices]:
    """Return rows and columns of the pixels inside a polygon without holes."""
    x, y = np.asarray(area.exterior.coords).T - 0.5  # skimage has pixel centres at integers
    rows, columns = draw_polygon(y, x, (size, size))
    return rows, columns


def _noise(rng: Generator, size: int, cell: int) -> Floats:
    """Return smooth noise (size, size) with unit standard deviation and features of about `cell` pixels."""
    smooth = gaussian_filter(rng.normal(size=(size, size)), cell / 2, mode="wrap")
    fine: Floats = smooth / smooth.std()
    return fine
