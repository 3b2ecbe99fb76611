"""Read the metadata of installed packages without importing them.

Broken metadata affects only its own package: invalid UTF-8, a file that is missing, empty or unreadable, or an invalid
version.
"""

from __future__ import annotations

import functools
import os
import re
import shlex
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
"""Parse a requirement; cached, because all losses of a library have the same one."""


class Package(metadata.Distribution):
    """An installed distribution whose broken metadata raises no errors."""

    def __init__(self, dist: metadata.Distribution) -> None:
        self._dist = dist
        self._info: Any = getattr(dist, "_path", None)  # private, but the only way to find the metadata folder

    def read_text(self, filename: str) -> str | None:
        """Return the text of a metadata file, or None; invalid UTF-8 becomes the replacement character."""
        try:
            return self._dist.read_text(filename)
        except UnicodeDecodeError:
            return str(self._info.joinpath(filename).read_text(encoding="utf-8", errors="replace"))
        except Exception:  # no permission, a loop of links, a third-party finder
            return None

    def locate_file(self, path: str | PathLike[str]) -> Any:
        """Return the path of an installed file."""
        return self._dist.locate_file(path)

    @functools.cached_property
    def lines(self) -> str:
        """The text of entry_points.txt; empty if it is missing or unreadable."""
        return self.read_text("entry_points.txt") or ""

    @functools.cached_property
    def unreadable(self) -> str:
        """Why entry_points.txt of a package that requires lossreg is unreadable; empty if it is readable or missing."""
        if self.lines or not os.path.lexists(os.path.join(str(self._info), "entry_points.txt")):
            return ""
        try:
            self._info.joinpath("entry_points.txt").read_bytes()
        except Exception as error:
            needed = any(re.match(r"lossreg(?![\w.-])", line, re.IGNORECASE) for line in self.needs)
            return f"{type(error).__name__}: {error}" if needed else ""
        return ""  # the file is empty

    @functools.cached_property
    def title(self) -> str:
        """The name of the distribution, from its metadata or else from the folder name."""
        for name in (self._header("Name"), self._stem[0]):
            try:
                canonicalize_name(name, validate=True)
            except InvalidName:
                continue
            return name
        return _NAMELESS

    @functools.cached_property
    def release(self) -> str:
        """The version, from the metadata or the folder name; empty if neither has one."""
        return next((text for text in (self._header("Version"), self._stem[1]) if text.isascii() and text.strip()), "")

    @property
    def leftover(self) -> bool:
        """Whether this is a folder with `~` that an interrupted pip left behind."""
        return self._stem[0].startswith("~")

    @functools.cached_property
    def folder(self) -> str:
        """The folder of the installation."""
        try:
            return str(self.locate_file(""))
        except Exception:
            return ""

    @functools.cached_property
    def needs(self) -> tuple[str, ...]:
        """The requirements of the package; empty if they are unreadable."""
        try:
            return tuple(self.requires or ())
        except Exception:
            return ()

    def _header(self, name: str) -> str:
        try:
            return str((self.metadata.get_all(name) or [""])[0]).strip()
        except Exception:  # Python 3.15 raises if there is no metadata
            return ""

    @functools.cached_property
    def _stem(self) -> tuple[str, str]:
        """Name and version from the folder name, such as `acme-1.0.dist-info`."""
        match = re.match(r"(.+?)(?:-([^-]+)(?:-.*)?)?\.(?:dist|egg)-info\Z", getattr(self._info, "name", ""))
        return (match[1], match[2] or "") if match else ("", "")


class Installation(NamedTuple):
    """The newest version of a package in a folder, and all its versions there.

    Attributes:
        package: the newest version.
        versions: all versions in the folder, oldest first; usually one.
    """

    package: Package
    versions: list[str]


def packages(name: str | None = None) -> Iterator[Package]:
    """Yield all installed packages, or those with a name, in the order of the import path."""
    context = metadata.DistributionFinder.Context() if name is None else metadata.DistributionFinder.Context(name=name)
    for finder in sys.meta_path:
        find = getattr(finder, "find_distributions", None)
        try:
            for dist in find(context) if find is not None else ():
                yield Package(dist)
        except Exception:
            continue


def first_of(name: str, known: list[Package]) -> Installation:
    """Return the first package with a name on the import path, which is the one that Python imports.

    Args:
        name: the canonical name.
        known: packages with this name in their metadata; used if no folder has the name.
    """
    copies = list(packages(name)) or known
    beside = sorted((copy for copy in copies if copy.folder == copies[0].folder), key=lambda copy: _order(copy.release))
    return Installation(beside[-1], list(dict.fromkeys(copy.release for copy in beside)))


def _order(release: str) -> tuple[bool, Version, str]:
    try:
        return True, Version(release), release
    except InvalidVersion:
        return False, Version("0"), release


def unmet(requirement: str | None) -> str:
    """Return why a requirement such as `"monai>=1.4"` is not met; empty if it is met, or None."""
    if requirement is None:
        return ""
    wanted = parsed(requirement)
    package = next(packages(wanted.name), None)
    if package is None:
        return f"{wanted.name} is not installed"
    try:
        met = not wanted.specifier or wanted.specifier.contains(Version(package.release), prereleases=True)
    except InvalidVersion:
        return f"{wanted.name} is installed in an unknown version, {package.release!r}"
    return "" if met else f"{wanted.name} {package.release} is installed"


def distribution(requirement: str) -> str:
    """Return the name of the distribution in a requirement."""
    return parsed(requirement).name


def install_line(*requirements: str) -> str:
    """Return the command that installs some requirements."""
    return shlex.join(("pip", "install", *requirements))
