"""The formulas of the frame-field losses with their gradients, on real and imaginary planes.

A frame field is a pair of complex planes `c0, c2`. The roots `+-u` and `+-v` of `f(z) = z^4 + c2 z^2 + c0` are its two
directions at a pixel. A complex plane is stored as two real planes. The gradient of a real number `L` by a complex
`z = x + i y` means `dL/dx + i dL/dy`. For `E = |f|^2` with `f` holomorphic in `z` it is `2 f conj(df/dz)`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from lossreg_crossfield.analytic import Formula, Gradients
from lossreg_crossfield.stencils import laplacian24, scharr, scharr_adjoint, scharr_to

Complex: TypeAlias = tuple[Tensor, Tensor]

_EPSILON = 1e-6
"""Added to the magnitude of a gradient before the gradient is divided by it."""


@dataclass(frozen=True)
class Alignment(Formula):
    """The mean of `w |f(z)|^2` over the pixels of each sample.

    With `p = z^2 = a + 2 i b`, negated if `z` is turned by 90 degrees, `f = p^2 + c2 p + c0`. With
    `h = 2 w f / pixels` the gradient by `c0` is `h`, by `c2` it is `h conj(p)`, and by `z` it is

        h conj(df/dp dp/dz) = h conj(2 p + c2) conj(2 z)       (negated if `z` is turned).

    Args:
        turned: whether `z` is turned by 90 degrees.
        channel: the channel of `z` and `w` (axis 1) to read; None if they have no such axis.
    """

    turned: bool = False
    channel: int | None = None

    def value(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the mean of each sample, (N,).

        Args:
            inputs: the field (N, 4, H, W), `c0` then `c2`, real before imaginary; `z` (N, [C,] 2, H, W);
                `w` (N, [C,] H, W).
        """
        field, direction, weight = self._planes(inputs)
        # no `unbind`, because the compiler cannot share its results between formulas
        c0_re, c0_im, c2_re, c2_im = (field[:, i] for i in range(4))
        x, y = direction[:, 0], direction[:, 1]
        a, b = (y * y - x * x, -x * y) if self.turned else (x * x - y * y, x * y)
        f_re = a * a - 4 * b * b + c2_re * a - 2 * c2_im * b + c0_re
        f_im = 4 * a * b + c2_im * a + 2 * c2_re * b + c0_im
        return (_mean(weight * (f_re * f_re + f_im * f_im)),)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the same as `value`, computed in place."""
        field, direction, weight = self._planes(inputs)
        (f_re, f_im), _ = self._polynomial(field, *self._square(direction))
        return (_mean(f_re.mul_(f_re).addcmul_(f_im, f_im).mul_(weight)),)

    def gradient(
        self,
        inputs: Sequence[Tensor],
        kept: Sequence[Tensor],  # noqa: ARG002
        slopes: Gradients,
        needed: Sequence[bool],
    ) -> Gradients:
        """Return the derivatives by the field, `z` and `w`."""
        field, direction, weight = self._planes(inputs)
        a, b = self._square(direction)
        by_field = torch.empty_like(field)
        h_re, h_im, by_c2_re, by_c2_im = by_field.unbind(1)
        _, (q_re, q_im) = self._polynomial(field, a, b, out=(h_re, h_im))
        share = _share(slopes, weight)
        by_direction = by_weight = None
        if needed[2]:
            by_weight = self._blank(inputs[2], weight)
            torch.mul(share, _dot((h_re, h_im), (h_re, h_im)), out=self._read(by_weight))
        by_field[:, :2].mul_((2 * share * weight).unsqueeze(1))
        if needed[1]:
            by_direction = self._blank(inputs[1], direction)
            by_x, by_y = self._read(by_direction).unbind(1)
            k_re, k_im = _product_conj((h_re, h_im), (q_re.add_(a), q_im.add_(b, alpha=2)))
            for part in (k_re, k_im):
                part.mul_(-2 if self.turned else 2)
            x, y = direction.unbind(1)
            torch.mul(k_re, x, out=by_x).addcmul_(k_im, y)
            torch.mul(k_im, x, out=by_y).addcmul_(k_re, y, value=-1)
        torch.mul(h_re, a, out=by_c2_re).addcmul_(h_im, b, value=2)
        torch.mul(h_im, a, out=by_c2_im).addcmul_(h_re, b, value=-2)
        return by_field, by_direction, by_weight

    def _square(self, direction: Tensor) -> Complex:
        """Return `a` and `b`, computed in place."""
        x, y = direction.unbind(1)
        a, b = (x * x).addcmul_(y, y, value=-1), x * y
        return (a.neg_(), b.neg_()) if self.turned else (a, b)

    @staticmethod
    def _polynomial(
        field: Tensor, a: Tensor, b: Tensor, out: Sequence[Tensor | None] = (None, None)
    ) -> tuple[Complex, Complex]:
        """Return `f = (p + c2) p + c0` and `p + c2`, computed in place."""
        c0_re, c0_im, c2_re, c2_im = field.unbind(1)
        q_re, q_im = torch.add(c2_re, a), torch.add(c2_im, b, alpha=2)
        re = torch.addcmul(c0_re, q_re, a, out=out[0]).addcmul_(q_im, b, value=-2)
        im = torch.addcmul(c0_im, q_im, a, out=out[1]).addcmul_(q_re, b, value=2)
        return (re, im), (q_re, q_im)

    def _compiled(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        outputs: tuple[Tensor, ...] = checkpoint(self.value, *inputs, use_reentrant=False, preserve_rng_state=False)
        return outputs

    def _planes(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        field, direction, weight = inputs
        return _wide((field, self._read(direction), self._read(weight)))

    def _read(self, planes: Tensor) -> Tensor:
        return planes if self.channel is None else planes[:, self.channel]

    def _blank(self, planes: Tensor, like: Tensor) -> Tensor:
        """Return uninitialised planes for the read channel, with zeros in the other channels."""
        blank = torch.empty_like(planes, dtype=like.dtype)
        if self.channel is not None:
            blank[:, : self.channel].zero_()
            blank[:, self.channel + 1 :].zero_()
        return blank


class Smoothness(Formula):
    """The mean of `w (1 - e) |laplacian(c)|` over the planes and pixels of each sample; `w` is 1 if it is left out.

    The Laplacian is self-adjoint, so the gradient by `c` is `laplacian(w (1 - e) sign(laplacian(c))) / elements`. The
    signs are saved as one byte each.
    """

    kept = (1,)

    def value(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the mean of each sample, (N,).

        Args:
            inputs: planes `c` (N, C, H, W); edge `e` (N, 1, H, W); weights `w` (N, 1, H, W).
        """
        planes, edge, *weights = _wide(inputs)
        return (_mean(_weighed(1 - edge, weights) * laplacian24(planes).abs()) / 24,)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the mean of each sample and the signs of the Laplacian, (N, C, H, W)."""
        planes, edge, *weights = _wide(inputs)
        curvature = laplacian24(planes, on_graph=False)
        signs = curvature.sign().to(torch.int8)
        return _mean(curvature.abs_().mul_(_weighed(1 - edge, weights))) / 24, signs

    def gradient(
        self,
        inputs: Sequence[Tensor],
        kept: Sequence[Tensor],
        slopes: Gradients,
        needed: Sequence[bool],
    ) -> Gradients:
        """Return the derivatives by `c`, `e` and `w`."""
        planes, edge, *weights = _wide(inputs)
        (signs,) = kept
        share = _share(slopes, planes) / 24
        by_planes = None
        if needed[0]:
            factor = share * _weighed(1 - edge, weights)
            by_planes = laplacian24(signs.to(planes.dtype).mul_(factor), on_graph=False)
        if not any(needed[1:]):
            return by_planes, *(None for _ in needed[1:])
        curvature = share * laplacian24(planes, on_graph=False).abs_().sum(1, keepdim=True)
        return by_planes, -_weighed(curvature, weights), *((1 - edge) * curvature for _ in weights)


class EdgeInterior(Formula):
    """The mean of `w |e - g| (1 + max(a, b)) / 2` over the pixels of each sample; `w` is 1 if it is left out.

    `a = cos(pi i)` is large outside buildings, and `b = -cos(pi g)` where the interior is steep. With `m = 1` for
    `a > b`, 0 for `a < b` and 1/2 if they are equal, the gradients, divided by the number of pixels and times `w`, are

        by e: sign(e - g) (1 + max(a, b)) / 2       by i: -pi/2 sin(pi i) m |e - g|
        by g: pi/2 sin(pi g) (1 - m) |e - g| - sign(e - g) (1 + max(a, b)) / 2
    """

    def value(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the mean of each sample, (N,).

        Args:
            inputs: planes (N, C, H, W) with the interior and the edge first; their slopes, of the same shape; weights
                `w` (N, H, W).
        """
        (interior, edge), slope, weights = self._planes(inputs)
        a, b = torch.cos(math.pi * interior), -torch.cos(math.pi * slope)
        return (_mean(_weighed((edge - slope).abs(), weights) * (1 + torch.maximum(a, b))) / 2,)

    def gradient(
        self,
        inputs: Sequence[Tensor],
        kept: Sequence[Tensor],  # noqa: ARG002
        slopes: Gradients,
        needed: Sequence[bool],
    ) -> Gradients:
        """Return the derivatives by the planes, by their slopes and by `w`."""
        (interior, edge), slope, weights = self._planes(inputs)
        interior, turn = math.pi * interior, math.pi * slope
        a, b = torch.cos(interior), torch.cos(turn).neg_()
        off = edge - slope
        share = _share(slopes, off) / 2
        by_weights = [share * off.abs() * (1 + torch.maximum(a, b)) if any(needed[2:]) else None for _ in weights]
        share = _weighed(share, weights)
        by_seg, by_slopes = (torch.empty_like(planes, dtype=off.dtype) for planes in inputs[:2])
        by_seg[:, 2:].zero_()
        by_slopes[:, 1:].zero_()
        by_edge = torch.add(torch.maximum(a, b), 1, out=by_seg[:, 1]).mul_(off.sign()).mul_(share)
        bend = off.abs_().mul_(share * math.pi)
        more = a.sub_(b).sign_().add_(1).div_(2)  # m
        torch.mul(interior.sin_(), more, out=by_seg[:, 0]).mul_(bend).neg_()
        torch.mul(turn.sin_(), more.neg_().add_(1), out=by_slopes[:, 0]).mul_(bend).sub_(by_edge)
        return by_seg, by_slopes, *by_weights

    @staticmethod
    def _planes(inputs: Sequence[Tensor]) -> tuple[Complex, Tensor, Sequence[Tensor]]:
        seg, slopes, *weights = inputs
        interior, edge, slope, *weights = _wide((seg[:, 0], seg[:, 1], slopes[:, 0], *weights))
        return (interior, edge), slope, weights


