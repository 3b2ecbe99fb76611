"""The formulas of the frame-field losses with their gradients, on real and imaginary planes.

A frame field is a pair of complex planes `c0, c2`. The roots `+-u` and `+-v` of `f(z) = z^4 + c2 z^2 + c0` are its two
directions at a pixel. A complex plane is stored as two real planes. The gradient of a real number `L` by a complex
`z = x + i y` means `dL/dx + i dL/dy`. For `E = |f|^2` with `f` holomorphic in `z` it is `2 f conj(df/dz)`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from lossreg_crossfield.analytic import Formula, Gradients, blocks
from lossreg_crossfield.stencils import laplacian, scharr, scharr_adjoint

EPSILON = 1e-6
"""Added to the magnitude of a gradient before the gradient is divided by it."""


@dataclass(frozen=True)
class Alignment(Formula):
    """The mean of `w |f(z)|^2` over the pixels.

    With `p = z^2`, negated if `z` is turned by 90 degrees, `f = (p + c2) p + c0`. With `h = 2 w f / pixels` the
    gradient by `c0` is `h`, by `c2` it is `h conj(p)`, by `w` it is `|f|^2 / pixels`, and by `z` it is

        h conj(df/dp dp/dz) = 2 (h conj(p) + h conj(p + c2)) conj(z)       (negated if `z` is turned).

    Args:
        turned: whether `z` is turned by 90 degrees.
        channel: the channel of `z` and `w` (axis 1) to read; None if they have no such axis.
    """

    turned: bool = False
    channel: int | None = None

    def value(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the mean, a scalar.

        Args:
            inputs: the field (N, 4, H, W), `c0` then `c2`, real before imaginary; `z` (N, [C,] 2, H, W);
                `w` (N, [C,] H, W).
        """
        field, direction, weight = _wide((inputs[0], *map(self._read, inputs[1:])))
        # no `unbind`, because the compiler cannot share its results between formulas
        c0_re, c0_im, c2_re, c2_im = (field[:, i] for i in range(4))
        x, y = direction[:, 0], direction[:, 1]
        a, b = (y * y - x * x, -x * y) if self.turned else (x * x - y * y, x * y)
        f_re = a * a - 4 * b * b + c2_re * a - 2 * c2_im * b + c0_re
        f_im = 4 * a * b + c2_im * a + 2 * c2_re * b + c0_im
        return (_mean(weight * (f_re * f_re + f_im * f_im)),)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the same as `value`, computed in place."""
        (f_re, f_im), *_ = (planes.unbind(1) for planes in self._polynomial(*inputs[:2]))
        return (f_re.mul_(f_re).addcmul_(f_im, f_im).mul_(self._read(inputs[2])).mean(),)

    def gradient(
        self,
        inputs: Sequence[Tensor],
        kept: Sequence[Tensor],  # noqa: ARG002
        slopes: Gradients,
        out: Gradients,
    ) -> None:
        """Write the derivatives by the field, `z` and `w`."""
        weight, (by_field, by_direction, by_weight) = self._read(inputs[2]), out
        f, p, q = self._polynomial(*inputs[:2])
        scaled = f * _only(slopes)
        if by_weight is not None:
            by_weight.zero_()
            for part, other in zip(f.unbind(1), scaled.unbind(1), strict=True):
                self._read(by_weight).addcmul_(part, other, value=1 / weight.numel())
        both = f.new_empty(inputs[0].shape)
        h, by_c2 = both[:, :2], both[:, 2:]  # without the factor 2 / pixels
        torch.mul(scaled, weight.unsqueeze(1), out=h)
        torch.mul(h, p[:, :1], out=by_c2)
        _add_product_conj(by_c2, h, p[:, 1])
        if by_direction is not None:
            by_square = torch.addcmul(by_c2, h, q[:, :1])
            _add_product_conj(by_square, h, q[:, 1])
            x, y = self._read(inputs[1]).unbind(1)
            part = by_square * x.unsqueeze(1)
            _add_product_conj(part, by_square, y)
            torch.mul(part, 4 / weight.numel(), out=self._read(by_direction.zero_()))
        if self.turned:
            by_c2.neg_()
        if by_field is not None:
            torch.mul(both, 2 / weight.numel(), out=by_field)

    def _polynomial(self, field: Tensor, direction: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return `f`; and `p` and `p + c2`, both negated if `z` is turned; (N, 2, H, W) in at least float32."""
        c0, c2 = field[:, :2], field[:, 2:]
        z = self._read(direction).to(wide_dtype(field))
        x, y = z.unbind(1)
        p = z * z[:, :1]
        p_re, p_im = p.unbind(1)
        p_re.addcmul_(y, y, value=-1)
        p_im.addcmul_(x, y)
        q = torch.sub(p, c2) if self.turned else torch.add(p, c2)
        f = torch.addcmul(c0, q, p[:, :1])
        f[:, 0].addcmul_(q[:, 1], p_im, value=-1)
        f[:, 1].addcmul_(q[:, 0], p_im)
        return f, p, q

    def _compiled(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        outputs: tuple[Tensor, ...] = checkpoint(self.value, *inputs, use_reentrant=False, preserve_rng_state=False)
        return outputs

    def _read(self, planes: Tensor) -> Tensor:
        return planes if self.channel is None else planes[:, self.channel]


class Smoothness(Formula):
    """The mean of `w (1 - e) |laplacian(c)|` over the planes and pixels; `w` is 1 if it is left out.

    The Laplacian is self-adjoint, so the gradient by `c` is `laplacian(w (1 - e) sign(laplacian(c))) / elements`. The
    signs are saved as one byte each.
    """

    kept = (1,)

    def value(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the mean, a scalar.

        Args:
            inputs: planes `c` (N, C, H, W); edge `e` (N, 1, H, W) in 0 to 1; weights `w` (N, 1, H, W), 0 or more.
        """
        planes, edge, *weights = _wide(inputs)
        return (_mean(_weighed(1 - edge, weights) * laplacian(planes).abs()) / 1.5,)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the mean and the signs of the Laplacian, (N, C, H, W)."""
        planes, edge, *weights = inputs
        curvature = laplacian(_wide([planes])[0])
        signs = curvature.sign().to(torch.int8)
        curvature = _weighed(curvature.addcmul_(curvature, edge, value=-1), weights)
        return _absolute_sum(curvature) * (1 / 1.5 / planes.numel()), signs

    def gradient(self, inputs: Sequence[Tensor], kept: Sequence[Tensor], slopes: Gradients, out: Gradients) -> None:
        """Write the derivatives by `c`, `e` and `w`."""
        planes, edge, *weights = inputs
        by_planes, by_edge, *by_weights = out
        share = _only(slopes) * (1 / 1.5 / planes.numel())
        if by_planes is not None:
            signs = kept[0] * share
            laplacian(_weighed(signs.addcmul_(signs, edge, value=-1), weights), by_planes)
        if by_edge is None and not any(by is not None for by in by_weights):
            return
        curvature = share * laplacian(_wide([planes])[0]).abs_().sum(1, keepdim=True)
        if by_edge is not None:
            by_edge.copy_(-_weighed(curvature, weights))
        for by_weight in by_weights:
            if by_weight is not None:
                by_weight.copy_((1 - edge) * curvature)


class EdgeInterior(Formula):
    """The mean of `w |e - g| (1 + max(a, b)) / 2` over the pixels; `w` is 1 if it is left out.

    `a = cos(pi i)` is large outside buildings, and `b = -cos(pi g)` where the interior is steep. With `m = 1` for
    `a > b`, 0 for `a < b` and 1/2 if they are equal, the gradients, divided by the number of pixels and times `w`, are

        by e: sign(e - g) (1 + max(a, b)) / 2       by i: -pi/2 sin(pi i) m |e - g|
        by g: pi/2 sin(pi g) (1 - m) |e - g| - sign(e - g) (1 + max(a, b)) / 2
    """

    def value(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the mean, a scalar.

        Args:
            inputs: planes (N, C, H, W) with the interior and the edge first; their slopes, of the same shape; weights
                `w` (N, H, W), 0 or more.
        """
        seg, slopes, *weights = inputs
        interior, edge, slope, *weights = _wide((seg[:, 0], seg[:, 1], slopes[:, 0], *weights))
        a, b = torch.cos(math.pi * interior), -torch.cos(math.pi * slope)
        return (_mean(_weighed((edge - slope).abs(), weights) * (1 + torch.maximum(a, b))) / 2,)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the same as `value`, computed in place."""
        off, turns = self._planes(inputs)
        most = torch.maximum(*turns.cos_().unbind(1))
        return (_absolute_sum(_weighed(off.addcmul_(off, most), inputs[2:])) * (0.5 / off.numel()),)

    def gradient(
        self,
        inputs: Sequence[Tensor],
        kept: Sequence[Tensor],  # noqa: ARG002
        slopes: Gradients,
        out: Gradients,
    ) -> None:
        """Write the derivatives by the planes, by their slopes and by `w`."""
        off, turns = self._planes(inputs)
        b, a = turns.cos().unbind(1)
        most = torch.maximum(a, b)
        share = _only(slopes) * (-0.5 / off.numel())
        by_seg, by_slopes, *by_weights = out
        for by_weight in by_weights:
            if by_weight is not None:
                by_weight.copy_(-share * off.abs() * (1 + most))
        sign = _weighed(off.sign() * share, inputs[2:])
        bend = off.mul_(sign)
        less = sign.addcmul_(sign, most)
        side = a.sub_(b).sign_()  # 2 m - 1
        of_slope, of_interior = turns.sin_().unbind(1)
        if by_seg is not None:
            by_seg.zero_()
            by_seg[:, 0].addcmul_(of_interior, torch.addcmul(bend, bend, side), value=math.pi / 2)
            by_seg[:, 1].sub_(less)
        if by_slopes is not None:
            flat = torch.addcmul(bend, bend, side, value=-1)
            torch.addcmul(less, of_slope, flat, value=math.pi / 2, out=by_slopes.zero_()[:, 0])

    @staticmethod
    def _planes(inputs: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return `e - g` (N, H, W) and the angles `pi g - pi`, `pi i` (N, 2, H, W), whose cosines are `b` and `a`."""
        seg, slopes = inputs[:2]
        planes = seg.new_empty((len(seg), 3, *seg.shape[2:]), dtype=wide_dtype(seg))
        torch.cat((slopes[:, :1], seg[:, :2]), 1, out=planes)
        slope, _, edge = planes.unbind(1)
        off, turns = edge - slope, planes[:, :2].mul_(math.pi)
        turns[:, 0].sub_(math.pi)
        return off, turns


_FEW = 8
"""Maximum number of channels that are compiled separately; in one tensor the compiler would recompute all for each."""


class Slopes(Formula):
    """The Scharr gradient `g` of planes, its magnitude `r = |g|`, and `z = g / (r + 1e-6)`.

    Let `g', r', z'` be the derivatives of the loss by the three, and `s = 1 / (r + 1e-6)`. `dr = n dg` with
    `n = g / r = z / (s r)`, or 0 in a flat plane, and `dz = s (dg - z dr)`. So the derivative by the planes is the
    adjoint of the filter applied to

        g' + s z' + n (r' - s z . z'),        n = z (1 + 1e-6 / r).

    `r` and `z` are saved; the losses that read them save them anyway.
    """

    outputs = 3
    kept = (1, 2)

    def value(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return `g` (N, C, 2, H, W), `r` (N, C, H, W) and `z` (N, C, 2, H, W) in the dtype of the planes.

        Args:
            inputs: planes (N, C, H, W), alone.
        """
        grads = scharr(_wide(inputs)[0])
        down, right = grads.unbind(-3)
        tiny = torch.finfo(grads.dtype).tiny  # keeps the gradient of the square root finite in flat planes
        norm = (down * down + right * right).clamp_min(tiny).sqrt() - math.sqrt(tiny)
        outputs = grads, norm, grads / (norm + EPSILON).unsqueeze(-3)
        return tuple(tensor.to(inputs[0].dtype) for tensor in outputs)

    def _compiled(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        (planes,) = inputs
        if not 0 < planes.shape[1] <= _FEW:
            return self.value(planes)
        of_channels = [self.value(planes[:, i]) for i in range(planes.shape[1])]
        return tuple(torch.stack(parts, dim=1) for parts in zip(*of_channels, strict=True))

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the same as `value`, computed in place."""
        (planes,) = inputs
        grads, normed = (planes.new_empty((*planes.shape[:2], 2, *planes.shape[2:])) for _ in range(2))
        norm = torch.empty_like(planes)
        for block in blocks(planes):
            wide = scharr(_wide([planes[block]])[0], on_graph=False)
            length = torch.hypot(*wide.unbind(2))
            grads[block], norm[block] = wide, length
            torch.div(wide, length.add_(EPSILON).unsqueeze(2), out=normed[block])
        return grads, norm, normed

    def gradient(
        self,
        inputs: Sequence[Tensor],  # noqa: ARG002
        kept: Sequence[Tensor],
        slopes: Gradients,
        out: Gradients,
    ) -> None:
        """Write the derivatives by the planes."""
        by_grads, by_norm, by_normed = slopes
        (norm,), normed = _wide(kept[:1]), kept[1]
        along = torch.zeros_like(norm) if by_norm is None else by_norm
        if by_normed is None:
            total = torch.zeros_like(normed, dtype=norm.dtype)
        else:
            total = by_normed / (norm + EPSILON).unsqueeze(2)
            for z, part in zip(normed.unbind(2), total.unbind(2), strict=True):
                along = torch.addcmul(along, z, part, value=-1)
        if by_grads is not None:
            total += by_grads
        # in a flat plane z is 0, so its factor only has to be finite
        some = norm.clamp_min(math.sqrt(torch.finfo(norm.dtype).tiny))
        along = torch.addcdiv(along, along, some, value=EPSILON)
        scharr_adjoint(total.addcmul_(normed, along.unsqueeze(2)), out[0])


def wide_dtype(like: Tensor) -> torch.dtype:
    """Return the dtype to compute with: at least float32."""
    return torch.promote_types(like.dtype, torch.float32)


def _wide(tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Return tensors in the dtype of the first, but at least float32."""
    dtype = wide_dtype(tensors[0])
    return tuple(tensor.to(dtype) for tensor in tensors)


def _weighed(values: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """Return values times the weights, of which there are some or none."""
    for weight in weights:
        values = values * weight
    return values


def _mean(values: Tensor) -> Tensor:
    """Return the mean."""
    sums = values.sum((-2, -1))  # by plane, so that the compiler can fuse it with the computation of the values
    return sums.sum() / values.numel()


def _absolute_sum(values: Tensor) -> Tensor:
    """Return the sum of the magnitudes of values, which it may overwrite."""
    if values.device.type == "cpu":  # whose norm adds one after the other, slowly and inexactly
        return values.abs_().sum()
    total: Tensor = torch.linalg.vector_norm(values, 1)
    return total


def _only(slopes: Gradients) -> Tensor:
    """Return the derivative of the loss by the only output."""
    (slope,) = slopes
    assert slope is not None
    return slope


def _add_product_conj(to: Tensor, planes: Tensor, imaginary: Tensor) -> None:
    """Add `-i planes imaginary`: of `planes conj(z)` the part that is due to the imaginary `z`."""
    to[:, 0].addcmul_(planes[:, 1], imaginary)
    to[:, 1].addcmul_(planes[:, 0], imaginary, value=-1)
