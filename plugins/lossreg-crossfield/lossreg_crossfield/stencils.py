"""The two 3x3 stencils on planes (..., H, W), and their adjoints.

The adjoint `A*` of a filter `A` satisfies `sum(y A(x)) = sum(x A*(y))` for all planes `x` and `y`. It propagates a
gradient back through the filter. Filters are no convolutions, which are inexact on some devices: in flat planes all
vanish exactly.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from lossreg_crossfield.analytic import blocks


def laplacian(x: Tensor, out: Tensor | None = None) -> Tensor:
    """Return 3/2 of the Laplacian of `CrossfieldSmoothLoss`, with zero padding.

    It is `b^T b - id` with `b = [1, 2, 1] / 4`, and its own adjoint.

    Args:
        x: (N, C, H, W).
        out: where to write the result without a graph, in any dtype.

    Returns:
        (N, C, H, W).
    """
    return _laplacian_op(x) if torch.compiler.is_compiling() else _laplacian(x, out)


def scharr(x: Tensor, on_graph: bool = True) -> Tensor:
    """Return twice the Scharr gradient of planes, with border pixels repeated.

    Along columns the kernel is `s^T d / 256` with `s = [47, 162, 47]` and `d = [-1, 0, 1]`, applied as a
    cross-correlation; along rows its transpose. A plane that rises by 1 per pixel has a slope of 2.

    Args:
        x: (..., H, W).
        on_graph: whether autograd or a transform has to see each step; without it is faster.

    Returns:
        (..., 2, H, W), the slopes along rows (down) and along columns (right).
    """
    if torch.compiler.is_compiling():
        slopes: Tensor = _scharr_op(x)
        return slopes
    return _scharr_on_graph(x) if on_graph else _scharr(x)


def scharr_adjoint(slopes: Tensor, out: Tensor | None = None) -> Tensor:
    """Return the adjoint of `scharr`, without a graph.

    In one dimension smoothing is symmetric, also with a repeated border. The difference is antisymmetric, and the value
    folded back on the first pixel is `-y[0]`, as if `-y[0]` were before it. So the adjoint is the negated difference
    with the border repeated *negated*.

    Args:
        slopes: (..., 2, H, W).
        out: where to write the result, in any dtype.

    Returns:
        (..., H, W).
    """
    *outer, _, height, width = slopes.shape
    slopes = slopes.reshape(math.prod(outer), 2, height, width)
    dense = out is not None and out.is_contiguous()
    sums = out if out is not None and dense else slopes.new_empty((*outer, height, width))
    rows = sums.view(len(slopes), height, width)
    for block in blocks(slopes):
        smooth = _smooth(_pad(slopes[block]))
        smooth[:, 0, :: height + 1].neg_()
        smooth[:, 1, :, :: width + 1].neg_()
        before, after = (_moved(smooth, (step, 0), (0, step)) for step in (-1, 1))
        torch.add(*(before - after).unbind(1), out=rows[block])
    return sums if out is None or dense else out.copy_(sums)


def _laplacian(x: Tensor, out: Tensor | None = None) -> Tensor:
    if not x.numel():
        return x.clone()
    if x.device.type != "cpu":
        blurred = F.avg_pool2d(F.avg_pool2d(x, 2, 1, padding=1), 2, 1)  # two kernels, but slow on the CPU
        return torch.sub(blurred, x, out=out)
    padded = F.pad(x, (1, 1, 1, 1))
    rows = torch.add(padded[..., 2:, :], padded[..., :-2, :]).add_(padded[..., 1:-1, :], alpha=2)
    both = torch.add(rows[..., 2:], rows[..., :-2]).add_(rows[..., 1:-1], alpha=2)
    return torch.sub(both.div_(16), x, out=out)


def _scharr(x: Tensor) -> Tensor:
    planes = x.reshape(math.prod(x.shape[:-2]), *x.shape[-2:])
    height, width = planes.shape[1:]
    slopes = x.new_empty((len(planes), 2, height, width))
    for block in blocks(planes):
        padded = _pad(planes[block])
        steps = padded.new_empty((len(padded), 2, height + 2, width + 2))
        torch.sub(padded[:, 2:, 1:-1], padded[:, :-2, 1:-1], out=steps[:, 0])
        torch.sub(padded[:, 1:-1, 2:], padded[:, 1:-1, :-2], out=steps[:, 1])
        _smooth(steps, slopes[block])
    return slopes.reshape(*x.shape[:-2], 2, height, width)


def _scharr_on_graph(x: Tensor) -> Tensor:
    if not x.numel():
        return torch.stack([x, x], -3)
    padded = _pad(x.unsqueeze(-3)).squeeze(-3)
    rows, columns = padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1], padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]
    down = _weigh(rows[..., 1:-1, :-2], rows[..., 1:-1, 1:-1], rows[..., 1:-1, 2:])
    right = _weigh(columns[..., :-2, 1:-1], columns[..., 1:-1, 1:-1], columns[..., 2:, 1:-1])
    return torch.stack([down, right], -3)


def _pad(x: Tensor) -> Tensor:
    """Return planes (N, ..., H, W) with the border repeated twice."""
    four = x.reshape(len(x), -1, *x.shape[-2:])
    padded = F.pad(four, (2, 2, 2, 2), mode="replicate").contiguous()
    return padded.reshape(*x.shape[:-2], *padded.shape[-2:])


def _smooth(x: Tensor, out: Tensor | None = None) -> Tensor:
    """Return planes (N, 2, H, W) without their border, filtered with `s / 256`: the first of two along columns."""
    before, here, after = (_moved(x, (0, step), (step, 0)) for step in (-1, 0, 1))
    return _weigh(before, here, after, out)


def _weigh(before: Tensor, here: Tensor, after: Tensor, out: Tensor | None = None) -> Tensor:
    return torch.lerp(torch.lerp(before, after, 0.5), here, 162 / 256, out=out)


def _moved(x: Tensor, first: tuple[int, int], second: tuple[int, int]) -> Tensor:
    """Return a view of pairs of planes (N, 2, H, W) without their border, each read at an offset of rows and columns.

    So what is done along rows in one plane and along columns in the other is done in one pass.
    """
    height, width = x.shape[2] - 2, x.shape[3] - 2
    one, two = (
        x[:, plane, 1 + rows : 1 + rows + height, 1 + columns : 1 + columns + width]
        for plane, (rows, columns) in enumerate((first, second))
    )
    between = two.storage_offset() - one.storage_offset()
    return x.as_strided((len(x), 2, height, width), (x.stride(0), between, *x.stride()[2:]), one.storage_offset())


# For the compiler the filters are custom operators with their adjoints as gradients. Compiled slices would check nine
# times per pixel whether the neighbour is inside the image.


@torch.library.custom_op("lossreg_crossfield::laplacian", mutates_args=())
def _laplacian_op(x: Tensor) -> Tensor:
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    for block in blocks(x):
        _laplacian(x[block], out[block])
    return out


@torch.library.custom_op("lossreg_crossfield::scharr", mutates_args=())
def _scharr_op(x: Tensor) -> Tensor:
    return _scharr(x)


@torch.library.custom_op("lossreg_crossfield::scharr_adjoint", mutates_args=())
def _scharr_adjoint_op(slopes: Tensor) -> Tensor:
    return scharr_adjoint(slopes)


@_laplacian_op.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


@_scharr_op.register_fake
def _(x: Tensor) -> Tensor:
    return x.new_empty((*x.shape[:-2], 2, *x.shape[-2:]))


@_scharr_adjoint_op.register_fake
def _(slopes: Tensor) -> Tensor:
    return slopes.new_empty((*slopes.shape[:-3], *slopes.shape[-2:]))


# the gradients are linear in those of the outputs, so nothing is saved
_laplacian_op.register_autograd(lambda _, y: _laplacian_op(y))
_scharr_op.register_autograd(lambda _, slopes: _scharr_adjoint_op(slopes))
