"""A drawing as SVG: every box and arrow, no two boxes in one place, and no name that is syntax."""

import time
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossreg.cli.drawing import Arrow, Drawing
from lossreg.cli.graph import drawing_of, mermaid, running, text
from lossreg.cli.vector import svg
from lossreg.config.build import load_loss
from lossreg.printable import printable


@pytest.fixture
def drawing(good):
    return drawing_of(running(load_loss(good).plan()))


def test_svg_holds_every_box_and_arrow(run, good, drawing, tmp_path):
    file = tmp_path / "graph.svg"
    assert run("graph", good, "--format", "svg", "-o", file).stdout == f"wrote {file}\n"
    nodes = list(ElementTree.parse(file).iter())
    texts = {node.text for node in nodes if node.tag.endswith("}text")}
    assert {box.title for box in drawing.boxes} <= texts
    assert sum("marker-end" in node.attrib for node in nodes) == len(drawing.arrows)


def test_svg_of_thousands_of_keys_takes_no_time_for_each_pair():
    drawing = Drawing()
    keys = [drawing.box("batch key", f"pred.k{i}") for i in range(9_000)]
    term = drawing.box("term", "all")
    drawing.arrows += [Arrow(key, term) for key in keys] + [Arrow(term, drawing.box("total", "total"))]
    began = time.process_time()
    svg(drawing)
    assert time.process_time() - began < 5


@st.composite
def plans(draw, depth=2):
    """Plans with any keys, nodes that feed one another, terms and groups."""
    keys = st.lists(st.sampled_from([f"pred.k{i}" for i in range(6)]), unique=True, max_size=3)
    plan = [
        {
            "kind": "preprocess", "name": f"P{i}", "requires": draw(keys), "optional": [],
            "provides": [f"gt.made{i}"], "automatic": draw(st.booleans()),
        }
        for i in range(draw(st.integers(0, 3)))
    ]  # fmt: skip
    made = [item["provides"][0] for item in plan]
    for i in range(draw(st.integers(1, 4))):
        item = {"name": f"t{i}", "weight": 1.0, "requires": draw(keys) + made[:i], "optional": []}
        if depth and draw(st.booleans()):
            plan.append(item | {"kind": "group", "plan": draw(plans(depth=depth - 1))})
        else:
            plan.append(item | {"kind": "term", "loss": "L", "normalize": True, "optional": draw(keys)})
    return plan


@given(plans())
def test_any_plan_is_drawn_without_two_boxes_in_one_place(plan):
    drawing = drawing_of(running(plan))
    frames = [
        [float(node.attrib[side]) for side in ("x", "y", "width", "height")]
        for node in ElementTree.fromstring(svg(drawing)).iter()
        if "rx" in node.attrib
    ]
    assert len(frames) == len(drawing.boxes)
    for i, (x, y, width, height) in enumerate(frames):
        for x2, y2, width2, height2 in frames[:i]:
            assert x + width <= x2 or x2 + width2 <= x or y + height <= y2 or y2 + height2 <= y
    assert mermaid(drawing).count("\n") == len(drawing.boxes) + len(drawing.arrows)
    assert text(running(plan))


EVIL = [
    "%%{init: {'theme': 'dark'}}%%",
    'a"] --> b["',
    "a]b[c",
    "a;b",
    "</text><script>",
    "a\x1b[2J",
    "a\u202eb",
    "&lt;",
    "--",
    "]]>",
]


@pytest.mark.parametrize("name", EVIL)
def test_no_name_is_syntax_of_svg(name):
    drawing = Drawing()
    drawing.box("term", name)
    texts = [node.text for node in ElementTree.fromstring(svg(drawing)).iter() if node.tag.endswith("}text")]
    assert texts == [printable(name)]
