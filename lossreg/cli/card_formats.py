"""Write the blocks of a loss card in Markdown, HTML or LaTeX; all text is escaped, since it may be a stranger's."""

from __future__ import annotations

import base64
import io
import re
import tempfile
import textwrap
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Sequence
from html import escape
from itertools import repeat
from pathlib import Path
from typing import Any, ClassVar, NoReturn

from lossreg.cli.card_text import (
    Block,
    Formula,
    Heading,
    Link,
    Listing,
    Paragraph,
    Picture,
    Symbol,
    Table,
    Text,
)
from lossreg.cli.curves import draw_file, draw_text
from lossreg.config.card import Record
from lossreg.printable import printable

WIDTH = 80
"""Characters of a line of Markdown."""
_MOST_PANELS, _MOST_LABELS = 20, 160  # of a picture, as `lossreg plot` draws it


def has_matplotlib() -> bool:
    """Return whether matplotlib is installed."""
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError:
        return False
    return True


def can_draw(picture: Picture) -> bool:
    """Return whether matplotlib is installed and draws a picture of so many terms in a second or two."""
    labels = sum(min(len(curve.knots) + 1, 20) for curve in picture.curves)
    return has_matplotlib() and len(picture.curves) <= _MOST_PANELS and labels <= _MOST_LABELS


class Format(ABC):
    """A format of a card.

    Args:
        beside: a path without a suffix; pictures go to files whose names begin with it. None puts no file beside the
            card.
    """

    picture_suffix: ClassVar[str] = ""
    comment: ClassVar[tuple[str, str, str]] = ("<!-- ", "", " -->")

    def __init__(self, beside: Path | None = None) -> None:
        self.beside = beside
        self.pictures: dict[Path, Picture] = {}

    def card(self, blocks: Sequence[Block], record: Record) -> str:
        """Return the whole card."""
        return record.written(self.document("".join(map(self.block, blocks))), *self.comment)

    def document(self, body: str) -> str:
        """Return the text with what stands around it."""
        return body

    def block(self, block: Block) -> str:
        """Return a block."""
        match block:
            case Heading():
                return self.heading(block)
            case Paragraph():
                return self.paragraph(block)
            case Formula():
                return self.formula(block)
            case Table():
                return self.table(block)
            case Listing():
                return self.listing(block.text)
            case Picture():
                return self.picture(block)

    def picture(self, picture: Picture) -> str:
        """Return a picture in a file beside the card, or else one of characters."""
        if self.beside is None or not can_draw(picture):
            return self.drawing(draw_text(picture.curves, picture.epochs, width=WIDTH - 2, unit=picture.unit))
        suffix = f"-weights{len(self.pictures) + 1 if self.pictures else ''}{self.picture_suffix}"
        # a name that needs no escape in any format
        path = self.beside.with_name(re.sub(r"[^A-Za-z0-9.-]", "-", self.beside.name) + suffix)
        self.pictures[path] = picture
        return self.image(path.name)

    def text(self, text: Text) -> str:
        """Return a text with its symbols and links."""
        return "".join(
            self.symbol(part)
            if isinstance(part, Symbol)
            else self.link(part.url)
            if isinstance(part, Link)
            else self.escaped(printable(part))
            for part in text
        )

    @abstractmethod
    def escaped(self, text: str) -> str:
        """Return a printable text that means nothing but itself in this format."""

    @abstractmethod
    def symbol(self, symbol: Symbol) -> str:
        """Return a symbol in a line of text."""

    @abstractmethod
    def link(self, url: str) -> str:
        """Return a link that shows its address."""

    @abstractmethod
    def heading(self, heading: Heading) -> str:
        """Return a heading."""

    @abstractmethod
    def paragraph(self, paragraph: Paragraph) -> str:
        """Return a paragraph."""

    @abstractmethod
    def formula(self, formula: Formula) -> str:
        """Return displayed equations."""

    @abstractmethod
    def table(self, table: Table) -> str:
        """Return a table."""

    @abstractmethod
    def listing(self, text: str) -> str:
        """Return a listing."""

    @abstractmethod
    def drawing(self, text: str) -> str:
        """Return a picture of characters."""

    @abstractmethod
    def image(self, name: str) -> str:
        """Return a picture that a file beside the card holds."""


