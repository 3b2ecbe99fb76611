"""The wheels contain the package, its data and its license, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from lossreg.cli.new import FILES

ROOT = Path(__file__).parents[2]
DISTRIBUTIONS = [ROOT, *sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))]


@pytest.fixture(scope="module", params=DISTRIBUTIONS, ids=lambda folder: folder.name)
def wheel(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ZipFile]:
    target = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(target)],
        cwd=request.param, check=True, capture_output=True,
    )  # fmt: skip
    (path,) = target.glob("*.whl")
    return request.param, ZipFile(path)


def package_of(folder: Path) -> str:
    return "lossreg" if folder == ROOT else folder.name.replace("-", "_")


def test_a_wheel_holds_every_file_of_its_package_and_no_other(wheel: tuple[Path, ZipFile]):
    folder, archive = wheel
    package = folder / package_of(folder)
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--", str(package)], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout  # fmt: skip
    sources = {str((ROOT / name).relative_to(folder)) for name in listed.split("\0") if name}
    if folder == ROOT:
        sources |= {f"lossreg/cli/template/{file}.txt" for file in FILES}
    held = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert held == sources


def test_a_wheel_is_typed_and_says_its_metadata(wheel: tuple[Path, ZipFile]):
    folder, archive = wheel
    assert f"{package_of(folder)}/py.typed" in archive.namelist()
    (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    text = archive.read(metadata).decode()
    for line in (
        "License-Expression: MIT",
        "Requires-Python: >=3.11",
        "Summary: ",
        "Description-Content-Type: ",
    ):
        assert f"\n{line}" in text
