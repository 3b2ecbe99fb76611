"""`--import MODULE` imports a module, and the command knows the losses that it registers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import Result

SCRIPT = """
import lossreg

@lossreg.register("ScriptLoss", aliases=("script",), summary="from a script")
def script(prediction, target, power: float = 2.0):
    return (prediction - target).abs().pow(power).mean()
"""
CONFIG = "losses: [{loss: script, power: 3.0, weight: 2.0}]\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a module of losses and a file that names one of them."""
    (tmp_path / "mylosses.py").write_text(SCRIPT)
    (tmp_path / "loss.yaml").write_text(CONFIG)
    return tmp_path


@pytest.fixture
def call(folder: Path, run, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Result]]:
    """Run the command in this process, which finds the modules of the folder."""
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    yield run
    for file in folder.glob("*.py"):
        sys.modules.pop(file.stem, None)


@pytest.fixture
def script(folder: Path):
    """Run the command like a script, without the current directory on the path."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        dropped = ("LOSSREG_", "PYTHONSAFEPATH")  # the latter is tox's
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(dropped)}
        code = "import sys; sys.path[:] = [p for p in sys.path if p]; from lossreg.cli import main; main()"
        return subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=folder,
            env=inherited | environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


def test_without_it_the_loss_is_unknown(call):
    done = call("check", "loss.yaml")
    assert done.exit_code == 1
    assert "no loss is named 'script'" in done.stdout


@pytest.mark.parametrize(
    ("command", "found"),
    [
        (("check", "loss.yaml"), "ok, 1 term"),
        (("check", "loss.yaml", "--build"), "ok, 1 term"),
        (("list", "local/*"), "local/ScriptLoss"),
        (("show", "script"), "from a script"),
        (("plot", "loss.yaml"), "script"),
        (("graph", "loss.yaml"), "local/ScriptLoss"),
        (("schema",), "local/ScriptLoss"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else None,
)
def test_each_command_that_looks_names_up_takes_it(call, command, found):
    done = call(*command, "--import", "mylosses")
    assert done.exit_code == 0, done.output
    assert found in done.stdout


def test_a_file_cannot_import(call, folder):
    (folder / "loss.yaml").write_text("import: mylosses\n" + CONFIG)
    assert call("check", "loss.yaml").exit_code == 1


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("1/0", "'bad' cannot be imported: ZeroDivisionError: division by zero"),
        (
            "import sys; sys.exit(0)",
            "PluginError: while importing bad: it called sys.exit(0)",
        ),
        ("class P(BaseException): pass\nraise P('panic')", "while importing bad: P: panic"),
        ("import nowhere", "'bad' cannot be imported: ModuleNotFoundError: No module named 'nowhere'"),
        ("raise RuntimeError('a\\nb')", "'bad' cannot be imported: RuntimeError: a b"),
    ],
)
def test_a_module_that_fails_is_one_line(call, folder, source, message):
    (folder / "bad.py").write_text(source)
    done = call("list", "--import", "bad")
    assert done.exit_code == 2
    assert done.stderr.splitlines()[-1].endswith(message)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["mylosses.py", "./mylosses.py", "no module", ""])
def test_what_is_no_module_name_is_told(call, name):
    done = call("list", "--import", name)
    assert done.exit_code == 2
    assert "expected the name of a module, such as my" in done.stderr


def test_a_module_that_registers_nothing_is_told(call, folder):
    (folder / "quiet.py").write_text("")
    done = call("list", "--kind", "schedule", "--import", "quiet")
    assert done.exit_code == 0
    assert "--import quiet: the module registers nothing" in done.stderr


def test_what_the_module_prints_is_no_part_of_the_output(script, folder):
    (folder / "mylosses.py").write_text("print('noise')\n" + SCRIPT)
    done = script("list", "local/*", "--json", "--import", "mylosses")
    assert [entry["name"] for entry in json.loads(done.stdout)] == ["local/ScriptLoss"]
    assert "noise" in done.stderr


def test_the_current_directory_comes_first_for_the_module_and_last_for_all_else(script, folder):
    (folder / "mylosses.py").write_text("import neighbour\n" + SCRIPT)
    (folder / "neighbour.py").write_text("")
    (folder / "rich.py").write_text("raise RuntimeError('hidden')")  # which a table needs
    done = script("list", "local/*", "--import", "mylosses")
    assert done.returncode == 0, done.stderr
    assert "local/ScriptLoss" in done.stdout


def test_a_safe_path_stays_safe(script):
    done = script("list", "--import", "mylosses", PYTHONSAFEPATH="1")
    assert done.returncode == 2
    assert "No module named 'mylosses'" in done.stderr
