"""A mend of torch's compiler for CPUs before torch 2.9."""

from __future__ import annotations

import torch

FAULTY = torch.__version__ < "2.9"
"""Whether compiled code may write past the end of a buffer, by https://github.com/pytorch/pytorch/issues/159154."""


def stay_inside_of_buffers() -> None:
    """Turn off a fusion of loops for this process; compiled code returns the same values without it.

    A fused loop over several dimensions at once, as over the pixels of an image, writes to a buffer that is as long as
    the last one.
    """
    from torch._inductor.codegen.cpp import CppScheduling

    CppScheduling._get_outer_loop_fusion_depth = lambda *_: 0  # type: ignore[method-assign]


# The compiler calls it while it traces, as with `torch.compiler.assume_constant_result`, which imports the compiler.
stay_inside_of_buffers._dynamo_marked_constant = True  # type: ignore[attr-defined]
