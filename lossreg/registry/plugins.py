"""Entry points to plugins: each read and asked on its own, the broken ones kept aside with their error."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from typing import Any

import pluggy
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from lossreg.arguments import shown
from lossreg.errors import PluginError
from lossreg.registry import core_plugin, hookspecs
from lossreg.registry.foreign import kept, message_of, watched
from lossreg.registry.hookspecs import PROJECT
from lossreg.registry.packages import Package, Twin, first_of, packages
from lossreg.registry.specs import LONGEST_NAME, LossSpec, PreprocessSpec, ScheduleSpec, Spec, WeightingSpec

HOOK_GROUP = "lossreg"
LOSS_GROUP = "lossreg.losses"

RESERVED = ("core", "local")
"""Namespaces that no plugin may have: those of lossreg's own components, and of what a process registers."""

_HEADER = re.compile(r"^\s*\[lossreg(\.losses)?\]", re.MULTILINE)
_NAMESPACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*\Z")
_FIRST_WORD = re.compile(r"\s*[\w.-]*")
_ON, _OFF = ("1", "true", "yes", "on"), ("0", "false", "no", "off", "")
_MOST_SPECS = 10_000  # of one hook

_HOOKS: Mapping[str, type[Spec]] = {
    "lossreg_losses": LossSpec,
    "lossreg_preprocesses": PreprocessSpec,
    "lossreg_weightings": WeightingSpec,
    "lossreg_schedules": ScheduleSpec,
}


@dataclass(frozen=True)
class Plugin:
    """A plugin as discovery found it: what it offers, or the error that keeps it out.

    Attributes:
        name: the namespace of its components (`seg` in `seg/SegLoss`).
        distribution: the installed distribution it came from; empty for what this process registered.
        version: that distribution's version.
        specs: what it offers; empty where `error` is set.
        error: why it is left out.
        note: what is odd about its installation; it is used all the same.
    """

    name: str
    distribution: str = ""
    version: str = ""
    specs: tuple[Spec, ...] = ()
    error: Exception | None = field(default=None, compare=False)
    note: str = field(default="", compare=False)

    @property
    def origin(self) -> str:
        """Name the plugin with its distribution, for messages."""
        return f"plugin {self.name!r}" + (f" ({self.distribution} {self.version})" if self.distribution else "")


@dataclass(frozen=True)
class Switches:
    """What the environment says about discovery.

    Attributes:
        disabled: names of plugins or distributions that are not even imported (`LOSSREG_DISABLE=a,b`).
        autoload: whether entry points are read at all (off: `LOSSREG_DISABLE_AUTOLOAD=1`).
        strict: whether the first broken plugin raises (`LOSSREG_STRICT=1`).
    """

    disabled: frozenset[str] = frozenset()
    autoload: bool = True
    strict: bool = False

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Switches:
        """Read the three variables.

        Raises:
            PluginError: a switch is neither on nor off.
        """
        environ = os.environ if environ is None else environ
        return cls(
            disabled=frozenset(re.split(r"[\s,]+", environ.get("LOSSREG_DISABLE", ""))) - {""},
            autoload=not _is_on(environ, "LOSSREG_DISABLE_AUTOLOAD"),
            strict=_is_on(environ, "LOSSREG_STRICT"),
        )

    def block(self, name: str, distribution: str) -> bool:
        """Say whether the user switched this plugin off, by its name or its distribution's."""
        disabled = {canonicalize_name(entry) for entry in self.disabled}
        return not disabled.isdisjoint({canonicalize_name(name), canonicalize_name(distribution)})


def _is_on(environ: Mapping[str, str], name: str) -> bool:
    word = environ.get(name, "").strip().lower()
    if word not in (*_ON, *_OFF):
        expected = f"expected {', '.join(_ON)} (it is on), or {', '.join(filter(None, _OFF))} (it is off)"
        raise PluginError(f"the environment variable {name}: {expected}, found {shown(environ[name])}")
    return word in _ON


