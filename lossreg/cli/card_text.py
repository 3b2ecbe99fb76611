"""What a loss card says, as blocks that `lossreg.cli.card_formats` writes in Markdown, HTML and LaTeX."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from lossreg.cli.curves import Curve, curves_of, last_epoch, number, thinned, times_of
from lossreg.composition.schedules import Constant, as_data
from lossreg.config.card import Record, schedule_entries
from lossreg.config.grammar import Component, CompoundConfig, TermConfig
from lossreg.keys import Compound, Deep, Term
from lossreg.printable import clipped, counted
from lossreg.registry.components import Entry
from lossreg.registry.params import parameters_of
from lossreg.registry.signature import REQUIRED, signature_of
from lossreg.registry.source import Sources
from lossreg.values import keys_of

if TYPE_CHECKING:
    from lossreg.composition.multiloss import MultiLoss

_MOST_ADDENDS = 12  # of a sum that is written out
_A_LINE = 4  # addends
_MOST_TIMES = 5  # columns of a table of weights, which fits a page
_LONGEST_VALUE = 200  # characters of a parameter's value in a table

# --- blocks ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Symbol:
    """A symbol of the formula, such as `w_{4.1}(e)`.

    Attributes:
        letter: its letter.
        index: the number of its term, or a letter.
        of: what it is a function of; empty for none.
    """

    letter: str
    index: str = ""
    of: str = ""

    @property
    def latex(self) -> str:
        """The symbol in LaTeX."""
        index = f"_{{{self.index}}}" if len(self.index) > 1 else f"_{self.index}" if self.index else ""
        return f"{self.letter}{index}" + (f"({self.of})" if self.of else "")


@dataclass(frozen=True)
class Link:
    """The address of a page."""

    url: str


Text: TypeAlias = tuple[str | Symbol | Link, ...]


@dataclass(frozen=True)
class Heading:
    """A heading; level 1 is the title."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Paragraph:
    """A paragraph."""

    text: Text


@dataclass(frozen=True)
class Formula:
    """Equations in LaTeX, one a line; or one equation, whose lines after the first go on with it."""

    lines: tuple[str, ...]
    is_one: bool = False


