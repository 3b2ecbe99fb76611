"""Exclude functions from torch.compile, without importing the compiler."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import torch

F = TypeVar("F", bound=Callable[..., Any])


def outside(function: F) -> F:
    """Return a function that is excluded from compilation with everything it calls, if the compiler is loaded.

    The result is cached, so pass a function of a module, not one created for each call.
    """
    return _disabled(function) if "torch._dynamo" in sys.modules else function


@functools.cache
def _disabled(function: F) -> F:
    disabled: F = torch.compiler.disable(function)  # type: ignore[no-untyped-call]
    return disabled


def skip_frame(function: F) -> F:
    """Exclude only the frame of a function from compilation, and return the function.

    `torch.compiler.disable` would also prevent inlining, and it imports the compiler.
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
skip_frame(_disabled.__wrapped__)
