"""The boxes and arrows of a graph, which `lossreg graph` writes in several formats."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["batch key", "preprocess", "key", "term", "group", "total"]


@dataclass(frozen=True)
class Box:
    """A node of the drawing.

    Attributes:
        id: the identifier, a word of ASCII letters and digits.
        kind: what the box represents; a preprocess computes a `key`, and the batch contains a `batch key`.
        title: the first line.
        detail: the second line; may be empty.
    """

    id: str
    kind: Kind
    title: str
    detail: str = ""


@dataclass(frozen=True)
class Arrow:
    """An edge of the drawing; it is dashed if a key is optional."""

    start: str
    end: str
    dashed: bool = False


@dataclass
class Drawing:
    """Boxes and arrows; every arrow goes from a box to a later one."""

    boxes: list[Box] = field(default_factory=list)
    arrows: list[Arrow] = field(default_factory=list)

    def box(self, kind: Kind, title: str, detail: str = "") -> str:
        """Add a box and return its id."""
        box = Box(f"n{len(self.boxes)}", kind, title, detail)
        self.boxes.append(box)
        return box.id
