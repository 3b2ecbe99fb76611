"""Which packages are installed, from their metadata alone: none of them is imported."""

from __future__ import annotations

import functools
from importlib import metadata

from packaging.requirements import Requirement

parsed = functools.cache(Requirement)
"""Parse a requirement; a library's losses all name the same one."""


def unmet(requirement: str | None) -> str:
    """Say why a requirement such as `"monai>=1.4"` is not met; empty where it is, or where there is none."""
    if requirement is None:
        return ""
    wanted = parsed(requirement)
    try:
        installed = metadata.version(wanted.name)
    except metadata.PackageNotFoundError:
        return f"{wanted.name} is not installed"
    if wanted.specifier.contains(installed, prereleases=True):
        return ""
    return f"{wanted.name} {installed} is installed"


def distribution(requirement: str) -> str:
    """Return the name of the distribution that a requirement is about."""
    return parsed(requirement).name


def install_line(requirement: str) -> str:
    """Return the command that installs what a requirement names."""
    return f"pip install '{requirement}'"
