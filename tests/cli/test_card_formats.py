"""The formats of a card: nothing that a file says is obeyed by a reader, a browser, TeX or a terminal."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from click.testing import Result
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from lossreg.cli.card_formats import FORMATS, Html, Latex, Markdown, _equation, _for_matplotlib, can_draw
from lossreg.cli.card_text import Formula, Heading, Link, Listing, Paragraph, Picture, Symbol, Table
from lossreg.cli.curves import Curve
from lossreg.config.card import Record
from lossreg.registry import catalog

EVIL = [
    "<script>alert(1)<script>", "<img src=x onerror=alert(1)>", "]]>", "-->", "<!-- lossreg-card:begin", "&lt;b&gt;",
    "% lossreg-card:begin", "\\input{passwd}", "\\end{document}", "\\immediate\\write18{touch pwned}", "}", "$x^", "%",
    "![a](javascript:alert)", "[a](b)", "`rm`", "```", "| a |", "# title", "- item", "1. one", "***", "~~~", "$$",
    "^^5cinput", "名前🎉", "ÄÖÜß¤ª", "x" * 100, "a " * 49 + "b", "*",
]  # fmt: skip
"""Names that a reader of some format might obey; each is printable and has no slash, as a name must."""


class Page(HTMLParser):
    """The tags, the attributes and the text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def hostile(write: Callable[[str], Path]) -> Path:
    """A file whose names, keys and arguments are hostile."""
    moving = {"schedule": "step", "values": [0, 1], "epoch_thresholds": [0, 5]}
    terms = [
        {"loss": "height", "name": name, "scale": 1, "mask": f"gt.{name}", "weight": moving if i < 15 else i}
        for i, name in enumerate(EVIL)
    ]
    return write(json.dumps({"losses": terms}, ensure_ascii=False))


@pytest.mark.filterwarnings("ignore:Glyph")
@pytest.mark.parametrize("suffix", FORMATS)
def test_a_card_of_hostile_names_is_rebuilt(
    run: Callable[..., Result], hostile: Path, tmp_path: Path, suffix: str
) -> None:
    result = run("card", hostile, "-o", tmp_path / f"card{suffix}")
    assert result.exit_code == 0, result.output
    record, changed = Record.read((tmp_path / f"card{suffix}").read_bytes(), "card")
    assert changed == []
    assert [leaf.name for leaf in record.parsed("card").leaves()] == EVIL


def test_a_page_has_no_tag_and_no_address_of_a_file(run: Callable[..., Result], hostile: Path, tmp_path: Path) -> None:
    run("card", hostile, "-o", tmp_path / "card.html")
    page = Page((tmp_path / "card.html").read_text())
    assert set(page.tags) <= {
        "html", "head", "meta", "title", "style", "body", "h1", "h2", "h3", "p", "table", "thead", "tr", "th", "td",
        "pre", "i", "sub", "img", "code", "a", "figure",
    }  # fmt: skip
    assert all(address.startswith(("data:image/svg+xml;base64,", "https://")) for address in page.addresses)
    assert not {name for name in page.attributes if name.startswith("on")}
    for name in EVIL:
        assert name in page.text


def test_markdown_shows_every_name_and_obeys_none(run: Callable[..., Result], hostile: Path) -> None:
    page = Page(MarkdownIt("commonmark", {"html": True}).enable("table").render(run("card", hostile).stdout))
    assert set(page.tags) <= {
        "h1", "h2", "h3", "p", "a", "pre", "code", "ul", "li", "table", "thead", "tbody", "tr", "th", "td"
    }  # fmt: skip
    assert all(address.startswith("https://") for address in page.addresses)
    text = " ".join(page.text.split())
    for name in EVIL:
        assert name in text


@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_the_terminal_gets_printable_markdown_only(text: str) -> None:
    form = Markdown()
    written = "".join(map(form.block, [Heading(text), Paragraph((text,)), Table(("a", "b"), (((text,), (text,)),))]))
    assert all(char.isprintable() or char == "\n" for char in written)
    assert not re.search(r"(?<!\\)(?:\\\\)*[`<>|]", written.replace("| a | b |", "").replace("| --- | --- |", "")
                         .replace(" | ", " ").replace("| ", "").replace(" |", ""))  # fmt: skip


@given(text=st.text(st.characters(max_codepoint=0x2FF, exclude_categories=["Cs", "Cc"]), max_size=60))
def test_tex_gets_no_command_of_a_text(text: str) -> None:
    written = Latex().text((text,))
    known = r"\\(?:textbackslash|textasciicircum|textasciitilde|textless|textgreater|textbar|textquotesingle|textasciigrave|allowbreak|char34)\{\}|\\[{}$&#%_]"  # noqa: E501
    rest = re.sub(known, "", written)
    assert not re.search(r"[\\$&#%_^~]", rest)
    assert rest.count("{") == rest.count("}")


def test_paragraphs_and_formulas_of_markdown_fit_80_columns() -> None:
    form = Markdown()
    text = form.paragraph(Paragraph(("word " * 40, Symbol("w", "4", "e"), " - a dash + a plus # a hash 1. a number")))
    assert max(map(len, text.splitlines())) <= 80
    assert not re.search(r"(?m)^(- |\+ |# |1\. )", text)
    latex = r"L = " + " + ".join([r"\mathrm{some\ words\ of\ it}"] * 9)
    block = form.formula(Formula((latex,)))
    assert max(map(len, block.splitlines())) <= 80
    assert " ".join(block.strip().splitlines()[1:-1]) == latex