@dataclass(frozen=True)
class Table:
    """A table; a column whose heading begins with `>` is aligned to the right."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Text, ...], ...]


@dataclass(frozen=True)
class Listing:
    """Lines of YAML, in ASCII."""

    text: str


@dataclass(frozen=True)
class Picture:
    """The weights of terms over the epochs, or over the steps."""

    curves: tuple[Curve, ...]
    epochs: float
    unit: str


Block: TypeAlias = Heading | Paragraph | Formula | Table | Listing | Picture


def card_text(config: CompoundConfig, record: Record, name: str, criterion: MultiLoss | None = None) -> list[Block]:
    """Return the blocks of a card.

    Args:
        config: the checked config.
        record: its record.
        name: the name of its file.
        criterion: the criterion with a checkpoint loaded, for its norms.
    """
    return list(_Card(config, record, name, criterion).blocks())


# --- what they say --------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Place:
    """A term with its number, such as `4.1`, its path, such as `coupling/edge`, and the block that it stands in."""

    index: str
    path: str
    term: TermConfig
    block: CompoundConfig
    normalize: bool

    @property
    def weight(self) -> Symbol:
        """The symbol of its weight."""
        return Symbol("w", self.index, "s" if self.term.weight.unit == "step" else "e")

    @property
    def is_normalized(self) -> bool:
        """Whether it is a loss that is divided by its norm."""
        return self.normalize and self.term.normalize and self.term.group is None

    @property
    def is_glob(self) -> bool:
        """Whether it stands for several members of a dictionary of losses."""
        return not {"*", "?", "["}.isdisjoint(self.term.member)


@dataclass
class _Card:
    config: CompoundConfig
    record: Record
    name: str
    criterion: MultiLoss | None
    references: dict[tuple[str, str], int] = field(default_factory=dict)
    sources: Sources = field(default_factory=Sources)

    def blocks(self) -> Iterator[Block]:
        self.places = list(_places(self.config))
        yield Heading("Loss card", 1)
        leaves = sum(place.term.group is None for place in self.places)
        version = self.record.versions["lossreg"]
        yield Paragraph(
            (f"The loss of {Path(self.name).name}: {counted(leaves, 'term')}. Written by lossreg {version}.",)
        )
        yield from self.formula()
        yield from self.terms()
        yield from self.losses()
        yield from self.weightings()
        yield from self.weights()
        yield from self.preprocesses()
        yield from self.parameters()
        yield from self.norms()
        yield from self.origins()

    def formula(self) -> Iterator[Block]:
        yield Heading("Formula")
        blocks = [("L(e)", self.config, "")]
        blocks += [
            (Symbol("L", place.index).latex, place.term.group, f"{place.index}.")
            for place in self.places
            if place.term.group is not None
        ]
        for symbol, block, prefix in blocks:
            inside = [place for place in self.places if place.block is block]
            yield Formula(tuple(_sum(symbol, inside, prefix)), is_one=True)
        legend: list[str | Symbol | Link] = [Symbol("L", "", "e"), " is the total at epoch ", Symbol("e")]
        if any(place.weight.of == "s" for place in self.places if place.term.weight.needs_epoch):
            legend += [" and step ", Symbol("s")]
        legend += ["; ", Symbol("L", "i"), " the value of term ", Symbol("i")]
        if any(place.is_normalized for place in self.places):
            legend += ["; ", Symbol("n", "i"), f" its norm, {self._norm()}"]
        if any(place.term.weight.needs_epoch for place in self.places):
            legend += ["; ", Symbol("w", "i"), " its weight"]
        if any(place.block.weighting is not None for place in self.places):
            legend += ["; ", Symbol("a", "i"), " its coefficient, which the weighting sets"]
        if any(place.is_glob for place in self.places):
            legend += ["; ", Symbol("k"), " counts the members that a pattern stands for"]
        yield Paragraph((*legend, "."))

    def _norm(self) -> str:
        if self.config.settings.get("track_norms") == "running":
            return "a running average of its value"
        return "its average value before training"

    def terms(self) -> Iterator[Block]:
        yield Heading("Terms")
        rows: list[tuple[Text, ...]] = []
        for place in self.places:
            term, weight = place.term, place.term.weight
            inside = term.group
            loss = term.loss_name if inside is None else f"group of {len(inside.terms)}"
            if term.member:
                loss = "the model's own"
            shown: str | Symbol = _float(weight.value) if isinstance(weight, Constant) else place.weight
            rows.append(((place.index,), (place.path,), (loss,), (shown,)))
        yield Table(("i", "Term", "Loss", ">Weight"), tuple(rows))

    def losses(self) -> Iterator[Block]:
        places: dict[str, list[_Place]] = {}
        for place in self.places:
            if place.term.loss is not None:
                places.setdefault(place.term.loss.entry.name, []).append(place)
        if places:
            yield Heading("Losses")
        for name, same in places.items():
            first = same[0].term.loss
            assert first is not None
            yield Heading(name, 3)
            symbols = _listed([Symbol("L", place.index) for place in same])
            yield Paragraph((*symbols, f": {first.entry.spec.summary or name}{self.cite(first.entry)}."))
            yield from _formula_of(first.entry)

    def weightings(self) -> Iterator[Block]:
        blocks = [(self.config, "")] + [(p.term.group, p.path) for p in self.places if p.term.group is not None]
        for block, path in blocks:
            if block.weighting is None:
                continue
            entry = block.weighting.entry
            yield Heading(f"Weighting of {path}" if path else "Weighting")
            summary = f"{entry.name}: {entry.spec.summary or entry.name}{self.cite(entry)}."
            if not entry.spec.formula:
                yield Paragraph((summary,))
                continue
            meaning = (" In its formula ", Symbol("w", "i"), " is ", Symbol("a", "i"), " and ", Symbol("L", "i"))
            rest = " is the value that it multiplies; what it adds to a value is multiplied by the term's weight too."
            yield Paragraph((summary, *meaning, rest))
            yield from _formula_of(entry)

    def weights(self) -> Iterator[Block]:
        moving = [place for place in self.places if place.term.weight.needs_epoch]
        if not moving:
            return
        yield Heading("Weights over the epochs")
        entries: dict[str, Entry[Any]] = {}
        same: dict[str, list[_Place]] = {}
        for place in moving:
            same.setdefault(_schedule(as_data(place.term.weight)), []).append(place)
        for text, places in same.items():
            found = {entry.name: entry for entry in schedule_entries(as_data(places[0].term.weight))}
            entries |= found
            cited = "".join(map(self.cite, found.values()))
            yield Paragraph((*_listed([p.weight for p in places]), f": {clipped(text, 2 * _LONGEST_VALUE)}{cited}"))
        for name, entry in entries.items():
            if entry.spec.formula:
                yield Paragraph((f"{name}:",))
                yield from _formula_of(entry)
        if any("end_epoch" in text for text in same):
            t = Symbol("t")
            yield Paragraph(
                (
                    "In such formulas ",
                    t,
                    " goes from 0 at start_epoch, by default 0, to 1 at end_epoch.",
                )
            )
        curves = curves_of(self.config)
        for unit in sorted({curve.unit for curve in curves if curve.moves} - {"both"}):
            yield from self._over([curve for curve in curves if curve.moves and curve.unit == unit], unit)
        both = [curve.name for curve in curves if curve.unit == "both"]
        if both:
            yield Paragraph((f"By epoch and by step: {', '.join(both)}.",))

    def _over(self, curves: list[Curve], unit: str) -> Iterator[Block]:
        times = thinned(times_of(curves), _MOST_TIMES)
        rows: Iterator[tuple[Text, ...]] = (
            ((curve.name,), *((number(curve.weight(time)),) for time in times)) for curve in curves
        )
        yield Table(("Term", *(f">{unit} {number(time)}" for time in times)), tuple(rows))
        yield Picture(tuple(curves), last_epoch(curves), unit)

    def preprocesses(self) -> Iterator[Block]:
        nodes = [node for _, block in self._blocks() for node in block.pre_processes]
        if nodes:
            yield Heading("Preprocesses")
        for entry in {node.entry.name: node.entry for node in nodes}.values():
            yield Paragraph((f"{entry.name}: {entry.spec.summary or entry.name}{self.cite(entry)}.",))
            yield from _formula_of(entry)

    def parameters(self) -> Iterator[Block]:
        rows = [*self._options()]
        for place in self.places:
            rows += [(place.path, *row) for row in self._of_term(place)]
        for path, block in self._blocks():
            parts = [*block.pre_processes, *([] if block.weighting is None else [block.weighting])]
            of = f" of {path}" if path else ""
            rows += [(f"{part.entry.name}{of}", *row) for part in parts for row in self._of_component(part)]
        yield Heading("Parameters that differ from their defaults")
        if not rows:
            yield Paragraph(("None.",))
            return
        cells = (tuple((clipped(cell, _LONGEST_VALUE),) for cell in row) for row in rows)
        yield Table(("Term", "Parameter", "Value", "Default"), tuple(cells))

    def _blocks(self) -> Iterator[tuple[str, CompoundConfig]]:
        yield "", self.config
        for place in self.places:
            if place.term.group is not None:
                yield place.path, place.term.group

    def _options(self) -> Iterator[tuple[str, str, str, str]]:
        """Yield the options of the whole and of groups; a group repeats what it inherits."""
        keys = {key.argument("MultiLoss"): key for key in keys_of(Compound).values() if key.argument("MultiLoss")}
        for path, block in self._blocks():
            outer = self.config.settings if path else {}
            for name, value in block.settings.items():
                key = keys.get(name)
                default = outer.get(name, key.default if key is not None else value)
                if value != default:
                    shown = key.name if key is not None and not path else name
                    yield path or "all terms", shown, _value(value), _value(default)
            if block.compile:
                yield path or "all terms", "compile", "true", "false"

    def _of_term(self, place: _Place) -> Iterator[tuple[str, str, str]]:
        term = place.term
        if term.loss is not None:
            yield from self._of_component(term.loss)
        if not term.normalize:
            yield "normalize", "false", "true"
        if term.optional and term.member != "*":
            yield "optional", "true", "false"
        defaults = {key.name: key.default for key in keys_of(Term).values()}
        for name, value in term.wrap.items():
            if value != defaults.get(name):
                yield name, _value(value), _value(defaults.get(name))
        deep = {key.name: key.default for key in keys_of(Deep).values()}
        for name, value in (term.deep_supervision or {}).items():
            if value != deep.get(name):
                yield f"deep_supervision.{name}", _value(value), _value(deep.get(name))

    def _of_component(self, component: Component) -> Iterator[tuple[str, str, str]]:
        entry = component.entry
        signature = self.sources.of(entry) or signature_of(entry.load())
        defaults = {p.name: p.default for p in parameters_of(entry.spec, signature)}
        for name, value in component.arguments.items():
            default = defaults.get(name, REQUIRED)
            if value != default:
                yield name, _value(value), _value(default)

    def norms(self) -> Iterator[Block]:
        if self.criterion is None:
            return
        yield Heading("Norms")
        if not bool(self.criterion.calibrated):
            yield Paragraph(("The criterion of the checkpoint is not calibrated: its norms are those of a new one.",))
        coefficients = {path: f"{float(value):.9g}" for path, value in self.criterion.coefficients().items()}
        weighted = any(block.weighting is not None for _, block in self._blocks())
        rows: list[tuple[Text, ...]] = []
        for path, term in self.criterion.leaves():
            norm = f"{float(getattr(term.loss, 'norm', 1.0)):.9g}" if term.normalize else "not normalised"
            rows.append(((path,), (norm,), *([(coefficients[path],)] if weighted else [])))
        yield Table(("Term", ">Norm", *([">Coefficient"] if weighted else [])), tuple(rows))

    def origins(self) -> Iterator[Block]:
        if self.references:
            yield Heading("Sources")
        for (source, url), n in self.references.items():
            yield Paragraph((f"[{n}] {source}", *((", ", Link(url)) if url else ()), "."))
        yield Heading("Versions")
        yield Paragraph((", ".join(f"{name} {version}" for name, version in self.record.versions.items()) + ".",))
        yield Heading("Configuration")
        yield Listing(self.record.config)
        yield Paragraph(
            (
                "lossreg card --rebuild FILE writes this configuration, and the state where the card has one, from the "
                "comment at the end of the card. Its digest is of the configuration, the losses that it names and "
                f"the state: {self.record.digest}",
            )
        )

    def cite(self, entry: Entry[Any]) -> str:
        """Return the number of a component's source, such as ` [2]`; empty if it has none."""
        spec = entry.spec
        if not spec.source and not spec.url:
            return ""
        return f" [{self.references.setdefault((spec.source or entry.name, _address(spec)), len(self.references) + 1)}]"


