"""Entry points to plugins: each read and asked on its own, the broken ones kept aside with their error."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

import pluggy
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from lossreg.errors import PluginError
from lossreg.registry import core_plugin, hookspecs
from lossreg.registry.hookspecs import PROJECT
from lossreg.registry.specs import LossSpec, PreprocessSpec, ScheduleSpec, Spec, WeightingSpec

HOOK_GROUP = "lossreg"
LOSS_GROUP = "lossreg.losses"

_HEADER = re.compile(r"^\s*\[lossreg(\.losses)?\]", re.MULTILINE)
_NAMELESS = "unknown"

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
    """

    name: str
    distribution: str = ""
    version: str = ""
    specs: tuple[Spec, ...] = ()
    error: Exception | None = field(default=None, compare=False)

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
        """Read the three variables."""
        environ = os.environ if environ is None else environ
        names = (name.strip() for name in environ.get("LOSSREG_DISABLE", "").split(","))
        return cls(
            disabled=frozenset(name for name in names if name),
            autoload=environ.get("LOSSREG_DISABLE_AUTOLOAD", "") in ("", "0"),
            strict=environ.get("LOSSREG_STRICT", "") not in ("", "0"),
        )

    def block(self, name: str, distribution: str) -> bool:
        """Say whether the user switched this plugin off, by its name or its distribution's."""
        disabled = {canonicalize_name(entry) for entry in self.disabled}
        return not disabled.isdisjoint({canonicalize_name(name), canonicalize_name(distribution)})


def discover(switches: Switches) -> tuple[pluggy.PluginManager, list[Plugin]]:
    """Read every entry point of the two groups and return what each plugin offers, in a fixed order.

    Raises:
        PluginError: a plugin is broken and `switches.strict`.
    """
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(hookspecs)
    plugins = [_ask(manager, "core", "lossreg", _core_version(), lambda: core_plugin)]
    for dist in _distributions() if switches.autoload else ():
        plugins += _plugins_of(manager, dist, switches)
    if switches.strict:
        for plugin in plugins:
            if plugin.error is not None:
                raise PluginError(f"{plugin.origin} cannot be used: {plugin.error}") from plugin.error
    return manager, plugins


def _plugins_of(manager: pluggy.PluginManager, dist: metadata.Distribution, switches: Switches) -> Iterator[Plugin]:
    """Yield a plugin for each module with hooks, and one for all losses that have a line of their own."""
    distribution, version = _name_and_version(dist)
    try:
        entry_points = sorted(dist.entry_points, key=lambda entry_point: entry_point.name)
    except Exception as error:
        if _HEADER.search(_text(dist)) and not switches.block(distribution, distribution):
            reason = PluginError(f"its entry_points.txt cannot be read: {error}")
            yield Plugin(distribution, distribution, version, error=reason)
        return
    for entry_point in entry_points:
        if entry_point.group == HOOK_GROUP and not switches.block(entry_point.name, distribution):
            yield _ask(manager, entry_point.name, distribution, version, entry_point.load, dist)
    lines = [entry_point for entry_point in entry_points if entry_point.group == LOSS_GROUP]
    if lines and not switches.block(distribution, distribution):
        yield _read(lines, distribution, version, dist)


def _read(lines: Sequence[metadata.EntryPoint], distribution: str, version: str, dist: metadata.Distribution) -> Plugin:
    """Return the plugin of a distribution that lists losses in its metadata; nothing is imported."""
    try:
        _check_core_version(dist)
        specs = tuple(_spec_of(line) for line in lines)
        check_unique(specs)
    except PluginError as error:
        return Plugin(distribution, distribution, version, error=error)
    return Plugin(distribution, distribution, version, specs)


def _spec_of(line: metadata.EntryPoint) -> LossSpec:
    module, _, attribute = line.value.partition("[")[0].partition(":")
    return LossSpec(line.name, f"{module.strip()}:{attribute.strip()}")


