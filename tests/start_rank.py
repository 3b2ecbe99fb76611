"""What a process of a test's does first, to be a rank as torchrun would start it."""

from __future__ import annotations

import os
import runpy
import sys
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

from lossreg.errors import CalibrationWarning


def run_as_rank(
    rank: int, port: int, output: Path, function: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    """Call `module:function` or `file.py:function` with torchrun's environment; what it prints goes to a file."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "tests"}
    os.environ |= {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    warnings.simplefilter("ignore", CalibrationWarning)  # as the tests themselves do, see pyproject.toml
    sys.stdout = sys.stderr = output.open("w", encoding="utf-8", buffering=1)
    home, _, name = function.rpartition(":")
    found = runpy.run_path(home) if home.endswith(".py") else vars(import_module(home))
    found[name](*args, **kwargs)
