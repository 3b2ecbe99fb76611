"""On two real processes with different data, every strategy ends with the same state on both."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

PROGRAM = Path(__file__).with_name("two_ranks.py")


@pytest.fixture
def ranks(driver, tmp_path):
    """Run the program on two ranks and return what each ended with."""
    store = tmp_path / "store"
    outs = [tmp_path / f"{rank}.pt" for rank in range(2)]
    processes = [
        subprocess.Popen(
            [sys.executable, PROGRAM, str(rank), store, driver.strategy, out],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for rank, out in enumerate(outs)
    ]  # fmt: skip
    for process in processes:
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0, output
    return [torch.load(out, weights_only=True) for out in outs]


def test_the_state_is_the_same_on_all_ranks(driver, ranks):
    first, second = ranks
    for moment in ("plain", "uneven"):
        for name, value in first[moment].items():
            assert torch.equal(second[moment][name], value), (moment, name)
            assert value.isfinite().all()

    # Where the state is made of values alone, it is that of one process on the means.
    both = np.random.default_rng(5).uniform(0.2, 3.0, size=(2, 12, 3))
    alone = driver.make()
    driver.run(alone, both.mean(0))
    if driver.strategy != "uncertainty":  # there each rank clips its own gradient in the driver
        for name, value in driver.state(alone).items():
            torch.testing.assert_close(first["plain"][name], value, rtol=1e-3, atol=1e-5)
