"""The two 3x3 stencils as sums of shifted planes (..., H, W), and their adjoints.

The adjoint `A*` of a filter `A` is the filter with `sum(y A(x)) = sum(x A*(y))` for all planes `x` and `y`:
what carries a gradient back through it.
"""

from __future__ import annotations

import torch
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
    return _laplacian_op(x) if torch.compiler.is_compiling() else _laplacian(x)


def scharr(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return twice the Scharr gradient of planes, the border pixels repeated around them.

    Along columns the kernel is `s^T d / 256` with `s = [47, 162, 47]` and `d = [-1, 0, 1]`, applied as a
    cross-correlation; along rows its transpose. A plane that rises by 1 a pixel has a slope of 2.

    Args:
        x: (..., H, W).

    Returns:
        the slopes along rows (down) and along columns (right), each (..., H, W).
    """
    return _scharr_op(x) if torch.compiler.is_compiling() else _scharr(x)


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


def _laplacian(x: Tensor) -> Tensor:
    return _blur(_blur(x, ROWS), COLUMNS).sub_(x, alpha=16)


def _scharr(x: Tensor) -> tuple[Tensor, Tensor]:
    down = _smooth(_differ(x, ROWS), COLUMNS)
    right = _differ(_smooth(x, ROWS), COLUMNS)
    return down.mul_(_SCALE), right.mul_(_SCALE)


def _blur(x: Tensor, axis: int) -> Tensor:
    """Filter with `b`."""
    blurred, inner = 2 * x, max(x.shape[axis] - 1, 0)
    rest = x.shape[axis] - inner
    blurred.narrow(axis, rest, inner).add_(x.narrow(axis, 0, inner))
    blurred.narrow(axis, 0, inner).add_(x.narrow(axis, rest, inner))
    return blurred


def _smooth(x: Tensor, axis: int) -> Tensor:
    """Filter with `s / 47`."""
    return _add_before(_after(x, axis), x, axis).add_(x, alpha=_MIDDLE)


def _differ(x: Tensor, axis: int, border: int = 1) -> Tensor:
    """Filter with `d`."""
    return _add_before(_after(x, axis, border), x, axis, border, sign=-1)


def _after(x: Tensor, axis: int, border: int = 1) -> Tensor:
    """Return the pixel after each; beyond the border it is repeated, times `border`."""
    made, edge = torch.empty_like(x), min(x.shape[axis], 1)
    inner = x.shape[axis] - edge
    made.narrow(axis, 0, inner).copy_(x.narrow(axis, edge, inner))
    last = x.narrow(axis, inner, edge)
    made.narrow(axis, inner, edge).copy_(last if border == 1 else border * last)
    return made


def _add_before(made: Tensor, x: Tensor, axis: int, border: int = 1, sign: int = 1) -> Tensor:
    """Add the pixel before each, times `sign`, to `made`, in place."""
    edge = min(x.shape[axis], 1)
    inner = x.shape[axis] - edge
    made.narrow(axis, edge, inner).add_(x.narrow(axis, 0, inner), alpha=sign)
    made.narrow(axis, 0, edge).add_(x.narrow(axis, 0, edge), alpha=sign * border)
    return made


# The compiler takes the filters as operators, each with its adjoint for a gradient. Of the slices it would
# derive one itself, and test at each load of it, nine times a pixel, whether the neighbour is in the image.


@torch.library.custom_op("lossreg_crossfield::laplacian24", mutates_args=())
def _laplacian_op(x: Tensor) -> Tensor:
    return _laplacian(x)


@torch.library.custom_op("lossreg_crossfield::scharr", mutates_args=())
def _scharr_op(x: Tensor) -> tuple[Tensor, Tensor]:
    return _scharr(x)


@torch.library.custom_op("lossreg_crossfield::scharr_adjoint", mutates_args=())
def _scharr_adjoint_op(down: Tensor, right: Tensor) -> Tensor:
    return scharr_adjoint(down, right)


@_laplacian_op.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


@_scharr_op.register_fake
def _(x: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(x)


@_scharr_adjoint_op.register_fake
def _(down: Tensor, right: Tensor) -> Tensor:  # noqa: ARG001
    return torch.empty_like(down)


# each gradient is linear in the outputs' slopes, so that nothing is kept for it
_laplacian_op.register_autograd(lambda _, y: _laplacian_op(y))
_scharr_op.register_autograd(lambda _, down, right: _scharr_adjoint_op(down, right))
