"""A criterion inside or outside wrapped networks gives the numbers of one process with the joined batch."""

from __future__ import annotations

import pytest
import torch
import wrapped

SLOW = ("compiled ddp",)  # the criterion is compiled within a network in "ddp of a compiled network" too
NAMES = [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in (*wrapped.INSIDE, *wrapped.OUTSIDE)]


@pytest.fixture(
    scope="module",
    params=[w if w == "relobralo" else pytest.param(w, marks=pytest.mark.slow) for w in wrapped.WEIGHTINGS],
)
def weighting(request):
    return request.param


@pytest.fixture(scope="module")
def alone(weighting):
    """What one process ends with."""
    return wrapped.train("", weighting)


@pytest.fixture(scope="module")
def ranks(start):
    """Two ranks of their own: what they have compiled, no other test meets."""
    return start(2)


@pytest.mark.parametrize("name", NAMES)
def test_a_wrapped_network_trains_as_one_process_would(ranks, name, weighting, alone):
    if name.startswith("fsdp") and not hasattr(torch.cpu.Stream, "record_event"):
        pytest.skip("torch 2.6 shards no network on the CPU")
    first, second = ranks.run("train_wrapped", name=name, weighting=weighting)
    assert isinstance(first, dict), first
    assert first["norms"] == second["norms"] == pytest.approx(alone["norms"], rel=1e-6)
    assert first["weighting"] == second["weighting"]
    assert first["parameters"] == second["parameters"]
    assert first["weighting"].keys() == alone["weighting"].keys()
    for key, value in alone["weighting"].items():
        torch.testing.assert_close(torch.tensor(first["weighting"][key]), torch.tensor(value), rtol=1e-5, atol=1e-6)
    for found, expected in zip(first["parameters"], alone["parameters"], strict=True):
        torch.testing.assert_close(torch.tensor(found), torch.tensor(expected), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("lacks", wrapped.LACKS)
@pytest.mark.parametrize("name", ["ddp", "ddp that finds unused", "static ddp", "fsdp"])
def test_a_head_that_overflows_and_that_no_term_reads_harms_no_gradient(ranks, name, lacks):
    if name == "fsdp" and not hasattr(torch.cpu.Stream, "record_event"):
        pytest.skip("torch 2.6 shards no network on the CPU")
    first, second = ranks.run("train_heads", name=name, lacks=lacks)
    assert isinstance(first, list), first
    assert first == second
    for found, expected in zip(first, wrapped.heads_alone(lacks), strict=True):
        torch.testing.assert_close(torch.tensor(found), torch.tensor(expected), rtol=1e-5, atol=1e-6)
