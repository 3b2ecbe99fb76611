"""The processes of a run: one, or those that torchrun started."""

from __future__ import annotations

import pytest
import torch.distributed as dist

from lossreg.demo.distributed import process_group, rank, world_size

pytestmark = pytest.mark.needs_plugins  # the extra `demo`, without which nothing here is collected


def test_one_process_joins_no_group(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with process_group():
        assert not dist.is_initialized()
        assert (rank(), world_size()) == (0, 1)
