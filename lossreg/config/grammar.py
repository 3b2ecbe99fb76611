"""The grammar of compound losses: plain data to a checked tree of terms, with every mistake at its path."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
from typing import Any

from lossreg.arguments import Problems, shown
from lossreg.composition.schedules import Schedule, as_schedule
from lossreg.config.bounds import MAX_THRESHOLDS
from lossreg.config.imports import imported
from lossreg.config.reading import Data
from lossreg.config.size import check_size
from lossreg.errors import ConfigProblem, ConfigWarning, LossregError, NameLookupError, warn
from lossreg.keys import (
    FROM_DICT,
    IGNORED_KEYS,
    INHERITED,
    LISTS,
    MASKS,
    SOME_TERMS,
    SPECIAL_KEYS,
    YIELDING,
    Compound,
    Deep,
    Finite,
    FromDict,
    Group,
    Lone,
    Member,
    Term,
    Wrap,
)
from lossreg.losses.paths import as_name
from lossreg.printable import A_NAME, is_name
from lossreg.registry import catalog, params
from lossreg.registry.components import Entry, Section
from lossreg.registry.foreign import described, message_of
from lossreg.registry.signature import Signature, signature_of
from lossreg.registry.source import Sources
from lossreg.registry.specs import LossSpec
from lossreg.values import Misfit, arguments_of, did_you_mean, flow, keys_of, misfits_of, type_of, unquoted


@dataclass
class Component:
    """A registered component with the arguments that a config gives it."""

    path: str
    entry: Entry[Any]
    arguments: dict[str, Data]
    name: str | None = None
    under_wrap: frozenset[str] = frozenset()  # which options of the wrapper stand under `wrap`


@dataclass
class TermConfig:
    """A term: a loss with its arguments, a group of terms, or else a member of a dictionary of losses."""

    path: str
    name: str
    weight: Schedule
    loss: Component | None = None
    group: CompoundConfig | None = None
    wrap: dict[str, Data] = field(default_factory=dict)
    deep_supervision: dict[str, Data] | None = None
    normalize: bool = True
    optional: bool = False
    member: str = ""  # its key, or the glob of its keys, in a dictionary of losses

    @property
    def loss_name(self) -> str:
        """What its loss is called."""
        return FROM_DICT if self.loss is None else str(self.loss.entry.name)


@dataclass
class CompoundConfig:
    """A compound loss or a group: its terms in order, and what is said of all of them.

    Attributes:
        path: where it stands.
        terms: its terms.
        settings: arguments of `MultiLoss`, as the keys of the block declare them.
        thresholds: the epochs of lists of weights, of the block or of those around it; None if there are none.
        pre_processes, weighting: components.
        compile: whether it is compiled.
        dictionary: arguments of `FromDict`, where its terms are members of a dictionary of losses; else None.
        data: the block that it was parsed from, references resolved; None for a group.
    """

    path: str
    terms: list[TermConfig] = field(default_factory=list)
    settings: dict[str, Data] = field(default_factory=dict)
    thresholds: Data = None
    pre_processes: list[Component] = field(default_factory=list)
    weighting: Component | None = None
    compile: bool = False
    dictionary: dict[str, Data] | None = None
    data: Data = field(default=None, repr=False, compare=False)

    @property
    def normalize(self) -> bool:
        """Whether its terms are divided by their norms."""
        return bool(self.settings.get("normalize", True))

    def leaves(self, around: Leaf | None = None) -> Iterator[Leaf]:
        """Yield the losses in order, those of groups with what the groups around them say."""
        for term in self.terms:
            leaf = Leaf.of(term, self, around)
            if term.group is not None:
                yield from term.group.leaves(leaf)
            else:
                yield leaf


@dataclass(frozen=True)
class Leaf:
    """A loss with all that the blocks around it say of it.

    Attributes:
        name: its name, of a group's member `group/term`.
        term: its term.
        schedules: those that multiply to its weight, outermost first.
        normalize: whether its value is divided by its norm.
        optional: whether it is left out of a batch that lacks its keys.
    """

    name: str
    term: TermConfig
    schedules: tuple[Schedule, ...]
    normalize: bool
    optional: bool

    @classmethod
    def of(cls, term: TermConfig, block: CompoundConfig, around: Leaf | None) -> Leaf:
        """Return a term of a block as the blocks around it make it."""
        normalize, optional = block.normalize and term.normalize, term.optional
        if around is None:
            return cls(term.name, term, (term.weight,), normalize, optional)
        return cls(
            f"{around.name}/{term.name}",
            term,
            (*around.schedules, term.weight),
            around.normalize and normalize,
            around.optional or optional,
        )


NOWHERE_ELSE: Mapping[str, str] = MappingProxyType({})
"""The places of a block that is read as it stands in its file."""


class Grammar:
    """Parse compound losses, collecting problems in place of raising at the first.

    Args:
        allow_import: modules, by their exact dotted path, whose own classes and functions `_target_` may name
            beside the registered components; from Python code only.
        problems: what was found wrong before parsing.
        places: for parts, by path, where the file has what they were made of.
    """

    def __init__(
        self,
        allow_import: Collection[str] = (),
        problems: Iterable[ConfigProblem] = (),
        places: Mapping[str, str] = NOWHERE_ELSE,
    ) -> None:
        if isinstance(allow_import, str):
            raise TypeError(f"allow_import: expected a tuple of module paths, found the string {allow_import!r}")
        self.allow_import = frozenset(allow_import)
        self.problems = Problems(problems)
        self.report = self.problems.report
        self._places = places
        self._sources = Sources()

    # --- compound ---------------------------------------------------------------------------------

    def compound(self, data: Data, path: str) -> CompoundConfig:
        """Parse a `compound_loss` block."""
        config = CompoundConfig(path)
        if not self._mapping(data, path, "a mapping with a loss_list", f"loss_list: {SOME_TERMS}"):
            return config
        values = self._keys(Compound, data, path)
        config.compile = values["compile"]
        self._members(config, Compound, data, values, self._thresholds(values, None, path))
        if not self.problems:
            (terms,) = (key for key in LISTS if data.get(key) is not None)
            check_size(config, f"{path}.{terms}", self.report)
        return config

    def single(self, data: Data, path: str) -> Component | None:
        """Parse the block of a lone loss: a name, or `{loss: NAME, ...}` or `{_target_: ..., ...}` with arguments."""
        data = {"loss": data} if isinstance(data, str) else data
        if not self._mapping(data, path, "the name of a loss, or a mapping", "loss: {loss: NAME}"):
            return None
        self._no_special(data, path)
        values = self._keys(Lone, data, path, open_ended=True)
        entry = self._loss_entry(data, path)
        arguments = self._arguments(data, path, entry, Lone)
        if entry is None:
            return None
        return Component(path, entry, arguments, self._name(values, _default_name(data, entry), path))

    def _keys(self, block: type, data: Mapping[str, Data], path: str, *, open_ended: bool = False) -> dict[str, Data]:
        """Return the values of a block's keys: defaults where nothing is given, `_BAD` for what does not fit."""
        keys = keys_of(block)
        values = {name: key.default for name, key in keys.items()} | {k: v for k, v in data.items() if k in keys}
        for misfit in misfits_of(keys.values(), {k: v for k, v in data.items() if k in keys or not open_ended}):
            self.problems.misfit(path, _in_order(misfit) if misfit.path == ("epoch_thresholds",) else misfit)
            values[str(misfit.path[0])] = _BAD
        return values

    def _members(
        self, config: CompoundConfig, block: type, data: Mapping[str, Data], values: dict[str, Data], thresholds: Data
    ) -> None:
        """Parse what a compound loss and a group have in common."""
        path = config.path
        config.settings |= arguments_of(block, "MultiLoss", values)
        config.thresholds = thresholds
        config.pre_processes = [
            component
            for i, item in enumerate(_if_good(values["pre_processes"]) or ())
            if (component := self._part(catalog().preprocesses, "preprocess", item, f"{path}.pre_processes[{i}]"))
        ]
        if (weighting := _if_good(values["weighting"])) is not None:
            config.weighting = self._part(catalog().weightings, "strategy", weighting, f"{path}.weighting")
        for where, default_name, item in self._items(data, path):
            term = self._term(item, where, default_name, thresholds, config)
            if term is not None:
                config.terms.append(term)
        self._unique(config)

    def _items(self, data: Mapping[str, Data], path: str) -> list[tuple[str, str | None, Data]]:
        """Return `(path, name, term)` for each term of a list or a mapping."""
        present = [key for key in LISTS if data.get(key) is not None]
        if len(present) > 1:
            where = f"{path}.{present[1]}"
            self.problems.wrong(where, f"one of {' and '.join(LISTS)}", present, f"leave out {present[1]}", "conflict")
            return []
        empty = next((key for key in LISTS if key in data), "")
        if not present and empty:
            self.report(f"{path}.{empty}", _EMPTY, f"{empty}: {SOME_TERMS}", "range")
            return []
        if not present:
            known = keys_of(Compound)
            if not any(did_you_mean(key, LISTS) for key in data if key not in known):  # else that has been reported
                hint = f"loss_list: {SOME_TERMS}"
                self.report(path, f"has no terms; expected {' or '.join(LISTS)}", hint, "missing")
            return []
        where, items = f"{path}.{present[0]}", data[present[0]]
        hint = f"{present[0]}: {flow([items]) if isinstance(items, str) else SOME_TERMS}"
        if isinstance(items, list):
            found: list[tuple[str, str | None, Data]] = [(f"{where}[{i}]", None, item) for i, item in enumerate(items)]
        elif isinstance(items, Mapping):
            found = [(f"{where}.{name}", str(name), item) for name, item in items.items() if item is not None]
            self._texts(items, where)
            self._indented(items, where)
        else:
            self.problems.wrong(where, keys_of(Compound)[present[0]].type.words, items, hint)
            return []
        if not found:
            self.report(where, _EMPTY, hint, "range")
        return found

    def _texts(self, items: Mapping[Any, Data], path: str) -> None:
        """Refuse names that YAML reads as something else than a text, such as `on` and `0x10`."""
        for name in items:
            if not isinstance(name, str):
                self.problems.wrong(f"{path}.{name}", "a text as its name", name, "quote it")

    def _indented(self, items: Mapping[str, Data], path: str) -> None:
        """Refuse the loss of a term that stands beside the term's name, which is then a term that is removed."""
        empty = [name for name, item in items.items() if item is None]
        for key in _NAMING if empty else ():
            if isinstance(items.get(key), str):
                hint = f"indent it below {empty[-1]}, or write `{key}: {{{key}: {items[key]}}}` for a term of this name"
                self.report(f"{path}.{key}", f"names a loss beside {empty[-1]}, which is empty", hint, "conflict")

    def _unique(self, config: CompoundConfig) -> None:
        seen: dict[str, TermConfig] = {}
        taken = {term.name for term in config.terms}
        for term in (term for term in config.terms if term.name):
            other = seen.setdefault(term.name, term)
            if other is not term:
                hint = f"give one of them another name, as in `name: {_free(term.name, taken)}`"
                if config.dictionary is not None:
                    hint = "leave one of them out: `/` in the name of a member becomes `.`"
                self.report(term.path, f"has the name {term.name!r}, as has {other.path.lstrip('.')}", hint, "conflict")

    # --- one term ---------------------------------------------------------------------------------

    def _term(
        self, data: Data, path: str, default_name: str | None, thresholds: Data, around: CompoundConfig
    ) -> TermConfig | None:
        if isinstance(data, str):
            return self._named(data, path, default_name, thresholds, around)
        if not self._mapping(data, path, "a term", SOME_TERMS[1:-1]):
            return None
        if data.get("loss") == FROM_DICT:
            return self._from_dict(data, path, default_name, thresholds, around)
        if any(key in data for key in LISTS):
            return self._group(data, path, default_name, thresholds, around)
        if isinstance(data.get("loss"), Mapping):
            return self._nested(data, path, default_name, thresholds, around)
        self._no_special(data, path)
        values = self._keys(Term, data, path, open_ended=True)
        entry = self._loss_entry(data, path)
        of_loss = [key for key, but in YIELDING.items() if data.get(key) not in but and self._takes(entry, key, path)]
        arguments = self._arguments(data, path, entry, Term, of_loss)
        deep = values["deep_supervision"]
        given = _given({name: value for name, value in values.items() if name in data and name not in of_loss})
        if default_name is None and entry is not None:
            default_name = _default_name(data, entry)
        under = _given(_if_good(values["wrap"]) or {})
        self._refuse_mask(entry, given, path)
        return TermConfig(
            path,
            self._name(values, default_name, path),
            self._weight(data, path, self._thresholds(values, thresholds, path), self._takes(entry, "weight", path)),
            loss=None if entry is None else Component(path, entry, arguments, under_wrap=frozenset(under)),
            wrap={
                **arguments_of(Term, "LossWrapper", given),
                **arguments_of(Term, "lossreg_wrap", given),
                **arguments_of(Term, "Loss", given),
                **arguments_of(Wrap, "LossWrapper", under),
            },
            deep_supervision={"outputs": deep} if isinstance(deep, (str, list)) else _if_good(deep),
            normalize=values["normalize"],
            optional=values["optional"],
        )

    def _named(
        self, name: str, path: str, default_name: str | None, thresholds: Data, around: CompoundConfig
    ) -> TermConfig | None:
        """Parse a term that is the name of a loss; the fix for missing arguments is a mapping."""
        before = len(self.problems)
        term = self._term({"loss": name}, path, default_name, thresholds, around)
        missing = [i for i in range(before, len(self.problems)) if self.problems[i].kind == "missing"]
        hint = f"{{{', '.join([f'loss: {name}', *(self.problems[i].hint for i in missing)])}}}"
        for i in missing:
            self.problems[i] = replace(self.problems[i], hint=hint)
        return term

    def _refuse_mask(self, entry: Entry[LossSpec] | None, given: Mapping[str, Data], path: str) -> None:
        """Refuse a mask for a loss whose spec says that it takes none."""
        reason = "" if entry is None else entry.spec.unmasked
        for key in MASKS if reason else ():
            if key in given:
                self.report(f"{path}.{key}", f"is not possible: {reason}", "leave it out", "conflict")

    def _nested(
        self, data: Mapping[str, Data], path: str, name: str | None, thresholds: Data, around: CompoundConfig
    ) -> TermConfig | None:
        """Parse `- loss: {_target_: ..., name: ...}` with the term's own keys beside it."""
        inner = data["loss"]
        outer = {key: value for key, value in data.items() if key != "loss"}
        twice = sorted(set(inner) & set(outer))
        if twice:
            self.report(
                path, f"gives {', '.join(twice)} both inside and beside `loss`", "keep one of the two", "conflict"
            )
            outer = {key: value for key, value in outer.items() if key not in twice}
        before = len(self.problems)
        term = self._term({**inner, **outer}, path, name, thresholds, around)
        self.problems.relocate({f"{path}.{key}": f"{path}.loss.{key}" for key in inner}, before)
        return term

    def _group(
        self, data: Mapping[str, Data], path: str, default_name: str | None, thresholds: Data, around: CompoundConfig
    ) -> TermConfig:
        values = self._keys(Group, data, path)
        group = CompoundConfig(path, settings={name: around.settings[name] for name in INHERITED})
        own = {name: value for name, value in values.items() if name in data or name not in INHERITED}
        thresholds = self._thresholds(values, thresholds, path)
        self._members(group, Group, data, own, thresholds)
        if values["name"] is None and default_name is None:
            self.report(path, "is a group of terms and needs a name", "name: my_group", "missing")
        weight = self._weight(data, path, thresholds)
        name = self._name(values, default_name, path)
        return TermConfig(path, name, weight, group=group, optional=values["optional"])

    def _from_dict(
        self, data: Mapping[str, Data], path: str, default_name: str | None, thresholds: Data, around: CompoundConfig
    ) -> TermConfig:
        """Parse a group of the losses that a model computes itself."""
        lists = [key for key in LISTS if key in data]
        for key in lists:
            self.report(f"{path}.{key}", "is not a key of this block", "write `terms: {MEMBER: WEIGHT}`", "unknown")
        values = self._keys(FromDict, {k: v for k, v in data.items() if k not in (*IGNORED_KEYS, *lists)}, path)
        group = CompoundConfig(path, settings={name: around.settings[name] for name in INHERITED})
        own = {name: value for name, value in values.items() if name in data or name not in INHERITED}
        group.settings |= arguments_of(FromDict, "MultiLoss", own)
        group.dictionary = arguments_of(FromDict, "FromDict", values)
        if (weighting := _if_good(values["weighting"])) is not None:
            group.weighting = self._part(catalog().weightings, "strategy", weighting, f"{path}.weighting")
        thresholds = self._thresholds(values, thresholds, path)
        terms, rest = values["terms"], values["rest"]
        if terms is not None and not isinstance(terms, Mapping):
            self.problems.wrong(f"{path}.terms", keys_of(FromDict)["terms"].type.words, terms, "terms: {loss_box: 1.0}")
        elif not terms and not lists and (rest is None or _is_zero(rest)):
            self.report(path, "takes no member; expected terms, or a weight of the rest", "rest: 1.0", "missing")
        for member, weight in terms.items() if isinstance(terms, Mapping) else ():
            place = f"{path}.terms.{member}"
            name = as_name(str(member))
            if not is_name(name):
                self.problems.wrong(place, A_NAME, name, "leave it to the rest", "range")
                name = ""
            group.terms.append(self._member(weight, place, name, str(member), thresholds))
        if _is_zero(rest):
            group.dictionary["rest"] = 0.0
        elif rest is not None:
            group.terms.append(replace(self._member(rest, f"{path}.rest", "*", "*", thresholds), optional=True))
        self._unique(group)
        name = self._name(values, FROM_DICT if default_name is None else default_name, path)
        weight = self._weight(data, path, thresholds)
        return TermConfig(path, name, weight, group=group, optional=values["optional"])

    def _member(self, data: Data, path: str, name: str, member: str, thresholds: Data) -> TermConfig:
        """Parse what is said of a member of a dictionary: a weight, or a mapping with one."""
        if not isinstance(data, Mapping) or "schedule" in data:
            key = flow(member) if path.endswith(f".terms.{member}") else "rest"
            schedule = self._schedule(data, path, thresholds, key) or as_schedule(1.0, name=path)
            return TermConfig(path, name, schedule, member=member)
        values = self._keys(Member, data, path)
        schedule = self._weight(data, path, self._thresholds(values, thresholds, path))
        options = {key: values[key] for key in ("normalize", "optional")}
        return TermConfig(path, name, schedule, member=member, **options)

    def _loss_entry(self, data: Mapping[str, Data], path: str) -> Entry[LossSpec] | None:
        given = [key for key in _NAMING if key in data]
        if data.get("loss") is not None and data.get("_target_") is None:
            given = ["loss"]
        if given == ["loss"] and data["loss"] == FROM_DICT:  # a lone loss
            self.report(f"{path}.loss", "is a group of terms", "list it in loss_params.compound_loss", "refused")
            return None
        if len(given) > 1:
            self.problems.wrong(path, "one of loss and _target_", given, f"leave out {given[1]}", "conflict")
            return None
        if not given:
            close = difflib.get_close_matches("loss", map(str, data), n=1)
            hint = f"write `loss` for {close[0]!r}" if close else "loss: NAME"
            if any(key in data for key in LISTS):
                hint = "give the terms to loss_params.compound_loss"
            self.report(path, "names no loss; expected `loss: NAME` or `_target_: dotted.path`", hint, "missing")
            return None
        return self._component(catalog().losses, given[0], data[given[0]], f"{path}.{given[0]}")

    def _component(self, section: Section[Any], key: str, name: Data, path: str) -> Entry[Any] | None:
        """Look a name or a dotted `_target_` up; nothing is imported."""
        if not isinstance(name, str):
            hint = f"`lossreg list --kind {section.kind}` shows the names"
            self.problems.wrong(path, f"the name of a {section.kind}", name, hint)
            return None
        try:
            find = section.find_target if key == "_target_" else section.find
            return find(name, suggest=not self.problems.crowded)
        except NameLookupError as error:
            allowed = self._imported(name, section, path) if key == "_target_" else None
            if allowed is None:
                note = "; a _target_ is looked up among registered components, never imported"
                self.report(path, error.problem + (note if key == "_target_" else ""), error.hint, "unknown")
            return allowed

    def _imported(self, dotted: str, section: Section[Any], path: str) -> Entry[Any] | None:
        """Import a loss from a module that Python code allowed by its exact path."""
        if section.kind != LossSpec.kind:
            return None
        try:
            return imported(dotted, self.allow_import, path)
        except ImportError as error:
            self.report(path, str(error), "allow_import takes the module that defines it", "refused")
            return None

    def _arguments(
        self,
        data: Mapping[str, Data],
        path: str,
        entry: Entry[LossSpec] | None,
        block: type,
        besides: Collection[str] = (),
    ) -> dict[str, Data]:
        """Return the constructor arguments: what stands beside the block's own keys, `besides`, and under args."""
        own = [key for key in keys_of(block) if key not in besides]
        arguments = {str(k): v for k, v in data.items() if k not in own and k not in SPECIAL_KEYS}
        under = data.get("args")
        explicit = {str(key): value for key, value in under.items()} if isinstance(under, Mapping) else {}
        for key in sorted(set(arguments) & set(explicit)):
            self.report(
                f"{path}.args.{key}", "is given twice: under args and beside it", "keep one of the two", "conflict"
            )
        self._no_targets(arguments, path)
        self._no_targets(explicit, f"{path}.args")
        merged = {**arguments, **explicit}
        if entry is not None:
            self._check(entry, merged, path, own_keys=tuple(own), inside=set(explicit))
        return merged

    def _no_special(self, data: Mapping[str, Data], path: str) -> None:
        """Refuse hydra's special keys, but for those that change nothing."""
        for key in SPECIAL_KEYS:
            if key in data and key not in IGNORED_KEYS:
                self.report(
                    f"{path}.{key}",
                    "is not supported: a config names components and gives them data",
                    "leave it out",
                    "unknown",
                )

    def _no_targets(self, value: Data, path: str) -> None:
        """Refuse hydra's special keys inside arguments, where nothing resolves them."""
        if isinstance(value, Mapping):
            for key, item in value.items():
                where = f"{path}.{key}"
                if key == "_target_" or key in SPECIAL_KEYS:
                    self.report(
                        where,
                        "is not supported inside arguments: an argument is data, never an object to make",
                        "leave it out",
                        "unknown",
                    )
                else:
                    self._no_targets(item, where)
        elif isinstance(value, list):
            for i, item in enumerate(value):
                self._no_targets(item, f"{path}[{i}]")

    def _check(
        self,
        entry: Entry[Any],
        arguments: Mapping[str, Data],
        path: str,
        *,
        owned: Sequence[str] = (),
        own_keys: Sequence[str] = (),
        inside: Collection[str] = (),
        fixes: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Bind arguments to the signature of a component's target.

        Args:
            entry: the component.
            arguments: what the config gives it.
            path: where it stands.
            owned: its parameters that are checked elsewhere.
            own_keys: the keys of the block, which are none of its parameters.
            inside: which of the arguments stand under args.
            fixes: what to write for a parameter that is missing, where its type does not say enough.
        """
        signature = self._signature(entry, path)
        if signature is None:
            return
        found = params.parameters_of(entry.spec, signature, hidden=owned)
        known = [p.name for p in found if p.settable]
        misfits = list(params.check(found, arguments, open_ended=signature.open_ended))
        unknown = [str(misfit.path[0]) for misfit in misfits if misfit.kind == "unknown"]
        misspelt = [name for key in unknown for name in self._near(key, known, own_keys)]
        for misfit in misfits:
            key = str(misfit.path[0])
            block = f"{path}.args" if key in inside else path
            if misfit.kind == "unknown":
                beside = key in inside and key in own_keys
                hint = "write it beside args" if beside else self._meant(key, known, own_keys)
                self.report(f"{block}.{key}", f"is not a parameter of {entry.name}", hint, misfit.kind)
            elif misfit.kind == "missing" and key in misspelt:  # the error of the misspelt key tells the fix
                pass
            elif misfit.kind == "missing":
                self.report(
                    f"{block}.{key}", f"is missing; {entry.name} needs it", fixes.get(key, misfit.fix), misfit.kind
                )
            else:
                self.problems.misfit(block, misfit)

    def _meant(self, key: str, known: Collection[str], own_keys: Collection[str]) -> str:
        """Return what to do about a key that a component does not take."""
        if key in keys_of(Term) and key not in own_keys and "loss" in own_keys:
            return "a lone loss is built as it is; give it to a term of loss_params.compound_loss"
        around = next((name for name, inner in _INNER.items() if name in own_keys and key in inner), "")
        if around:
            return f"write it under {around}: `{around}: {{{key}: ...}}`"
        near = self._near(key, known, own_keys)
        if not near and "weight" in key and "sample" not in key and "weight" in known:
            near = ["weight"]
        if not near:
            return f"it takes {', '.join(known) or 'no parameters'}"
        (name,) = near
        if name in known and name in own_keys:
            return f"did you mean `args: {{{name}: ...}}`, the loss's own, or {name!r}, the term's?"
        return f"did you mean {name!r}?"

    def _near(self, key: str, known: Collection[str], own_keys: Collection[str]) -> list[str]:
        """Return the key that is spelt like another one, if there is one."""
        return [] if self.problems.crowded else difflib.get_close_matches(key, [*known, *own_keys], n=1, cutoff=0.7)

    def _takes(self, entry: Entry[Any] | None, name: str, path: str) -> bool:
        """Say whether a component has a parameter that a config may set."""
        if entry is None or (signature := self._signature(entry, path)) is None:
            return False
        return any(p.name == name and p.settable for p in params.parameters_of(entry.spec, signature))

    def _signature(self, entry: Entry[Any], path: str) -> Signature | None:
        """Read a component's signature off its source; where that does not say, off the object, which is imported."""
        try:
            return self._sources.of(entry) or signature_of(entry.load())
        except LossregError as error:
            self.report(path, str(error), f"ask {entry.plugin.origin}, or use another {entry.spec.kind}", "refused")
            return None

    # --- the parts of a term ----------------------------------------------------------------------

    def _name(self, values: Mapping[str, Data], default: str | None, path: str) -> str:
        """Return the name that is given, else the default, which may be a key of the file; "" for one that is bad."""
        name = default if values["name"] is None else values["name"]
        for misfit in misfits_of([keys_of(Term)["name"]], {"name": name}) if name is default else ():
            self.problems.misfit(path, misfit)
        return name if is_name(name) else ""

    def _thresholds(self, values: Mapping[str, Data], outer: Data, path: str) -> Data:
        """Return the thresholds that a block gives, else those around it."""
        own = values["epoch_thresholds"]
        if isinstance(own, list) and len(own) > MAX_THRESHOLDS:
            expected = f"at most {MAX_THRESHOLDS:,} epochs"
            self.report(
                f"{path}.epoch_thresholds", f"expected {expected}, found {len(own):,}", "leave some out", "limit"
            )
            return _BAD
        return outer if own is None else own

    def _weight(self, data: Mapping[str, Data], path: str, thresholds: Data, has_own: bool = False) -> Schedule:
        """Parse the weight of a term; a list may be meant for the loss, where that has weights of its own."""
        weight, before = data.get("weight", 1.0), len(self.problems)
        meant = f"args: {{weight: {shown(weight)}}}" if has_own and isinstance(weight, list) else ""
        *_, key = self._places.get(f"{path}.weight", "weight").split(".")  # the file's, for what to write
        schedule = self._schedule(weight, f"{path}.weight", thresholds, key, meant)
        if meant and len(self.problems) == before and "weight" not in (data.get("args") or {}):
            warn(
                f"{path.lstrip('.')}.weight: a list is the term's weight over the epochs; write {meant} for the loss's "
                "own weights, or {schedule: piecewise, values: [...]} to say that epochs are meant",
                ConfigWarning,
            )
        return schedule or as_schedule(1.0, name=path)

    def _schedule(self, weight: Data, path: str, thresholds: Data, key: str, meant: str = "") -> Schedule | None:
        """Parse a number, a list at the thresholds, or `{schedule: NAME, ...}`.

        Args:
            weight: what is given.
            path: where it stands.
            thresholds: the epochs of a list; None if there are none.
            key: its key, for what to write; empty for an item of a list.
            meant: what else a list may be, for what to write.
        """
        label = f"{key}: " if key else ""
        if isinstance(weight, Mapping):
            return self._named_schedule(weight, path, thresholds, label)
        own = f"; for the loss's own, {meant}" if meant else ""
        misfit = next(_WEIGHT.misfits(weight), None)
        if misfit is not None:
            expected = misfit.expected if misfit.path else keys_of(Term)["weight"].type.words
            fix = f"{label}{self._meant_weight(weight, path)}"
            self.problems.misfit(path, replace(misfit, expected=expected, fix=fix))
        elif thresholds is _BAD:  # already reported
            pass
        elif isinstance(weight, list) and thresholds is None:
            expected = f"epoch_thresholds for a list of {len(weight)} weights"
            self.problems.wrong(path, expected, None, f"add `epoch_thresholds: {_epochs(len(weight))}`{own}", "missing")
        elif isinstance(weight, list) and len(weight) != len(thresholds):
            expected = f"{len(thresholds)} weights, one for each of epoch_thresholds"
            fitting = [*weight, *weight[-1:] * len(thresholds)][: len(thresholds)]
            hint = f"give one weight for each of epoch_thresholds, as in `{label}{fitting}`{own}"
            self.problems.wrong(path, expected, len(weight), hint, "conflict")
        else:
            return as_schedule(weight, thresholds, name=path)
        return None

    def _meant_weight(self, weight: Data, path: str) -> str:
        """Return the weight that is meant: by numbers in quotes, or by the name of a schedule; else any."""
        if _WEIGHT.fits(meant := unquoted(weight)):
            return flow(meant)
        if not isinstance(weight, str):
            return "1.0"
        try:
            entry = catalog().schedules.find(weight, suggest=False)
        except NameLookupError:
            return "1.0"
        signature = self._signature(entry, path)
        found = [] if signature is None else params.parameters_of(entry.spec, signature)
        missing = [misfit.fix for misfit in params.check(found, {}) if misfit.kind == "missing"]
        return f"{{{', '.join([f'schedule: {weight}', *missing])}}}"

    def _named_schedule(self, data: Mapping[str, Data], path: str, thresholds: Data, label: str) -> Schedule | None:
        if "schedule" not in data:
            hint = f"{label}{{schedule: cosine, start: 1.0, end: 0.0, end_epoch: 10}}"
            self.report(path, f"expected a schedule by name, found the keys {sorted(map(str, data))}", hint, "missing")
            return None
        entry = self._component(catalog().schedules, "schedule", data["schedule"], f"{path}.schedule")
        if entry is None:
            return None
        before = len(self.problems)
        arguments = {str(key): value for key, value in data.items() if key != "schedule"}
        if isinstance(thresholds, list) and self._takes(entry, "epoch_thresholds", path):
            arguments.setdefault("epoch_thresholds", thresholds)
        inner = arguments.pop("schedules", None)
        fixes = {}
        if isinstance(values := arguments.get("values"), list):
            fixes["epoch_thresholds"] = f"epoch_thresholds: {_epochs(len(values))}"
        if isinstance(inner, list):
            fixes["boundaries"] = f"boundaries: {_epochs(len(inner))[1:]}"
        self._check(entry, arguments, path, owned=("schedules",) if inner is not None else (), fixes=fixes)
        if isinstance(inner, list):
            parts = [self._schedule(item, f"{path}.schedules[{i}]", thresholds, "") for i, item in enumerate(inner)]
            arguments["schedules"] = parts
        elif inner is not None:
            self.problems.wrong(f"{path}.schedules", "a list of weights", inner, "schedules: [1.0, 0.5]")
        if len(self.problems) > before:
            return None
        try:
            return as_schedule(entry.construct(arguments), name=path)
        except Exception as error:  # a third party's schedule may raise anything
            hint = f"`lossreg show {entry.name}` tells what it takes"
            self.report(path, message_of(error) or described(error), hint, "refused")
            return None

    # --- switches over all terms ------------------------------------------------------------------

    def _part(self, section: Section[Any], key: str, given: Data, path: str) -> Component | None:
        """Parse a preprocess or a weighting: its name, or a mapping with its parameters."""
        kind = section.kind
        data = {key: given} if isinstance(given, str) else given
        if not self._mapping(data, path, f"the name of a {kind}, or a mapping", f"{{{key}: NAME}}"):
            return None
        key = "_target_" if kind == "preprocess" and "_target_" in data else key
        if key not in data:
            found = f"found the keys {sorted(map(str, data))}"
            self.report(path, f"expected a {kind} by name, {found}", f"{{{key}: NAME}}", "missing")
            return None
        entry = self._component(section, key, data[key], f"{path}.{key}")
        if entry is None:
            return None
        arguments = {str(k): v for k, v in data.items() if k not in (key, *IGNORED_KEYS)}
        self._no_targets(arguments, path)
        self._check(entry, arguments, path)
        return Component(path, entry, arguments)

    def _mapping(self, data: Data, path: str, expected: str, hint: str) -> bool:
        if not isinstance(data, Mapping):
            self.problems.wrong(path, expected, data, hint)
        return isinstance(data, Mapping)


def _in_order(misfit: Misfit) -> Misfit:
    """Return what is wrong with thresholds; if they are numbers, the fix has them in ascending order, from 0."""
    found = misfit.found if isinstance(misfit.found, list) else [0, misfit.found]
    if not _WEIGHT.fits(found) or len(set(found)) < len(found):
        return misfit
    return replace(misfit, fix=f"epoch_thresholds: {sorted(found)}")


def _epochs(count: int) -> list[int]:
    """Return thresholds for some weights, as an example."""
    return [10 * i for i in range(count)]


def _free(name: str, taken: set[str]) -> str:
    """Return a name that no term has, and take it."""
    free = next(other for i in itertools.count(2) if (other := f"{name}_{i}") not in taken)
    taken.add(free)
    return free


def _is_zero(weight: Data) -> bool:
    return isinstance(weight, (int, float)) and not isinstance(weight, bool) and weight == 0


_BAD: Data = object()
_INNER = {
    "wrap": frozenset(field.name for field in fields(Wrap)),
    "deep_supervision": frozenset(field.name for field in fields(Deep)) - {"weights"},  # near to weight
}
"""The keys of the blocks of a term, which may stand beside them by mistake."""
_NAMING = ("loss", "_target_")
_EMPTY = "is empty; expected at least one term"
_WEIGHT = type_of(Finite | list[Finite])


def _given(values: Mapping[str, Data]) -> dict[str, Data]:
    """Return the values without those that are null, which leaves a key out."""
    return {name: value for name, value in values.items() if value is not None}


def _if_good(value: Data) -> Data:
    return None if value is _BAD else value


def _default_name(data: Mapping[str, Data], entry: Entry[LossSpec]) -> str:
    """Name a term as the file does, without the namespace; one given by its target by its first alias."""
    if "loss" in data:
        return entry.term_name(str(data["loss"]))
    return entry.spec.aliases[0] if entry.spec.aliases else entry.spec.name
