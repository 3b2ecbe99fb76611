"""Kill the demo at random moments by SIGKILL, resume it, and compare its end with that of an unbroken run.

    python tests/demo/kill_and_resume.py --stops 20

Each run is killed and resumed until it is through; the number of kills that struck is printed. Exits with 1
where metrics or parameters differ from those of the unbroken run in a single bit.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

_DEMO = [sys.executable, "-m", "lossreg.demo", "--scenes", "16", "--size", "32", "--epochs", "8", "--resume"]


def start(output: Path, arguments: list[str]) -> subprocess.Popen[str]:
    """Start the demo, and return when it begins to train."""
    process = subprocess.Popen(
        [*_DEMO, *arguments, "--output", str(output)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"},
    )
    assert process.stdout is not None
    process.stdout.readline()
    return process


def finish(output: Path, arguments: list[str]) -> float:
    """Run the demo to its end, and return for how many seconds it trained."""
    process = start(output, arguments)
    began = time.monotonic()
    process.communicate()
    if process.returncode != 0:
        raise SystemExit(f"the demo ended with {process.returncode}")
    return time.monotonic() - began


def kill(output: Path, arguments: list[str], after: float) -> bool:
    """Start the demo and kill it that many seconds into its training; return whether it was still running."""
    process = start(output, arguments)
    try:
        process.communicate(timeout=after)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return True
    return False


def same_end(one: Path, other: Path) -> bool:
    """Compare metrics, parameters, norms and the state of the weighting, bit for bit."""
    if (one / "metrics.csv").read_bytes() != (other / "metrics.csv").read_bytes():
        return False
    first, second = (torch.load(path / "checkpoint.pt", weights_only=True) for path in (one, other))
    return all(
        first[key].keys() == second[key].keys()
        and all(torch.equal(tensor, second[key][name]) for name, tensor in first[key].items())
        for key in ("network", "criterion")
    )


def main() -> None:
    """Kill and resume runs until as many kills as asked for have struck."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stops", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options, arguments = parser.parse_known_args()
    moments = random.Random(options.seed)
    struck = runs = 0
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "whole"
        seconds = finish(whole, arguments)
        while struck < options.stops:
            broken = Path(folder) / f"broken-{runs}"
            for _ in range(min(4, options.stops - struck)):
                struck += kill(broken, arguments, moments.uniform(0, seconds))
            finish(broken, arguments)
            runs += 1
            if not same_end(whole, broken):
                raise SystemExit(f"run {runs} ended differently after {struck} kills in all")
    sys.stdout.write(f"{struck} kills in {runs} runs: the same numbers each time\n")


if __name__ == "__main__":
    main()
