"""The whole command: help, exit codes, and output without styles outside a terminal."""

import os
import pty
import subprocess
import sys

import pytest

import lossreg

COMMANDS = ["list", "show", "plugins", "env", "check", "plot", "graph", "card"]


def test_help_lists_every_command(run):
    result = run("--help")
    assert result.exit_code == 0
    assert all(f"\n  {command} " in result.stdout for command in [*COMMANDS, "demo"])


@pytest.mark.parametrize("command", [*COMMANDS, "demo"])
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_every_command_has_help_with_an_example(run, command, flag):
    result = run(command, flag)
    assert result.exit_code == 0
    assert f"Example: lossreg {command}" in result.stdout


def test_the_version(run):
    assert run("--version").stdout == f"lossreg, version {lossreg.__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("chekc",),
        ("list", "--kind", "optimizer"),
        ("show", "a", "b"),
        ("show",),
        ("check",),
        ("check", "absent.yaml"),
        ("check", "."),
        ("plot", "absent.yaml"),
        ("plot", "absent.yaml", "--epochs", "0"),
        ("graph", "absent.yaml", "--format", "pdf"),
    ],
)
def test_misuse_exits_with_2_and_says_so_on_standard_error(run, arguments):
    result = run(*arguments)
    assert result.exit_code == 2
    assert "Error: " in result.stderr
    assert result.stdout == ""


def test_python_dash_m_is_the_same_command():
    done = subprocess.run([sys.executable, "-m", "lossreg", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"lossreg, version {lossreg.__version__}\n"


LIST = [sys.executable, "-m", "lossreg", "list", "--kind", "weighting"]


def environment(**extra):
    kept = {k: v for k, v in os.environ.items() if k not in ("FORCE_COLOR", "NO_COLOR", "TERM", "COLUMNS")}
    return {**kept, "LOSSREG_DISABLE_AUTOLOAD": "1", "TERM": "xterm", **extra}


def through_a_terminal(**extra):
    ours, theirs = pty.openpty()
    with subprocess.Popen(LIST, stdout=theirs, stderr=theirs, env=environment(**extra)) as process:
        os.close(theirs)
        text = b""
        try:
            while chunk := os.read(ours, 4096):
                text += chunk
        except OSError:  # the other end is closed
            pass
    os.close(ours)
    assert process.returncode == 0
    return text.decode().replace("\r\n", "\n")


def test_a_pipe_gets_one_plain_line_a_row():
    done = subprocess.run(LIST, capture_output=True, text=True, check=True, env=environment(COLUMNS="40"))
    rows = [line for line in done.stdout.splitlines() if line.startswith("core/")]
    assert "\x1b" not in done.stdout
    assert not any(line != line.rstrip() for line in done.stdout.splitlines())
    assert len(rows) == 8
    assert any("dynamic weight average of epoch means (Liu et al., 2019)" in row for row in rows)


def test_a_terminal_gets_colour_and_its_own_width():
    shown = through_a_terminal(COLUMNS="60")
    assert "\x1b[1m" in shown
    plain = shown.replace("\x1b[1m", "").replace("\x1b[0m", "")
    assert max(map(len, plain.splitlines())) <= 60
    assert plain.count("core/") == 8


def test_no_color_is_obeyed():
    assert "\x1b[3" not in through_a_terminal(NO_COLOR="1")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_any_encoding_of_the_output_is_survived(tmp_path, encoding):
    file = tmp_path / "config.yaml"
    file.write_text("losses: [{loss: é☃}]\n", encoding="utf-8")
    command = [sys.executable, "-m", "lossreg", "check", str(file)]
    done = subprocess.run(command, capture_output=True, check=False, env=environment(PYTHONIOENCODING=encoding))
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr
    assert b"losses[0].loss" in done.stdout


def test_a_reader_that_goes_away_is_no_traceback():
    command = f"{' '.join(LIST)} | true"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False, env=environment())
    assert "Traceback" not in done.stderr
