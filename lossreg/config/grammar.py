"""The grammar of compound losses: plain data to a checked tree of terms, with every mistake at its path."""

from __future__ import annotations

import difflib
import math
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

from lossreg.arguments import nearest
from lossreg.composition.schedules import Schedule, as_schedule
from lossreg.config.bounds import MAX_THRESHOLDS
from lossreg.config.examples import example_of
from lossreg.config.imports import imported
from lossreg.config.problems import Problems, shown
from lossreg.config.reading import Data
from lossreg.config.size import check_size
from lossreg.errors import ConfigProblem, ConfigWarning, LossregError, NameLookupError
from lossreg.losses.channels import parse_selector
from lossreg.printable import A_NAME, MAX_NAME, is_name
from lossreg.registry import catalog, params
from lossreg.registry.components import Entry, Section
from lossreg.registry.foreign import described, message_of
from lossreg.registry.params import Parameter, ParameterProblem
from lossreg.registry.signature import Signature, signature_of
from lossreg.registry.source import Sources
from lossreg.registry.specs import LossSpec, WeightingSpec

LISTS = ("loss_list", "losses")
_SHARED = (*LISTS, "epoch_thresholds", "pre_processes", "weighting", "zero_weight", "batch_keys", "on_nonfinite")
COMPOUND_KEYS = (*_SHARED, "normalize_losses", "normalization_params", "track_norms", "norm_momentum", "compile")
GROUP_KEYS = (*_SHARED, "name", "weight", "normalize", "optional")
TERM_KEYS = (
    "loss", "_target_", "name", "weight", "epoch_thresholds", "normalize", "optional",
    "pred_key", "gt_key", "input", "dtype", "deep_supervision", "args", "wrap",
)  # fmt: skip
LONE_KEYS = ("loss", "_target_", "name", "args")  # those that a loss without terms around it has, too
NORMALIZATION_KEYS = ("min_samples", "max_samples")
INPUTS = ("logits", "probabilities")
DTYPES = ("float32", "input")
WRAP_CHOICES: Mapping[str, tuple[str, ...]] = {
    "target_dtype": ("long", "float"),
    "target_shape": ("same", "broadcast", "any"),
    "reduction": ("mean", "sum"),
}
WRAP_KEYS = ("inputs", "pred_channels", "gt_channels", *WRAP_CHOICES, "needs_grad")
DEEP_KEYS = ("outputs", "weights", "resize")
ON_NONFINITE = ("ignore", "raise", "skip_term")
ZERO_WEIGHT = ("keep", "skip")
TRACK_NORMS = ("running",)
RESIZE = ("nearest", "bilinear")
IGNORED_KEYS = ("_convert_", "_recursive_")  # hydra's; beside plain data they change nothing
SPECIAL_KEYS = ("_args_", "_partial_", *IGNORED_KEYS)


@dataclass
class Component:
    """A registered component with the arguments that a config gives it."""

    path: str
    entry: Entry[Any]
    arguments: dict[str, Data]
    name: str | None = None


@dataclass
class TermConfig:
    """A term: a loss with its arguments, or a group of terms."""

    path: str
    name: str
    weight: Schedule
    loss: Component | None = None
    group: CompoundConfig | None = None
    wrap: dict[str, Data] = field(default_factory=dict)
    deep_supervision: dict[str, Data] | None = None
    normalize: bool = True
    optional: bool = False


@dataclass
class CompoundConfig:
    """A compound loss: its terms in order and the switches over all of them."""

    path: str
    terms: list[TermConfig] = field(default_factory=list)
    normalize: bool = True
    normalization_params: dict[str, int] = field(default_factory=dict)
    pre_processes: list[Component] = field(default_factory=list)
    weighting: Component | None = None
    zero_weight: Literal["keep", "skip"] = "keep"
    batch_keys: list[str] | None = None
    on_nonfinite: str = "ignore"
    track_norms: str | None = None
    norm_momentum: float = 0.01
    compile: bool = False

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


