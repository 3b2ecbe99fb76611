"""Entry points to plugins: each read and asked on its own, the broken ones kept aside with their error."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from itertools import groupby
from typing import Any

import pluggy

from lossreg.errors import PluginError
from lossreg.registry import core_plugin, hookspecs
from lossreg.registry.specs import LossSpec, PreprocessSpec, ScheduleSpec, Spec, WeightingSpec

HOOK_GROUP = "lossreg"
LOSS_GROUP = "lossreg.losses"

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
        return name in self.disabled or distribution in self.disabled


def discover(switches: Switches) -> tuple[pluggy.PluginManager, list[Plugin]]:
    """Read every entry point of the two groups and return what each plugin offers, in a fixed order.

    Raises:
        PluginError: a plugin is broken and `switches.strict`.
    """
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    plugins = [_ask(manager, "core", "lossreg", _core_version(), lambda: core_plugin)]
    if switches.autoload:
        plugins += _hook_plugins(manager, switches)
        plugins += _one_line_plugins(switches)
    if switches.strict:
        for plugin in plugins:
            if plugin.error is not None:
                raise PluginError(f"{plugin.origin} cannot be used: {plugin.error}") from plugin.error
    return manager, plugins


def _hook_plugins(manager: pluggy.PluginManager, switches: Switches) -> Iterator[Plugin]:
    for entry_point in _entry_points(HOOK_GROUP):
        distribution, version = _distribution(entry_point)
        if not switches.block(entry_point.name, distribution):
            yield _ask(manager, entry_point.name, distribution, version, entry_point.load, entry_point.dist)


def _one_line_plugins(switches: Switches) -> Iterator[Plugin]:
    """Yield a plugin for each distribution that lists losses in its metadata; none of them is imported."""
    for (distribution, version), entry_points in groupby(_entry_points(LOSS_GROUP), key=_distribution):
        if switches.block(distribution, distribution):
            continue
        lines = list(entry_points)
        try:
            _check_core_version(lines[0].dist)
            specs = tuple(LossSpec(line.name, f"{line.module}:{line.attr}") for line in lines)
            _check_unique(specs)
        except PluginError as error:
            yield Plugin(distribution, distribution, version, error=error)
        else:
            yield Plugin(distribution, distribution, version, specs)


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
        manager.check_pending()  # all others passed before: what it reports is this plugin's
        specs = tuple(_specs_of(manager, module))
        _check_unique(specs)
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


def _check_unique(specs: Iterable[Spec]) -> None:
    """Refuse a plugin that offers two components of one kind under one name or alias."""
    seen: dict[tuple[str, str], Spec] = {}
    for spec in specs:
        for name in {spec.name, *spec.aliases}:
            other = seen.setdefault((spec.kind, name), spec)
            if other is not spec:
                raise PluginError(f"it offers {name!r} twice: as {other.target} and as {spec.target}")


def _check_core_version(dist: metadata.Distribution | None) -> None:
    """Refuse a plugin whose metadata asks for another version of lossreg than the one installed."""
    for line in (dist.requires or ()) if dist is not None else ():
        if not line.lower().startswith("lossreg"):
            continue
        from packaging.requirements import Requirement

        requirement = Requirement(line)
        applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        installed = _core_version()
        if requirement.name == "lossreg" and applies and not requirement.specifier.contains(installed, prereleases=True):
            raise PluginError(f"it wants lossreg{requirement.specifier}; lossreg {installed} is installed")


def _core_version() -> str:
    from lossreg import __version__

    return __version__


def _entry_points(group: str) -> list[metadata.EntryPoint]:
    """Return a group's entry points ordered by distribution and name, whatever the order of installation."""
    return sorted(metadata.entry_points(group=group), key=lambda e: (_distribution(e), e.name))


def _distribution(entry_point: metadata.EntryPoint) -> tuple[str, str]:
    dist = entry_point.dist
    return ("unknown", "") if dist is None else (dist.metadata["Name"] or "unknown", dist.version or "")
