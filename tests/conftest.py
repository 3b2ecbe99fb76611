"""What every test of the core shares."""

from __future__ import annotations

from hypothesis import settings

# A property's first example imports and compiles; its time says nothing about the property.
settings.register_profile("lossreg", deadline=None)
settings.register_profile("fuzz", deadline=None, max_examples=20_000)  # `pytest tests/fuzz --hypothesis-profile=fuzz`
settings.load_profile("lossreg")
