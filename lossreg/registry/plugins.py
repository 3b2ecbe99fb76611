"""Load plugins from entry points, each on its own; a broken plugin is kept with its error."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from importlib import metadata
from typing import Any

import pluggy
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from lossreg.arguments import shown
from lossreg.errors import PluginError
from lossreg.registry import core_plugin, hookspecs
from lossreg.registry.foreign import as_exception, message_of, watched
from lossreg.registry.hookspecs import PROJECT
from lossreg.registry.packages import Installation, Package, first_of, install_line, packages
from lossreg.registry.specs import LONGEST_NAME, LossSpec, PreprocessSpec, ScheduleSpec, Spec, WeightingSpec

_HOOK_GROUP = "lossreg"
_LOSS_GROUP = "lossreg.losses"

RESERVED = ("core", "local")
"""Names that no plugin may have: `core` is lossreg itself, `local` is for `lossreg.register`."""

_HEADER = re.compile(r"^\s*\[lossreg(\.losses)?\]", re.MULTILINE)
_NAMESPACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*\Z")
_FIRST_WORD = re.compile(r"\s*[\w.-]*")
_ON, _OFF = ("1", "true", "yes", "on"), ("0", "false", "no", "off", "")
_MAX_SPECS = 10_000  # per hook

_HOOKS: Mapping[str, type[Spec]] = {
    "lossreg_losses": LossSpec,
    "lossreg_preprocesses": PreprocessSpec,
    "lossreg_weightings": WeightingSpec,
    "lossreg_schedules": ScheduleSpec,
}


@dataclass(frozen=True)
class Plugin:
    """A plugin with its specs, or with the error for which it is skipped.

    Attributes:
        name: the namespace of its components (`seg` in `seg/SegLoss`).
        distribution: its installed distribution; empty for components registered in this process.
        version: the version of the distribution.
        specs: the specs of its components; empty if `error` is set.
        error: why the plugin is skipped.
        note: a problem of its installation that does not prevent its use.
    """

    name: str
    distribution: str = ""
    version: str = ""
    specs: tuple[Spec, ...] = ()
    error: Exception | None = field(default=None, compare=False)
    note: str = field(default="", compare=False)

    @property
    def origin(self) -> str:
        """The plugin and its distribution, for messages."""
        return f"plugin {self.name!r}" + (f" ({self.distribution} {self.version})" if self.distribution else "")


loading: ContextVar[Plugin | None] = ContextVar("loading", default=None)
"""The plugin that this thread is loading."""


@dataclass(frozen=True)
class Switches:
    """The environment variables for discovery.

    Attributes:
        disabled: names of plugins or distributions that are not imported (`LOSSREG_DISABLE=a,b`).
        autoload: whether entry points are read (turn off with `LOSSREG_DISABLE_AUTOLOAD=1`).
        strict: whether a broken plugin raises (`LOSSREG_STRICT=1`).
    """

    disabled: frozenset[str] = frozenset()
    autoload: bool = True
    strict: bool = False

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Switches:
        """Return the values of the three variables.

        Raises:
            PluginError: a variable is neither on nor off.
        """
        environ = os.environ if environ is None else environ
        return cls(
            disabled=frozenset(re.split(r"[\s,]+", environ.get("LOSSREG_DISABLE", ""))) - {""},
            autoload=not _is_on(environ, "LOSSREG_DISABLE_AUTOLOAD"),
            strict=_is_on(environ, "LOSSREG_STRICT"),
        )

    def block(self, name: str, distribution: str) -> bool:
        """Return whether the user disabled a plugin, by its name or its distribution."""
        disabled = {canonicalize_name(entry) for entry in self.disabled}
        return not disabled.isdisjoint({canonicalize_name(name), canonicalize_name(distribution)})


def _is_on(environ: Mapping[str, str], name: str) -> bool:
    word = environ.get(name, "").strip().lower()
    if word not in (*_ON, *_OFF):
        expected = f"expected {', '.join(_ON)} (on), or {', '.join(filter(None, _OFF))} (off)"
        raise PluginError(f"the environment variable {name}: {expected}, found {shown(environ[name])}")
    return word in _ON


def discover(
    switches: Switches, local: MutableMapping[Any, Any] | None = None
) -> tuple[pluggy.PluginManager, list[Plugin]]:
    """Load all plugins and return them in a fixed order, with the plugin manager.

    Args:
        switches: the environment variables.
        local: the components registered in this process. The import of a plugin may add to them; what a skipped
            plugin adds is removed.

    Raises:
        PluginError: a plugin is broken and `switches.strict` is set.
    """
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(hookspecs)
    scan = _Scan(manager, {} if local is None else local)
    plugins = [scan.load(Plugin("core", "lossreg", _core_version()), lambda: core_plugin)]
    for installation in _installations() if switches.autoload else ():
        plugins += scan.plugins_of(installation.package, _note(installation), switches)
    if switches.strict:
        for plugin in plugins:
            if plugin.error is not None:
                raise PluginError(f"{plugin.origin} cannot be used: {plugin.error}") from plugin.error
    return manager, plugins


@dataclass(frozen=True)
class _Scan:
    """One scan of the installed packages.

    Attributes:
        manager: calls the hooks.
        local: the components registered in this process.
    """

    manager: pluggy.PluginManager
    local: MutableMapping[Any, Any]

    def plugins_of(self, package: Package, note: str, switches: Switches) -> Iterator[Plugin]:
        """Yield a plugin for each module with hooks, and one for all losses with an entry point of their own."""
        whole = Plugin(package.title, package.title, package.release, note=note)
        entry_points, unreadable = _entry_points(package)
        if unreadable and not switches.block(package.title, package.title):
            yield replace(whole, error=PluginError(f"its entry_points.txt cannot be read: {unreadable}"))
        for entry_point in entry_points:
            if entry_point.group == _HOOK_GROUP and not switches.block(entry_point.name, package.title):
                yield self.load(replace(whole, name=entry_point.name), entry_point.load, package)
        lines = [entry_point for entry_point in entry_points if entry_point.group == _LOSS_GROUP]
        if lines and not switches.block(package.title, package.title):
            yield _read(whole, lines, package)

    def load(self, plugin: Plugin, load: Callable[[], Any], package: Package | None = None) -> Plugin:
        """Import a plugin, register it and call its hooks; return it with its specs, or with its error."""
        identity = f"{plugin.distribution}:{plugin.name}"
        before = dict(self.local)
        token = loading.set(plugin)
        try:
            _check_name(plugin)
            _check_core_version(package)
            with watched(f"loading {plugin.origin}"), warnings.catch_warnings():  # it may change the filters
                module = load()
                self.manager.register(module, name=identity)
                if not self.manager.get_hookcallers(module):
                    raise PluginError("it has no hook; mark its functions with @lossreg.hookimpl")
                self.manager.check_pending()  # the plugins before passed, so an unknown hook is in this one
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
            return replace(plugin, error=as_exception(error))
        finally:
            loading.reset(token)
        return replace(plugin, specs=specs)

    def _specs_of(self, module: Any) -> Iterator[Spec]:
        others = [plugin for plugin in self.manager.get_plugins() if plugin is not module]
        for hook, kind in _HOOKS.items():
            for result in self.manager.subset_hook_caller(hook, remove_plugins=others)():
                if isinstance(result, (str, bytes)) or not isinstance(result, Iterable):
                    raise PluginError(f"{hook}(): expected a list of {kind.__name__}, found {shown(result)}")
                for i, spec in enumerate(result):
                    if i >= _MAX_SPECS:
                        raise PluginError(f"{hook}(): expected at most {_MAX_SPECS:,} specs, found more")
                    if not isinstance(spec, kind):
                        raise PluginError(f"{hook}(): item {i}: expected a {kind.__name__}, found {shown(spec)}")
                    yield kind.copy_of(spec)


def plugin_names() -> dict[str, str]:
    """Return the names of the installed plugins and their distributions; nothing is imported."""
    return {
        entry_point.name if entry_point.group == _HOOK_GROUP else installation.package.title: installation.package.title
        for installation in _installations()
        for entry_point in _entry_points(installation.package)[0]
        if entry_point.group in (_HOOK_GROUP, _LOSS_GROUP)
    }


def _entry_points(package: Package) -> tuple[list[metadata.EntryPoint], str]:
    """Return the entry points of a package sorted by name, and why those of lossreg are unreadable, if they are."""
    try:
        return sorted(package.entry_points, key=lambda entry_point: entry_point.name), package.unreadable
    except Exception as error:
        return [], message_of(error) if _HEADER.search(package.lines) else ""


def _read(plugin: Plugin, lines: Sequence[metadata.EntryPoint], package: Package) -> Plugin:
    """Return a plugin with the losses that its metadata lists; nothing is imported."""
    try:
        _check_name(plugin)
        _check_core_version(package)
        if len(lines) > _MAX_SPECS:
            raise PluginError(f"losses in its metadata: expected at most {_MAX_SPECS:,}, found {len(lines):,}")
        specs = tuple(_spec_of(line) for line in lines)
        check_unique(specs)
    except PluginError as error:
        return replace(plugin, error=error)
    return replace(plugin, specs=specs)


def _spec_of(line: metadata.EntryPoint) -> LossSpec:
    module, _, attribute = line.value.partition("[")[0].partition(":")
    return LossSpec(line.name, f"{module.strip()}:{attribute.strip()}")


def _check_name(plugin: Plugin) -> None:
    """Raise if a plugin's name is malformed or reserved."""
    if not _NAMESPACE.match(plugin.name) or len(plugin.name) > LONGEST_NAME:
        raise PluginError(
            f"its name: expected at most {LONGEST_NAME} letters, digits, '_', '-' or '.', beginning with a letter, "
            f"a digit or '_', found {shown(plugin.name)}"
        )
    if plugin.name in RESERVED and plugin.distribution != "lossreg":
        raise PluginError(f"its name {plugin.name!r} is reserved for lossreg; rename the plugin")