def _ask(
    manager: pluggy.PluginManager,
    name: str,
    distribution: str,
    version: str,
    load: Callable[[], Any],
    dist: metadata.Distribution | None = None,
) -> Plugin:
    """Import one plugin, register it and call its hooks; whatever it raises stays with it."""
    identity = f"{distribution}:{name}"
    try:
        _check_core_version(dist)
        module = load()
        manager.register(module, name=identity)
        if not manager.get_hookcallers(module):
            raise PluginError("it implements no hook; mark its functions with @lossreg.hookimpl")
        manager.check_pending()  # all others passed before: what it reports is this plugin's
        specs = tuple(_specs_of(manager, module))
        check_unique(specs)
    except (Exception, SystemExit) as error:
        if manager.has_plugin(identity):
            manager.unregister(name=identity)
        reason = error if isinstance(error, Exception) else PluginError(f"it called sys.exit({error.code!r})")
        return Plugin(name, distribution, version, error=reason)
    return Plugin(name, distribution, version, specs)


def _specs_of(manager: pluggy.PluginManager, module: Any) -> Iterator[Spec]:
    others = [plugin for plugin in manager.get_plugins() if plugin is not module]
    for hook, kind in _HOOKS.items():
        for result in manager.subset_hook_caller(hook, remove_plugins=others)():
            if isinstance(result, (str, bytes)) or not isinstance(result, Iterable):
                raise PluginError(f"{hook}() returned {result!r}; expected a list of {kind.__name__}")
            for spec in result:
                if not isinstance(spec, kind):
                    raise PluginError(f"{hook}() returned {spec!r} in its list; expected a {kind.__name__}")
                yield spec


def check_unique(specs: Iterable[Spec]) -> None:
    """Refuse a plugin that offers two components of one kind under one name or alias."""
    seen: dict[tuple[str, str], Spec] = {}
    for spec in specs:
        for name in {spec.name, *spec.aliases}:
            if (spec.kind, name) in seen:
                other = seen[spec.kind, name]
                raise PluginError(f"it offers {name!r} twice: as {other.target} and as {spec.target}")
            seen[spec.kind, name] = spec


def _check_core_version(dist: metadata.Distribution | None) -> None:
    """Refuse a plugin whose metadata asks for another version of lossreg than the one installed."""
    installed = _core_version()
    for line in _requires(dist) if dist is not None else ():
        if not line.lower().startswith("lossreg"):
            continue
        try:
            requirement = Requirement(line)
        except InvalidRequirement as error:
            raise PluginError(f"its requirement {line!r} cannot be read: {error}") from error
        if canonicalize_name(requirement.name) != "lossreg":
            continue
        applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if applies and not requirement.specifier.contains(installed, prereleases=True):
            raise PluginError(f"it wants lossreg{requirement.specifier}; lossreg {installed} is installed")


@functools.lru_cache(maxsize=1)  # a distribution has several plugins, and its metadata is parsed anew each time
def _requires(dist: metadata.Distribution) -> tuple[str, ...]:
    return tuple(dist.requires or ())


def _core_version() -> str:
    from lossreg import __version__

    return __version__


def _distributions() -> list[metadata.Distribution]:
    """Return the distributions with entry points of ours, by name, whatever the order of installation.

    Read one by one: `metadata.entry_points` raises for all of them where one cannot be read.
    """
    found: dict[str, metadata.Distribution] = {}
    for dist in metadata.distributions():
        if PROJECT in _text(dist):
            name, _ = _name_and_version(dist)
            try:  # of two copies on the path, Python imports the first
                found[canonicalize_name(name)] = metadata.distribution(name)
            except metadata.PackageNotFoundError:
                found[f"{name} {len(found)}"] = dist
    return [dist for _, dist in sorted(found.items()) if PROJECT in _text(dist)]


def _name_and_version(dist: metadata.Distribution) -> tuple[str, str]:
    try:
        found = dist.metadata
        return found["Name"] or _NAMELESS, found["Version"] or ""
    except Exception:  # metadata that is missing or no text
        return _NAMELESS, ""


def _text(dist: metadata.Distribution) -> str:
    try:
        return dist.read_text("entry_points.txt") or ""
    except (OSError, UnicodeDecodeError):
        return ""