def discover(
    switches: Switches, local: MutableMapping[Any, Any] | None = None
) -> tuple[pluggy.PluginManager, list[Plugin]]:
    """Read every entry point of the two groups and return what each plugin offers, in a fixed order.

    Args:
        switches: what the environment says.
        local: what this process registered, to which a plugin's import may add; a plugin that is left out adds nothing.

    Raises:
        PluginError: a plugin is broken and `switches.strict`.
    """
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(hookspecs)
    scan = _Scan(manager, {} if local is None else local)
    plugins = [scan.ask(Plugin("core", "lossreg", _core_version()), lambda: core_plugin)]
    for twin in _offering() if switches.autoload else ():
        plugins += scan.plugins_of(twin.package, _note(twin), switches)
    if switches.strict:
        for plugin in plugins:
            if plugin.error is not None:
                raise PluginError(f"{plugin.origin} cannot be used: {plugin.error}") from plugin.error
    return manager, plugins


@dataclass(frozen=True)
class _Scan:
    """One look at what is installed.

    Attributes:
        manager: asks the hooks.
        local: what this process registered.
    """

    manager: pluggy.PluginManager
    local: MutableMapping[Any, Any]

    def plugins_of(self, package: Package, note: str, switches: Switches) -> Iterator[Plugin]:
        """Yield a plugin for each module with hooks, and one for all losses that have a line of their own."""
        whole = Plugin(package.title, package.title, package.release, note=note)
        entry_points, unreadable = _entry_points(package)
        if unreadable and not switches.block(package.title, package.title):
            yield replace(whole, error=PluginError(f"its entry_points.txt cannot be read: {unreadable}"))
        for entry_point in entry_points:
            if entry_point.group == HOOK_GROUP and not switches.block(entry_point.name, package.title):
                yield self.ask(replace(whole, name=entry_point.name), entry_point.load, package)
        lines = [entry_point for entry_point in entry_points if entry_point.group == LOSS_GROUP]
        if lines and not switches.block(package.title, package.title):
            yield _read(whole, lines, package)

    def ask(self, plugin: Plugin, load: Callable[[], Any], package: Package | None = None) -> Plugin:
        """Import one plugin, register it and call its hooks; whatever it raises stays with it."""
        identity = f"{plugin.distribution}:{plugin.name}"
        before = dict(self.local)
        try:
            _check_name(plugin)
            _check_core_version(package)
            with watched(f"loading {plugin.origin}"):
                module = load()
                self.manager.register(module, name=identity)
                if not self.manager.get_hookcallers(module):
                    raise PluginError("it implements no hook; mark its functions with @lossreg.hookimpl")
                self.manager.check_pending()  # all others passed before: what it reports is this plugin's
                specs = tuple(self._specs_of(module))
            check_unique(specs)
        except KeyboardInterrupt as error:
            error.add_note(f"stopped while loading {plugin.origin}")
            raise
        except BaseException as error:
            if self.manager.has_plugin(identity):
                self.manager.unregister(name=identity)
            self.local.clear()
            self.local.update(before)
            return replace(plugin, error=kept(error))
        return replace(plugin, specs=specs)

    def _specs_of(self, module: Any) -> Iterator[Spec]:
        others = [plugin for plugin in self.manager.get_plugins() if plugin is not module]
        for hook, kind in _HOOKS.items():
            for result in self.manager.subset_hook_caller(hook, remove_plugins=others)():
                if isinstance(result, (str, bytes)) or not isinstance(result, Iterable):
                    raise PluginError(f"{hook}() returned {shown(result)}; expected a list of {kind.__name__}")
                for i, spec in enumerate(result):
                    if i >= _MOST_SPECS:
                        raise PluginError(f"{hook}() returned too many specs; expected at most {_MOST_SPECS:,}")
                    if not isinstance(spec, kind):
                        raise PluginError(f"{hook}() returned {shown(spec)} in its list; expected a {kind.__name__}")
                    yield kind.copy_of(spec)


