"""Constant buffers: in no checkpoint, and right again after one is loaded."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lossreg.errors import LossregError

_KEPT = "_lossreg_constants"  # the attribute of a module that has its constants by name


def register_constant(module: nn.Module, name: str, value: Tensor) -> None:
    """Register a buffer that moves with a module, but is in no checkpoint; loading a state dict sets its numbers again.

    A module that went through meta and `to_empty` has arbitrary numbers there.

    Args:
        module: the module; its constants are copied with it.
        name: the name of the buffer.
        value: its numbers. Create them with `device="cpu"`: under `torch.device("meta")` there are none.
    """
    if _KEPT not in vars(module):
        vars(module)[_KEPT] = {}
        module.register_load_state_dict_post_hook(_refill)  # type: ignore[no-untyped-call]
    vars(module)[_KEPT][name] = value.detach().clone()
    module.register_buffer(name, value, persistent=False)


@torch.no_grad()
def _refill(module: nn.Module, _incompatible: Any) -> None:
    """Set the constants of a module to their numbers.

    Raises:
        LossregError: the module was made on meta, and so were the numbers.
    """
    for name, value in vars(module)[_KEPT].items():
        if value.is_meta:
            raise LossregError(
                f"{type(module).__name__}: its constant {name!r} was made on meta, without numbers, and no checkpoint "
                "has them; create the loss on a real device, and move it with .to()"
            )
        own: Tensor = getattr(module, name)
        if own.is_meta:
            setattr(module, name, value.clone())
        else:
            own.copy_(value)