class Grammar:
    """Parse compound losses, collecting problems in place of raising at the first.

    Args:
        allow_import: modules, by their exact dotted path, whose own classes and functions `_target_` may name
            beside the registered components; from Python code only.
        problems: what was found wrong before parsing.
    """

    def __init__(self, allow_import: Collection[str] = (), problems: Iterable[ConfigProblem] = ()) -> None:
        if isinstance(allow_import, str):
            raise TypeError(f"allow_import takes a tuple of module paths, got the string {allow_import!r}")
        self.allow_import = frozenset(allow_import)
        self.problems = Problems(problems)
        self.report = self.problems.report
        self._sources = Sources()

    # --- compound ---------------------------------------------------------------------------------

    def compound(self, data: Data, path: str) -> CompoundConfig:
        """Parse a `compound_loss` block."""
        config = CompoundConfig(path)
        if not self._mapping(data, path, "a mapping with a loss_list", "loss_list: [{loss: NAME, weight: 1.0}]"):
            return config
        self._known(data, COMPOUND_KEYS, path)
        config.normalize = self._bool(data, "normalize_losses", path, True)
        config.normalization_params = self._normalization(
            data.get("normalization_params"), f"{path}.normalization_params"
        )
        config.compile = self._bool(data, "compile", path, False)
        self._tracking(data, config)
        self._members(data, config, None)
        if not self.problems:
            check_size(config, self.report)
        return config

    def _tracking(self, data: Mapping[str, Data], config: CompoundConfig) -> None:
        path = config.path
        if data.get("track_norms") is not None:
            config.track_norms = self._choice(data, "track_norms", path, TRACK_NORMS, TRACK_NORMS[0])
        momentum = data.get("norm_momentum", config.norm_momentum)
        if isinstance(momentum, (int, float)) and not isinstance(momentum, bool) and 0 < momentum <= 1:
            config.norm_momentum = momentum
        else:
            self.report(
                f"{path}.norm_momentum",
                f"expected a number above 0 and at most 1, found {shown(momentum)}",
                f"norm_momentum: {CompoundConfig.norm_momentum}",
            )

    def single(self, data: Data, path: str) -> Component | None:
        """Parse the block of a lone loss: a name, or `{loss: NAME, ...}` or `{_target_: ..., ...}` with arguments."""
        data = {"loss": data} if isinstance(data, str) else data
        if not self._mapping(data, path, "the name of a loss, or a mapping", "loss: {loss: NAME}"):
            return None
        self._no_special(data, path)
        entry = self._loss_entry(data, path)
        arguments = self._arguments(data, path, entry, LONE_KEYS)
        if entry is None:
            return None
        return Component(path, entry, arguments, self._name(data.get("name", _default_name(data, entry)), path))

    def _members(self, data: Mapping[str, Data], config: CompoundConfig, thresholds: Data) -> None:
        """Parse what a compound loss and a group have in common."""
        path = config.path
        given = data.get("epoch_thresholds")
        thresholds = self._thresholds(given, f"{path}.epoch_thresholds") if given is not None else thresholds
        if self._choice(data, "zero_weight", path, ZERO_WEIGHT, "keep") == "skip":
            config.zero_weight = "skip"
        config.on_nonfinite = self._choice(data, "on_nonfinite", path, ON_NONFINITE, config.on_nonfinite)
        config.batch_keys = self._batch_keys(data.get("batch_keys"), f"{path}.batch_keys")
        config.pre_processes = self._pre_processes(data.get("pre_processes"), f"{path}.pre_processes")
        config.weighting = self._weighting(data.get("weighting"), f"{path}.weighting")
        for where, default_name, item in self._items(data, path):
            term = self._term(item, where, default_name, thresholds, config)
            if term is not None:
                config.terms.append(term)
        self._unique(config)

    def _items(self, data: Mapping[str, Data], path: str) -> list[tuple[str, str | None, Data]]:
        """Return `(path, name, term)` for each term of a list or a mapping."""
        present = [key for key in LISTS if data.get(key) is not None]
        if len(present) != 1:
            found = "both are there" if present else f"found the keys {sorted(map(str, data))}"
            hint = f"leave out {present[1]}" if present else f"{LISTS[0]}: [{{loss: NAME, weight: 1.0}}]"
            self.report(path, f"expected the terms under one of {' or '.join(LISTS)}; {found}", hint)
            return []
        key = present[0]
        items = data[key]
        found_items: list[tuple[str, str | None, Data]]
        if isinstance(items, list):
            found_items = [(f"{path}.{key}[{i}]", None, item) for i, item in enumerate(items)]
        elif isinstance(items, Mapping):
            found_items = [
                (f"{path}.{key}.{name}", str(name), item) for name, item in items.items() if item is not None
            ]
        else:
            self.report(
                f"{path}.{key}",
                f"expected a list of terms or a mapping of name to term, found {shown(items)}",
                f"{key}: [{{loss: NAME, weight: 1.0}}]",
            )
            return []
        if not found_items:
            self.report(
                f"{path}.{key}", "is empty; expected at least one term", f"{key}: [{{loss: NAME, weight: 1.0}}]"
            )
        return found_items

    def _unique(self, config: CompoundConfig) -> None:
        seen: dict[str, TermConfig] = {}
        for term in (term for term in config.terms if term.name):
            other = seen.setdefault(term.name, term)
            if other is not term:
                self.report(
                    term.path,
                    f"has the name {term.name!r}, as has {other.path.lstrip('.')}",
                    "give one of them another name",
                )

    # --- one term ---------------------------------------------------------------------------------

    def _term(
        self, data: Data, path: str, default_name: str | None, thresholds: Data, around: CompoundConfig
    ) -> TermConfig | None:
        if isinstance(data, str):
            data = {"loss": data}
        if not self._mapping(data, path, "a term", "{loss: NAME, weight: 1.0}"):
            return None
        if any(key in data for key in LISTS):
            return self._group(data, path, default_name, thresholds, around)
        if isinstance(data.get("loss"), Mapping):
            return self._nested(data, path, default_name, thresholds, around)
        self._no_special(data, path)
        entry = self._loss_entry(data, path)
        wrap = self._wrap(data, path)
        arguments = self._arguments(data, path, entry)
        name = data.get("name", default_name)
        if name is None and entry is not None:
            name = _default_name(data, entry)
        return TermConfig(
            path,
            self._name(name, path),
            self._weight(data, path, thresholds, has_own=self._takes(entry, "weight", path)),
            loss=None if entry is None else Component(path, entry, arguments),
            wrap=wrap,
            deep_supervision=self._deep_supervision(data.get("deep_supervision"), f"{path}.deep_supervision"),
            normalize=self._bool(data, "normalize", path, True),
            optional=self._bool(data, "optional", path, False),
        )

    def _nested(
        self, data: Mapping[str, Data], path: str, name: str | None, thresholds: Data, around: CompoundConfig
    ) -> TermConfig | None:
        """Parse `- loss: {_target_: ..., name: ...}` with the term's own keys beside it."""
        inner = data["loss"]
        outer = {key: value for key, value in data.items() if key != "loss"}
        twice = sorted(set(inner) & set(outer))
        if twice:
            self.report(path, f"gives {', '.join(twice)} both inside and beside `loss`", "keep one of the two")
            outer = {key: value for key, value in outer.items() if key not in twice}
        problems = len(self.problems)
        term = self._term({**inner, **outer}, path, name, thresholds, around)
        for i in range(problems, len(self.problems)):
            self.problems.move(i, _moved(self.problems[i].path, path, inner))
        return term

    def _group(
        self, data: Mapping[str, Data], path: str, default_name: str | None, thresholds: Data, around: CompoundConfig
    ) -> TermConfig:
        self._known(data, GROUP_KEYS, path)
        group = CompoundConfig(
            path,
            normalize=self._bool(data, "normalize", path, True),
            on_nonfinite=around.on_nonfinite,
            track_norms=around.track_norms,
            norm_momentum=around.norm_momentum,
        )
        self._members(data, group, thresholds)
        name = data.get("name", default_name)
        if name is None:
            self.report(path, "is a group of terms and needs a name", "name: my_group")
            name = "group"
        weight = self._weight(data, path, _group_thresholds(data, thresholds))
        optional = self._bool(data, "optional", path, False)
        return TermConfig(path, self._name(name, path), weight, group=group, optional=optional)

    def _loss_entry(self, data: Mapping[str, Data], path: str) -> Entry[LossSpec] | None:
        given = [key for key in ("loss", "_target_") if key in data]
        if len(given) != 1:
            found = "found both" if given else f"found the keys {sorted(map(str, data))}"
            near = difflib.get_close_matches("loss", [str(key) for key in data if key not in given], n=1)
            self.report(
                path,
                f"expected `loss: NAME` or `_target_: dotted.path`; {found}",
                f"leave out {given[1]}" if given else f"write `loss` for {near[0]!r}" if near else "loss: NAME",
            )
            return None
        return self._component(catalog().losses, given[0], data[given[0]], f"{path}.{given[0]}")

    def _component(self, section: Section[Any], key: str, name: Data, path: str) -> Entry[Any] | None:
        """Look a name or a dotted `_target_` up; nothing is imported."""
        if not isinstance(name, str):
            hint = f"`lossreg list --kind {section.kind}` shows the names"
            self.report(path, f"expected the name of a {section.kind}, found {shown(name)}", hint)
            return None
        try:
            find = section.find_target if key == "_target_" else section.find
            return find(name, suggest=not self.problems.crowded)
        except NameLookupError as error:
            allowed = self._imported(name, section, path) if key == "_target_" else None
            if allowed is None:
                note = "; a _target_ is looked up among registered components, never imported"
                self.report(path, error.problem + (note if key == "_target_" else ""), error.hint)
            return allowed

    def _imported(self, dotted: str, section: Section[Any], path: str) -> Entry[Any] | None:
        """Import a loss from a module that Python code allowed by its exact path."""
        if section.kind != LossSpec.kind:
            return None
        try:
            return imported(dotted, self.allow_import, path)
        except ImportError as error:
            self.report(path, str(error), "allow_import takes the module that defines it")
            return None

    def _arguments(
        self, data: Mapping[str, Data], path: str, entry: Entry[LossSpec] | None, own_keys: Sequence[str] = TERM_KEYS
    ) -> dict[str, Data]:
        """Return the constructor arguments: what stands beside the block's own keys, and under args."""
        arguments = {str(k): v for k, v in data.items() if k not in own_keys and k not in SPECIAL_KEYS}
        explicit = data.get("args", {})
        if not isinstance(explicit, Mapping):
            self.report(
                f"{path}.args", f"expected a mapping of constructor arguments, found {shown(explicit)}", "args: {}"
            )
            explicit = {}
        for key in sorted(set(arguments) & set(explicit)):
            self.report(f"{path}.args.{key}", "is given twice: under args and beside it", "keep one of the two")
        merged = {**arguments, **{str(key): value for key, value in explicit.items()}}
        self._no_targets(merged, path)
        if entry is not None:
            self._check(entry, merged, path, own_keys=own_keys, inside=set(map(str, explicit)))
        return merged

    def _no_special(self, data: Mapping[str, Data], path: str) -> None:
        """Refuse hydra's special keys, but for those that change nothing."""
        for key in SPECIAL_KEYS:
            if key in data and key not in IGNORED_KEYS:
                self.report(
                    f"{path}.{key}", "is not supported: a config names components and gives them data", "leave it out"
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
    ) -> None:
        """Bind arguments to the signature of a component's target."""
        signature = self._signature(entry, path)
        if signature is None:
            return
        found = params.parameters_of(entry.spec, signature, hidden=owned)
        known = {p.name: p for p in found if p.settable}
        for problem in params.check(found, arguments, open_ended=signature.open_ended):
            key = str(problem.path[0]) if problem.path else ""
            where = (
                path
                + (".args" if key in inside else "")
                + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in problem.path)
            )
            fix = self._meant(key, known, own_keys) if problem.message == "is not a parameter" else ""
            self.report(where, *_worded(problem, entry, known, fix, arguments))

    def _meant(self, key: str, known: Collection[str], own_keys: Collection[str]) -> str:
        """Return what to do about a key that a component does not take."""
        if own_keys == LONE_KEYS and key in TERM_KEYS:
            return "a lone loss is built as it is; give it to a term of loss_params.compound_loss"
        near = [] if self.problems.crowded else difflib.get_close_matches(key, [*known, *own_keys], n=1, cutoff=0.7)
        if not near and "weight" in key and "sample" not in key and "weight" in known:
            near = ["weight"]
        if not near:
            return f"it takes {', '.join(known) or 'no parameters'}"
        (name,) = near
        if name in known and name in own_keys:
            return f"did you mean `args: {{{name}: ...}}`, the loss's own, or {name!r}, the term's?"
        return f"did you mean {name!r}?"

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
            self.report(path, str(error), f"ask {entry.plugin.origin}, or use another {entry.spec.kind}")
            return None

    # --- the parts of a term ----------------------------------------------------------------------

    def _name(self, name: Data, path: str) -> str:
        if name is None:
            return ""
        if not is_name(name):
            self.report(f"{path}.name", f"expected {A_NAME}, found {shown(name)}", "name: my_term")
            return f"?{path}"
        return name

    def _weight(self, data: Mapping[str, Data], path: str, thresholds: Data, *, has_own: bool = False) -> Schedule:
        """Parse the weight of a term; a list may be meant for the loss, where that has weights of its own."""
        own = data.get("epoch_thresholds")
        if own is not None and not any(key in data for key in LISTS):
            thresholds = self._thresholds(own, f"{path}.epoch_thresholds")
        weight, before = data.get("weight", 1.0), len(self.problems)
        meant = f"args: {{weight: {shown(weight)}}}" if has_own and isinstance(weight, list) else ""
        schedule = self._schedule(weight, f"{path}.weight", thresholds, meant)
        if meant and len(self.problems) == before and "weight" not in (data.get("args") or {}):
            warnings.warn(
                f"{path.lstrip('.')}.weight: a list is the term's weight over the epochs; write {meant} for the loss's "
                "own weights, or {schedule: piecewise, values: [...]} to say that epochs are meant",
                ConfigWarning,
                stacklevel=2,
            )
        return schedule

    def _schedule(self, weight: Data, path: str, thresholds: Data, meant: str = "") -> Schedule:
        """Parse a number, a list at the thresholds (`meant`: what else it may be), or `{schedule: NAME, ...}`."""
        if isinstance(weight, Mapping):
            return self._named_schedule(weight, path, thresholds)
        if thresholds is _BAD:  # which has been told: the values are looked at all the same
            thresholds = list(range(len(weight))) if isinstance(weight, list) else None
        try:
            return as_schedule(weight, thresholds, name=path)
        except (TypeError, ValueError) as error:
            hint = "weight: 1.0" if not isinstance(weight, list) else "give one weight for each of epoch_thresholds"
            hint += f"; for the loss's own, {meant}" if meant else ""
            self.report(path, _without_prefix(str(error), path), hint)
            return as_schedule(1.0, name=path)

    def _named_schedule(self, data: Mapping[str, Data], path: str, thresholds: Data) -> Schedule:
        fallback = as_schedule(1.0, name=path)
        if "schedule" not in data:
            hint = "weight: {schedule: cosine, start: 1.0, end: 0.0, end_epoch: 10}"
            self.report(path, f"expected a schedule by name, found the keys {sorted(map(str, data))}", hint)
            return fallback
        entry = self._component(catalog().schedules, "schedule", data["schedule"], f"{path}.schedule")
        if entry is None:
            return fallback
        before = len(self.problems)
        arguments = {str(key): value for key, value in data.items() if key != "schedule"}
        if isinstance(thresholds, list) and "epoch_thresholds" not in arguments:
            names = {p.name for p in params.parameters(entry.load())}
            arguments |= {"epoch_thresholds": thresholds} if "epoch_thresholds" in names else {}
        inner = arguments.pop("schedules", None)
        self._check(entry, arguments, path, owned=("schedules",) if inner is not None else ())
        if inner is not None:
            if not isinstance(inner, list):
                self.report(
                    f"{path}.schedules", f"expected a list of weights, found {shown(inner)}", "schedules: [1.0, 0.5]"
                )
                return fallback
            parts = [self._schedule(item, f"{path}.schedules[{i}]", thresholds) for i, item in enumerate(inner)]
            arguments["schedules"] = parts
        if len(self.problems) > before:
            return fallback
        try:
            made = entry.construct(arguments)
            return as_schedule(made, name=path)
        except Exception as error:  # a third party's schedule may raise anything
            self.report(path, message_of(error) or described(error), f"`lossreg show {entry.name}` tells what it takes")
            return fallback

    def _thresholds(self, given: Data, path: str) -> Data:
        numbers = isinstance(given, list) and all(
            isinstance(e, (int, float)) and not isinstance(e, bool) and math.isfinite(e) for e in given
        )
        if not numbers or not given or any(b <= a for a, b in pairwise(given)):
            hint = "epoch_thresholds: [0, 5, 10]"
            self.report(path, f"expected a list of epochs in ascending order, found {shown(given)}", hint)
            return _BAD
        if len(given) > MAX_THRESHOLDS:
            self.report(path, f"expected at most {MAX_THRESHOLDS:,} epochs, found {len(given):,}", "leave some out")
            return _BAD
        return given

    def _wrap(self, data: Mapping[str, Data], path: str) -> dict[str, Data]:
        options = {}
        for key in ("pred_key", "gt_key"):
            if data.get(key) is not None:
                if isinstance(data[key], str):
                    options[key] = data[key]
                else:
                    self.report(
                        f"{path}.{key}", f"expected a key of the batch, found {shown(data[key])}", f"{key}: seg"
                    )
        for key, choices in (("input", INPUTS), ("dtype", DTYPES)):
            if data.get(key) is not None:
                options[key] = self._choice(data, key, path, choices, choices[0])
        given = data.get("wrap", {})
        if self._mapping(given, f"{path}.wrap", f"a mapping of {', '.join(WRAP_KEYS)}", "wrap: {reduction: mean}"):
            self._known(given, WRAP_KEYS, f"{path}.wrap")
            for key, allowed in WRAP_CHOICES.items():
                if given.get(key) is not None:
                    self._choice(given, key, f"{path}.wrap", allowed, allowed[0])
            if given.get("needs_grad") is not None:
                self._bool(given, "needs_grad", f"{path}.wrap", True)
            inputs = given.get("inputs")
            if inputs is not None and not (inputs and _is_list_of(inputs, str) and all(map(_is_batch_key, inputs))):
                self.report(
                    f"{path}.wrap.inputs", f"expected a list of keys of the batch, found {shown(inputs)}", _KEYS
                )
            for key in ("pred_channels", "gt_channels"):
                self._selector(given.get(key), f"{path}.wrap.{key}")
            options |= {key: value for key, value in given.items() if key in WRAP_KEYS}
        return options

    def _selector(self, given: Data, path: str) -> None:
        try:
            if given is not None:
                parse_selector(given, "channels")
        except (TypeError, ValueError) as error:
            self.report(path, str(error).removeprefix("channels").lstrip(": "), "gt_channels: {start: 0, stop: 2}")

    def _deep_supervision(self, given: Data, path: str) -> dict[str, Data] | None:
        """Parse `{outputs: aux.*, weights: exp, resize: nearest}`, or the outputs alone."""
        if given is None:
            return None
        data = {"outputs": given} if isinstance(given, str | list) else given
        if not self._mapping(data, path, "the outputs, or a mapping", "{outputs: aux.*, weights: exp}"):
            return None
        self._known(data, DEEP_KEYS, path)
        outputs, weights = data.get("outputs"), data.get("weights", "exp")
        if not isinstance(outputs, str) and not (_is_list_of(outputs, str) and outputs):
            self.report(
                f"{path}.outputs",
                f"expected a key, a glob, or a list of keys, found {shown(outputs)}",
                "outputs: aux.*",
            )
        if weights not in ("exp", "same") and not _is_list_of(weights, (int, float)):
            self.report(
                f"{path}.weights", f"expected exp, same or a list of numbers, found {shown(weights)}", "weights: exp"
            )
        self._choice(data, "resize", path, RESIZE, RESIZE[0])
        return dict(data)

    # --- switches over all terms ------------------------------------------------------------------

    def _pre_processes(self, given: Data, path: str) -> list[Component]:
        if given is None:
            return []
        if not isinstance(given, list):
            self.report(path, f"expected a list, found {shown(given)}", "pre_processes: [{preprocess: NAME}]")
            return []
        found = [self._preprocess(item, f"{path}[{i}]") for i, item in enumerate(given)]
        return [component for component in found if component is not None]

    def _preprocess(self, item: Data, path: str) -> Component | None:
        data = {"preprocess": item} if isinstance(item, str) else item
        if not self._mapping(data, path, "the name of a preprocess, or a mapping", "{preprocess: NAME}"):
            return None
        key = "_target_" if "_target_" in data else "preprocess"
        if key not in data:
            found = f"found the keys {sorted(map(str, data))}"
            self.report(path, f"expected a preprocess by name, {found}", "{preprocess: NAME}")
            return None
        entry = self._component(catalog().preprocesses, key, data[key], f"{path}.{key}")
        return None if entry is None else self._configured(entry, data, key, path)

    def _weighting(self, given: Data, path: str) -> Component | None:
        if given is None:
            return None
        data = {"strategy": given} if isinstance(given, str) else given
        if not self._mapping(data, path, "the name of a weighting, or a mapping", "weighting: {strategy: NAME}"):
            return None
        entry: Entry[WeightingSpec] | None = self._component(
            catalog().weightings, "strategy", data.get("strategy"), f"{path}.strategy"
        )
        return None if entry is None else self._configured(entry, data, "strategy", path)

    def _configured(self, entry: Entry[Any], data: Mapping[str, Data], key: str, path: str) -> Component:
        """Check the arguments that stand beside the key that names a component."""
        arguments = {str(k): v for k, v in data.items() if k not in (key, *IGNORED_KEYS)}
        self._no_targets(arguments, path)
        self._check(entry, arguments, path)
        return Component(path, entry, arguments)

    def _normalization(self, given: Data, path: str) -> dict[str, int]:
        hint = "normalization_params: {max_samples: 1000}"
        if given is None or not self._mapping(given, path, "a mapping of min_samples and max_samples", hint):
            return {}
        self._known(given, NORMALIZATION_KEYS, path)
        counts = {}
        for key in NORMALIZATION_KEYS:
            value = given.get(key)
            if value is None:
                continue
            if isinstance(value, int) and not isinstance(value, bool) and value > 0:
                counts[key] = value
            else:
                self.report(
                    f"{path}.{key}", f"expected a number of samples above 0, found {shown(value)}", f"{key}: 1000"
                )
        if counts.get("min_samples", 0) > counts.get("max_samples", math.inf):
            more = f"min_samples {counts['min_samples']} is more than max_samples {counts['max_samples']}"
            self.report(path, more, "lower the one or raise the other")
        return counts

    def _batch_keys(self, given: Data, path: str) -> list[str] | None:
        if given is None:
            return None
        if not (_is_list_of(given, str) and all(map(_is_batch_key, given))):
            hint = f"batch_keys: {_KEYS}"
            self.report(path, f"expected a list of keys of pred and gt, found {shown(given)}", hint)
            return None
        return list(given)

    # --- small checks -----------------------------------------------------------------------------

    def _mapping(self, data: Data, path: str, expected: str, hint: str) -> bool:
        if isinstance(data, Mapping):
            return True
        self.report(path, f"expected {expected}, found {shown(data)}", hint)
        return False

    def _known(self, data: Mapping[str, Data], known: Sequence[str], path: str) -> None:
        for key in data:
            if key not in known:
                hint = self._near(str(key), known) or f"expected one of {', '.join(known)}"
                self.report(f"{path}.{key}", "is not a key of this block", hint)

    def _near(self, value: str, known: Sequence[str]) -> str:
        """Return the hint that a known name was meant, as long as a message has room for it."""
        return "" if self.problems.crowded else nearest(value, known)

    def _bool(self, data: Mapping[str, Data], key: str, path: str, default: bool) -> bool:
        value = data.get(key, default)
        if isinstance(value, bool):
            return value
        self.report(f"{path}.{key}", f"expected true or false, found {shown(value)}", f"{key}: {str(default).lower()}")
        return default

    def _choice(self, data: Mapping[str, Data], key: str, path: str, choices: Sequence[str], default: str) -> str:
        value = data.get(key, default)
        if value in choices:
            return str(value)
        near = difflib.get_close_matches(str(value)[:MAX_NAME], choices, n=1) or [default]
        self.report(f"{path}.{key}", f"expected {' or '.join(choices)}, found {shown(value)}", f"{key}: {near[0]}")
        return default


