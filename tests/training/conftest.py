"""What the tests around the loop share."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # the tests import `planted_runs.py` and `trajectory.py` from there


@pytest.fixture(scope="session")
def fit():
    """The LightningModule of the tests, and what runs it."""
    return _loaded("fit")


@pytest.fixture(scope="session")
def cut_batches():
    """A LightningModule whose batches ranks and micro-batches cut, and what runs it."""
    return _loaded("cut_batches")


def _loaded(name):
    path = Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"lossreg_tests_{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
