"""Kill training runs at random moments, resume them, and compare with the run that nobody stopped.

    python tests/stress/resume.py --stops 20 --seed 0

A stop is a `SIGKILL` at a random step, at a random moment of it. A run is stopped several times, then let go to
its end. Equal means equal to the last bit: each total, term and norm of each step, and the last checkpoint with the
parameters, the norms and their counts, the states of the weighting, the optimizer and the random numbers.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

RUN = Path(__file__).with_name("run.py")
WEIGHTINGS = ("none", "relobralo", "dwa")
STOPS_A_RUN = 4


def start(folder, weighting):
    folder.mkdir(parents=True, exist_ok=True)
    return subprocess.Popen(
        [sys.executable, str(RUN), str(folder), weighting],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def lines(folder):
    """Return the whole lines of the log as step -> numbers; a step that was done twice must have come out the same."""
    found = {}
    text = (folder / "log.txt").read_text() if (folder / "log.txt").exists() else ""
    for line in text.splitlines(keepends=True):
        if line.endswith("\n") and line.count("0x") == 9:
            step, numbers = line.split(" ", 1)
            if found.setdefault(int(step), numbers) != numbers:
                raise AssertionError(f"{folder}: step {step} came out differently when it was done again")
    return found


def stop(folder, weighting, generator, last):
    """Start the run and kill it at a random moment; return the last step that it has done, or None if it had ended."""
    done = len(lines(folder))
    target = done + generator.randrange(0, max(last // (STOPS_A_RUN + 1), 2) + 1)
    process = start(folder, weighting)
    if generator.random() < 0.1:
        time.sleep(generator.uniform(0.0, 2.0))  # while it imports, builds or calibrates
    else:
        process.stdout.readline()
        while len(lines(folder)) < target and process.poll() is None:
            time.sleep(0.002)
        time.sleep(generator.uniform(0.0, 0.02))
    process.send_signal(signal.SIGKILL)
    process.stdout.close()
    return len(lines(folder)) if process.wait() == -signal.SIGKILL else None


def finish(folder, weighting):
    process = start(folder, weighting)
    process.communicate(timeout=300)
    assert process.returncode == 0, f"{folder}: ended with {process.returncode}"
    return lines(folder), torch.load(folder / "checkpoint.pt", weights_only=True)


def differences(whole, resumed):
    """Return the names of what differs between two checkpoints, at any depth."""
    if isinstance(whole, dict):
        keys = {*whole, *resumed}
        return [f"{k}.{d}" for k in sorted(keys, key=str) for d in differences(whole.get(k), resumed.get(k))]
    if isinstance(whole, list):
        return [f"{i}.{d}" for i, pair in enumerate(zip(whole, resumed, strict=True)) for d in differences(*pair)]
    equal = torch.equal(whole, resumed) if isinstance(whole, torch.Tensor) else whole == resumed
    return [] if equal else [""]


def compare(folder, weighting, stops, generator):
    """Run to the end once, and once with so many stops; return a line about each stop."""
    log, state = finish(folder / f"{weighting}-whole", weighting)
    place, stopped = folder / f"{weighting}-{generator.getrandbits(32):08x}", []
    while len(stopped) < stops:
        at = stop(place, weighting, generator, len(log))
        if at is None:  # it was too late: it had come to its end
            break
        stopped.append(at)
    again, resumed = finish(place, weighting)
    assert again.keys() == log.keys(), f"{place}: steps {sorted(log.keys() ^ again.keys())} are missing"
    wrong = [step for step in log if log[step] != again[step]]
    assert not wrong, f"{place}: step {wrong[0]} is {again[wrong[0]]}, uninterrupted {log[wrong[0]]}"
    assert not (found := differences(state, resumed)), f"{place}: {found} differ in the last checkpoint"
    return stopped


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stops", type=int, default=20)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    options = parser.parse_args()
    generator, done = random.Random(options.seed), 0
    print(f"seed {options.seed}")  # noqa: T201
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(1000):
            weighting = WEIGHTINGS[turn % len(WEIGHTINGS)]
            stopped = compare(Path(folder, str(turn)), weighting, min(STOPS_A_RUN, options.stops - done), generator)
            done += len(stopped)
            print(f"weighting {weighting}: killed after steps {stopped}, ended as the uninterrupted run")  # noqa: T201
            if done >= options.stops:
                break
    print(f"{done} stops, no difference")  # noqa: T201


if __name__ == "__main__":
    main()