_BAD: Data = object()
_KEYS = "[pred.seg, gt.gt_polygons_image]"


def _group_thresholds(data: Mapping[str, Data], outer: Data) -> Data:
    """Return the thresholds of a group's own weight: its own where they are well formed, else the outer ones."""
    own = data.get("epoch_thresholds")
    return own if isinstance(own, list) else outer


def _default_name(data: Mapping[str, Data], entry: Entry[LossSpec]) -> str:
    """Name a term as the file does, without the namespace; one given by its target by its first alias."""
    if "loss" in data:
        return str(data["loss"]).rpartition("/")[2]
    return entry.spec.aliases[0] if entry.spec.aliases else entry.spec.name


def _moved(place: str, path: str, inner: Mapping[str, Data]) -> str:
    """Point a problem's place in a nested term at the key under `loss`, where the file has it."""
    rest = place.removeprefix(path)
    head = rest.lstrip(".").partition(".")[0].partition("[")[0]
    return f"{path}.loss{rest}" if place.startswith(path) and head in inner else place


def _worded(
    problem: ParameterProblem,
    entry: Entry[Any],
    known: Mapping[str, Parameter],
    fix: str,
    arguments: Mapping[str, Data],
) -> tuple[str, str]:
    """Say what is wrong with an argument, and what to do about it."""
    key = str(problem.path[0]) if problem.path else ""
    if problem.message == "is not a parameter":
        return f"is not a parameter of {entry.name}", fix
    if problem.message == "is missing":
        return f"is missing; {entry.name} needs it", example_of(known[key])
    value = _at(arguments, problem.path)
    message = f"{problem.message}, found {shown(value)}"
    return message, example_of(known[key], value) if key in known else "leave it out"


def _is_list_of(value: Data, kind: type | tuple[type, ...]) -> bool:
    return isinstance(value, list) and all(isinstance(item, kind) and not isinstance(item, bool) for item in value)


def _is_batch_key(key: str) -> bool:
    side, _, rest = key.partition(".")
    return side in ("pred", "gt") and rest != ""


def _at(data: Data, path: Sequence[str | int]) -> Data:
    for part in path:
        data = data[part]
    return data


def _without_prefix(message: str, path: str) -> str:
    for prefix in (f"term {path!r}: ", f"{path}: "):
        if message.startswith(prefix):
            return message[len(prefix) :]
    return message
