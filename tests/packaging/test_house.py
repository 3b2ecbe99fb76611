"""The files around the code agree with each other, and do not describe the machine of their author."""

from __future__ import annotations

import re
import subprocess
import tomllib
from collections.abc import Iterator
from configparser import ConfigParser
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import lossreg

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


def committed() -> Iterator[tuple[Path, str]]:
    """Yield each committed file that is text, with its text."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout  # fmt: skip
    for path in (ROOT / name for name in listed.split("\0") if name):
        if path.is_file() and b"\0" not in (content := path.read_bytes()):
            yield path, content.decode("utf-8")


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


@pytest.mark.parametrize("folder", [ROOT, *PLUGINS], ids=lambda folder: folder.name)
def test_core_and_plugins_take_their_version_from_one_line(folder: Path):
    metadata = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
    assert "version" in metadata["project"]["dynamic"]
    source = folder / metadata["tool"]["hatch"]["version"]["path"]
    assert source.resolve() == ROOT / "lossreg" / "__init__.py"


@pytest.mark.parametrize("folder", PLUGINS, ids=lambda folder: folder.name)
def test_a_plugin_has_the_addresses_and_classifiers_of_the_core(folder: Path):
    core, plugin = project(ROOT), project(folder)
    for field in ("urls", "classifiers", "requires-python", "license", "license-files", "authors"):
        assert plugin[field] == core[field], field
    assert (folder / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


def test_the_repository_has_one_address():
    """A maintainer who publishes replaces one text; the others are the same."""
    address = project(ROOT)["urls"]["Repository"]
    owner = address.split("/")[-2]
    found = set()
    for _, text in committed():
        found |= set(re.findall(r"https://github\.com/([\w-]+)/lossreg\b", text))
    assert found == {owner}
    owners = (ROOT / ".github" / "CODEOWNERS").read_text(encoding="utf-8")
    assert set(re.findall(r"@([\w-]+)", owners)) == {owner}


@pytest.mark.parametrize("folder", PLUGINS, ids=lambda folder: folder.name)
def test_a_plugin_takes_the_core_of_its_release_and_later_ones_of_the_minor_version(folder: Path):
    """It may use what is new in its release; the example uses public names alone, and takes older cores too."""
    (core,) = (r for r in map(Requirement, project(folder)["dependencies"]) if r.name == "lossreg")
    version = Version(lossreg.__version__)
    bounds = {one.operator: Version(one.version) for one in core.specifier}
    assert set(bounds) == {">=", "<"}
    assert bounds["<"] == Version(f"{version.major}.{version.minor + 1}")
    assert core.specifier.contains(version)
    if folder.name != "lossreg-example":
        assert bounds[">="] == version


def test_the_groups_for_contributors_are_what_tox_installs():
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"]
    tox = ConfigParser(interpolation=None)
    tox.read(ROOT / "tox.ini", encoding="utf-8")
    deps = {name: tox[section]["deps"].split() for name, section in (
        ("test", "testenv"), ("types", "testenv:types"), ("docs", "testenv:docs"), ("lint", "testenv:lint"),
        ("dist", "testenv:{dist,py312-dist,py313-dist}"),
    )}  # fmt: skip
    deps["lint"] += tox["testenv:contracts"]["deps"].split()
    deps["types"].remove("hatchling")  # for the build of the plugins
    deps["docs"].remove("{[testenv:plugins]deps}")
    assert {name: sorted(groups[name]) for name in deps} == {name: sorted(found) for name, found in deps.items()}


def test_what_contributors_install_is_pinned():
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"]
    named = [one for group in groups.values() for one in group if isinstance(one, str)]
    assert {canonicalize_name(Requirement(one).name) for one in named} - set(pins("tested.txt")) == set()


def test_the_hooks_of_a_commit_have_the_versions_of_lint():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0]["hooks"]
    wanted = [Requirement(one) for hook in hooks for one in hook["additional_dependencies"]]
    assert len(wanted) >= len(hooks)
    for requirement in wanted:
        (pin,) = pins("tested.txt")[canonicalize_name(requirement.name)]
        assert requirement.specifier == pin.specifier, requirement.name


def test_lint_checks_every_workflow():
    tox = (ROOT / "tox.ini").read_text(encoding="utf-8")
    for file in [*ROOT.glob(".github/workflows/*"), *ROOT.glob(".github/ISSUE_TEMPLATE/*")]:
        assert f" {file.relative_to(ROOT)}" in tox, f"the commands of tox's lint leave out {file.name}"


def test_ci_runs_what_readme_says():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = [line for block in re.findall(r"```bash\n(.*?)```", readme, re.DOTALL) for line in block.splitlines()]
    (test,) = (line for line in commands if "tox run" in line)
    assert test in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()


def test_no_file_speaks_of_a_machine():
    """An absolute path of a machine, or a folder beside the repository, means nothing to a reader."""
    folders = r"(?<![\w./$}<])/(?:home(?!/you/)|root|work|tmp|opt|mnt|Users)/\w"
    beside = r"(?:\.\./)+shared\b|(?<!\w)\.librar[y]\b"
    index = r"--(?:(?:extra-)?index-url(?! https://download\.pytorch\.org/)|find-links(?! dist\b)|trusted-host)"
    pattern = re.compile(f"{folders}|{beside}|{index}")
    found = []
    for path, text in committed():
        if path.suffix == ".svg" or path == Path(__file__):
            continue
        for number, line in enumerate(text.splitlines(), 1):
            if pattern.search(line):
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


@pytest.mark.parametrize(
    "file", [ROOT / "pyproject.toml", *ROOT.glob("plugins/*/pyproject.toml")], ids=lambda file: file.parent.name
)
def test_filters_of_warnings_import_nothing_of_ours(file: Path):
    """A filter by a class imports it when pytest starts, also where only built distributions are tested."""
    pytest_options = tomllib.loads(file.read_text(encoding="utf-8")).get("tool", {}).get("pytest", {})
    filters = pytest_options.get("ini_options", {}).get("filterwarnings", [])
    assert [one for one in filters if "lossreg." in one] == []
