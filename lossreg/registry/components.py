"""Look up components by canonical name, bare name, alias or dotted target."""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from importlib import import_module
from typing import Any, Generic, TypeVar, cast

import pluggy

from lossreg.arguments import shown
from lossreg.errors import AmbiguousNameError, PluginError, UnknownNameError
from lossreg.registry.foreign import described, foreign, message_of
from lossreg.registry.known import DISTRIBUTIONS, missing
from lossreg.registry.packages import install_line, unmet
from lossreg.registry.plugins import Plugin
from lossreg.registry.specs import LossSpec, PreprocessSpec, ScheduleSpec, Spec, WeightingSpec

S = TypeVar("S", bound=Spec)

_BARE = re.compile(r".*[/.]")  # what stands before the last part of a name
_FIRST_PARTY = ("lossreg", *DISTRIBUTIONS)
LOCAL = "local"
"""Namespace of the components registered with `lossreg.register`."""


@dataclass(frozen=True)
class Entry(Generic[S]):
    """A spec with the plugin that offers it.

    Attributes:
        spec: the spec.
        plugin: the plugin; `LOCAL` for what `lossreg.register` registered.
        local: the registered object, instead of what is at the spec's target.
        registrar: the plugin that registered it at its import; None for a script.
    """

    spec: S
    plugin: Plugin
    local: Any = None
    registrar: Plugin | None = None

    @property
    def name(self) -> str:
        """The canonical name, `plugin/Name`."""
        return f"{self.plugin.name}/{self.spec.name}"

    @property
    def names(self) -> frozenset[str]:
        """All names of the component: bare name, aliases, both with the namespace, and dotted targets."""
        short = {self.spec.name, *self.spec.aliases}
        return frozenset({*short, *(f"{self.plugin.name}/{name}" for name in short), *self.spec.dotted})

    def matches(self, filter: str | None) -> bool:
        """Return whether a glob matches the canonical or the bare name, ignoring case; None matches all."""
        pattern = (filter or "*").lower()
        return any(fnmatchcase(name.lower(), pattern) for name in (self.name, self.spec.name))

    def term_name(self, name: str) -> str:
        """Return the default name of a term that chooses the component by a name: its last part."""
        return name.rpartition("." if name in self.spec.dotted else "/")[2]

    @property
    def needs(self) -> tuple[str, ...]:
        """The requirements of the component that are not met."""
        package = self.spec.package
        return (package,) if package is not None and unmet(package) else ()

    def load(self) -> Any:
        """Import and return the target.

        Raises:
            PluginError: the target does not exist or its module cannot be imported; the original error is the cause.
        """
        if self.local is not None:
            return self.local
        module, _, attribute = self.spec.target.partition(":")
        try:
            target: Any = import_module(module)
            for part in attribute.split("."):
                target = getattr(target, part)
        except KeyboardInterrupt as error:
            error.add_note(f"stopped while importing {self.origin}")
            raise
        except BaseException as error:
            raise PluginError(
                f"{self.origin}: its target {self.spec.target!r} cannot be imported: {described(error)}"
            ) from error
        return target

    @property
    def origin(self) -> str:
        """The component and its plugin, for messages."""
        return f"{self.spec.kind} {self.name!r} of {self.plugin.origin}"

    def construct(self, arguments: Mapping[str, Any]) -> Any:
        """Call the target with keyword arguments and return the result.

        Raises:
            PluginError: the target raised a `BaseException` that is not an `Exception`. Other errors are not changed.
        """
        target = self.load()
        with foreign(f"building {self.origin}"):
            return target(**arguments)


class Elsewhere(Entry[S]):
    """A component of a first-party distribution that is not installed."""

    @property
    def needs(self) -> tuple[str, ...]:
        """The distribution, and the requirements of the component that are not met."""
        return (self.plugin.distribution, *super().needs)


