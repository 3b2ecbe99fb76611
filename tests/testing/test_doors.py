"""The kit in pytest: the option, the decorator, the suite, and the cost of the plugin for others."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import lossreg
from lossreg.errors import PluginError
from lossreg.testing import parametrize_losses

SLOW = ("two_processes", "compiles", "device_follows", "no_host_read")
"""The checks that these tests leave out, since each starts a process: `test_planted_faults.py` runs all."""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Return a folder with an installed package of two losses, one sound and one with a planted fault."""
    metadata = tmp_path / "stranger-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: stranger\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[lossreg.losses]\nSound = planted:Sound\nUnbiased = planted:Unbiased\n")
    (tmp_path / "planted.py").write_text((Path(__file__).parent / "planted.py").read_text())
    return tmp_path


@pytest.fixture
def checked(package: Path) -> Path:
    """Return the folder of the package, where pytest runs all but the slow checks."""
    (package / "conftest.py").write_text(
        "def pytest_collection_finish(session):\n"
        "    from lossreg.testing import engine\n"
        f"    for name in {SLOW}:\n"
        "        del engine.CHECKS[name]\n"
    )
    return package


def run(package: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    code = f"import sys; sys.path.insert(0, {str(package)!r}); import pytest; sys.exit(pytest.main(sys.argv[1:]))"
    return subprocess.run(
        [sys.executable, "-c", code, "-p", "no:cacheprovider", "-q", *arguments],
        cwd=package, env=_environment(package), capture_output=True, text=True, check=False,
    )  # fmt: skip


def _environment(package: Path) -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(package), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path}


def test_the_suite_needs_no_code(checked):
    done = run(checked, "--pyargs", "lossreg.testing.suite", "--lossreg-plugin", "stranger")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 failed, 1 passed" in done.stdout
    assert "test_contract[stranger/Unbiased]" in done.stdout
    assert "for images of one pixel: expected a finite value, found nan" in done.stdout


def test_the_suite_without_a_plugin_says_what_to_give(package):
    done = run(package, "--pyargs", "lossreg.testing.suite")
    assert done.returncode != 0
    assert "expected a plugin, found none: add --lossreg-plugin" in done.stdout + done.stderr


def test_the_suite_for_what_is_not_installed_says_what_is(package):
    done = run(package, "--pyargs", "lossreg.testing.suite", "--lossreg-plugin", "strangers")
    assert done.returncode != 0
    assert "no plugin 'strangers' is installed; installed are" in done.stdout + done.stderr


def test_the_decorator_makes_a_test_for_each_loss(checked):
    (checked / "test_mine.py").write_text(
        "from lossreg.testing import check_loss, parametrize_losses\n\n"
        "@parametrize_losses(plugin='stranger')\n"
        "def test_contract(loss):\n    report = check_loss(loss)\n    assert report.passed, report\n"
    )
    done = run(checked, "test_mine.py", "-vv")
    assert "test_contract[stranger/Sound] PASSED" in done.stdout
    assert "test_contract[stranger/Unbiased] FAILED" in done.stdout


def test_the_decorator_for_what_is_not_installed_is_an_error():
    with pytest.raises(PluginError, match="no plugin 'nobody' is installed"):
        parametrize_losses(plugin="nobody")


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


def test_a_failed_test_shows_the_whole_report(checked):
    assertions = ("report.passed, report", "report.passed, str(report)", "report.passed")
    (checked / "test_mine.py").write_text(
        "import pytest\nfrom lossreg.testing import check_loss\n\n"
        "@pytest.fixture(scope='module')\ndef report():\n    return check_loss('stranger/Unbiased')\n\n"
        + "".join(f"def test_{k}(report):\n    assert {text}\n\n" for k, text in enumerate(assertions))
    )
    done = run(checked, "test_mine.py")
    shown = done.stdout.split("contract of stranger/Unbiased")[1:]
    assert len(shown) == len(assertions)
    for report in shown:
        assert "failed    one_pixel" in report
        assert (
            "for images of one pixel: expected a finite value, found nan. Divide by counts that cannot be zero"
            in report
        )
        assert "its spec does not declare this capability" in report
