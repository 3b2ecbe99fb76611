"""What a loss may read, or hand to a kernel of its own."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad

from lossreg.losses.base import can_look
from lossreg.losses.concrete import is_concrete

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.torch.jit.script:FutureWarning")


class Marked(Tensor):
    """A subclass that changes no operation, as those of torchvision."""


@pytest.mark.parametrize(
    "tensor", [torch.ones(2), torch.nn.Parameter(torch.ones(2)), torch.ones(2).as_subclass(Marked)]
)
def test_numbers_are(tensor: Tensor) -> None:
    assert is_concrete(tensor)
    assert can_look(tensor)


def test_tensors_without_numbers_are_not() -> None:
    with FakeTensorMode():
        fake = torch.ones(2)
    assert not is_concrete(fake)
    assert not is_concrete(torch.ones(2, device="meta"))


@pytest.mark.parametrize("transform", ["grad", "vmap", "jvp"])
def test_nothing_is_inside_of_a_functional_transform(transform: str) -> None:
    seen: list[bool] = []
    captured = torch.ones(2)

    def value(x: Tensor) -> Tensor:
        seen.extend([is_concrete(x), is_concrete(captured), can_look(captured)])
        return x.sum()

    {
        "grad": lambda: torch.func.grad(value)(torch.ones(2)),
        "vmap": lambda: torch.func.vmap(value)(torch.ones(2, 2)),
        "jvp": lambda: torch.func.jvp(value, (torch.ones(2),), (torch.ones(2),)),
    }[transform]()
    assert seen == [False] * 3
    assert is_concrete(captured)


def test_a_tensor_with_a_tangent_is_not() -> None:
    with forward_ad.dual_level():
        assert not is_concrete(forward_ad.make_dual(torch.ones(2), torch.ones(2)))
        assert is_concrete(torch.ones(2))


def test_nothing_is_where_a_compiler_traces() -> None:
    torch._dynamo.reset()
    compiled = torch.compile(lambda x: x + (1 if is_concrete(x) else 2), backend="eager", fullgraph=True)
    assert compiled(torch.ones(1)) == 3


def test_an_empty_tensor_has_nothing_to_look_at() -> None:
    assert is_concrete(torch.ones(0))
    assert not can_look(torch.ones(0))
