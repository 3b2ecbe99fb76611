"""The stand-in counts what a device would be asked for, and computes what the CPU computes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from standin import counting
from torch import Tensor


def _dice(p: Tensor, t: Tensor) -> Tensor:
    sums = p.sum((2, 3)) + t.sum((2, 3))
    return (1 - (2 * (p * t).sum((2, 3)) + 1) / (sums + 1)).mean()


def test_it_counts_the_launches_and_bytes_of_a_textbook_loss(device: torch.device) -> None:
    values = torch.randn(4, 3, 16, 16).to(device)
    target = (values > 0.5).float()
    p = values.sigmoid().requires_grad_()
    with counting() as counts:
        F.binary_cross_entropy(p, target).backward()
    assert set(counts.by_name) == {"aten::binary_cross_entropy", "aten::binary_cross_entropy_backward", "aten::fill_"}
    plane, number = 4 * 3 * 16 * 16 * 4, 4
    # reads two planes and writes a number; reads two planes and a number and writes one plane; fills a number
    assert (counts.launches, counts.bytes) == (3, (2 * plane + number) + (3 * plane + number) + number)


@pytest.mark.parametrize("times", [1, 3])
def test_values_and_gradients_are_those_of_the_cpu(device: torch.device, times: int) -> None:
    torch.manual_seed(times)
    here = torch.randn(2, 3, 8, 8, requires_grad=True)
    there = here.detach().to(device).requires_grad_()
    for x in (here, there):
        for _ in range(times):
            convolved = F.conv2d(x, torch.ones(4, 3, 3, 3, device=x.device), padding=1)
            (_dice(convolved.sigmoid(), (convolved > 0).to(x)) + convolved.std(0).log1p().amax()).backward()
    assert here.grad is not None
    assert there.grad is not None
    torch.testing.assert_close(there.grad.cpu(), here.grad)


def test_views_and_allocations_are_no_launches(device: torch.device) -> None:
    x = torch.ones(4, 4).to(device)
    with counting() as counts:
        x[1:].unsqueeze(0).expand(3, -1, -1).transpose(0, 1).detach()
        torch.empty_like(x)
    assert counts.launches == 0


def test_an_expanded_tensor_is_read_once(device: torch.device) -> None:
    x, row = torch.ones(64, 8).to(device), torch.ones(8).to(device)
    with counting() as counts:
        torch.add(x, row, out=x)
    assert counts.bytes == (64 * 8 * 2 + 8) * 4


def test_an_operation_in_place_reads_and_writes_and_a_fill_only_writes(device: torch.device) -> None:
    x = torch.ones(8).to(device)
    with counting() as counts:
        x.mul_(2)
    assert counts.bytes == 2 * 32
    with counting() as counts:
        x.zero_()
    assert counts.bytes == 32


def test_a_list_of_one_dtype_is_copied_in_one_launch(device: torch.device) -> None:
    to = [torch.zeros(2).to(device) for _ in range(3)]
    for source, launches in ((torch.ones(2), 1), (torch.ones(2, dtype=torch.float64), 3)):
        from_ = [source.to(device) for _ in to]
        with counting() as counts:
            torch._foreach_copy_(to, from_)
        assert counts.launches == launches
        assert all(tensor.sum().item() == 2 for tensor in to)


def test_it_counts_what_the_host_waits_for(device: torch.device) -> None:
    x = torch.arange(4.0).to(device)
    with counting() as counts:
        float(x.sum())
        bool((x > 0).all())
        x.nonzero()
        torch.equal(x, x)
        x[x > 1]
    assert counts.host_reads == 5
    with counting() as counts:
        torch.tensor([1.0, 2.0], device=device)
        x.cpu()
        torch.ones(2).to(device, non_blocking=True)
    assert (counts.copies, counts.blocking_copies) == (3, 2)


def test_it_refuses_to_mix_its_tensors_with_those_of_the_host(device: torch.device) -> None:
    x = torch.ones(4).to(device)
    torch.testing.assert_close((x + torch.tensor(2.0)).cpu(), torch.full((4,), 3.0))
    with pytest.raises(RuntimeError, match="device"):
        x + torch.ones(4)
    with pytest.raises(RuntimeError, match="device"):
        torch.stack([x.sum(), torch.tensor(1.0)])


def test_it_tells_the_peak_of_its_memory(device: torch.device) -> None:
    x = torch.ones(1024).to(device)
    with counting() as counts:
        x.exp().log()
    assert counts.peak == 2 * 4096
