"""Paths of terms: `term`, or `group/term` for a term of a group, at any depth."""

from __future__ import annotations

_SEPARATOR = "/"  # no name contains it


def join(group: str, name: str) -> str:
    """Return the path of the term `name` in a group; the path of the outermost group is empty."""
    return f"{group}{_SEPARATOR}{name}" if group else name


def split(path: str) -> tuple[str, str]:
    """Return the first name of a path and the rest, which is empty if there is only one name."""
    first, _, rest = path.partition(_SEPARATOR)
    return first, rest


def is_inside(path: str, group: str) -> bool:
    """Return whether a path is the path of a group or of a term in it."""
    return path == group or path.startswith(group + _SEPARATOR)


def group_of(path: str) -> str:
    """Return the path of the group of a term; empty for the outermost group."""
    return path.rpartition(_SEPARATOR)[0]


def as_name(key: str) -> str:
    """Return a key of a dictionary as the name of a term, which has no `/`."""
    return key.replace(_SEPARATOR, ".")
