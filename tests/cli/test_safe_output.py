"""Output of commands: escapes, styles, closed pipes, full disks, and files that are read once."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

EVIL = r"\e]0;title\a\e[2J\u202e"
BAD = f'losses: [{{loss: "{EVIL}", "{EVIL}": 1, name: "{EVIL}"}}, {{losses: {{"{EVIL}": "{EVIL}"}}}}]\n'
LOSSREG = f"{sys.executable} -m lossreg"


def environment(**extra: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k not in ("FORCE_COLOR", "NO_COLOR", "TERM", "COLUMNS")}
    return {**kept, "LOSSREG_DISABLE_AUTOLOAD": "1", "TERM": "xterm", **extra}


def shell(command: str, folder: Path, **extra: str) -> subprocess.CompletedProcess[str]:
    """Run a line of bash, whose exit code is that of the first command of a pipe that fails."""
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", command.replace("lossreg", LOSSREG, 1)],
        cwd=folder,
        env=environment(**extra),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "bad.yaml").write_text(BAD)
    return tmp_path


def is_safe(text: str) -> bool:
    return all(char.isprintable() or char == "\n" for char in text)


# --- where the output cannot be written -----------------------------------------------------------


@pytest.mark.parametrize(
    "command", ["lossreg list --kind schedule", "lossreg schema", "lossreg check --help", "lossreg -h"]
)
def test_a_reader_that_goes_away_changes_nothing(command: str, folder: Path) -> None:
    done = shell(f"{command} | true", folder)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_reader_that_goes_away_hides_no_mistake(folder: Path) -> None:
    done = shell("lossreg check bad.yaml | true", folder)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize(
    "command", ["list --kind schedule", "schema", "--help", "check bad.yaml", "check --json bad.yaml"]
)
def test_a_full_disk_is_one_line(command: str, folder: Path) -> None:
    done = shell(f"lossreg {command} > /dev/full", folder)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "No space left on device" in done.stderr


@pytest.mark.parametrize("place", ["/dev/full", "/proc/a.json", "none/a.json"])
def test_a_file_that_cannot_be_written_is_one_line(place: str, folder: Path) -> None:
    done = shell(f"lossreg schema -o {place}", folder)
    assert done.returncode == 1
    assert done.stderr.startswith(f"Error: {place}: cannot be written: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "command",
    ["list --kind schedule >&-", "plot good.yaml --import plain >&-", "plot good.yaml --import plain 2>&- > /dev/null"],
)
def test_without_an_output_nothing_is_said(command: str, folder: Path) -> None:
    (folder / "plain.py").write_text("import lossreg\nlossreg.register('Plain')(lambda pred, gt: pred)\n")
    (folder / "good.yaml").write_text("losses: [Plain]")
    done = shell(f"lossreg {command}", folder, PYTHONPATH=str(folder))
    assert (done.returncode, done.stderr) == (0, "")


# --- what a terminal gets -------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["check", "check --json", "check --build", "plot", "graph", "card"])
def test_what_a_file_says_is_escaped(command: str, folder: Path, run: Callable[..., Result]) -> None:
    result = run(*command.split(), folder / "bad.yaml")
    assert result.exit_code == 1
    assert is_safe(result.stdout + result.stderr)
    assert r"\u202e" in result.stdout


def test_json_is_json_and_says_what_the_file_says(folder: Path, run: Callable[..., Result]) -> None:
    errors = json.loads(run("check", "--json", folder / "bad.yaml").stdout)["errors"]
    assert any("\x1b[2J\u202e" in error["path"] for error in errors)


def test_the_name_of_a_file_is_escaped(folder: Path, run: Callable[..., Result]) -> None:
    file = folder / "a\x1b[2J\u202e\nb.yaml"
    (folder / "bad.yaml").rename(file)
    result = run("check", file)
    assert is_safe(result.stdout)
    assert r"a\x1b[2J\u202e\nb.yaml:1:" in result.stdout


def test_an_argument_that_is_wrong_is_escaped(run: Callable[..., Result]) -> None:
    for arguments in (["\x1b[2J"], ["check", "\x1b[2J"], ["--\x1b[2J"], ["list", "\x1b[2J"], ["show", "a\x1b[2J"]):
        result = run(*arguments)
        assert result.exit_code
        assert is_safe(result.stderr)


def through_a_terminal(*arguments: str, folder: Path, **extra: str) -> str:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "lossreg", *arguments]
    with subprocess.Popen(command, cwd=folder, stdout=theirs, stderr=theirs, env=environment(**extra)):
        os.close(theirs)
        text = b""
        try:
            while chunk := os.read(ours, 4096):
                text += chunk
        except OSError:  # the other end is closed
            pass
    os.close(ours)
    return text.decode()


@pytest.mark.parametrize("arguments", [("check", "bad.yaml"), ("list", "--kind", "schedule"), ("show", "cosine")])
@pytest.mark.parametrize("extra", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_who_wants_no_styles_gets_none(arguments: tuple[str, ...], extra: dict[str, str], folder: Path) -> None:
    assert "\x1b" not in through_a_terminal(*arguments, folder=folder, **extra)


@pytest.mark.parametrize("arguments", [("check", "bad.yaml"), ("list", "--kind", "schedule"), ("show", "cosine")])
def test_a_terminal_gets_styles(arguments: tuple[str, ...], folder: Path) -> None:
    assert "\x1b[1m" in through_a_terminal(*arguments, folder=folder)


@pytest.mark.parametrize("arguments", ["check bad.yaml", "list --kind schedule"])
def test_a_pipe_gets_styles_if_it_asks_for_them(arguments: str, folder: Path) -> None:
    assert "\x1b[1m" not in shell(f"lossreg {arguments}", folder).stdout
    assert "\x1b[1m" in shell(f"lossreg {arguments}", folder, FORCE_COLOR="1").stdout


# --- files that are no files ----------------------------------------------------------------------


def test_a_pipe_is_read_once(folder: Path, run: Callable[..., Result]) -> None:
    pipe = folder / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_text("losses: [Plian]\n"), daemon=True)
    writer.start()
    result = run("check", pipe)
    writer.join(timeout=30)
    assert result.exit_code == 1
    assert f"{pipe}:1:10: losses[0]" in result.stdout
    assert "  1 | losses: [Plian]" in result.stdout


@pytest.mark.parametrize(("file", "name"), [("-", "<stdin>"), ("/dev/stdin", "/dev/stdin")])
def test_standard_input_is_a_file(file: str, name: str, folder: Path) -> None:
    done = shell(f"lossreg check {file} < bad.yaml", folder)
    assert done.returncode == 1
    assert done.stdout.startswith(f"{name}:1:")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a: \xe9", "byte 4 is not UTF-8; save the file as UTF-8"),
        ("losses: []".encode("utf-16"), "byte 1 is not UTF-8; save the file as UTF-8"),
        (b"\x00", "special characters are not allowed"),
        (b"", "no loss is configured"),
        (b"a" * 300_000, "is longer than 262,144 bytes"),
    ],
)
def test_what_is_no_text_is_said(content: bytes, said: str, folder: Path, run: Callable[..., Any]) -> None:
    (folder / "a.yaml").write_bytes(content)
    result = run("check", folder / "a.yaml")
    assert result.exit_code == 1
    assert said in result.stdout


def test_a_byte_order_mark_is_none_of_the_text(folder: Path, run: Callable[..., Any]) -> None:
    (folder / "a.yaml").write_bytes(b"\xef\xbb\xbflosses: [height]")
    assert "losses[0].scale" in run("check", folder / "a.yaml").stdout


def test_a_folder_is_no_file(folder: Path, run: Callable[..., Any]) -> None:
    result = run("check", folder)
    assert result.exit_code == 2
    assert "is a directory" in result.stderr


def test_a_file_that_vanishes_is_said(folder: Path, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("click.Path.convert", lambda *_: str(folder / "gone.yaml"))
    result = run("check", "gone.yaml")
    assert result.exit_code == 1
    assert result.stderr == f"Error: {folder}/gone.yaml: cannot be read: No such file or directory\n"
