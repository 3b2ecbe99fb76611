"""The package from `lossreg new` is built, installed from its wheel, and passes its tests."""

from __future__ import annotations

import subprocess
import sys
import zipfile

import pytest

from lossreg.cli.new import FILES

pytestmark = pytest.mark.needs_plugins


def test_the_wheel_has_the_template(wheels):
    names = set(zipfile.ZipFile(wheels["core"]).namelist())
    assert {name for name in names if "/template/" in name} == {f"lossreg/cli/template/{file}.txt" for file in FILES}


def test_a_new_package_works_as_it_is(wheels, new_environment, tmp_path):
    environment = new_environment(
        wheels["core"], wheels["example"]
    )  # beside the example, whose names it must not share
    command = [environment.python, "-m", "lossreg", "new", "my-losses", "--directory", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, cwd=environment.folder, check=False)
    assert done.returncode == 0, done.stderr
    package = tmp_path / "my-losses"
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path / "dist"]
    subprocess.run(command, cwd=package, check=True, capture_output=True)
    environment.install(*(tmp_path / "dist").glob("*.whl"))
    done = environment.run(
        """
        import sys, pytest
        sys.exit(pytest.main(["-p", "no:cacheprovider", "-q", "--rootdir", sys.argv[1], sys.argv[1]]))
        """,
        str(package),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout
    assert "skipped" not in done.stdout
