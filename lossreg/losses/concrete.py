"""Whether a tensor is concrete: the one answer to when a loss may read values or use a kernel of its own."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.forward_ad import unpack_dual


def is_concrete(tensor: Tensor) -> bool:
    """Return whether each operation on a tensor is run at once, on numbers, and nobody but autograd takes part.

    It is not while a compiler traces, inside of a functional transform or with a tangent of forward-mode
    differentiation, nor on `meta`, nor for fake tensors and other subclasses that see every operation. There a loss has
    to be made of plain operations: it asks this of its tensors before it uses an `autograd.Function` of its own, reads
    values, or writes into memory of its own.
    """
    return (
        not torch.compiler.is_compiling()
        and type(tensor).__torch_dispatch__ is Tensor.__torch_dispatch__
        and not tensor.is_meta
        and not torch._C._are_functorch_transforms_active()
        and unpack_dual(tensor).tangent is None  # type: ignore[no-untyped-call]
    )
