"""What a loss is, as a text that every process agrees on: for checkpoints, and for ranks that compare criteria."""

from __future__ import annotations

import functools
import inspect
from typing import Any

from lossreg.losses.deep_supervision import DeepSupervision
from lossreg.losses.wrapper import LossWrapper


def identity(loss: Any) -> str:
    """Return the canonical name that a loss was created by (`torch/L1Loss`), else `source` of it.

    A loss under deep supervision is another one, since its norm is that of a sum: `DeepSupervision(torch/L1Loss)`.
    """
    if isinstance(loss, DeepSupervision):
        return f"DeepSupervision({identity(loss.loss)})"
    name: str = getattr(loss, "registered_name", "")
    if not name and _is_transparent(loss):
        return identity(loss.loss_func)
    return name or source(loss)


def source(loss: Any) -> str:
    """Return where a loss, or what a wrapper wraps, is defined: `module.Qualname` of its class or function."""
    if isinstance(loss, DeepSupervision):
        return f"DeepSupervision({source(loss.loss)})"
    if _is_transparent(loss):
        return source(loss.loss_func)
    if isinstance(loss, functools.partial):
        return source(loss.func)
    loss = getattr(loss, "_orig_mod", loss)  # what torch.compile was given
    defined = loss if inspect.isroutine(loss) else type(loss)
    return f"{defined.__module__}.{defined.__qualname__}"


def _is_transparent(loss: Any) -> bool:
    """Say whether a wrapper computes what the loss inside of it does."""
    return isinstance(loss, LossWrapper) and type(loss).compute is LossWrapper.compute
