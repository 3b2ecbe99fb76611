"""Drive one strategy on one of two ranks, and write what it ends with: RANK STORE STRATEGY OUT."""

import sys
from importlib import util
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist


def driver_of(strategy):
    """Load the driver from the conftest beside this file."""
    spec = util.spec_from_file_location("weighting_conftest", Path(__file__).with_name("conftest.py"))
    module = util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module.Driver(strategy)


def main(rank, store, strategy, out):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=int(rank), world_size=2)
    driver = driver_of(strategy)
    both = np.random.default_rng(5).uniform(0.2, 3.0, size=(2, 12, 3))  # a run for each rank
    weighting = driver.make()
    driver.run(weighting, both[int(rank)])
    plain = driver.state(weighting)

    # A term that one rank lacks, then a step at which it has no term at all.
    few = {"0": [0, 1, 2], "1": [0, 2]}[rank]
    driver.step(weighting, both[int(rank), 0, few], 12, active=few)
    few = {"0": [1], "1": []}[rank]
    driver.step(weighting, both[int(rank), 1, few], 13, active=few)
    driver.run(weighting, both[int(rank), 2:5], start=14)

    weighting.eval()
    if rank == "0":  # validation on one rank alone must not wait for the other
        driver.step(weighting, both[0, 0], 18)
    dist.barrier()
    torch.save({"plain": plain, "uneven": driver.state(weighting)}, out)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
