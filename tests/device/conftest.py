"""Tests on a stand-in for an accelerator; see `standin.py`. It is built for these alone: `pytest tests/device`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

import standin


@pytest.fixture(scope="session", autouse=True)
def device() -> torch.device:
    """Return the device, built on first use."""
    lacking = standin.missing()
    if lacking is not None:
        pytest.skip(f"the stand-in device {lacking}")
    standin.build()
    return torch.device(standin.NAME)


@pytest.fixture
def counts_of() -> Callable[..., standin.Counts]:
    """Return a function that counts what a second call of a function asks the device for."""

    def count(function: Callable[..., Any], *args: Any, **kwargs: Any) -> standin.Counts:
        function(*args, **kwargs)
        with standin.counting() as counts:
            function(*args, **kwargs)
        return counts

    return count
