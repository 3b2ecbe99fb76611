"""Which packages are installed, from their metadata alone: none of them is imported.

Metadata is read as it is, not as it should be: bytes that are no UTF-8, a file that is missing, empty or unreadable, a
version that is no version. A package with odd metadata is odd alone.
"""

from __future__ import annotations

import functools
import os
import re
import sys
from collections.abc import Iterator
from importlib import metadata
from os import PathLike
from typing import Any, NamedTuple

from packaging.requirements import Requirement
from packaging.utils import InvalidName, canonicalize_name
from packaging.version import InvalidVersion, Version

_NAMELESS = "unknown"

parsed = functools.cache(Requirement)
"""Parse a requirement; a library's losses all name the same one."""


class Package(metadata.Distribution):
    """An installed distribution whose metadata is read as far as it can be."""

    def __init__(self, dist: metadata.Distribution) -> None:
        self._dist = dist
        self._info: Any = getattr(dist, "_path", None)  # private, yet all that names a folder without readable metadata

    def read_text(self, filename: str) -> str | None:
        """Return a file of the metadata, or None; what is no UTF-8 in it becomes the replacement character."""
        try:
            return self._dist.read_text(filename)
        except UnicodeDecodeError:
            return str(self._info.joinpath(filename).read_text(encoding="utf-8", errors="replace"))
        except Exception:  # no permission, a loop of links, a finder of somebody's own
            return None

    def locate_file(self, path: str | PathLike[str]) -> Any:
        """Return the path of an installed file."""
        return self._dist.locate_file(path)

    @functools.cached_property
    def lines(self) -> str:
        """The text of entry_points.txt; empty where there is none, or it cannot be read."""
        return self.read_text("entry_points.txt") or ""

    @functools.cached_property
    def unreadable(self) -> str:
        """Why entry_points.txt cannot be read, of a package that needs lossreg; empty where it can, or is not there."""
        if self.lines or not os.path.lexists(os.path.join(str(self._info), "entry_points.txt")):
            return ""
        try:
            self._info.joinpath("entry_points.txt").read_bytes()
        except Exception as error:
            needed = any(re.match(r"lossreg(?![\w.-])", line, re.IGNORECASE) for line in self.needs)
            return f"{type(error).__name__}: {error}" if needed else ""
        return ""  # it is empty

    @functools.cached_property
    def title(self) -> str:
        """The distribution's name: that of its metadata, or else of the folder that holds it."""
        for name in (self._header("Name"), self._stem[0]):
            try:
                canonicalize_name(name, validate=True)
            except InvalidName:
                continue
            return name
        return _NAMELESS

    @functools.cached_property
    def release(self) -> str:
        """The version, of the metadata or the folder's name; empty where neither says one."""
        return next((text for text in (self._header("Version"), self._stem[1]) if text.isascii() and text.strip()), "")

    @property
    def leftover(self) -> bool:
        """Whether pip was stopped as it uninstalled or replaced it, and left its folder under a name with `~`."""
        return self._stem[0].startswith("~")

    @functools.cached_property
    def folder(self) -> str:
        """The folder that it is installed in."""
        try:
            return str(self.locate_file(""))
        except Exception:
            return ""

    @functools.cached_property
    def needs(self) -> tuple[str, ...]:
        """The lines of its requirements; none where they cannot be read."""
        try:
            return tuple(self.requires or ())
        except Exception:
            return ()

    def _header(self, name: str) -> str:
        try:
            return str((self.metadata.get_all(name) or [""])[0]).strip()
        except Exception:  # no metadata, from Python 3.15 on
            return ""

    @functools.cached_property
    def _stem(self) -> tuple[str, str]:
        """Name and version by the folder: `acme-1.0.dist-info`."""
        found = re.match(r"(.+?)(?:-([^-]+)(?:-.*)?)?\.(?:dist|egg)-info\Z", getattr(self._info, "name", ""))
        return (found[1], found[2] or "") if found else ("", "")


class Twin(NamedTuple):
    """A package that one folder holds in several versions; the newest is taken.

    Attributes:
        package: the newest.
        versions: all of them, oldest first.
    """

    package: Package
    versions: list[str]


def packages(name: str | None = None) -> Iterator[Package]:
    """Yield what is installed, or what is installed under a name, in the order of the import path."""
    context = metadata.DistributionFinder.Context() if name is None else metadata.DistributionFinder.Context(name=name)
    for finder in sys.meta_path:
        find = getattr(finder, "find_distributions", None)
        try:
            for dist in find(context) if find is not None else ():
                yield Package(dist)
        except Exception:
            continue


def first_of(name: str, known: list[Package]) -> Twin:
    """Return the package that Python takes for a name: the first on the path.

    Args:
        name: its canonical name.
        known: packages that have this name by their metadata, for where no folder is named so.
    """
    copies = [package for package in packages(name) if not package.leftover] or known
    beside = sorted((copy for copy in copies if copy.folder == copies[0].folder), key=lambda copy: _order(copy.release))
    return Twin(beside[-1], list(dict.fromkeys(copy.release for copy in beside)))


def _order(release: str) -> tuple[bool, Version, str]:
    try:
        return True, Version(release), release
    except InvalidVersion:
        return False, Version("0"), release


def unmet(requirement: str | None) -> str:
    """Say why a requirement such as `"monai>=1.4"` is not met; empty where it is, or where there is none."""
    if requirement is None:
        return ""
    wanted = parsed(requirement)
    found = next(packages(wanted.name), None)
    if found is None:
        return f"{wanted.name} is not installed"
    try:
        met = not wanted.specifier or wanted.specifier.contains(Version(found.release), prereleases=True)
    except InvalidVersion:
        return f"{wanted.name} is installed in an unknown version, {found.release!r}"
    return "" if met else f"{wanted.name} {found.release} is installed"


def distribution(requirement: str) -> str:
    """Return the name of the distribution that a requirement is about."""
    return parsed(requirement).name


def install_line(requirement: str) -> str:
    """Return the command that installs what a requirement names."""
    return f"pip install '{requirement}'"