_FEW = 8
"""Maximum number of channels that are compiled separately; in one tensor the compiler would recompute all for each."""


class Slopes(Formula):
    """The Scharr gradient `g` of planes, its magnitude `r = |g|`, and `z = g / (r + 1e-6)`.

    Let `g', r', z'` be the derivatives of the loss by the three, and `s = 1 / (r + 1e-6)`. `dr = n dg` with
    `n = g / r = z / (s r)`, or 0 in a flat plane, and `dz = s (dg - z dr)`. So the derivative by the planes is the
    adjoint of the filter applied to

        g' + s z' + n (r' - s z . z').

    `r` and `z` are saved; the losses that read them save them anyway.
    """

    outputs = 3
    kept = (1, 2)

    def value(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return `g` (N, C, 2, H, W), `r` (N, C, H, W) and `z` (N, C, 2, H, W) in the dtype of the planes.

        Args:
            inputs: planes (N, C, H, W), alone.
        """
        (planes,) = _wide(inputs)
        down, right = scharr(planes)
        tiny = torch.finfo(planes.dtype).tiny  # keeps the gradient of the square root finite in flat planes
        norm = (down * down + right * right).clamp_min(tiny).sqrt() - math.sqrt(tiny)
        grads = torch.stack([down, right], dim=-3)
        outputs = grads, norm, grads / (norm + _EPSILON).unsqueeze(-3)
        return tuple(tensor.to(inputs[0].dtype) for tensor in outputs)

    def _compiled(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        (planes,) = inputs
        if not 0 < planes.shape[1] <= _FEW:
            return self.value(planes)
        of_channels = [self.value(planes[:, i]) for i in range(planes.shape[1])]
        return tuple(torch.stack(parts, dim=1) for parts in zip(*of_channels, strict=True))

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the same as `value`, computed in place."""
        (planes,) = _wide(inputs)
        grads, normed = (planes.new_empty((*planes.shape[:2], 2, *planes.shape[2:])) for _ in range(2))
        down, right = grads.unbind(2)
        scharr_to(planes, down, right)
        norm = (down * down).addcmul_(right, right).sqrt_()
        scale = (norm + _EPSILON).reciprocal_()
        for part, out in zip((down, right), normed.unbind(2), strict=True):
            torch.mul(part, scale, out=out)
        return tuple(tensor.to(inputs[0].dtype) for tensor in (grads, norm, normed))

    def gradient(
        self,
        inputs: Sequence[Tensor],  # noqa: ARG002
        kept: Sequence[Tensor],
        slopes: Gradients,
        needed: Sequence[bool],  # noqa: ARG002
    ) -> Gradients:
        """Return the derivative by the planes."""
        norm, normed = _wide(kept)
        by_grads, by_norm, by_normed = (s if s is None else s.to(norm.dtype) for s in slopes)
        scale = (norm + _EPSILON).reciprocal_()
        z = normed.unbind(2)
        along = torch.zeros_like(norm) if by_norm is None else by_norm
        if by_normed is None:
            total = torch.zeros(2, *norm.shape, dtype=norm.dtype, device=norm.device).unbind()
        else:
            total = tuple(scale * part for part in by_normed.unbind(2))
            along = torch.addcmul(along, z[0], total[0], value=-1).addcmul_(z[1], total[1], value=-1)
        if by_grads is not None:
            total = tuple(part.add_(by_grads[:, :, axis]) for axis, part in enumerate(total))
        # in a flat plane z is 0, so its factor only has to be finite
        scale.mul_(norm).clamp_min_(math.sqrt(torch.finfo(norm.dtype).tiny))
        along = torch.div(along, scale, out=scale)
        return (scharr_adjoint(total[0].addcmul_(z[0], along), total[1].addcmul_(z[1], along)),)


def _wide(tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Return tensors in the dtype of the first, but at least float32."""
    dtype = torch.promote_types(tensors[0].dtype, torch.float32)
    return tuple(tensor.to(dtype) for tensor in tensors)


def _weighed(values: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """Return values times the weights, of which there are some or none."""
    for weight in weights:
        values = values * weight
    return values


def _mean(values: Tensor) -> Tensor:
    """Return the mean of each sample, (N,); 0 for an empty sample."""
    sums = values.sum((-2, -1))  # by plane, so that the compiler can fuse it with the computation of the values
    return (sums if sums.dim() == 1 else sums.sum(1)) / max(values[:1].numel(), 1)


def _share(slopes: Gradients, values: Tensor) -> Tensor:
    """Return the derivative of the loss by each value before `_mean`, in a shape that broadcasts with the values."""
    (slope,) = slopes
    assert slope is not None  # the only output
    return slope.to(values.dtype).reshape(-1, *[1] * (values.dim() - 1)) / max(values[:1].numel(), 1)


def _product_conj(a: Complex, b: Complex) -> Complex:
    """Return `a conj(b)`."""
    return (a[0] * b[0]).addcmul_(a[1], b[1]), (a[1] * b[0]).addcmul_(a[0], b[1], value=-1)


def _dot(a: Complex, b: Complex) -> Tensor:
    return (a[0] * b[0]).addcmul_(a[1], b[1])
