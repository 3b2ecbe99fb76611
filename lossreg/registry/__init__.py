"""Find the installed components, look them up by name, and register new ones; none of this imports torch."""

from __future__ import annotations

import dataclasses
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from importlib import invalidate_caches
from typing import Any, Literal, TypeVar

from lossreg.arguments import Arguments, shown
from lossreg.errors import PluginError, PluginWarning, warn
from lossreg.registry.components import LOCAL, Catalog, Entry
from lossreg.registry.foreign import described
from lossreg.registry.plugins import Plugin, Switches, check_unique, discover, loading
from lossreg.registry.specs import (
    LONGEST_LINE,
    LossSpec,
    PreprocessSpec,
    ScheduleSpec,
    Spec,
    WeightingSpec,
    is_target,
)

__all__ = ["catalog", "find_loss", "list_losses", "refresh", "register"]

T = TypeVar("T", bound=Callable[..., Any])

_catalog: Catalog | None = None
_local: dict[tuple[str, str, str], Entry[Any]] = {}  # by who registered it, kind and name
_lock = threading.RLock()  # held while `_catalog` or `_local` changes
_scanner: int | None = None  # the thread that is scanning for plugins


def catalog() -> Catalog:
    """Return all registered components; the first call scans the installed packages.

    Raises:
        PluginError: a plugin calls this at import or in a hook, when the other plugins are not known yet.
    """
    _refuse_from_plugin()
    if _catalog is not None:
        return _catalog
    with _lock:  # another thread may have scanned meanwhile
        return _catalog or refresh()


def refresh() -> Catalog:
    """Scan the installed packages again and return the new catalog; components registered in this process stay.

    Returns:
        the new catalog.

    Raises:
        PluginError: a plugin is broken and `LOSSREG_STRICT=1`; the old catalog is kept.
    """
    global _catalog, _scanner
    _refuse_from_plugin()
    with _lock:
        invalidate_caches()  # so that the import system finds packages installed since
        _scanner = threading.get_ident()
        try:
            manager, plugins = discover(Switches.from_environment(), _local)
        finally:
            _scanner = None
        old = _catalog
        new = _catalog = Catalog(manager, plugins, _known_locally())
    for plugin in plugins:
        if plugin.error is not None:
            warn(f"{plugin.origin} is skipped: {described(plugin.error)}", PluginWarning)
    for version, plugin in _outdated(old, plugins) if old is not None else ():
        warn(f"{plugin.origin}: version {version} is still loaded in this process; restart Python", PluginWarning)
    for note in (*dict.fromkeys(plugin.note for plugin in plugins if plugin.note), *new.conflicts()):
        warn(note, PluginWarning)
    return new


def _outdated(old: Catalog, plugins: Iterable[Plugin]) -> Iterator[tuple[str, Plugin]]:
    """Yield the plugins whose module was imported from another version, since Python imports a module once."""
    loaded = {(one.distribution, one.name): one.version for one in old.plugins}
    for plugin in plugins:
        version = loaded.get((plugin.distribution, plugin.name), plugin.version)
        if version != plugin.version and old.manager.has_plugin(f"{plugin.distribution}:{plugin.name}"):
            yield version, plugin


def _refuse_from_plugin() -> None:
    if _scanner == threading.get_ident():
        raise PluginError(
            "a plugin cannot look up losses at import or in a hook, since the other plugins are not known yet; "
            "look them up when the loss is used"
        )


def list_losses(filter: str | None = None) -> list[str]:
    """Return the canonical names of all losses, or of those that match a glob.

    Args:
        filter: a glob such as `"*Dice*"` or `"torch/*"`, matched with canonical and bare names, ignoring case.

    Raises:
        ArgumentError: the glob is no text.
    """
    if filter is not None and not isinstance(filter, str):
        Arguments("list_losses").refuse("filter", "a glob such as '*Dice*'", filter)
    return catalog().losses.names(filter)


def registered() -> dict[tuple[str, str, str], Entry[Any]]:
    """Return the components that this process registered, by who registered it (empty: a script), kind and name."""
    return dict(_local)


