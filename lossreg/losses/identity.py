"""Names of losses that are the same in every process, for checkpoints and for comparing ranks."""

from __future__ import annotations

import functools
import inspect
from typing import Any

from lossreg.losses.deep_supervision import DeepSupervision
from lossreg.losses.elementwise import uncompiled
from lossreg.losses.wrapper import LossWrapper


def identity(loss: Any) -> str:
    """Return the canonical name of a loss that was created by name (`torch/L1Loss`), else its `source`.

    With deep supervision the name is `DeepSupervision(torch/L1Loss)`, because the norm is that of a sum.
    """
    if isinstance(loss, DeepSupervision):
        return f"DeepSupervision({identity(loss.loss)})"
    name: str = getattr(loss, "registered_name", "")
    if not name and _is_transparent(loss):
        return identity(loss.loss_func)
    return name or source(loss)


def source(loss: Any) -> str:
    """Return `module.Qualname` of the class or function of a loss, or of the loss inside a wrapper."""
    if isinstance(loss, DeepSupervision):
        return f"DeepSupervision({source(loss.loss)})"
    if _is_transparent(loss):
        return source(loss.loss_func)
    if isinstance(loss, functools.partial):
        return source(loss.func)
    loss = uncompiled(loss)
    defined = loss if inspect.isroutine(loss) else type(loss)
    return f"{defined.__module__}.{defined.__qualname__}"


def _is_transparent(loss: Any) -> bool:
    """Return whether a loss is a wrapper that computes the same as the wrapped loss.

    A subclass with a `compute` of its own does not, unless it says so where it defines that.
    """
    if not isinstance(loss, LossWrapper):
        return False
    owner = next(kind for kind in type(loss).__mro__ if "compute" in vars(kind))
    return owner is LossWrapper or vars(owner).get("transparent") is True
