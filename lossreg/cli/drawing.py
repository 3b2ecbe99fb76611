"""A graph as boxes and arrows, for `lossreg graph` to write in any format."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["batch key", "preprocess", "key", "term", "group", "total"]


@dataclass(frozen=True)
class Box:
    """A node of the drawing.

    Attributes:
        id: its identity, a plain word.
        kind: what it stands for; a `key` is made by a preprocess, a `batch key` comes with the batch.
        title: its first line.
        detail: its second line; may be empty.
    """

    id: str
    kind: Kind
    title: str
    detail: str = ""


@dataclass(frozen=True)
class Arrow:
    """An edge of the drawing, dashed where a key is used only if it is there."""

    start: str
    end: str
    dashed: bool = False


@dataclass
class Drawing:
    """Boxes and arrows; every arrow leads from a box to a later one."""

    boxes: list[Box] = field(default_factory=list)
    arrows: list[Arrow] = field(default_factory=list)

    def box(self, kind: Kind, title: str, detail: str = "") -> str:
        """Add a box and return its id."""
        made = Box(f"n{len(self.boxes)}", kind, title, detail)
        self.boxes.append(made)
        return made.id
