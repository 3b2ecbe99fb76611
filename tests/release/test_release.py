"""Build all distributions as a release does, and use them in a fresh environment without the source tree.

`tox run -e dist` runs this; the built files stay in `dist/`. pip takes the other packages from its index, so nothing
here is quick. `PIP_CONSTRAINT` pins them to the tested versions; the commands are those of the pages.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
from collections.abc import Callable
from email import message_from_string
from email.message import Message
from fnmatch import fnmatch
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
DIST = ROOT / "dist"
FOLDERS = {"lossreg": Path()} | {
    f"lossreg-{plugin}": Path("plugins") / f"lossreg-{plugin}"
    for plugin in ("seg", "crossfield", "wrappers", "example")
}
CONTENTS = tomllib.loads(Path(__file__).with_name("contents.toml").read_text(encoding="utf-8"))
BUILT = [(name, kind) for name in FOLDERS for kind in ("wheel", "sdist")]


def _run(*command: object, cwd: Path = ROOT, **environment: str) -> str:
    """Run a command and return its output; it must succeed and sees nothing of the source tree but `cwd`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "LOSSREG", "COV"))}
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=kept | environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}"
    return done.stdout


def _committed_at() -> str:
    return _run("git", "log", "-1", "--format=%ct").strip()


def _build(tree: Path, target: Path, **environment: str) -> None:
    """Build each distribution of a tree: the sdist from the tree, the wheel from the sdist."""
    for folder in FOLDERS.values():
        command = (sys.executable, "-m", "build", "--no-isolation", "--outdir", target, tree / folder)
        _run(*command, cwd=tree, SOURCE_DATE_EPOCH=_committed_at(), **environment)


@pytest.fixture(scope="module")
def dist() -> Path:
    """Return the folder with the built files."""
    shutil.rmtree(DIST, ignore_errors=True)
    _build(ROOT, DIST)
    return DIST


def _file(dist: Path, name: str, kind: str) -> Path:
    pattern = {"wheel": "-*-py3-none-any.whl", "sdist": "-*.tar.gz"}[kind]
    (file,) = dist.glob(name.replace("-", "_") + pattern)
    return file


def _names(file: Path) -> list[str]:
    """Return the files in an archive without the folders that bear the version."""
    if file.suffix == ".whl":
        return [re.sub(r"^[^/]+(?=\.dist-info/)", "", name) for name in ZipFile(file).namelist()]
    with tarfile.open(file) as archive:
        return [member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()]


def _metadata(dist: Path, name: str) -> Message:
    archive = ZipFile(_file(dist, name, "wheel"))
    (path,) = (path for path in archive.namelist() if path.endswith(".dist-info/METADATA"))
    return message_from_string(archive.read(path).decode())


# --- the files ------------------------------------------------------------------------------------


def test_there_are_ten_files_of_one_version(dist):
    assert len(list(dist.iterdir())) == 2 * len(FOLDERS)
    version = re.search(r'^__version__ = "(.+)"$', (ROOT / "lossreg" / "__init__.py").read_text(), re.MULTILINE)[1]
    assert {_metadata(dist, name)["Version"] for name in FOLDERS} == {version}
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"\n## [{version}]" in changes or "\n## [Unreleased]" in changes


def test_twine_finds_nothing(dist):
    assert "WARNING" not in _run(sys.executable, "-m", "twine", "check", "--strict", *sorted(dist.iterdir()))


@pytest.mark.parametrize(("name", "kind"), BUILT)
def test_a_file_has_what_the_list_says(dist, name, kind):
    names, patterns = _names(_file(dist, name, kind)), CONTENTS[name][kind]
    assert [one for one in names if not any(fnmatch(one, pattern) for pattern in patterns)] == []
    assert [pattern for pattern in patterns if not any(fnmatch(one, pattern) for one in names)] == []


def test_two_builds_are_equal_byte_for_byte(dist, tmp_path):
    """Another folder, time, umask, time zone and locale change nothing."""
    tree = tmp_path / "elsewhere"
    listed = _run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    for name in filter(None, listed):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_file():
            shutil.copyfile(ROOT / name, tree / name)
            (tree / name).chmod(0o600)
            os.utime(tree / name, (1e9, 1e9))
    again = tmp_path / "again"
    _build(tree, again, TZ="Pacific/Auckland", LC_ALL="C")
    digests = [
        {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}
        for folder in (dist, again)
    ]
    assert digests[0] == digests[1]