class Section(Generic[S]):
    """All components of one kind.

    Attributes:
        kind: the kind.
        absent: the components whose package is not installed, each with the reason.
    """

    def __init__(self, kind: str, entries: Iterable[Entry[S]], failed: Iterable[Plugin]) -> None:
        self.kind = kind
        every = sorted(entries, key=lambda entry: (entry.name, entry.plugin.distribution))
        reasons = {package: unmet(package) for package in {entry.spec.package for entry in every}}
        self._entries = [entry for entry in every if not reasons[entry.spec.package]]
        self.absent = [(entry, reason) for entry in every if (reason := reasons[entry.spec.package])]
        self._failed = list(failed)
        self._by_name: dict[str, list[Entry[S]]] = {}
        self._by_target: dict[str, list[Entry[S]]] = {}
        for entry in self._entries:
            for short in {entry.spec.name, *entry.spec.aliases}:
                self._by_name.setdefault(short, []).append(entry)
                self._by_name.setdefault(f"{entry.plugin.name}/{short}", []).append(entry)
            for dotted in set(entry.spec.dotted):
                self._by_target.setdefault(dotted, []).append(entry)
        for dotted, offers in self._by_target.items():  # a stranger takes no path from a first-party plugin
            self._by_target[dotted] = [one for one in offers if one.plugin.distribution in _FIRST_PARTY] or offers

    def __iter__(self) -> Iterator[Entry[S]]:
        return iter(self._entries)

    @cached_property
    def elsewhere(self) -> list[Entry[S]]:
        """The components of first-party distributions that are not installed."""
        return [
            Elsewhere(cast("S", spec), Plugin(plugin, distribution))
            for distribution, plugin, spec in missing()
            if spec.kind == self.kind and f"{plugin}/{spec.name}" not in self._by_name
        ]

    def names(self, filter: str | None = None) -> list[str]:
        """Return the canonical names that match a glob; see `Entry.matches`."""
        return [entry.name for entry in self._entries if entry.matches(filter)]

    def find(self, name: str, *, suggest: bool = True) -> Entry[S]:
        """Return the component with a canonical name, a bare name, an alias or a dotted path; nothing is imported.

        Args:
            name: the name.
            suggest: whether to suggest the nearest names for an unknown name, which takes milliseconds.

        Raises:
            UnknownNameError: no component has this name; the message suggests the nearest names. If a broken plugin
                may offer the name, its error is the cause.
            AmbiguousNameError: several plugins offer the name; the message lists them.
        """
        if not isinstance(name, str):
            hint = "a class or a function needs no name: LossWrapper takes it" if callable(name) else ""
            raise UnknownNameError(f"expected the name of a {self.kind}, found {shown(name)}", hint)
        if name in self._by_name or "." not in name:
            return self._only(name, self._by_name.get(name, []), self._by_name, suggest)
        return self._only(name, self._by_target.get(name, []), {**self._by_name, **self._by_target}, suggest)

    def find_target(self, dotted: str, *, suggest: bool = True) -> Entry[S]:
        """Return the component with a dotted path such as `torch.nn.MSELoss`; nothing is imported.

        Raises:
            UnknownNameError, AmbiguousNameError: as for `find`.
        """
        return self._only(dotted, self._by_target.get(dotted, []), self._by_target, suggest)

    def names_of(self, entry: Entry[S]) -> list[str]:
        """Return the unambiguous names of a component: aliases and bare name, then both with the namespace."""
        short = list(dict.fromkeys((*entry.spec.aliases, entry.spec.name)))
        every = [*short, *(f"{entry.plugin.name}/{name}" for name in reversed(short))]
        return [name for name in every if self._by_name.get(name) == [entry]]

    def targets_of(self, entry: Entry[S]) -> list[str]:
        """Return the unambiguous dotted paths of a component."""
        return [dotted for dotted in entry.spec.dotted if self._by_target.get(dotted) == [entry]]

    def missing(self, name: str) -> list[Entry[S]]:
        """Return the components with a name, or a dotted path, that need what is not installed."""
        return self._missing.get(name, [])

    @functools.cached_property
    def _missing(self) -> dict[str, list[Entry[S]]]:
        """The components that need what is not installed, by each of their names."""
        found: dict[str, list[Entry[S]]] = {}
        for entry in (*(entry for entry, _ in self.absent), *self.elsewhere):
            for name in entry.names:
                found.setdefault(name, []).append(entry)
        return found

    def conflicts(self) -> Iterator[str]:
        """Yield a message for each canonical name that several distributions use; neither component can be used."""
        for name, entries in sorted(self._by_name.items()):
            if "/" in name and len(entries) > 1:
                yield f"{self.kind} {name!r} is offered by {_listed(entries)}; neither can be used"

    def shared_aliases(self) -> Iterator[str]:
        """Yield a message for each alias that several plugins offer; it works only with its namespace."""
        for name, entries in sorted(self._by_name.items()):
            if "/" not in name and len(entries) > 1 and any(name in entry.spec.aliases for entry in entries):
                yield f"{self.kind} alias {name!r} is offered by {_listed(entries)}; add its namespace"

    def _only(self, name: str, entries: list[Entry[S]], known: dict[str, list[Entry[S]]], suggest: bool) -> Entry[S]:
        if len(entries) == 1:
            return entries[0]
        if entries:
            names = {entry.name for entry in entries}
            advice = (
                f"write one in full{', instead of the path' if name in self._by_target else ''}"
                if len(names) == len(entries)
                else "uninstall one of these distributions or block it with LOSSREG_DISABLE"
            )
            raise AmbiguousNameError(f"{self.kind} {name!r} is offered by {_listed(entries)}", advice)
        absent = self.missing(name)
        if absent:
            ways = dict.fromkeys(entry.needs for entry in absent)
            needs = " or ".join(" and ".join(f"{package} ({unmet(package)})" for package in way) for way in ways)
            raise UnknownNameError(f"{self.kind} {name!r} needs {needs}", " or ".join(install_line(*w) for w in ways))
        suspects = self._suspects(name)
        problem = self.unknown(name, f"no {self.kind}")
        near = self._nearest(name, known) if suggest else []
        if near:
            hint = f"did you mean {' or '.join(map(repr, near))}?"
        elif suspects:
            hint = "`lossreg plugins` shows the errors of plugins"
        else:
            hint = f"`lossreg list --kind {self.kind}` shows what is installed"
        raise UnknownNameError(problem, hint, near) from (suspects[0].error if suspects else None)

    def unknown(self, name: str, subject: str) -> str:
        """Return the problem with a name that nothing has, and which plugins that failed may have had it.

        Args:
            name: the name.
            subject: what was looked for: `"no loss"`, or `"nothing"` where any kind would do.
        """
        problem = f"{subject} is named {name!r}"
        for plugin in self._suspects(name):
            if plugin.error is not None:
                problem += f"; {plugin.origin} could not be used: {message_of(plugin.error) or described(plugin.error)}"
        return problem

    def _suspects(self, name: str) -> list[Plugin]:
        return [p for p in self._failed if "/" not in name or p.name == name.partition("/")[0]]

    def _nearest(self, name: str, known: Mapping[str, list[Entry[S]]]) -> list[str]:
        """Return up to three names that are meant by a name, each of another component; in full if it is ambiguous.

        These are the names that differ only in case, in `_` or by an ending `Loss`; else those under another
        namespace; else those of these initials; else those that are spelt almost alike.
        """
        every = sorted(known, key=lambda known: (not known.endswith(name), ("/" in known) != ("/" in name), known))
        lowered = {candidate.lower(): candidate for candidate in every if ("/" in candidate) <= ("/" in name)}
        core, bare = _core(name), _core(_BARE.sub("", name))
        cutoff = 0.85 if "." in name else 0.7  # the packages of dotted paths are alike
        alike = (
            [candidate for candidate in lowered.values() if _core(candidate) == core]
            or [candidate for candidate in every if bare and _core(_BARE.sub("", candidate)) == bare]
            or [candidate for candidate in lowered.values() if name.isupper() and _initials(candidate) == name]
            or [lowered[match] for match in difflib.get_close_matches(name.lower(), lowered, n=3, cutoff=cutoff)]
        )
        found: dict[str, str] = {}  # by canonical name
        for candidate in alike:
            entries = known[candidate]
            for entry in entries:
                found.setdefault(entry.name, candidate if len(entries) == 1 else entry.name)
        return list(found.values())[:3]