# --- Markdown -------------------------------------------------------------------------------------


class Markdown(Format):
    """GitHub's Markdown, in lines of at most 80 characters; formulas are fenced `math` blocks."""

    picture_suffix = ".svg"

    def escaped(self, text: str) -> str:
        """Return a text with a backslash before each character that Markdown may obey."""
        return re.sub(r"([\\`*_{}\[\]<>#|$&~!])", r"\\\1", text)

    def symbol(self, symbol: Symbol) -> str:
        """Return a symbol between dollar signs."""
        return f"${symbol.latex}$"

    def link(self, url: str) -> str:
        """Return an autolink."""
        return f"<{url.replace('<', '%3C').replace('>', '%3E')}>"

    def heading(self, heading: Heading) -> str:
        """Return a heading with number signs."""
        return f"{'#' * heading.level} {self.text((heading.text,))}\n\n"

    def paragraph(self, paragraph: Paragraph) -> str:
        """Return a paragraph in lines of at most 80 characters."""
        return f"{_wrapped(_begun(self.text(paragraph.text)))}\n\n"

    def formula(self, formula: Formula) -> str:
        """Return a fenced block for each equation."""
        return "".join(f"```math\n{_wrapped_latex(equation)}\n```\n\n" for equation in _equations(formula))

    def table(self, table: Table) -> str:
        """Return a table; a list where a row has more than 80 characters."""
        rows = [[self.text(cell) for cell in row] for row in table.rows]
        heads = [self.escaped(column.removeprefix(">")) for column in table.columns]
        rule = ["---:" if column.startswith(">") else "---" for column in table.columns]
        lines = [f"| {' | '.join(row)} |" for row in (heads, rule, *rows)]
        if max(map(len, lines)) > WIDTH:
            return (
                "".join(_wrapped(f"- {_begun(_facts(table.columns, heads, row))}", "  ") + "\n" for row in rows) + "\n"
            )
        return "\n".join(lines) + "\n\n"

    def listing(self, text: str) -> str:
        """Return a fenced block of YAML."""
        return _fenced("yaml", text)

    def drawing(self, text: str) -> str:
        """Return a fenced block."""
        return _fenced("text", text)

    def image(self, name: str) -> str:
        """Return an image."""
        return f"![The weights of the terms]({name})\n\n"


def _begun(text: str) -> str:
    """Return a text that does not begin a list, also if it looks like it."""
    return re.sub(r"^([-+=]|[0-9]+[.)])", lambda match: f"{match[0][:-1]}\\{match[0][-1]}", text)


def _facts(columns: Sequence[str], heads: Sequence[str], row: Sequence[str]) -> str:
    """Return a row as a line: what it is of, its first one or two cells, and each other cell after its heading."""
    keys = 1 if columns[1].startswith(">") else 2
    rest = zip(heads[keys:], row[keys:], strict=True)
    return f"{', '.join(row[:keys])}. " + "; ".join(f"{head}: {cell}" for head, cell in rest)


def _wrapped(text: str, indent: str = "") -> str:
    """Return a text in lines that fit, none of which begins like a list or a heading of Markdown."""
    # a marker that must not begin a line stays with the word before it
    joined = re.sub(r" (?=[-+=#>]|[0-9]+[.)])", "\0", text)
    lines = textwrap.wrap(
        joined, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False, drop_whitespace=True
    )
    return "\n".join(lines).replace("\0", " ")


def _equations(formula: Formula) -> list[str]:
    """Return equations in LaTeX; the lines of one are aligned after its first sign of equality."""
    if not formula.is_one or len(formula.lines) == 1:
        return list(formula.lines)
    first, *others = formula.lines
    lines = [first.replace(" = ", " &= ", 1), *(rf"&\quad {line}" for line in others)]
    joined = " \\\\\n".join(lines)
    return [f"\\begin{{aligned}}\n{joined}\n\\end{{aligned}}"]


def _wrapped_latex(text: str) -> str:
    """Return LaTeX in lines that fit, broken at spaces that are not control spaces."""
    words = re.sub(r"(?<=\\) ", "\0", text)
    lines = [
        piece
        for line in words.split("\n")
        for piece in textwrap.wrap(line, WIDTH, break_long_words=False, break_on_hyphens=False)
    ]
    return "\n".join(lines).replace("\0", " ")


