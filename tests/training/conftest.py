"""What the tests around the loop share."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def fit():
    """The LightningModule of the tests, and what runs it."""
    path = Path(__file__).with_name("fit.py")
    spec = importlib.util.spec_from_file_location("lossreg_tests_fit", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
