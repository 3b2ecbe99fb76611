"""The two 3x3 stencils as sums of shifted planes (..., H, W), and their adjoints.

The adjoint `A*` of a filter `A` is the filter with `sum(y A(x)) = sum(x A*(y))` for all planes `x` and `y`:
what carries a gradient back through it.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

ROWS, COLUMNS = -2, -1
_SCALE = 47 / 256
_MIDDLE = 162 / 47


def laplacian24(x: Tensor) -> Tensor:
    """Filter planes with `2 [[.5, 1, .5], [1, -6, 1], [.5, 1, .5]]`, zeros around them.

    The kernel is `b^T b - 16 id` with `b = [1, 2, 1]`. It is symmetric and the padding is zero: the filter is
    its own adjoint.

    Args:
        x: (..., H, W).

    Returns:
        (..., H, W), 24 times the Laplacian of `CrossfieldSmoothLoss`.
    """
    return _Laplacian.apply(x) if torch.compiler.is_compiling() else _laplacian24(x)  # type: ignore[no-untyped-call]


def scharr(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return twice the Scharr gradient of planes, the border pixels repeated around them.

    Along columns the kernel is `s^T d / 256` with `s = [47, 162, 47]` and `d = [-1, 0, 1]`, applied as a
    cross-correlation; along rows its transpose. A plane that rises by 1 a pixel has a slope of 2.

    Args:
        x: (..., H, W).

    Returns:
        the slopes along rows (down) and along columns (right), each (..., H, W).
    """
    return _Scharr.apply(x) if torch.compiler.is_compiling() else _scharr(x)  # type: ignore[no-untyped-call]


def scharr_adjoint(down: Tensor, right: Tensor) -> Tensor:
    """Return the adjoint of `scharr`: pad with zeros, filter by the turned kernel, fold the border back.

    In one dimension, fold and all: smoothing is symmetric, and stays so with the border repeated. The
    difference is antisymmetric, and what folds back on the first pixel is `-y[0]`, as if `-y[0]` stood
    before it: the adjoint is minus the difference with the border repeated *negated*.

    Args:
        down: (..., H, W).
        right: (..., H, W).

    Returns:
        (..., H, W).
    """
    from_down = _differ(_smooth(down, COLUMNS), ROWS, border=-1)
    from_right = _smooth(_differ(right, COLUMNS, border=-1), ROWS)
    return from_down.add_(from_right).mul_(-_SCALE)


class _Laplacian(torch.autograd.Function):
    """The filter for the compiler, which would make a slower one of each slice's own derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: ARG004
        return _laplacian24(x)

    @staticmethod
    def backward(ctx: Any, y: Tensor) -> Tensor:  # noqa: ARG004
        return _laplacian24(y)


class _Scharr(torch.autograd.Function):
    """The same for the Scharr gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ARG004
        return _scharr(x)

    @staticmethod
    def backward(ctx: Any, down: Tensor, right: Tensor) -> Tensor:  # noqa: ARG004
        return scharr_adjoint(down, right)


def _laplacian24(x: Tensor) -> Tensor:
    return _blur(_blur(x, ROWS), COLUMNS).sub_(x, alpha=16)


def _blur(x: Tensor, axis: int) -> Tensor:
    """Filter with `b`."""
    size = x.shape[axis]
    if torch.compiler.is_compiling():
        padded = F.pad(x, (0, 0, 1, 1) if axis == ROWS else (1, 1))
        before, middle, after = (_window(padded, axis, offset, size) for offset in (0, 1, 2))
        return before + after + 2 * middle
    blurred = 2 * x
    if size > 1:
        blurred.narrow(axis, 1, size - 1).add_(x.narrow(axis, 0, size - 1))
        blurred.narrow(axis, 0, size - 1).add_(x.narrow(axis, 1, size - 1))
    return blurred


def _scharr(x: Tensor) -> tuple[Tensor, Tensor]:
    up, below = _neighbours(x, ROWS)
    down = _smooth(below - up, COLUMNS)
    right = _differ((up + below).add_(x, alpha=_MIDDLE), COLUMNS)
    return down.mul_(_SCALE), right.mul_(_SCALE)


def _smooth(x: Tensor, axis: int) -> Tensor:
    """Filter with `s / 47`."""
    before, after = _neighbours(x, axis)
    return (before + after).add_(x, alpha=_MIDDLE)


def _differ(x: Tensor, axis: int, border: int = 1) -> Tensor:
    """Filter with `d`."""
    before, after = _neighbours(x, axis, border)
    return after - before


def _neighbours(x: Tensor, axis: int, border: int = 1) -> tuple[Tensor, Tensor]:
    """Return the pixel before each and the one after; beyond the border it is repeated, times `border`."""
    size = x.shape[axis]
    edge = min(size, 1)
    ends = [x.narrow(axis, 0, edge), x.narrow(axis, size - edge, edge)]
    first, last = ends if border == 1 else [border * end for end in ends]
    padded = torch.cat([first, x, last], axis)
    return _window(padded, axis, 0, size), _window(padded, axis, 2 * edge, size)


def _window(padded: Tensor, axis: int, offset: int, size: int) -> Tensor:
    """Return a slice along an axis, for the compiler in a form that makes it store the padded planes.

    It would otherwise fold the padding into each load, and test there whether the pixel is inside.
    """
    if not torch.compiler.is_compiling():
        return padded.narrow(axis, offset, size)
    shape = list(padded.shape)
    shape[axis] = size
    return padded.as_strided(shape, padded.stride(), offset * padded.stride(axis))
