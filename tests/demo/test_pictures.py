"""The pictures of the demo."""

import pytest
import torch

from lossreg.demo.pictures import field_directions

pytestmark = pytest.mark.needs_plugins  # the extra `demo`, without which nothing here is collected


def test_directions_are_the_roots_of_the_polynomial() -> None:
    u, v = torch.tensor(0.3), torch.tensor(1.7)
    u, v = torch.polar(torch.ones(()), u), torch.polar(torch.ones(()), v)
    c0, c2 = u**2 * v**2, -(u**2 + v**2)
    field = torch.stack([c0.real, c0.imag, c2.real, c2.imag])[:, None, None]
    found = torch.from_numpy(field_directions(field))[:, 0, 0]
    for direction in (u, v):
        assert min(abs(abs(complex(direction.conj() * d)) - 1) + abs((direction.conj() * d).imag) for d in found) < 1e-5