def _address(spec: Any) -> str:
    """Return the page of a component, or else that of its source."""
    kind, _, place = spec.source.rpartition(", ")[2].partition(":")
    home = {"arXiv": "https://arxiv.org/abs/", "doi": "https://doi.org/"}.get(kind)
    return str(spec.url or (home + place if home else ""))


def _places(block: CompoundConfig, prefix: str = "", path: str = "", normalize: bool = True) -> Iterator[_Place]:
    """Yield the terms of a block, and after a group the terms in it."""
    for i, term in enumerate(block.terms, 1):
        place = _Place(f"{prefix}{i}", path + term.name, term, block, normalize and block.normalize)
        yield place
        if term.group is not None:
            yield from _places(term.group, f"{place.index}.", f"{place.path}/", place.normalize)


def _sum(symbol: str, places: Sequence[_Place], prefix: str) -> Iterator[str]:
    """Yield the lines of an equation for a weighted sum."""
    if len(places) > _MOST_ADDENDS:
        index = f"{prefix}i".replace("..", ".")
        norm = rf"\frac{{L_{{{index}}}}}{{n_{{{index}}}}}" if any(p.is_normalized for p in places) else f"L_{{{index}}}"
        coefficient = rf"a_{{{index}}} \, " if places[0].block.weighting is not None else ""
        yield rf"{symbol} = \sum_{{i = 1}}^{{{len(places)}}} w_{{{index}}}(e) \, {coefficient}{norm}"
        return
    addends = [_addend(place) for place in places]
    for i in range(0, len(addends), _A_LINE):
        line = " + ".join(addends[i : i + _A_LINE])
        yield f"+ {line}" if i else f"{symbol} = {line}"


