"""The kit in pytest: the option, the decorator, the suite, and the cost of the plugin for others."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest

import lossreg
from lossreg.cli.new import _template
from lossreg.errors import PluginError
from lossreg.testing import parametrize_losses, suite

SLOW = ("two_processes", "compiles", "device_follows", "no_host_read")
"""The checks that these tests leave out, since each starts a process: `test_planted_faults.py` runs all."""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Return a folder with an installed package of two losses, one sound and one with a planted fault."""
    return _package(tmp_path)


def _package(folder: Path) -> Path:
    metadata = folder / "stranger-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: stranger\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[lossreg.losses]\nSound = planted:Sound\nUnbiased = planted:Unbiased\n")
    (folder / "planted.py").write_text((Path(__file__).parent / "planted.py").read_text())
    return folder


WITH_THE_DECORATOR = """
from lossreg.testing import check_loss, parametrize_losses

@parametrize_losses(plugin='stranger')
def test_contract(loss):
    report = check_loss(loss)
    assert report.passed, report
"""

BY_HAND = """
import pytest
from lossreg.testing import check_loss

@pytest.fixture(scope='module')
def report():
    return check_loss('stranger/Unbiased')

def test_report(report):
    assert report.passed, report

def test_text(report):
    assert report.passed, str(report)

def test_nothing(report):
    assert report.passed
"""


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What one run of pytest says of the suite and of tests with and without the decorator."""
    package = _package(tmp_path_factory.mktemp("package"))
    (package / "conftest.py").write_text(
        "def pytest_collection_finish(session):\n"
        "    from lossreg.testing import contract\n"
        f"    for name in {SLOW}:\n"
        "        del contract.CHECKS[name]\n"
    )
    (package / "test_decorated.py").write_text(WITH_THE_DECORATOR)
    (package / "test_by_hand.py").write_text(BY_HAND)
    of_the_suite = ("--pyargs", "lossreg.testing.suite", "--lossreg-plugin", "stranger")
    done = run(package, "-rpf", *of_the_suite, "test_decorated.py", "test_by_hand.py")
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout


def outcomes(output: str, file: str) -> dict[str, str]:
    """Return the outcome of each test of a file, by its name."""
    found = re.findall(rf"^(PASSED|FAILED) {file}::(\S+)", output, re.MULTILINE)
    return {name: outcome for outcome, name in found}


OF_EACH_LOSS = {"test_contract[stranger/Sound]": "PASSED", "test_contract[stranger/Unbiased]": "FAILED"}


def run(package: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    code = f"import sys; sys.path.insert(0, {str(package)!r}); import pytest; sys.exit(pytest.main(sys.argv[1:]))"
    return subprocess.run(
        [sys.executable, "-c", code, "-p", "no:cacheprovider", "-q", *arguments],
        cwd=package, env=_environment(package), capture_output=True, text=True, check=False,
    )  # fmt: skip


def _environment(package: Path) -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(package), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path}


def test_the_suite_needs_no_code(output):
    file = r"(?:\S*suite\.py)?"  # pytest names no file outside of the folder where it runs
    assert outcomes(output, file) == OF_EACH_LOSS


def test_the_suite_without_a_plugin_says_what_to_give(package):
    done = run(package, "--pyargs", "lossreg.testing.suite")
    assert done.returncode != 0
    assert "expected a plugin, found none: add --lossreg-plugin" in done.stdout + done.stderr


def test_the_suite_for_what_is_not_installed_says_what_is():
    given = SimpleNamespace(config=SimpleNamespace(getoption={"--lossreg-plugin": ["strangers"]}.get))
    with pytest.raises(pytest.UsageError, match="no plugin 'strangers' is installed; installed are"):
        suite.pytest_generate_tests(given)


def test_the_decorator_makes_a_test_for_each_loss(output):
    assert outcomes(output, "test_decorated.py") == OF_EACH_LOSS


def test_the_decorator_for_what_is_not_installed_is_an_error():
    with pytest.raises(PluginError, match="no plugin 'nobody' is installed"):
        parametrize_losses(plugin="nobody")


@pytest.fixture
def beside_a_broken_one(package):
    """Return the folder of the package, with a plugin of another package that cannot be imported."""
    metadata = package / "another-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: another\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[lossreg]\nanother = not_there_at_all\n")
    return package


def test_a_broken_plugin_of_another_package_stops_no_tests(beside_a_broken_one):
    (beside_a_broken_one / "test_decorated.py").write_text(WITH_THE_DECORATOR)
    collect = ("-W", "error", "--collect-only")
    done = run(beside_a_broken_one, *collect, "test_decorated.py")
    assert done.returncode == 0, done.stdout + done.stderr
    done = run(beside_a_broken_one, *collect, "--pyargs", "lossreg.testing.suite", "--lossreg-plugin", "another")
    assert "plugin 'another' (another 1.0) cannot be used" in done.stdout + done.stderr


def test_the_filters_of_a_new_package_let_a_broken_plugin_of_another_be(beside_a_broken_one):
    (beside_a_broken_one / "test_scan.py").write_text(
        "import warnings, lossreg\n\ndef test_scan():\n    lossreg.list_losses()\n\n"
        "def test_other():\n    warnings.warn('another thing')\n"
    )
    options = tomllib.loads(_template("pyproject.toml"))["tool"]["pytest"]["ini_options"]
    filters = "\n".join(options["filterwarnings"])
    done = run(beside_a_broken_one, "-rpf", "-o", f"filterwarnings={filters}", "test_scan.py")
    assert outcomes(done.stdout, "test_scan.py") == {"test_scan": "PASSED", "test_other": "FAILED"}


def test_the_plugin_starts_without_torch(package, monkeypatch):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # other packages' may import what they like
    (package / "test_light.py").write_text(
        "import sys\n\ndef test_light():\n"
        "    assert 'lossreg.testing.pytest_plugin' in sys.modules\n"
        "    assert not {'torch', 'omegaconf', 'pydantic', 'lossreg.registry'} & set(sys.modules)\n"
    )
    done = run(package, "test_light.py", "-p", "lossreg.testing.pytest_plugin")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_kit_is_lazy():
    code = "import sys, lossreg.testing; assert not {'torch', 'pytest', 'hypothesis'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert {"check_loss", "parametrize_losses", "batches"} <= set(lossreg.testing.__all__) <= set(dir(lossreg.testing))


def test_a_failed_test_shows_the_whole_report(output):
    assert outcomes(output, "test_by_hand.py") == dict.fromkeys(("test_report", "test_text", "test_nothing"), "FAILED")
    shown = output.split("contract of stranger/Unbiased")[1:]
    assert len(shown) == 2 + 3  # of the suite and the decorator, and by hand
    for report in shown:
        assert "failed    one_pixel" in report
        assert (
            "for images of one pixel: expected a finite value, found nan. Divide by counts that cannot be zero"
            in report
        )
        assert "its spec does not declare this capability" in report