def check_unique(specs: Iterable[Spec]) -> None:
    """Raise if two specs of one kind have a name or an alias in common."""
    seen: dict[tuple[str, str], Spec] = {}
    for spec in specs:
        for name in {spec.name, *spec.aliases}:
            if (spec.kind, name) in seen:
                other = seen[spec.kind, name]
                raise PluginError(f"it offers {name!r} twice: as {other.target} and as {spec.target}")
            seen[spec.kind, name] = spec


def _check_core_version(package: Package | None) -> None:
    """Raise if the metadata of a plugin requires another version of lossreg than the installed one."""
    if package is None:  # the core itself
        return
    installed = _core_version()
    for line in package.needs:
        if canonicalize_name(_FIRST_WORD.match(line)[0]) != "lossreg":  # type: ignore[index]
            continue
        try:
            requirement = Requirement(line)
            applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        except Exception as error:  # packaging raises many types for markers
            raise PluginError(f"its requirement {shown(line)} cannot be read: {message_of(error)}") from error
        if applies and not requirement.specifier.contains(installed, prereleases=True):
            raise PluginError(
                f"it requires lossreg{requirement.specifier}, found lossreg {installed}; install another core "
                f"({install_line(f'lossreg{requirement.specifier}')}) or another version of the plugin "
                f"({install_line('--upgrade', package.title)})"
            )


def _core_version() -> str:
    from lossreg import __version__

    return __version__


def _installations() -> list[Installation]:
    """Return the packages with entry points of lossreg, sorted by name."""
    named: dict[str, list[Package]] = {}
    for package in packages():
        if not package.leftover and (PROJECT in package.lines or package.unreadable):
            named.setdefault(canonicalize_name(package.title), []).append(package)
    installations = (first_of(name, known) for name, known in sorted(named.items()))
    return [one for one in installations if PROJECT in one.package.lines or one.package.unreadable]


def _note(installation: Installation) -> str:
    *others, newest = installation.versions
    if not others:
        return ""
    name = installation.package.title
    return (
        f"{name} is installed in several versions in {installation.package.folder}: "
        f"{', '.join(installation.versions)}; {newest or 'one of them'} is used. "
        f"Reinstall it: pip install --force-reinstall {name}"
    )
