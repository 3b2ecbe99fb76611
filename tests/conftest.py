"""What every test of the core shares."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

import lossreg
from lossreg import registry

# A property's first example imports and compiles; its time says nothing about the property.
settings.register_profile("lossreg", deadline=None)
settings.register_profile("fuzz", deadline=None, max_examples=8_000)  # `pytest tests/fuzz --hypothesis-profile=fuzz`
settings.load_profile("lossreg")


@pytest.fixture(autouse=True)
def local_registrations_end() -> Iterator[None]:
    """Let what a test registers by `lossreg.register` end with it, so that no later test sees it."""
    local = registry._local
    before = dict(local)
    yield
    if local != before:
        local.clear()
        local.update(before)
        lossreg.refresh()
