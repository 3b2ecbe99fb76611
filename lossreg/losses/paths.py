"""The path of a term: `term`, or `group/term` for a member of a group, at any depth."""

from __future__ import annotations

_SEPARATOR = "/"  # no name holds one


def join(group: str, name: str) -> str:
    """Return the path of what is called `name` in the group of a path; an empty path is the whole."""
    return f"{group}{_SEPARATOR}{name}" if group else name


def split(path: str) -> tuple[str, str]:
    """Return the first name of a path, and the rest; the rest is empty where there is but one name."""
    first, _, rest = path.partition(_SEPARATOR)
    return first, rest


def is_inside(path: str, group: str) -> bool:
    """Say whether a path is that of a group or of something in it."""
    return path == group or path.startswith(group + _SEPARATOR)


def group_of(path: str) -> str:
    """Return the path of the group that a term is in; empty for the whole."""
    return path.rpartition(_SEPARATOR)[0]
