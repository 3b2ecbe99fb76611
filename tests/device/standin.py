"""A stand-in for an accelerator, which counts what it is asked for: launches, bytes, host reads, copies.

The counts do not vary from run to run, unlike times. `build` compiles `standin.cpp`, which takes a minute once.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import shutil
import types
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

NAME = "standin"
"""The name of its device type."""


@dataclass
class Counts:
    """What the device was asked for.

    Attributes:
        launches: operations that compute or copy on the device; views and allocations are none.
        bytes: what they read and wrote, each element of an expanded tensor once.
        host_reads: times that the host waited for a value.
        copies: copies between host and device.
        blocking_copies: those that the host waited for.
        peak: the largest number of bytes allocated at once, above what was allocated before.
        by_name: for each operation its launches and bytes.
    """

    launches: int = 0
    bytes: int = 0
    host_reads: int = 0
    copies: int = 0
    blocking_copies: int = 0
    peak: int = 0
    by_name: dict[str, tuple[int, int]] = field(default_factory=dict)


def missing() -> str | None:
    """Return what this machine lacks to build the device, or None."""
    for program in ("c++", "ninja"):
        if shutil.which(program) is None:
            return f"needs {program}, which is not on PATH"
    return None


@functools.cache
def build() -> Any:
    """Compile and register the device; once a process."""
    from torch.utils.cpp_extension import load

    torch.utils.rename_privateuse1_backend(NAME)
    source = Path(__file__).with_suffix(".cpp")
    version = hashlib.sha256(source.read_bytes()).hexdigest()[:12]  # another checkout may have another one
    extension = load(f"lossreg_standin_{version}", [str(source)], extra_cflags=["-O0", "-Wno-overloaded-virtual"])
    module = types.SimpleNamespace(
        is_available=lambda: True,
        device=lambda _: contextlib.nullcontext(),
        device_count=lambda: 1,
        current_device=lambda: 0,
        is_initialized=lambda: True,
        synchronize=lambda *_: None,
        _is_in_bad_fork=lambda: False,
        manual_seed_all=lambda _: None,
        get_rng_state=lambda *_: torch.get_rng_state(),
        set_rng_state=lambda *_: None,
        get_amp_supported_dtype=lambda: [torch.bfloat16, torch.float16],
    )
    torch._register_device_module(NAME, module)
    torch.utils.generate_methods_for_privateuse1_backend(for_storage=True)
    return extension


@contextlib.contextmanager
def counting() -> Iterator[Counts]:
    """Count what the device is asked for inside of the block; the result is filled at its end."""
    extension = build()
    extension.reset()
    before = extension.allocated()
    counts = Counts()
    yield counts
    found = extension.read()
    found["peak"] -= before
    for name, value in found.items():
        setattr(counts, name, value)
