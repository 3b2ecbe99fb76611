"""The algebra of frame fields, on real and imaginary planes.

A frame field is the pair of complex planes `c0, c2` of `f(z) = z^4 + c2 z^2 + c0`, whose roots `+-u, +-v` are
its two directions at a pixel. With `p = z^2` it is `f(z) = (p + c2) p + c0`; the turn of `z` by 90 degrees is
`p -> -p`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def alignment(field: Tensor, direction: Tensor, weight: Tensor, turned: bool = False) -> Tensor:
    """Return the mean over pixels of `weight * |f(z)|^2`.

    Args:
        field: (N, 4, H, W), `c0` real, `c0` imaginary, `c2` real, `c2` imaginary.
        direction: (N, 2, H, W), real and imaginary part of `z`.
        weight: (N, H, W).
        turned: whether `z` is turned by 90 degrees first.
    """
    c0_re, c0_im, c2_re, c2_im = field.unbind(1)
    re, im = direction.unbind(1)
    p_re, p_im = re * re - im * im, 2 * re * im
    if turned:
        p_re, p_im = -p_re, -p_im
    q_re, q_im = p_re + c2_re, p_im + c2_im
    f_re = q_re * p_re - q_im * p_im + c0_re
    f_im = q_re * p_im + q_im * p_re + c0_im
    return mean(weight * (f_re * f_re + f_im * f_im))


def edge_interior(edge: Tensor, interior: Tensor, slope: Tensor) -> Tensor:
    """Return the mean of `|e - g| * max((1 + cos(pi i)) / 2, (1 - cos(pi g)) / 2)`.

    Args:
        edge: `e`, (N, H, W).
        interior: `i`, (N, H, W).
        slope: `g`, (N, H, W).
    """
    outside = (1 + torch.cos(math.pi * interior)) / 2
    steep = (1 - torch.cos(math.pi * slope)) / 2
    return mean((edge - slope).abs() * torch.maximum(outside, steep))


def mean(values: Tensor) -> Tensor:
    """Return the mean of all elements; that of none is a zero on the graph."""
    return values.sum() / max(values.numel(), 1)


def wide(tensor: Tensor) -> Tensor:
    """Return a tensor in the precision of sums: float64 as it is, anything else in float32."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()
