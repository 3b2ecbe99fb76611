"""Functions that no compiler may look into, without importing the compiler."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import torch

F = TypeVar("F", bound=Callable[..., Any])


def outside(function: F) -> F:
    """Keep the compiler away from a function and all that it calls, where there is a compiler at all."""
    if "torch._dynamo" not in sys.modules:
        return function
    disabled: F = torch.compiler.disable(function)  # type: ignore[no-untyped-call]
    return disabled


def skip_frame(function: F) -> F:
    """Have the compiler run a function's own frame as it is, when it is not inlined.

    `torch.compiler.disable` would do, but it also refuses to be inlined, and it imports the compiler.
    """
    try:
        from torch._C._dynamo.eval_frame import _FrameAction, _FrameExecStrategy, set_code_exec_strategy
    except ImportError:  # torch before 2.7
        from torch._dynamo.eval_frame import skip_code

        skip_code(function.__code__)
    else:
        set_code_exec_strategy(function.__code__, _FrameExecStrategy(_FrameAction.SKIP, _FrameAction.DEFAULT))
    return function


skip_frame(outside)
