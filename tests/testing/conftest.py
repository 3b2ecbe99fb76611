"""Fixtures: the losses with planted faults, in a module that other processes can import."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def planted():
    """Return the module of the planted losses."""
    sys.path.insert(0, str(Path(__file__).parent))
    yield importlib.import_module("planted")
    sys.path.remove(str(Path(__file__).parent))
