"""Compound blocks of the losses in `conftest.py`: building them, and what is told of their mistakes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lossreg import MultiLoss, build_compound_loss_from_config
from lossreg.errors import ConfigError, ConfigProblem

PRED = {"x": torch.full((2, 3), 2.0)}
GT = {"t": torch.zeros(2, 3)}
TERM = {"loss": "offset", "offset": 1.0}
"""A term that is 3.0 for `PRED`."""
_PATH = "loss_params.compound_loss"


def build(block: Any, **options: Any) -> MultiLoss:
    return build_compound_loss_from_config(block, **options)


def problems(block: Any) -> list[str]:
    """Return each mistake of a block as it is printed, with its path inside the block."""
    return [str(problem).removeprefix(f"{_PATH}.") for problem in _refused(block)]


def told(block: Any) -> list[tuple[str, str, str]]:
    """Return path, kind and fix of each mistake of a block."""
    return [(p.path.removeprefix(_PATH).removeprefix("."), p.kind, p.hint) for p in _refused(block)]


def _refused(block: Any) -> tuple[ConfigProblem, ...]:
    with pytest.raises(ConfigError) as caught:
        build(block)
    return caught.value.problems