def _known_locally() -> list[Entry[Any]]:
    """Return the registered components; a name that a script registered is no name of what plugins registered."""
    own = [entry.spec for entry in _local.values() if entry.registrar is None]
    taken = {(spec.kind, name) for spec in own for name in (spec.name, *spec.aliases)}
    known = []
    for entry in _local.values():
        spec = entry.spec
        if entry.registrar is None:
            known.append(entry)
        elif (spec.kind, spec.name) not in taken:
            free = tuple(alias for alias in spec.aliases if (spec.kind, alias) not in taken)
            known.append(dataclasses.replace(entry, spec=dataclasses.replace(spec, aliases=free)))
    return known


def find_loss(name: str) -> LossSpec:
    """Return the spec of a loss by its canonical name, bare name, alias or dotted path (`torch.nn.L1Loss`).

    Raises:
        UnknownNameError: no loss has this name; the message suggests the nearest names.
        AmbiguousNameError: several plugins offer the name; the message lists them.
    """
    return catalog().losses.find(name).spec


_SPECS: dict[str, type[Spec]] = {
    spec_type.kind: spec_type for spec_type in (LossSpec, PreprocessSpec, WeightingSpec, ScheduleSpec)
}


def register(
    name: str, *, kind: Literal["loss", "preprocess", "weighting", "schedule"] = "loss", **fields: Any
) -> Callable[[T], T]:
    """Return a decorator that registers a class or function under a name, for a notebook or a script.

    ::

        @lossreg.register("OffsetLoss", aliases=("offset",))
        class OffsetLoss(lossreg.Loss): ...

    The canonical name is `local/<name>`. Registering a name again replaces the component, so you can run a notebook
    cell twice. A plugin may also use this at its import; if the plugin is skipped, so is the component. A name that
    two plugins register cannot be used, with a warning; one that a script registers is that of the script.

    Args:
        name: the name.
        kind: the kind of component.
        **fields: other fields of the spec (`aliases`, `summary`, `wrap`, ...).

    Raises:
        PluginError: the name or a field is malformed.
    """
    if not isinstance(name, str):
        example = getattr(name, "__name__", "MyLoss")
        raise PluginError(f"register: expected a name, found {shown(name)}; write @lossreg.register({example!r})")
    if kind not in _SPECS:
        raise PluginError(f"register: kind: expected {' or '.join(_SPECS)}, found {kind!r}")
    spec_type = _SPECS[kind]
    known = [field.name for field in dataclasses.fields(spec_type) if field.name not in ("name", "target")]
    unknown = sorted(set(fields) - set(known))
    if unknown:
        raise PluginError(f"register: a field of a {kind}: expected one of {', '.join(known)}, found {unknown[0]!r}")

    def add(target: T) -> T:
        global _catalog
        if not hasattr(target, "__name__"):
            raise PluginError(f"register: expected a class or a function, found {target!r}")
        defaults: dict[str, Any] = {"summary": _summary(target)}
        if kind == "preprocess":
            defaults |= {key: getattr(target, key, ()) for key in ("requires", "provides")}
        spec = spec_type(name, _target_of(name, target), **(defaults | fields))
        with _lock:
            registrar = loading.get()
            who = registrar.origin if registrar is not None else ""
            local = _local | {(who, kind, name): Entry(spec, Plugin(LOCAL), target, registrar)}
            check_unique(entry.spec for entry in local.values() if entry.registrar == registrar)
            if _scanner is not None:  # a plugin is being imported; the catalog is built after the scan
                _local.update(local)
                return target
            current = catalog()
            _local.update(local)
            _catalog = Catalog(current.manager, current.plugins, _known_locally())
        return target

    return add


def _target_of(name: str, target: Any) -> str:
    """Return the import path of an object; for a lambda or a script that is not a module, `local:<name>`."""
    path = f"{target.__module__}:{target.__name__}"
    return path if is_target(path) else f"{LOCAL}:{re.sub(r'[^A-Za-z0-9_]', '_', name)}"


def _summary(target: Any) -> str:
    """Return the first line of a docstring as a valid summary."""
    line = " ".join((target.__doc__ or "").strip().partition("\n")[0].split())
    return "".join(char for char in line if char.isprintable())[:LONGEST_LINE]
