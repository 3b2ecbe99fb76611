"""`graph` draws keys, preprocesses and terms in four formats."""

import html
import re
import shutil
import subprocess
import sys
from xml.etree import ElementTree

import pytest

from lossreg.cli.drawing import Arrow, Drawing
from lossreg.cli.graph import dot, drawing_of, mermaid, running
from lossreg.cli.vector import svg
from lossreg.config.build import load_loss
from lossreg.printable import printable


@pytest.mark.parametrize(
    ("name", "begins"),
    [("g.svg", "<svg"), ("G.SVG", "<svg"), ("g.dot", "digraph"), ("g.gv", "digraph"), ("g.mmd", "flowchart")],
)
def test_the_suffix_of_the_file_says_how_it_is_written(run, good, tmp_path, name, begins):
    run("graph", good, "-o", tmp_path / name)
    assert (tmp_path / name).read_text().startswith(begins)


@pytest.mark.parametrize("name", ["g.png", "g", "-"])
def test_another_suffix_is_refused(run, good, tmp_path, name):
    result = run("graph", good, "-o", tmp_path / name)
    assert result.exit_code == 2
    assert "cannot tell what to write; write a .svg, .dot, .mmd or .txt" in result.stderr
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize(("name", "options"), [("g.txt", ()), ("g.svg", ("--format", "text"))])
def test_a_text_is_written_and_the_option_wins(run, good, tmp_path, name, options):
    run("graph", good, "-o", tmp_path / name, *options)
    assert "    reads pred.height" in (tmp_path / name).read_text()


@pytest.mark.needs_plugins
def test_what_cannot_be_drawn_is_told_without_torch(write):
    lone = write("loss: {loss: torch/L1Loss}\n")
    code = f"""
import sys
from click.testing import CliRunner
from lossreg.cli import main
result = CliRunner().invoke(main, ["graph", {str(lone)!r}])
assert "describes a single loss" in result.stderr, result.stderr
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.fixture
def drawing(good):
    return drawing_of(running(load_loss(good).plan()))


def test_boxes_and_arrows_are_the_graph(drawing):
    titles = {box.id: box.title for box in drawing.boxes}
    assert sorted((box.kind, box.title) for box in drawing.boxes) == [
        ("batch key", "gt.valid"),
        ("batch key", "pred.height"),
        ("group", "aux"),
        ("key", "pred.slope"),
        ("preprocess", "Slopes"),
        ("term", "aux/slope"),
        ("term", "aux/small"),
        ("term", "height"),
        ("term", "slope"),
        ("total", "total"),
    ]
    assert {(titles[a.start], titles[a.end], a.dashed) for a in drawing.arrows} == {
        ("pred.height", "Slopes", False),
        ("Slopes", "pred.slope", False),
        ("pred.height", "height", False),
        ("gt.valid", "height", True),
        ("pred.slope", "slope", False),
        ("pred.height", "aux/small", False),
        ("gt.valid", "aux/small", True),
        ("pred.slope", "aux/slope", False),
        ("aux/small", "aux", False),
        ("aux/slope", "aux", False),
        ("height", "total", False),
        ("slope", "total", False),
        ("aux", "total", False),
    }


def test_every_arrow_leads_forward(drawing):
    place = {box.id: i for i, box in enumerate(drawing.boxes)}
    assert all(place[a.start] < place[a.end] for a in drawing.arrows)


def test_text_is_an_outline_in_the_order_of_running(run, good):
    assert (
        run("graph", good).stdout
        == """\
preprocess Slopes (added automatically)
    reads pred.height
    makes pred.slope
term height: local/HeightLoss, weight 3
    reads pred.height, gt.valid (if there)
term slope: local/SlopeLoss, weight piecewise, not normalised
    reads pred.slope
group aux, weight 0.5
    term small: local/HeightLoss, weight cosine
        reads pred.height, gt.valid (if there)
    term slope: local/SlopeLoss, weight 2
        reads pred.slope
"""
    )


def test_a_node_of_a_group_that_never_runs_is_not_shown(good):
    plan = load_loss(good).plan()
    assert [item["name"] for item in plan[-1]["plan"]] == ["Slopes", "small", "slope"]
    assert [item["name"] for item in running(plan)[-1]["plan"]] == ["small", "slope"]


def test_mermaid(run, good):
    lines = run("graph", good, "--format", "mermaid").stdout.splitlines()
    assert lines[0] == "flowchart LR"
    assert '    n4["height<br/>local/HeightLoss, weight 3"]' in lines
    assert "    n3 -.-> n4" in lines


def test_names_are_escaped_in_every_format():
    drawing = Drawing()
    name = 'a "b" <c> & \\d #e'
    drawing.arrows.append(Arrow(drawing.box("term", name), drawing.box("total", "total")))
    assert '"a #34;b#34; #60;c#62; #38; #92;d #35;e"' in mermaid(drawing)
    assert 'label="a \\"b\\" <c> &amp; \\\\d #e"' in dot(drawing)
    texts = [node.text for node in ElementTree.fromstring(svg(drawing)).iter() if node.tag.endswith("}text")]
    assert name in texts


@pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not installed")
def test_graphviz_reads_the_dot(run, good):
    written = run("graph", good, "--format", "dot").stdout
    done = subprocess.run(["dot", "-Tplain"], input=written, capture_output=True, text=True, check=True)
    assert done.stdout.count("\nnode ") == 10
    assert done.stdout.count("\nedge ") == 13


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
def test_no_name_is_syntax_of_mermaid(name):
    drawing = Drawing()
    drawing.box("term", name, name)
    line = mermaid(drawing).splitlines()[1].removeprefix('    n0["').removesuffix('"]')
    assert not set(line.replace("<br/>", "")) & set('"[]{}<>%|`\\')
    decoded = re.sub(r"#(\d+);", lambda found: chr(int(found[1])), line)
    assert decoded == f"{printable(name)}<br/>{printable(name)}"


@pytest.mark.parametrize("name", EVIL)
def test_no_name_is_syntax_of_dot(name):
    drawing = Drawing()
    drawing.box("term", name)
    label = dot(drawing).splitlines()[3].partition('label="')[2].rpartition('", shape')[0]
    assert re.sub(r"\\.", "", label).count('"') == 0
    assert html.unescape(re.sub(r"\\(.)", r"\1", label)) == printable(name)