class Catalog:
    """All registered components, by kind and by name."""

    def __init__(
        self, manager: pluggy.PluginManager, plugins: Iterable[Plugin], local: Iterable[Entry[Any]] = ()
    ) -> None:
        self.manager = manager
        self.plugins = tuple(plugins)
        failed = [plugin for plugin in self.plugins if plugin.error is not None]
        entries: list[Entry[Any]] = [Entry(spec, plugin) for plugin in self.plugins for spec in plugin.specs]
        entries += local

        def section(spec_type: type[S]) -> Section[S]:
            chosen = [entry for entry in entries if isinstance(entry.spec, spec_type)]
            return Section(spec_type.kind, chosen, failed)

        self.losses = section(LossSpec)
        self.preprocesses = section(PreprocessSpec)
        self.weightings = section(WeightingSpec)
        self.schedules = section(ScheduleSpec)

    @property
    def sections(self) -> tuple[Section[Any], ...]:
        """The sections of the four kinds, losses first."""
        return (self.losses, self.preprocesses, self.weightings, self.schedules)

    def conflicts(self) -> list[str]:
        """Return a message for each canonical name that several distributions use."""
        return [line for section in self.sections for line in section.conflicts()]

    def shared_aliases(self) -> list[str]:
        """Return a message for each alias that several plugins offer."""
        return [line for section in self.sections for line in section.shared_aliases()]

    def providers(self, key: str) -> list[Entry[PreprocessSpec]]:
        """Return the preprocesses that provide a key, `pred.<key>` or `gt.<key>`."""
        return [entry for entry in self.preprocesses if key in entry.spec.provides]


def _core(name: str) -> str:
    return name.lower().replace("_", "").removesuffix("loss")


def _initials(name: str) -> str:
    """Return the initials of a name in camel case: `CE` of `CrossEntropyLoss`."""
    return "".join(filter(str.isupper, name.removesuffix("Loss")))


def _listed(entries: Iterable[Entry[Any]]) -> str:
    return " and ".join(entry.name + _whose(entry) for entry in entries)


def _whose(entry: Entry[Any]) -> str:
    """Return in brackets whose component it is; empty for one of a script."""
    if entry.registrar is not None:
        return f" (registered by {entry.registrar.origin})"
    return f" ({entry.plugin.distribution} {entry.plugin.version})" if entry.plugin.distribution else ""