def test_the_packages_and_extras_that_the_pages_install_exist(dist):
    extras = {name: set(_metadata(dist, name).get_all("Provides-Extra", [])) for name in FOLDERS}
    pages = [ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("plugins/*/README.md")]
    asked = 0
    for page in pages:
        for line in re.findall(r"pip install ([^`\n&]+)", page.read_text(encoding="utf-8")):
            for word in re.findall(r"(?<![\w./-])lossreg[\w-]*(?:\[[\w,-]+\])?(?![\w./])", line):
                wanted = Requirement(word)
                assert wanted.extras <= extras[canonicalize_name(wanted.name)], (page.name, line)
                asked += 1
    assert asked > 10


# --- a fresh environment --------------------------------------------------------------------------


class Fresh:
    """An environment in which nothing but pip is installed, and a folder to work in."""

    def __init__(self, folder: Path, dist: Path) -> None:
        self.folder, self.work = folder / "environment", folder / "work"
        self.work.mkdir()
        venv.create(self.folder, symlinks=True, with_pip=True)
        (self.work / "dist").symlink_to(dist)
        self.environment = {
            "PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "PIP_CONSTRAINT": str(ROOT / "requirements" / "tested.txt"),
            "PIP_NO_COMPILE": "1",
        }

    def run(self, line: str) -> str:
        """Run one line of a shell as a user would, without the source tree in sight."""
        return _run("bash", "-c", line, cwd=self.work, **self.environment)

    def left(self) -> list[str]:
        """Return what is there of lossreg and its plugins."""
        return sorted(
            str(path.relative_to(self.folder)) for path in self.folder.rglob("*lossreg*") if "dist" not in path.parts
        )


@pytest.fixture(scope="module")
def fresh(
    dist: Path, tmp_path_factory: pytest.TempPathFactory, record_testsuite_property: Callable[[str, str], None]
) -> Fresh:
    """Return an environment with everything installed from the built files; its versions stand in the report."""
    made = Fresh(tmp_path_factory.mktemp("fresh"), dist)
    (line,) = re.findall(
        r"^pip install --find-links dist .+$", (ROOT / "docs" / "install.md").read_text(), re.MULTILINE
    )
    made.run(line)
    made.run('pip install --find-links dist "lossreg[demo,plot,testing]" lossreg-crossfield lossreg-example')
    installed = json.loads(made.run("pip list --format json"))
    record_testsuite_property("versions", json.dumps({one["name"].lower(): one["version"] for one in installed}))
    return made


def _block(language: str, number: int = 0) -> str:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", readme, re.DOTALL | re.MULTILINE)[number]


def test_the_built_files_are_what_is_installed(dist, fresh):
    for name in FOLDERS:
        record = ZipFile(_file(dist, name, "wheel"))
        for path in record.namelist():
            if ".dist-info/" not in path:
                (installed,) = fresh.folder.glob(f"lib/python*/site-packages/{path}")
                assert installed.read_bytes() == record.read(path), path
    assert str(ROOT) not in fresh.run("python -c 'import lossreg, sys; print(lossreg.__file__, sys.path)'")


def test_list_and_plugins(fresh):
    listed = fresh.run("lossreg list")
    for name in ("seg/SegLoss", "crossfield/CrossfieldAlignLoss", "torch/CrossEntropyLoss", "example/MaskedL1Loss"):
        assert f"\n{name} " in listed
    assert "skipped" not in fresh.run("lossreg plugins")


def test_the_file_and_the_lines_of_the_readme(fresh):
    (fresh.work / "loss.yaml").write_text(_block("yaml"))
    assert "crossfield_align" in fresh.run("lossreg check --build loss.yaml")
    (fresh.work / "ten_lines.py").write_text(_block("python"))
    fresh.run("python ten_lines.py")


def test_a_demo_of_three_epochs(fresh):
    fresh.run("lossreg demo --epochs 3 --scenes 16 --size 32 --output run")
    assert len((fresh.work / "run" / "metrics.csv").read_text().splitlines()) == 4
    assert (fresh.work / "run" / "terms.png").stat().st_size > 1000


def test_the_kit_passes_on_the_example(fresh, dist):
    # pytest caches what it compiles beside the suite, where pip knows nothing of it
    done = fresh.run("python -B -m pytest -q --pyargs lossreg.testing.suite --lossreg-plugin lossreg-example")
    assert re.search(r"\d+ passed", done)
    assert "failed" not in done
    with tarfile.open(_file(dist, "lossreg-example", "sdist")) as archive:
        archive.extractall(fresh.work, filter="data")
    (folder,) = fresh.work.glob("lossreg_example-*")
    assert re.search(r"\d+ passed", fresh.run(f"cd {folder.name} && python -B -m pytest -q tests"))


def test_uninstalling_leaves_nothing(fresh):
    """It stands last: nothing is installed after it."""
    assert fresh.left()
    fresh.run(f"pip uninstall --yes {' '.join(FOLDERS)}")
    assert fresh.left() == []
