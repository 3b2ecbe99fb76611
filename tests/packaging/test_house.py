"""The files around the code agree with each other, and do not describe the machine of their author."""

from __future__ import annotations

import re
import subprocess
import tomllib
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PLUGINS = sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))


def project(folder: Path) -> dict[str, Any]:
    return tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def pins(name: str) -> dict[str, list[Requirement]]:
    found: dict[str, list[Requirement]] = {}
    for line in (ROOT / "requirements" / name).read_text(encoding="utf-8").splitlines():
        if text := line.partition("#")[0].strip():
            requirement = Requirement(text)
            found.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return found


def version_of(pin: Requirement) -> str:
    (specifier,) = pin.specifier
    assert specifier.operator == "==", pin
    return specifier.version


def claimed(folder: Path) -> list[Requirement]:
    """Return what a distribution needs from others, its extras included."""
    metadata = project(folder)
    lists = [metadata["dependencies"], *metadata.get("optional-dependencies", {}).values()]
    return [r for r in map(Requirement, chain.from_iterable(lists)) if not r.name.startswith("lossreg")]


def committed() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout  # fmt: skip
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


@pytest.mark.parametrize("folder", [ROOT, *PLUGINS], ids=lambda folder: folder.name)
def test_what_is_claimed_is_what_is_tested(folder: Path):
    tested = pins("smp.txt") | pins("catalogue.txt") | pins("trainers.txt") | pins("tested.txt")
    for requirement in claimed(folder):
        for pin in tested[canonicalize_name(requirement.name)]:
            assert requirement.specifier.contains(version_of(pin)), (requirement, pin)


def test_lowest_is_what_is_claimed():
    lowest = pins("lowest.txt")
    for requirement in map(Requirement, project(ROOT)["dependencies"]):
        if requirement.name == "torch":
            assert lowest["torch"] == pins("tested.txt")["torch"]
        (pin,) = (pins("torch-oldest.txt") if requirement.name == "torch" else lowest).pop(requirement.name)
        (low,) = (s.version for s in requirement.specifier if s.operator == ">=")
        assert version_of(pin).startswith(low), (requirement, pin)


def test_every_lower_bound_says_why():
    text = (ROOT / "requirements" / "lowest.txt").read_text(encoding="utf-8")
    unexplained = re.findall(r"(?:\A|\n)(?!#)[^\n]*\n([a-z][^\n]*==[^\n]*)", text)
    assert unexplained == []


def test_core_and_plugins_have_one_version():
    version = project(ROOT)["version"]
    assert {folder.name: project(folder)["version"] for folder in PLUGINS} == {f.name: version for f in PLUGINS}
    assert f'__version__ = "{version}"' in (ROOT / "lossreg" / "__init__.py").read_text(encoding="utf-8")


@pytest.mark.parametrize("folder", PLUGINS, ids=lambda folder: folder.name)
def test_a_plugin_says_which_core_it_takes(folder: Path):
    (core,) = (r for r in map(Requirement, project(folder)["dependencies"]) if r.name == "lossreg")
    assert core.specifier.contains(project(ROOT)["version"])
    assert not core.specifier.contains("99.0"), f"{core} has no upper bound"


def test_ci_runs_what_readme_says():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = [line for block in re.findall(r"```bash\n(.*?)```", readme, re.DOTALL) for line in block.splitlines()]
    (test,) = (line for line in commands if "tox run" in line)
    assert test in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()


def test_no_file_speaks_of_a_machine():
    """An absolute path of a machine, or a folder beside the repository, means nothing to a reader."""
    folders = r"(?<![\w./$}<])/(?:home|root|work|tmp|opt|mnt|Users)/\w"
    beside = r"(?:\.\./)+shared\b|(?<!\w)\.librar[y]\b"
    index = r"--(?:extra-)?index-url|--find-links|--trusted-host"
    pattern = re.compile(f"{folders}|{beside}|{index}")
    found = []
    for path in committed():
        if path.suffix in {".png", ".svg", ".tif", ".npz", ".pt", ".woff2"} or path == Path(__file__):
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            told = line.replace("--index-url https://download.pytorch.org", "").replace("--find-links dist ", "")
            if pattern.search(told):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()}")
    assert found == []


def _wrappers():
    path = ROOT / "plugins" / "lossreg-wrappers" / "pyproject.toml"
    return tomllib.loads(path.read_text(encoding="utf-8"))["project"]


def test_the_readme_counts_the_losses_that_the_wrappers_count():
    rows = [
        dict(re.findall(r"(?m)^\| `(\w+)/\.\.\.` \|.*?\| (\d+ of \d+) \|", path.read_text(encoding="utf-8")))
        for path in (ROOT / "README.md", ROOT / "plugins" / "lossreg-wrappers" / "README.md")
    ]
    assert rows[0] == rows[1]
    assert set(rows[0]) == set(_wrappers()["entry-points"]["lossreg"]) - {"torchjd"}  # it has weightings alone


def test_the_readme_counts_the_losses_with_masks_that_the_wrappers_count():
    """The numbers of the wrappers' page are held by a test of theirs."""
    words = r"(\d+) losses have a count(?: and|,) (\d+) more take a mask.*?(\d+) do neither"
    numbers = [
        re.findall(words, path.read_text(encoding="utf-8"), re.DOTALL)
        for path in (ROOT / "README.md", ROOT / "plugins" / "lossreg-wrappers" / "README.md")
    ]
    assert numbers[0] == numbers[1]
    offered = re.findall(r"(?m)^\| `\w+/\.\.\.` \|.*?\| (\d+) of", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert sum(map(int, numbers[0][0])) == sum(map(int, offered))
