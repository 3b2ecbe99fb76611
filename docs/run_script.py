"""Run the commands of the pages in processes that have imported torch, which takes longer than most of them."""

from __future__ import annotations

import multiprocessing
import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["hydra", "torch", "torch.utils.data", "lossreg", "lossreg.composition.multiloss"])
COMMAND = re.compile(
    r"(?:python (?=\S+\.py)|(?=lossreg ))(?P<script>[^;&<>|]+?)"
    r"(?: 2>(?:(?P<both>&1)|(?P<file>\S+)))?(?: \| (?P<rest>.+))?"
)


def run_command(command: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a line of a shell as a reader does; where it begins with `python SCRIPT.py` or `lossreg`, that in a fork."""
    found = COMMAND.fullmatch(command)
    if not found:
        return _shell(command, env)
    arguments = shlex.split(found["script"])
    shown = arguments[0] == "lossreg" and not found["rest"] and not found["both"]
    with TemporaryDirectory() as folder, _terminal() if shown else _file(Path(folder, "out")) as (out, read):
        err = Path(folder, "err")
        told = out if found["both"] else Path(found["file"] or err)
        process = PROCESSES.Process(target=_run, args=(arguments, Path.cwd(), env, out, told))
        process.start()
        process.join(300)
        process.kill()  # where it has not ended
        process.join()
        printed = read()
        errors = err.read_text(encoding="utf-8") if told == err else ""
    if not found["rest"]:
        return subprocess.CompletedProcess(command, process.exitcode, printed, errors)
    done = _shell(found["rest"], env, printed)
    return subprocess.CompletedProcess(command, done.returncode, done.stdout, errors + done.stderr)


@contextmanager
def _file(path: Path) -> Iterator[tuple[Path, Callable[[], str]]]:
    """Yield a file to write to and what reads it."""
    yield path, lambda: path.read_text(encoding="utf-8")


@contextmanager
def _terminal() -> Iterator[tuple[Path, Callable[[], str]]]:
    """Yield a terminal to write to and what reads it when all is written: commands fit their tables to a terminal."""
    ours, theirs = os.openpty()
    parts: list[bytes] = []

    def collect() -> None:
        with suppress(OSError):  # the other end is closed
            while part := os.read(ours, 4096):
                parts.append(part)

    reader = Thread(target=collect)
    reader.start()

    def read() -> str:
        os.close(theirs)
        reader.join()
        return b"".join(parts).decode().replace("\r\n", "\n")

    yield Path(os.ttyname(theirs)), read
    os.close(ours)


def _shell(command: str, env: dict[str, str], printed: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, shell=True, input=printed, capture_output=True, text=True, timeout=300, env=env)


def _run(arguments: list[str], folder: Path, env: dict[str, str], out: Path, err: Path) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(env)
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    # Anew, since those of this process know whether the file that they were opened on can seek.
    sys.stdout, sys.stderr = (open(number, "w", encoding="utf-8", closefd=False) for number in (1, 2))  # noqa: SIM115
    sys.argv, sys.path = arguments, [str(folder), *sys.path]
    if arguments[0] == "lossreg":
        runpy.run_module("lossreg", run_name="__main__")
    else:
        runpy.run_path(arguments[0], run_name="__main__")