def plugin_names() -> dict[str, str]:
    """Return the names of the installed plugins, each with its distribution; nothing is imported."""
    return {
        entry_point.name if entry_point.group == HOOK_GROUP else twin.package.title: twin.package.title
        for twin in _offering()
        for entry_point in _entry_points(twin.package)[0]
        if entry_point.group in (HOOK_GROUP, LOSS_GROUP)
    }


def _entry_points(package: Package) -> tuple[list[metadata.EntryPoint], str]:
    """Return a package's entry points by name, and why those of ours cannot be read."""
    try:
        return sorted(package.entry_points, key=lambda entry_point: entry_point.name), package.unreadable
    except Exception as error:
        return [], message_of(error) if _HEADER.search(package.lines) else ""


def _read(plugin: Plugin, lines: Sequence[metadata.EntryPoint], package: Package) -> Plugin:
    """Return the plugin of a distribution that lists losses in its metadata; nothing is imported."""
    try:
        _check_name(plugin)
        _check_core_version(package)
        if len(lines) > _MOST_SPECS:
            raise PluginError(f"it lists {len(lines):,} losses; expected at most {_MOST_SPECS:,}")
        specs = tuple(_spec_of(line) for line in lines)
        check_unique(specs)
    except PluginError as error:
        return replace(plugin, error=error)
    return replace(plugin, specs=specs)


def _spec_of(line: metadata.EntryPoint) -> LossSpec:
    module, _, attribute = line.value.partition("[")[0].partition(":")
    return LossSpec(line.name, f"{module.strip()}:{attribute.strip()}")


def _check_name(plugin: Plugin) -> None:
    """Refuse a namespace that no config could name, or that is lossreg's own."""
    if not _NAMESPACE.match(plugin.name) or len(plugin.name) > LONGEST_NAME:
        raise PluginError(
            f"its name {shown(plugin.name)} is no name; expected letters, digits, '_', '-' or '.', "
            f"beginning with a letter or a digit, at most {LONGEST_NAME} of them"
        )
    if plugin.name in RESERVED and plugin.distribution != "lossreg":
        raise PluginError(f"the name {plugin.name!r} is lossreg's own; give the plugin another")


def check_unique(specs: Iterable[Spec]) -> None:
    """Refuse a plugin that offers two components of one kind under one name or alias."""
    seen: dict[tuple[str, str], Spec] = {}
    for spec in specs:
        for name in {spec.name, *spec.aliases}:
            if (spec.kind, name) in seen:
                other = seen[spec.kind, name]
                raise PluginError(f"it offers {name!r} twice: as {other.target} and as {spec.target}")
            seen[spec.kind, name] = spec


def _check_core_version(package: Package | None) -> None:
    """Refuse a plugin whose metadata asks for another version of lossreg than the one installed."""
    installed = _core_version()
    for line in package.needs if package is not None else ():
        if canonicalize_name(_FIRST_WORD.match(line)[0]) != "lossreg":  # type: ignore[index]
            continue
        try:
            requirement = Requirement(line)
            applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        except Exception as error:  # of which markers have several, and Python's own
            raise PluginError(f"its requirement {shown(line)} cannot be read: {message_of(error)}") from error
        if applies and not requirement.specifier.contains(installed, prereleases=True):
            raise PluginError(f"it wants lossreg{requirement.specifier}; lossreg {installed} is installed")


def _core_version() -> str:
    from lossreg import __version__

    return __version__


def _offering() -> list[Twin]:
    """Return the packages with entry points of ours, by name, whatever the order of installation."""
    named: dict[str, list[Package]] = {}
    for package in packages():
        if not package.leftover and (PROJECT in package.lines or package.unreadable):
            named.setdefault(canonicalize_name(package.title), []).append(package)
    found = (first_of(name, known) for name, known in sorted(named.items()))
    return [twin for twin in found if PROJECT in twin.package.lines or twin.package.unreadable]


def _note(twin: Twin) -> str:
    *others, newest = twin.versions
    if not others:
        return ""
    name = twin.package.title
    return (
        f"{name} is installed in several versions in {twin.package.folder}: {', '.join(twin.versions)}; "
        f"{newest or 'one of them'} is taken. Install it anew: pip install --force-reinstall {name}"
    )
