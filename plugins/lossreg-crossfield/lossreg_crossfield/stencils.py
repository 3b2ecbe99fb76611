"""The two 3x3 stencils as sums of shifted planes (..., H, W), and their adjoints.

The adjoint `A*` of a filter `A` satisfies `sum(y A(x)) = sum(x A*(y))` for all planes `x` and `y`. It propagates a
gradient back through the filter.
"""

from __future__ import annotations

import torch
from torch import Tensor

ROWS, COLUMNS = -2, -1
_SCALE = 47 / 256
_MIDDLE = 162 / 47


def laplacian24(x: Tensor, on_graph: bool = True) -> Tensor:
    """Return planes filtered with `2 [[.5, 1, .5], [1, -6, 1], [.5, 1, .5]]` and zero padding.

    The kernel is `b^T b - 16 id` with `b = [1, 2, 1]`. It is symmetric and the padding is zero, so the filter is
    self-adjoint.

    Args:
        x: (..., H, W).
        on_graph: whether autograd or a transform has to see each step; without it is faster.

    Returns:
        (..., H, W), 24 times the Laplacian of `CrossfieldSmoothLoss`.
    """
    return _laplacian_op(x) if torch.compiler.is_compiling() else _laplacian(x, on_graph)


def scharr(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return twice the Scharr gradient of planes, with border pixels repeated.

    Along columns the kernel is `s^T d / 256` with `s = [47, 162, 47]` and `d = [-1, 0, 1]`, applied as a
    cross-correlation; along rows its transpose. A plane that rises by 1 per pixel has a slope of 2.

    Args:
        x: (..., H, W).

    Returns:
        the slopes along rows (down) and along columns (right), each (..., H, W).
    """
    return _scharr_op(x) if torch.compiler.is_compiling() else _scharr(x)


def scharr_to(x: Tensor, down: Tensor, right: Tensor) -> None:
    """Write the result of `scharr` to `down` and `right`, without a graph."""
    x = x * _SCALE
    _smooth(_differ(x, ROWS, out=torch.empty_like(x)), COLUMNS, out=down)
    _differ(_smooth(x, ROWS, out=torch.empty_like(x)), COLUMNS, out=right)


def scharr_adjoint(down: Tensor, right: Tensor) -> Tensor:
    """Return the adjoint of `scharr`, without a graph: zero padding, the rotated kernel, and the border folded back.

    In one dimension smoothing is symmetric, also with a repeated border. The difference is antisymmetric, and the value
    folded back on the first pixel is `-y[0]`, as if `-y[0]` were before it. So the adjoint is the negated difference
    with the border repeated *negated*.

    Args:
        down: (..., H, W).
        right: (..., H, W).

    Returns:
        (..., H, W).
    """
    a, b = torch.empty_like(down), torch.empty_like(down)
    of_down = _differ(_smooth(down, COLUMNS, out=a), ROWS, border=-1, out=b)
    of_right = _smooth(_differ(right, COLUMNS, border=-1, out=a), ROWS, out=torch.empty_like(down))
    return of_down.add_(of_right).mul_(-_SCALE)


def _laplacian(x: Tensor, on_graph: bool) -> Tensor:
    first, second = (None, None) if on_graph else (torch.empty_like(x), torch.empty_like(x))
    return _blur(_blur(x, ROWS, first), COLUMNS, second).sub_(x, alpha=16)


def _scharr(x: Tensor) -> tuple[Tensor, Tensor]:
    x = x * _SCALE
    return _smooth(_differ(x, ROWS), COLUMNS), _differ(_smooth(x, ROWS), COLUMNS)


def _blur(x: Tensor, axis: int, out: Tensor | None = None) -> Tensor:
    """Return planes filtered with `b` and zero padding."""
    return _neighbours(x, axis, border=0, out=out).add_(x, alpha=2)


def _smooth(x: Tensor, axis: int, out: Tensor | None = None) -> Tensor:
    """Return planes filtered with `s / 47`."""
    return _neighbours(x, axis, out=out).add_(x, alpha=_MIDDLE)


def _differ(x: Tensor, axis: int, border: int = 1, out: Tensor | None = None) -> Tensor:
    """Return planes filtered with `d`."""
    return _neighbours(x, axis, border, sign=-1, out=out)


def _neighbours(x: Tensor, axis: int, border: int = 1, sign: int = 1, out: Tensor | None = None) -> Tensor:
    """Return the next pixel plus `sign` times the previous one; the border is repeated times `border`.

    The result is written to `out` in one pass, or is on the graph if `out` is None.
    """
    size = x.shape[axis]
    if out is None:
        edge = min(size, 1)
        first, last = x.narrow(axis, 0, edge), x.narrow(axis, size - edge, edge)
        padded = torch.cat((border * first, x, border * last), axis)
        return padded.narrow(axis, 2 * edge, size) + sign * padded.narrow(axis, 0, size)
    if size > 2:
        after, before = x.narrow(axis, 2, size - 2), x.narrow(axis, 0, size - 2)
        torch.add(after, before, alpha=sign, out=out.narrow(axis, 1, size - 2))
    for i in {0, size - 1} if size else ():
        here = border * x.select(axis, i)
        after = x.select(axis, i + 1) if i + 1 < size else here
        before = x.select(axis, i - 1) if i else here
        torch.add(after, before, alpha=sign, out=out.select(axis, i))
    return out


# For the compiler the filters are custom operators with their adjoints as gradients. Compiled slices would check nine
# times per pixel whether the neighbour is inside the image.


@torch.library.custom_op("lossreg_crossfield::laplacian24", mutates_args=())
def _laplacian_op(x: Tensor) -> Tensor:
    return _laplacian(x, on_graph=False)


@torch.library.custom_op("lossreg_crossfield::scharr", mutates_args=())
def _scharr_op(x: Tensor) -> tuple[Tensor, Tensor]:
    down, right = torch.empty_like(x), torch.empty_like(x)
    scharr_to(x, down, right)
    return down, right


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


# the gradients are linear in those of the outputs, so nothing is saved
_laplacian_op.register_autograd(lambda _, y: _laplacian_op(y))
_scharr_op.register_autograd(lambda _, down, right: _scharr_adjoint_op(down, right))
