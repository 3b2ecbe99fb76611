"""Who offers what, under which name: discovery, look-up and in-process registration, without torch."""

from __future__ import annotations

import dataclasses
import re
import threading
import warnings
from collections.abc import Callable
from importlib import invalidate_caches
from typing import Any, Literal, TypeVar

from lossreg.errors import PluginError, PluginWarning
from lossreg.registry.catalog import LOCAL, Catalog, Entry
from lossreg.registry.foreign import described
from lossreg.registry.plugins import Plugin, Switches, check_unique, discover
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
_local: dict[tuple[str, str], Entry[Any]] = {}
_lock = threading.RLock()  # held while `_catalog` or `_local` changes
_scanner: int | None = None  # the thread that looks for plugins


def catalog() -> Catalog:
    """Return everything that is registered, scanning the installed packages at the first call.

    Raises:
        PluginError: a plugin calls this while it is imported or in a hook: what others offer is not known yet.
    """
    _refuse_from_plugin()
    if _catalog is not None:
        return _catalog
    with _lock:  # another thread may have scanned meanwhile
        return _catalog or refresh()


def refresh() -> Catalog:
    """Scan the installed packages again; what this process registered stays.

    Returns:
        the new catalog.

    Raises:
        PluginError: a plugin is broken and `LOSSREG_STRICT=1`; the old catalog is kept.
    """
    global _catalog, _scanner
    _refuse_from_plugin()
    with _lock:
        invalidate_caches()  # of the import system: a package may have come since it last looked
        _scanner = threading.get_ident()
        try:
            manager, plugins = discover(Switches.from_environment(), _local)
        finally:
            _scanner = None
        found = _catalog = Catalog(manager, plugins, _local.values())
    for plugin in plugins:
        if plugin.error is not None:
            warnings.warn(f"{plugin.origin} is left out: {described(plugin.error)}", PluginWarning, stacklevel=2)
    for odd in (*dict.fromkeys(plugin.note for plugin in plugins if plugin.note), *found.conflicts()):
        warnings.warn(odd, PluginWarning, stacklevel=2)
    return found


def _refuse_from_plugin() -> None:
    if _scanner == threading.get_ident():
        raise PluginError(
            "lossreg is looking for plugins; a plugin cannot ask for losses while it is imported or in a hook, "
            "since those of other plugins are not known yet"
        )


def list_losses(filter: str | None = None) -> list[str]:
    """Return the canonical names of all losses, or of those that a glob matches.

    Args:
        filter: a glob such as `"*Dice*"` or `"torch/*"`, compared with canonical and bare names in any case.
    """
    return catalog().losses.names(filter)


def registered() -> dict[tuple[str, str], Entry[Any]]:
    """Return what this process registered itself, by kind and name."""
    return dict(_local)


def find_loss(name: str) -> LossSpec:
    """Return the spec of the loss that a canonical name, a bare name or an alias means.

    Raises:
        UnknownNameError: there is none; the message offers the nearest names.
        AmbiguousNameError: several plugins offer it; the message lists them.
    """
    return catalog().losses.find(name).spec


_SPECS: dict[str, type[Spec]] = {
    spec_type.kind: spec_type for spec_type in (LossSpec, PreprocessSpec, WeightingSpec, ScheduleSpec)
}


def register(
    name: str, *, kind: Literal["loss", "preprocess", "weighting", "schedule"] = "loss", **fields: Any
) -> Callable[[T], T]:
    """Register a class or function of this process under a name, in a notebook or a script.

    ::

        @lossreg.register("OffsetLoss", aliases=("offset",))
        class OffsetLoss(lossreg.Loss): ...

    Its canonical name is `local/<name>`. To register a name again replaces it, as a cell run twice does. What a
    plugin registers so while it is imported is `local/<name>` as well, unless that plugin is left out.

    Args:
        name: the name.
        kind: what it is.
        **fields: further fields of its spec (`aliases`, `summary`, `wrap`, ...).

    Raises:
        PluginError: the name or a field is malformed.
    """
    if kind not in _SPECS:
        raise PluginError(f"register: kind is one of {', '.join(_SPECS)}; got {kind!r}")
    spec_type = _SPECS[kind]
    known = [field.name for field in dataclasses.fields(spec_type) if field.name not in ("name", "target")]
    unknown = sorted(set(fields) - set(known))
    if unknown:
        raise PluginError(f"register: a {kind} has no field {unknown[0]!r}; expected {', '.join(known)}")

    def remember(target: T) -> T:
        global _catalog
        if not hasattr(target, "__name__"):
            raise PluginError(f"register: takes a class or a function, got {target!r}")
        given: dict[str, Any] = {"summary": _summary(target)}
        if kind == "preprocess":
            given |= {key: getattr(target, key, ()) for key in ("requires", "provides")}
        spec = spec_type(name, _home(name, target), **(given | fields))
        with _lock:
            local = _local | {(kind, name): Entry(spec, Plugin(LOCAL), local=target)}
            check_unique(entry.spec for entry in local.values())
            if _scanner is not None:  # by a plugin's import: the catalog is made when all are known
                _local.update(local)
                return target
            current = catalog()
            _local.update(local)
            _catalog = Catalog(current.manager, current.plugins, _local.values())
        return target

    return remember


def _home(name: str, target: Any) -> str:
    """Return where an object lives, under its own name where it is a lambda or its script no module."""
    home = f"{target.__module__}:{target.__name__}"
    return home if is_target(home) else f"{LOCAL}:{re.sub(r'[^A-Za-z0-9_]', '_', name)}"


def _summary(target: Any) -> str:
    """Return the first line of a docstring, as far as a summary may hold it."""
    line = " ".join((target.__doc__ or "").strip().partition("\n")[0].split())
    return "".join(char for char in line if char.isprintable())[:LONGEST_LINE]
