"""All output of plugins goes to standard error, and standard output has only the command's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PRINTS = {
    "print": "print('noise')",
    "the stream that Python began with": "import sys; sys.__stdout__.write('noise')",
    "the file descriptor": "import os; os.write(1, b'noise')",
    "a child process": "import subprocess; subprocess.run(['echo', 'noise'], check=True)",
    "logging": "import logging, sys; logging.basicConfig(stream=sys.stdout); logging.error('noise')",
    "click": "import click; click.echo('noise')",
    "at the exit": "import atexit; atexit.register(print, 'noise')",
}


@pytest.fixture
def lossreg_command(tmp_path: Path):
    """Run the command in a new process that sees one plugin of this source, and return what it printed."""

    def run(source: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        info = tmp_path / "noisy-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: noisy\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[lossreg]\nnoisy = noisy_plugin\n")
        specs = "from lossreg import ScheduleSpec, hookimpl\n\n@hookimpl\ndef lossreg_schedules():\n"
        hook = "    return [ScheduleSpec('Loud', 'noisy_plugin:loud')]\n"
        (tmp_path / "noisy_plugin.py").write_text(f"{source}\n{specs}{hook}")
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("LOSSREG_")}
        return subprocess.run(
            [sys.executable, "-m", "lossreg", *arguments],
            env=inherited | {"PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


@pytest.mark.parametrize("way", PRINTS)
def test_what_a_plugin_prints_goes_to_standard_error(lossreg_command, way):
    done = lossreg_command(PRINTS[way], "list", "--kind", "schedule", "--json")
    assert done.returncode == 0, done.stderr
    assert "noisy/Loud" in {entry["name"] for entry in json.loads(done.stdout)}
    assert "noise" in done.stderr


def test_what_a_component_prints_in_its_work_goes_to_standard_error(lossreg_command, tmp_path):
    source = "def loud():\n    return lambda epoch: print('noise') or 1.0\n"
    file = tmp_path / "loss.yaml"
    file.write_text("losses: [{losses: [{loss: lines/MSELoss}], name: a, weight: {schedule: Loud}}]")
    (tmp_path / "lines-1.0.dist-info").mkdir()
    (tmp_path / "lines-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: lines\nVersion: 1.0\n")
    lines = "[lossreg.losses]\nMSELoss = torch.nn:MSELoss\n"
    (tmp_path / "lines-1.0.dist-info" / "entry_points.txt").write_text(lines)
    done = lossreg_command(source, "check", str(file), "--json")
    assert json.loads(done.stdout)["terms"][0]["weights"][0] == [0, 1.0], done.stderr
    assert "noise" in done.stderr


def test_help_goes_to_standard_output(lossreg_command):
    done = lossreg_command("", "list", "--help")
    assert "Usage: lossreg list" in done.stdout


def test_afterwards_standard_output_is_as_it_was(capfd):
    from lossreg.cli import main

    main(["list", "--kind", "schedule", "core/Cosine"], standalone_mode=False)
    os.write(1, b"after")
    assert capfd.readouterr().out.rstrip().endswith("after")