def _fenced(language: str, text: str) -> str:
    """Return a fenced block whose fence is longer than any in the text."""
    longest = max((len(ticks) for ticks in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip(chr(10))}\n{fence}\n\n"


# --- HTML -----------------------------------------------------------------------------------------

_STYLE = """\
body { font: 16px/1.5 system-ui, sans-serif; max-width: 50rem; margin: 2rem auto; padding: 0 1rem; color: #111;
  overflow-wrap: break-word; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2rem; } h3 { font-size: 1rem; margin-bottom: 0; }
p { margin: .5rem 0; }
table { border-collapse: collapse; width: 100%; margin: .5rem 0; }
th, td { padding: .15rem .6rem .15rem 0; border-bottom: 1px solid #ddd; text-align: left; vertical-align: top; }
th.n, td.n { text-align: right; } td.long { overflow-wrap: anywhere; }
pre { background: #f6f6f6; padding: .6rem; font-size: .8rem; line-height: 1.35; white-space: pre-wrap; }
img { max-width: 100%; } .formula { margin: .5rem 0 .5rem 1rem; break-inside: avoid; }
.formula img { vertical-align: middle; }
h2, h3 { break-after: avoid; } tr, pre.drawing, figure { break-inside: avoid; } figure { margin: .5rem 0; }
@page { size: A4; margin: 20mm; }
@media print { body { font-size: 10.5pt; margin: 0; max-width: none; padding: 0; } }"""
_LONG = re.compile(r"\S{40}")
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


class Html(Format):
    """One HTML file that loads nothing; matplotlib draws the formulas and the weights, if it is installed."""

    def document(self, body: str) -> str:
        """Return the page."""
        return (
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
            '<meta name="viewport" content="width=device-width">\n<title>Loss card</title>\n'
            f"<style>\n{_STYLE}\n</style>\n</head>\n<body>\n{body}</body>\n</html>\n"
        )

    def escaped(self, text: str) -> str:
        """Return a text with character references."""
        return escape(text)

    def symbol(self, symbol: Symbol) -> str:
        """Return a symbol in italics."""
        index = f"<sub>{symbol.index}</sub>" if symbol.index else ""
        return f"<i>{symbol.letter}</i>{index}" + (f"(<i>{symbol.of}</i>)" if symbol.of else "")

    def link(self, url: str) -> str:
        """Return a link."""
        return f'<a href="{escape(url)}">{escape(url)}</a>'

    def heading(self, heading: Heading) -> str:
        """Return a heading."""
        return f"<h{heading.level}>{self.text((heading.text,))}</h{heading.level}>\n"

    def paragraph(self, paragraph: Paragraph) -> str:
        """Return a paragraph."""
        return f"<p>{self.text(paragraph.text)}</p>\n"

    def formula(self, formula: Formula) -> str:
        """Return a picture for each equation; its LaTeX where it cannot be drawn."""
        lines = [line if i == 0 or not formula.is_one else rf"\qquad {line}" for i, line in enumerate(formula.lines)]
        return "".join(f'<p class="formula">{_equation(line)}</p>\n' for line in lines)

    def table(self, table: Table) -> str:
        """Return a table."""
        head = "".join(self._cell("th", (column.removeprefix(">"),), column) for column in table.columns)
        rows = ["".join(map(self._cell, repeat("td"), row, table.columns)) for row in table.rows]
        return "\n".join(["<table>", f"<thead><tr>{head}</tr></thead>", *(f"<tr>{r}</tr>" for r in rows), "</table>\n"])

    def _cell(self, kind: str, text: Text, column: str) -> str:
        classes = ["n"] if column.startswith(">") else []
        classes += ["long"] if _LONG.search(_plain(text)) else []  # a word that may break anywhere
        mark = f' class="{" ".join(classes)}"' if classes else ""
        return f"<{kind}{mark}>{self.text(text)}</{kind}>"

    def listing(self, text: str) -> str:
        """Return preformatted text."""
        return f"<pre>{escape(text.rstrip(chr(10)))}</pre>\n"

    def drawing(self, text: str) -> str:
        """Return preformatted text."""
        return f'<pre class="drawing">{escape(text)}</pre>\n'

    def picture(self, picture: Picture) -> str:
        """Return the picture in the page."""
        if not can_draw(picture):
            return super().picture(picture)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "weights.svg"
            draw_file(picture.curves, picture.epochs, path, unit=picture.unit)
            return f"<figure>{_embedded(path.read_bytes(), 'The weights of the terms')}</figure>\n"

    def image(self, name: str) -> NoReturn:
        """Raise: a page has no files beside it."""
        raise NotImplementedError(name)


def _embedded(svg: bytes, alternative: str, style: str = "") -> str:
    data = base64.b64encode(svg).decode()
    shaped = f' style="{style}"' if style else ""
    return f'<img alt="{escape(alternative)}"{shaped} src="data:image/svg+xml;base64,{data}">'


def _equation(latex: str) -> str:
    """Return an equation as a picture, or its LaTeX if matplotlib is not installed or cannot read it."""
    code = f"<code>{escape(latex)}</code>"
    if not has_matplotlib():
        return code
    import matplotlib as mpl
    from matplotlib.font_manager import FontProperties
    from matplotlib.mathtext import math_to_image

    svg = io.BytesIO()
    try:
        with mpl.rc_context({"mathtext.fontset": "cm", "svg.hashsalt": "lossreg"}):
            math_to_image(f"${_for_matplotlib(latex)}$", svg, prop=FontProperties(size=13), format="svg")
    except Exception:  # what matplotlib cannot read is shown as it is
        return code
    return _embedded(svg.getvalue(), latex)


def _for_matplotlib(latex: str) -> str:
    """Return an equation with what LaTeX does by itself: fractions at full size, a space before an operator."""
    before = re.sub(
        r"(?<=[\w})\]]) (?=\\(?:operatorname|log|exp|max|min|cos|sin|tan|sum|prod|int)(?![A-Za-z]))", r" \\, ", latex
    )
    spaced = re.sub(r"\\(?:sum|prod|int)(?![A-Za-z])(?:[_^](?:\w|\{[^{}]*\}))* ", r"\g<0>\\, ", before)
    depth, pieces = 0, re.split(r"([{}]|\\frac\b)", spaced)
    for i, piece in enumerate(pieces):
        depth += {"{": 1, "}": -1}.get(piece, 0)
        if piece == r"\frac" and not depth:
            pieces[i] = r"\dfrac"
    return "".join(pieces)


# --- LaTeX ----------------------------------------------------------------------------------------

_PREAMBLE = r"""% A loss card of lossreg. Compile it by itself, or \input it into a document that loads
% the packages amsmath, array, graphicx, longtable and url.
\makeatletter
\newif\iflossregalone
\ifx\documentclass\@twoclasseserror\else\lossregalonetrue\fi
\makeatother
\iflossregalone
\documentclass[a4paper]{article}
\usepackage[T1]{fontenc}
\usepackage[utf8]{inputenc}
\IfFileExists{lmodern.sty}{\usepackage{lmodern}}{}
\usepackage{amsmath,array,graphicx,longtable,url}
\usepackage[margin=25mm]{geometry}
\begin{document}
\fi
\begingroup
\setlength{\parindent}{0pt}
\setlength{\parskip}{4pt}
\raggedright
% an equation that is wider than the page is made smaller
\newcommand\lossregequation[1]{\par\sbox0{$\displaystyle #1$}\hspace*{1em}%
\ifdim\wd0>\dimexpr\linewidth-1em\relax\resizebox{\dimexpr\linewidth-1em\relax}{!}{\usebox0}%
\else\usebox0\fi\par}
"""
_END = "\\par\\endgroup\n\\iflossregalone\\expandafter\\enddocument\\fi\n"
_TEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%",
    "_": r"\_\allowbreak{}", "/": r"/\allowbreak{}", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\char34{}",
    "'": r"\textquotesingle{}", "`": r"\textasciigrave{}", "-": r"{-}", "[": "{[}", "]": "{]}",
    "*": "{*}",  # after the end of a line it would be the star of that command
}  # fmt: skip