def _addend(place: _Place) -> str:
    weight, index = place.term.weight, place.index
    factors = [place.weight.latex] if not isinstance(weight, Constant) else []
    if isinstance(weight, Constant) and weight.value != 1:
        factors = [_latex_number(weight.value)]
    if place.block.weighting is not None:
        factors.append(Symbol("a", index).latex)
    value, norm = Symbol("L", f"{index},k" if place.is_glob else index), Symbol("n", index)
    if place.is_glob:
        norm = Symbol("n", f"{index},k")
    term = rf"\frac{{{value.latex}}}{{{norm.latex}}}" if place.is_normalized else value.latex
    return r" \, ".join([*factors, rf"\sum_k {term}" if place.is_glob else term])


def _latex_number(value: float) -> str:
    mantissa, _, exponent = _float(abs(value)).partition("e")
    power = f"10^{{{int(exponent)}}}" if exponent else ""
    text = power if power and mantissa == "1" else rf"{mantissa} \cdot {power}" if power else mantissa
    return f"(-{text})" if value < 0 else text


def _float(value: float) -> str:
    """Return a number with all its digits, and without `.0`."""
    return repr(value).removesuffix(".0")


def _schedule(data: Mapping[str, Any]) -> str:
    """Return a schedule as `as_data` writes it, on one line."""
    arguments = ", ".join(f"{name} = {_compact(value)}" for name, value in data.items() if name != "schedule")
    return f"{data['schedule']}({arguments})"


def _compact(value: Any) -> str:
    if isinstance(value, Mapping):
        return _schedule(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_compact, value))}]"
    return _float(value) if isinstance(value, float) else str(value)


def _value(value: Any) -> str:
    """Return a value of a config, on one line; `required` for a default that there is none of."""
    return "required" if value in (REQUIRED, MISSING) else json.dumps(value, default=repr)


def _formula_of(entry: Entry[Any]) -> Iterator[Block]:
    if entry.spec.formula:
        yield Formula(tuple(entry.spec.formula.split(r" \qquad ")))


def _listed(symbols: Sequence[Symbol]) -> Text:
    """Return symbols with commas between them, the first dozen if there are more."""
    parts: list[str | Symbol | Link] = []
    for symbol in symbols[:_MOST_ADDENDS]:
        parts += [", ", symbol] if parts else [symbol]
    return (*parts, " and others") if len(symbols) > _MOST_ADDENDS else tuple(parts)
