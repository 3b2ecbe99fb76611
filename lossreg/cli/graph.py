"""`lossreg graph`: draw the graph of a criterion for a terminal, Mermaid, Graphviz or a browser."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from lossreg.cli.choice import Choice
from lossreg.cli.drawing import Arrow, Drawing
from lossreg.cli.import_option import importing
from lossreg.cli.loading import load_multi_loss, source
from lossreg.cli.output import echo, refuse_suffix, stream, writing
from lossreg.cli.vector import svg
from lossreg.config.reading import Source
from lossreg.losses.paths import join
from lossreg.printable import paragraph, printable, width_of


def running(plan: Sequence[Mapping[str, Any]], made: frozenset[str] = frozenset()) -> list[dict[str, Any]]:
    """Return a plan without preprocesses of groups that never run, because an outer preprocess computes their keys.

    Args:
        plan: the result of `MultiLoss.plan()`.
        made: the keys that preprocesses of outer groups compute.
    """
    items = []
    inside = made | {key for item in plan for key in item.get("provides", ())}
    for item in plan:
        if item["kind"] == "preprocess" and item["automatic"] and made.issuperset(item["provides"]):
            continue
        items.append(dict(item))
        if item["kind"] == "group":
            items[-1]["plan"] = running(item["plan"], inside)
    return items


def flat(plan: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Yield the items of a plan and of its groups."""
    for item in plan:
        yield item
        yield from flat(item.get("plan", ()))


def drawing_of(plan: Sequence[Mapping[str, Any]]) -> Drawing:
    """Return the boxes and arrows of a plan (`MultiLoss.plan()`), from the keys of the batch to the total."""
    drawing = Drawing()
    sources: dict[str, str] = {}
    ends = _add(drawing, plan, sources, "")
    total = drawing.box("total", "total")
    drawing.arrows += [Arrow(end, total) for end in ends]
    return drawing


def _add(drawing: Drawing, plan: Sequence[Mapping[str, Any]], sources: dict[str, str], group: str) -> list[str]:
    """Add the items of a plan and return the ids of its terms; `sources` maps each key to its box."""
    ends = []
    for item in plan:
        if item["kind"] == "preprocess":
            keys = _read(drawing, item, sources)
            box = drawing.box("preprocess", item["name"], "added automatically" if item["automatic"] else "")
            drawing.arrows += [Arrow(key, box, dashed) for key, dashed in keys]
            for key in item["provides"]:
                sources[key] = drawing.box("key", key)
                drawing.arrows.append(Arrow(box, sources[key]))
        elif item["kind"] == "group":
            members = _add(drawing, item["plan"], sources, join(group, item["name"]))
            box = drawing.box("group", join(group, item["name"]), _weight(item))
            drawing.arrows += [Arrow(member, box) for member in members]
            ends.append(box)
        else:
            keys = _read(drawing, item, sources)
            term = drawing.box("term", join(group, item["name"]), f"{item['loss']}, {_weight(item)}")
            drawing.arrows += [Arrow(key, term, dashed) for key, dashed in keys]
            ends.append(term)
    return ends


def _read(drawing: Drawing, item: Mapping[str, Any], sources: dict[str, str]) -> list[tuple[str, bool]]:
    """Return the boxes of the keys that an item reads, each with whether the key is optional."""
    found = []
    for kind in ("requires", "optional"):
        for key in item[kind]:
            if key not in sources:
                sources[key] = drawing.box("batch key", key)
            found.append((sources[key], kind == "optional"))
    return found


def _weight(item: Mapping[str, Any]) -> str:
    """Return a weight in short form: the number of a constant, else the name of the schedule."""
    weight = item["weight"]
    if isinstance(weight, Mapping):
        return f"weight {weight['schedule'].replace('.', '/').rpartition('/')[2].lower()}"
    return f"weight {weight:g}"


# --- text -----------------------------------------------------------------------------------------


def text(plan: Sequence[Mapping[str, Any]], width: int | None = None) -> str:
    """Return a plan as an outline in the order of execution, with the keys that each item reads.

    Lines longer than `width` are wrapped between words.
    """
    return "\n".join(_wrapped(line, width) for line in _outline(plan, ""))


def _wrapped(line: str, width: int | None) -> str:
    indent = line[: len(line) - len(line.lstrip())]
    return paragraph(line.lstrip(), width, indent, indent + "      ")


