"""Fixtures: wheels of the tree and of generated packages, and environments for them."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import textwrap
import venv
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).parents[2]
PLUGINS = ("seg", "crossfield", "wrappers", "example")


@dataclass(frozen=True)
class Environment:
    """A virtual environment with our dependencies, and of lossreg and its plugins what is installed in it."""

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    def install(self, *wheels: Path) -> None:
        _run(
            [
                sys.executable,
                "-m",
                "pip",
                "--python",
                self.python,
                "install",
                *_QUIET,
                "--force-reinstall",
                *wheels,
            ]
        )

    def run(self, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run code in the environment, outside the source tree; the caller looks at the exit code."""
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "LOSSREG"))}
        return subprocess.run(
            [self.python, "-c", textwrap.dedent(code), *arguments],
            cwd=self.folder,
            env=clean | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )


_QUIET = ("--quiet", "--no-deps", "--no-index", "--no-compile", "--disable-pip-version-check")


def _run(command: Iterable[str | Path], cwd: Path | None = None) -> None:
    done = subprocess.run(list(command), cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def build(project: Path, folder: Path, target: str = "wheel") -> Path:
    """Build one artifact of a project and return its path."""
    builder = {"wheel": WheelBuilder, "sdist": SdistBuilder}[target](str(project))
    (built,) = builder.build(directory=str(folder))
    return Path(built)


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Return the wheels of the core (`core`) and of each first-party plugin, built from the tree."""
    folder = tmp_path_factory.mktemp("wheels")
    return {"core": build(ROOT, folder)} | {
        name: build(ROOT / "plugins" / f"lossreg-{name}", folder) for name in PLUGINS
    }


@pytest.fixture(scope="session")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the core's source distribution."""
    return build(ROOT, tmp_path_factory.mktemp("sdist"), "sdist")


@pytest.fixture(scope="session")
def new_environment(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Environment]:
    """Return a function that makes an environment and installs wheels in it."""

    def make(*wheels: Path) -> Environment:
        environment = Environment(tmp_path_factory.mktemp("environment"))
        venv.create(environment.folder, symlinks=True, with_pip=False)
        (site_packages,) = environment.folder.glob("lib/python*/site-packages")
        _link_dependencies(site_packages)
        environment.install(*wheels)
        return environment

    return make


def _link_dependencies(site_packages: Path) -> None:
    """Make what is installed here visible there: all but lossreg, its plugins and what `.pth` files add."""
    for source in {Path(sysconfig.get_path(name)) for name in ("purelib", "platlib")}:
        for item in source.iterdir():
            hidden = item.name.startswith(("lossreg", "__editable__", "_editable")) or item.suffix == ".pth"
            if not hidden and not (site_packages / item.name).exists():
                (site_packages / item.name).symlink_to(item)


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a function that makes a package on the spot and builds its wheel.

    `package("acme-losses", {"acme.py": ...}, {"lossreg.losses": {"AcmeLoss": "acme:AcmeLoss"}})`
    """

    def make(
        distribution: str,
        files: Mapping[str, str],
        entry_points: Mapping[str, Mapping[str, str]],
        requires: Iterable[str] = ("lossreg",),
    ) -> Path:
        project = tmp_path_factory.mktemp("package")
        for name, text in files.items():
            (project / name).write_text(textwrap.dedent(text))
        lines = [
            "[build-system]",
            'requires = ["hatchling"]',
            'build-backend = "hatchling.build"',
            "[project]",
            f'name = "{distribution}"',
            'version = "1.0"',
            f"dependencies = {list(requires)}",
            "[tool.hatch.build.targets.wheel]",
            f"only-include = {list(files)}",
        ]
        for group, points in entry_points.items():
            lines += [
                f'[project.entry-points."{group}"]',
                *(f'{name} = "{to}"' for name, to in points.items()),
            ]
        (project / "pyproject.toml").write_text("\n".join(lines))
        return build(project, project / "dist")

    return make
