"""The two stencils agree with scipy, and so do their adjoints."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lossreg_crossfield.stencils import laplacian, scharr, scharr_adjoint
from scipy.ndimage import correlate
from torch import Tensor

sizes = st.integers(1, 6)


def planes(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(height=sizes, width=sizes, seed=st.integers(0, 99))
def test_laplacian_is_scipys(height: int, width: int, seed: int) -> None:
    x = planes(1, 1, height, width, seed=seed)
    kernel = np.array([[0.5, 1, 0.5], [1, -6, 1], [0.5, 1, 0.5]]) / 8
    expected = correlate(x[0, 0].numpy(), kernel, mode="constant")
    np.testing.assert_allclose(laplacian(x)[0, 0].numpy(), expected, atol=1e-12)


@given(height=sizes, width=sizes, seed=st.integers(0, 99))
def test_scharr_is_scipys(height: int, width: int, seed: int) -> None:
    x = planes(height, width, seed=seed)
    kernel = np.array([[-47, 0, 47], [-162, 0, 162], [-47, 0, 47]]) / 512
    down, right = scharr(x)
    assert torch.equal(scharr(x, on_graph=False), scharr(x))
    np.testing.assert_allclose(down.numpy(), 2 * correlate(x.numpy(), kernel.T, mode="nearest"), atol=1e-12)
    np.testing.assert_allclose(right.numpy(), 2 * correlate(x.numpy(), kernel, mode="nearest"), atol=1e-12)


@given(height=sizes, width=sizes, seed=st.integers(0, 99))
def test_adjoints(height: int, width: int, seed: int) -> None:
    x, y, z = planes(3, 2, 2, height, width, seed=seed)
    torch.testing.assert_close((laplacian(x) * y).sum(), (x * laplacian(y)).sum())
    slopes = torch.stack([y, z], -3)
    torch.testing.assert_close((scharr(x) * slopes).sum(), (x * scharr_adjoint(slopes)).sum())


@pytest.mark.parametrize("axis", [0, 1])
def test_a_ramp_of_one_a_pixel_has_a_slope_of_two(axis: int) -> None:
    ramp = torch.arange(5.0).reshape(-1, 1).expand(5, 6) if axis == 0 else torch.arange(6.0).expand(5, 6)
    slopes = [slope[1:-1, 1:-1] for slope in scharr(ramp)]
    torch.testing.assert_close(slopes[axis], torch.full((3, 4), 2.0))
    torch.testing.assert_close(slopes[1 - axis], torch.zeros(3, 4))


@given(level=st.floats(-1e6, 1e6, width=32))
def test_flat_planes_vanish_exactly(level: float) -> None:
    flat = torch.full((1, 1, 5, 6), level)
    assert not laplacian(flat)[..., 1:-1, 1:-1].any()
    assert not scharr(flat).any()


@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 3, 0, 5), (2, 3, 4, 0), (2, 0, 4, 5)])
def test_no_pixel(shape: tuple[int, ...]) -> None:
    x = torch.rand(shape)
    assert laplacian(x).shape == x.shape
    assert scharr(x).shape == (*shape[:2], 2, *shape[2:])
    assert scharr_adjoint(scharr(x)).shape == x.shape


@pytest.mark.parametrize("name", ["laplacian", "scharr", "scharr_adjoint"])
@pytest.mark.parametrize("layout", ["dense", "channels_last", "strided"])
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # of opcheck in torch 2.15
def test_operators_for_the_compiler(name: str, layout: str) -> None:
    x = planes(2, 3, 6, 8)
    if layout == "channels_last":
        x = x.to(memory_format=torch.channels_last)
    if layout == "strided":
        x = x[..., ::2]
    operator = getattr(torch.ops.lossreg_crossfield, name).default
    grad = name != "scharr_adjoint"  # which is met in backward alone
    inputs = (x.requires_grad_(grad),) if grad else (torch.stack([x, x], 2),)
    tests = (
        ("test_schema", "test_faketensor", "test_aot_dispatch_static") if grad else ("test_schema", "test_faketensor")
    )
    torch.library.opcheck(operator, inputs, test_utils=tests)
