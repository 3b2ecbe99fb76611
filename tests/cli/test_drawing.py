"""Boxes have words for identifiers, in their order, and arrows are solid unless they are said to be dashed."""

from __future__ import annotations

from lossreg.cli.drawing import Arrow, Box, Drawing


def test_boxes_are_numbered_and_drawings_are_apart() -> None:
    drawing = Drawing()
    assert [drawing.box("batch key", "pred.x"), drawing.box("term", "a", "weight 1")] == ["n0", "n1"]
    assert drawing.boxes == [Box("n0", "batch key", "pred.x", ""), Box("n1", "term", "a", "weight 1")]
    assert Drawing().boxes == []
    assert Drawing().arrows == []


def test_an_arrow_is_solid() -> None:
    assert Arrow("n0", "n1") == Arrow("n0", "n1", dashed=False)
