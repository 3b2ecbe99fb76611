"""A criterion inside or outside wrapped networks gives the numbers of one process with the joined batch."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).with_name("wrapped.py")


def load():
    spec = importlib.util.spec_from_file_location("lossreg_tests_wrapped", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


wrapped = load()


@pytest.fixture(
    scope="module",
    params=[w if w == "relobralo" else pytest.param(w, marks=pytest.mark.slow) for w in wrapped.WEIGHTINGS],
)
def weighting(request):
    return request.param


@pytest.fixture(scope="module")
def ranks(tmp_path_factory, weighting):
    """What two processes ended with, for each wrapping."""
    folder = tmp_path_factory.mktemp("wrapped")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(
        [*command, str(SCRIPT), str(folder), weighting], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-5000:]
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize("name", [*wrapped.INSIDE, *wrapped.OUTSIDE])
def test_a_wrapped_network_trains_as_one_process_would(ranks, name, weighting):
    first, second = (rank[name] for rank in ranks)
    alone = wrapped.train("", weighting)
    assert first["norms"] == second["norms"] == pytest.approx(alone["norms"], rel=1e-6)
    assert first["weighting"] == second["weighting"]
    assert first["parameters"] == second["parameters"]
    assert first["weighting"].keys() == alone["weighting"].keys()
    for key, value in alone["weighting"].items():
        torch.testing.assert_close(torch.tensor(first["weighting"][key]), torch.tensor(value), rtol=1e-5, atol=1e-6)
    for found, expected in zip(first["parameters"], alone["parameters"], strict=True):
        torch.testing.assert_close(torch.tensor(found), torch.tensor(expected), rtol=1e-5, atol=1e-6)