class Latex(Format):
    """A LaTeX file that compiles by itself, and that a paper can \\input."""

    picture_suffix = ".pdf"
    comment = ("% ", "% ", "")

    def document(self, body: str) -> str:
        """Return the document."""
        return f"{_PREAMBLE}{body}{_END}"

    def escaped(self, text: str) -> str:
        """Return a text without commands; characters that pdflatex may not know are their numbers."""
        pieces = re.split(r"(?<=\S{25})(?=\S{25})", text)  # a long word may break
        return r"\allowbreak{}".join("".join(map(_escaped_for_tex, piece)) for piece in pieces)

    def symbol(self, symbol: Symbol) -> str:
        """Return a symbol between dollar signs."""
        return f"${symbol.latex}$"

    def link(self, url: str) -> str:
        """Return an address."""
        return rf"\url{{{url}}}" if re.fullmatch(r"[\w:/.?=&~+,;@()#-]+", url, re.ASCII) else self.escaped(url)

    def heading(self, heading: Heading) -> str:
        """Return a heading without a number."""
        kind = {1: "section*", 2: "subsection*"}.get(heading.level, "paragraph")
        return f"\\{kind}{{{self.text((heading.text,))}}}{'~' if heading.level > 2 else ''}\n"

    def paragraph(self, paragraph: Paragraph) -> str:
        """Return a paragraph."""
        return f"{self.text(paragraph.text)}\\par\n"

    def formula(self, formula: Formula) -> str:
        """Return an equation on each line."""
        return "".join(f"\\lossregequation{{{_wrapped_latex(equation)}}}\n" for equation in _equations(formula))

    def table(self, table: Table) -> str:
        """Return a table that breaks over pages, as wide as the line."""
        shares = _shares([[_plain(cell) for cell in row] for row in table.rows], table.columns)
        sides = ["left" if column.startswith(">") else "right" for column in table.columns]
        columns = "".join(
            rf">{{\ragged{side}\arraybackslash}}p{{\dimexpr{share:.3f}\linewidth-2\tabcolsep}}"
            for side, share in zip(sides, shares, strict=True)
        )
        rows = [tuple((column.removeprefix(">"),) for column in table.columns), *table.rows]
        lines = [" & ".join(map(self.text, row)) + r" \\" for row in rows]
        lines[0] = rf"\hline {lines[0]} \hline \endhead"
        return "\n".join(
            [
                rf"{{\small\renewcommand\arraystretch{{1.15}}\begin{{longtable}}[l]{{@{{}}{columns}@{{}}}}",
                *lines,
                r"\hline",
                r"\end{longtable}\par}",
                "",
            ]
        )

    def listing(self, text: str) -> str:
        """Return lines in a typewriter face; a verbatim environment would end where the text says so."""
        shown = "\\\\\n".join(self.escaped(line).replace(" ", "~") or "~" for line in text.splitlines())
        return f"{{\\footnotesize\\ttfamily {shown}\\par}}\n"

    def drawing(self, text: str) -> str:  # noqa: ARG002
        """Return nothing: the table has the numbers."""
        return ""

    def image(self, name: str) -> str:
        """Return a picture as wide as the line, or less."""
        return f"\\includegraphics[width=\\linewidth,height=.6\\textheight,keepaspectratio]{{{name}}}\\par\n"


def _escaped_for_tex(char: str) -> str:
    accented = char < "\u0100" and char.isalpha() and unicodedata.decomposition(char)[:1] not in ("", "<")
    return _TEX.get(char) or (char if char.isascii() or accented else f"{{[}}U+{ord(char):04X}{{]}}")


def _plain(cell: Text) -> str:
    return "".join(
        part.latex if isinstance(part, Symbol) else part.url if isinstance(part, Link) else part for part in cell
    )


def _shares(rows: Sequence[Sequence[str]], columns: Sequence[str]) -> list[float]:
    """Return the share of the width that each column gets, by the length of what stands in it."""
    lengths = [3 + max(1, *(min(len(text), 40) for text in column)) for column in zip(columns, *rows, strict=True)]
    return [length / sum(lengths) for length in lengths]


FORMATS: dict[str, type[Format]] = {".md": Markdown, ".html": Html, ".tex": Latex}
"""The formats by the suffix of a file."""


def draw(pictures: dict[Path, Picture], write: Any) -> None:
    """Write the pictures beside a card."""
    for path, picture in pictures.items():
        with write(path) as draft:
            draw_file(picture.curves, picture.epochs, draft, unit=picture.unit)