def test_a_wide_table_of_markdown_is_a_list() -> None:
    table = Table(("Term", ">epoch 0", ">epoch 5"), ((("a" * 70,), ("0",), ("0.25",)),))
    assert Markdown().table(table) == f"- {'a' * 70}. epoch\n  0: 0; epoch 5: 0.25\n\n"
    narrow = Table(("Term", ">epoch 0"), ((("a",), ("0",)),))
    assert Markdown().table(narrow) == "| Term | epoch 0 |\n| --- | ---: |\n| a | 0 |\n\n"


def test_a_fence_is_longer_than_any_in_a_listing() -> None:
    assert Markdown().listing("a: '````'\n") == "`````yaml\na: '````'\n`````\n\n"


def test_one_equation_of_several_lines_is_aligned() -> None:
    formula = Formula(("L = a + b", "+ c"), is_one=True)
    written = Markdown().formula(formula)
    assert written == "```math\n\\begin{aligned}\nL &= a + b \\\\\n&\\quad + c\n\\end{aligned}\n```\n\n"
    assert "\\begin{aligned}" in Latex().formula(formula)
    assert Html().formula(formula).count('<p class="formula">') == 2


@pytest.mark.parametrize("url", ["https://a.b/c_d#e", "https://a.b/}\\input{x}", 'https://a.b/"><script>'])
def test_links(url: str) -> None:
    assert "\\input" not in Latex().link(url)
    assert Page(Html().link(url)).addresses == [url]
    assert Markdown().link(url) == f"<{url.replace('<', '%3C').replace('>', '%3E')}>"


def test_a_listing_in_tex_ends_where_it_ends() -> None:
    written = Latex().listing("a: \\end{verbatim}\n* b\n")
    assert "\\end{verbatim}" not in written
    assert "{*}" in written, "after a line break a star would be that of the command"


# --- pictures -------------------------------------------------------------------------------------

CURVES = (Curve("a", lambda epoch: epoch, (0.0, 5.0)),)


def test_a_picture_stands_beside_the_card_under_a_name_without_escapes(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for form, suffix in ((Markdown(tmp_path / "my card_%$"), "svg"), (Latex(tmp_path / "my card_%$"), "pdf")):
        written = form.picture(Picture(CURVES, 6.0, "epoch")) + form.picture(Picture(CURVES, 6.0, "step"))
        names = [f"my-card----weights.{suffix}", f"my-card----weights2.{suffix}"]
        assert [path.name for path in form.pictures] == names
        assert all(name in written for name in names)


def test_a_picture_of_many_terms_is_of_characters() -> None:
    many = Picture(tuple(Curve(str(i), lambda epoch: epoch, (0.0, 5.0)) for i in range(21)), 6.0, "epoch")
    assert not can_draw(many)
    assert "█" in Html().picture(many)
    assert "█" in Markdown(Path("card")).picture(many)


def test_a_page_holds_its_picture() -> None:
    pytest.importorskip("matplotlib")
    (address,) = Page(Html().picture(Picture(CURVES, 6.0, "epoch"))).addresses
    svg = base64.b64decode(address.removeprefix("data:image/svg+xml;base64,"))
    assert ElementTree.fromstring(svg).tag.endswith("svg")


@pytest.mark.needs_plugins
def test_every_formula_of_the_plugins_is_drawn() -> None:
    parser = pytest.importorskip("matplotlib.mathtext").MathTextParser("path")
    specs = [entry.spec for section in catalog().sections for entry in section if entry.spec.formula]
    lines = sorted({line for spec in specs for line in spec.formula.split(r" \qquad ")})
    assert len(lines) > 50
    for line in lines:
        assert parser.parse(f"${_for_matplotlib(line)}$").width > 0
    assert _equation(lines[0]).startswith("<img ")


def test_a_formula_that_cannot_be_drawn_is_shown_as_it_is() -> None:
    assert _equation(r"\begin{cases} a < b \end{cases}") == r"<code>\begin{cases} a &lt; b \end{cases}</code>"


# --- TeX itself -----------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
@pytest.mark.filterwarnings("ignore:Glyph")
@pytest.mark.parametrize("alone", [True, False])
def test_pdflatex_compiles_a_card_of_hostile_names(
    run: Callable[..., Result], hostile: Path, tmp_path: Path, alone: bool
) -> None:
    run("card", hostile, "-o", tmp_path / "card.tex")
    packages = "amsmath,array,graphicx,longtable,url"
    paper = rf"\documentclass{{article}}\usepackage{{{packages}}}\begin{{document}}a\input{{card}}b\input{{card}}c"
    (tmp_path / "paper.tex").write_text(paper + r"\end{document}")
    command: list[Any] = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "card" if alone else "paper"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / ("card.pdf" if alone else "paper.pdf")).exists()
    assert not (tmp_path / "pwned").exists()


def test_blocks_of_other_kinds_are_written_in_every_format() -> None:
    blocks = [Heading("t", 1), Heading("s", 3), Paragraph(("a ", Link("https://a.b"), Symbol("e"))), Listing("a: 1\n")]
    for form in (Markdown(), Html(), Latex()):
        assert all(form.block(block) for block in blocks)