def _outline(plan: Sequence[Mapping[str, Any]], indent: str) -> Iterator[str]:
    for item in plan:
        reads = ", ".join([*item["requires"], *(f"{key} (if there)" for key in item["optional"])]) or "anything"
        if item["kind"] == "preprocess":
            yield f"{indent}preprocess {item['name']}" + (" (added automatically)" if item["automatic"] else "")
            yield f"{indent}    reads {reads}"
            yield f"{indent}    makes {', '.join(item['provides']) or 'anything'}"
        elif item["kind"] == "group":
            yield f"{indent}group {item['name']}, {_weight(item)}"
            yield from _outline(item["plan"], indent + "    ")
        else:
            plain = "" if item["normalize"] else ", not normalised"
            yield f"{indent}term {item['name']}: {item['loss']}, {_weight(item)}{plain}"
            yield f"{indent}    reads {reads}"


# --- Mermaid and Graphviz -------------------------------------------------------------------------

_MERMAID_PLAIN = " _-+./,:=()"
_MERMAID = {
    "batch key": ("[/", "/]"),
    "preprocess": ("([", "])"),
    "key": ("[/", "/]"),
    "term": ("[", "]"),
    "group": ("[[", "]]"),
    "total": ("((", "))"),
}


def mermaid(drawing: Drawing) -> str:
    """Return a Mermaid flowchart, which GitHub and many editors draw."""
    lines = ["flowchart LR"]
    for box in drawing.boxes:
        opening, closing = _MERMAID[box.kind]
        label = "<br/>".join(_entities(line) for line in (box.title, box.detail) if line)
        lines.append(f'    {box.id}{opening}"{label}"{closing}')
    lines += [f"    {a.start} {'-.->' if a.dashed else '-->'} {a.end}" for a in drawing.arrows]
    return "\n".join(lines)


def _entities(line: str) -> str:
    """Return a line with all characters that Mermaid may read as syntax as entities: `#34;` is a quotation mark.

    Mermaid looks for directives (`%%{init}%%`) and ends of labels before it looks for quotation marks.
    """
    return "".join(char if char.isalnum() or char in _MERMAID_PLAIN else f"#{ord(char)};" for char in printable(line))


_DOT = {
    "batch key": 'shape=note, fillcolor="#f2f2f2"',
    "preprocess": 'shape=box, style="rounded,filled", fillcolor="#fdebc8"',
    "key": 'shape=note, fillcolor="#fdf6e8"',
    "term": 'shape=box, fillcolor="#d6e6f5"',
    "group": 'shape=box, peripheries=2, fillcolor="#d9efdc"',
    "total": 'shape=circle, fillcolor="#cfcfe8"',
}


def dot(drawing: Drawing) -> str:
    """Return a Graphviz digraph."""
    lines = [
        "digraph loss {",
        "    rankdir=LR;",
        '    node [style=filled, fontname="sans-serif", fontsize=11];',
    ]
    for box in drawing.boxes:
        label = "\\n".join(_escaped(line) for line in (box.title, box.detail) if line)
        lines.append(f'    {box.id} [label="{label}", {_DOT[box.kind]}];')
    lines += [f"    {a.start} -> {a.end}{' [style=dashed]' if a.dashed else ''};" for a in drawing.arrows]
    return "\n".join([*lines, "}"])


def _escaped(line: str) -> str:
    return printable(line).replace("\\", "\\\\").replace('"', '\\"').replace("&", "&amp;")


# --- the command ----------------------------------------------------------------------------------

_FORMS = {".svg": "svg", ".dot": "dot", ".gv": "dot", ".mmd": "mermaid", ".txt": "text"}


@click.command("graph", epilog="Example: lossreg graph config.yaml -o graph.svg")
@source
@importing
@click.option(
    "--format",
    "form",
    type=Choice(("text", "mermaid", "dot", "svg")),
    help="How to write the graph; default: by the suffix of --output (.svg, .dot, .mmd, .txt), else text.",
)
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, writable=True, path_type=Path), help="File to write to."
)
def graph_command(file: Source, key: str | None, form: str | None, output: Path | None) -> None:
    """Draw the graph of FILE: keys of the batch, preprocesses, what they make, terms, groups.

    Arrows are dashed where a key is used only if the batch has it.
    """
    if form is None and output is not None:
        form = _FORMS.get(output.suffix.lower())
        if form is None:
            refuse_suffix(output, (".svg", ".dot", ".mmd", ".txt"))
    plan = running(load_multi_loss(file, key).plan())
    forms: dict[str | None, Any] = {"mermaid": mermaid, "dot": dot, "svg": svg}
    width = width_of(stream()) if output is None else None
    written = forms[form](drawing_of(plan)) if form in forms else text(plan, width)
    if output is None:
        echo(written)
        return
    with writing(output) as draft:
        draft.write_text(written + "\n", encoding="utf-8")
