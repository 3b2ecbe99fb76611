"""Drive every strategy on one of two ranks, and write what each ends with."""

import sys
from importlib import util
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

from lossreg.errors import WeightingError


def conftest():
    """Load the conftest beside this file."""
    spec = util.spec_from_file_location("weighting_conftest", Path(__file__).with_name("conftest.py"))
    module = util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def run(driver, rank):
    """Return the state after an even run, and after one in which the ranks have different terms."""
    mine = np.random.default_rng(5).uniform(0.2, 3.0, size=(2, 12, 3))[rank]
    weighting = driver.make()
    driver.run(weighting, mine)
    even = driver.state(weighting)

    for t, active in enumerate([[[0, 1, 2], [0, 2]], [[1], []]]):
        driver.step(weighting, mine[t, active[rank]], 12 + t, active=active[rank])
    driver.run(weighting, mine[2:5], start=14)

    refused = None
    try:
        driver.step(weighting, [0.5, [-7.68, 0.3][rank], 0.2], 17)
    except WeightingError as error:
        refused = str(error)

    weighting.eval()
    if rank == 0:  # validation on one rank alone must not wait for the other
        driver.step(weighting, mine[0], 18)
    return {"even": even, "uneven": driver.state(weighting), "refused": refused}


def main(folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank, shared = dist.get_rank(), conftest()
    torch.save({name: run(shared.Driver(name), rank) for name in shared.STRATEGIES}, folder / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()
