"""Constants are right again after a module went through meta and a state dict was loaded."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from lossreg import LossWrapper, MultiLoss
from lossreg.composition.diffusion import MinSNR
from lossreg.composition.weighting.balancer import Balancer
from lossreg.composition.weighting.softadapt import SoftAdapt
from lossreg.composition.weighting.uncertainty import Uncertainty
from lossreg.errors import LossregError
from lossreg.losses.constants import register_constant


def criterion(weighting: nn.Module | None = None) -> MultiLoss:
    terms = [
        LossWrapper(loss, name, pred_key=name, gt_key=name) for name, loss in (("a", nn.L1Loss()), ("b", nn.MSELoss()))
    ]
    return MultiLoss(terms, [1.0, 2.0], weighting=weighting)  # type: ignore[arg-type]


MAKERS: dict[str, Callable[[], nn.Module]] = {
    "MultiLoss": criterion,
    "Uncertainty": lambda: criterion(Uncertainty(classification=["b"])),
    "Balancer": lambda: criterion(Balancer({"a": 3.0})),
    "SoftAdapt": lambda: criterion(SoftAdapt(order=3)),
    "MinSNR": lambda: MinSNR(steps=20),
    "a group": lambda: MultiLoss([criterion(SoftAdapt())], [1.0]),
}


def constants(module: nn.Module) -> dict[str, Tensor]:
    """Return the buffers that no checkpoint has."""
    return {key: buffer for key, buffer in module.named_buffers() if key not in module.state_dict()}


def emptied(module: nn.Module) -> nn.Module:
    """Return a module after `to_empty`, with numbers that cannot be right."""
    module.to_empty(device="cpu")
    for tensor in (*module.parameters(), *module.buffers()):
        tensor.data.fill_(77)
    return module


def made_on_meta(make: Callable[[], nn.Module]) -> nn.Module:
    with torch.device("meta"):
        return emptied(make())


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
@pytest.mark.parametrize("way", [made_on_meta, lambda make: emptied(make().to("meta"))], ids=["made", "moved"])
def test_what_no_checkpoint_has_is_right_after_one_is_loaded(
    make: Callable[[], nn.Module], way: Callable[[Callable[[], nn.Module]], nn.Module]
) -> None:
    original = make()
    expected = constants(original)
    assert expected
    other = way(make)
    other.load_state_dict(original.state_dict())
    found = dict(other.named_buffers())
    for key, buffer in expected.items():
        assert torch.equal(found[key], buffer), key


class Scaled(nn.Module):
    def __init__(self, numbers: list[float], device: str = "cpu") -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.zeros(()))
        register_constant(self, "scale", torch.tensor(numbers, device=device))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_a_copy_has_constants_of_its_own(copied: Callable[[nn.Module], Scaled]) -> None:
    module = nn.Sequential(Scaled([1.0, 2.0]))
    other = copied(module)
    register_constant(other[0], "scale", torch.tensor([3.0]))  # type: ignore[index]
    for changed, numbers in ((module, [1.0, 2.0]), (other, [3.0])):
        changed[0].scale.fill_(0.0)  # type: ignore[index]
        changed.load_state_dict(module.state_dict())
        assert changed[0].scale.tolist() == numbers  # type: ignore[index]


def test_a_constant_on_meta_becomes_real_and_a_cast_one_keeps_its_dtype() -> None:
    state = Scaled([1.0, 2.0]).state_dict()
    module = Scaled([1.0, 2.0]).to("meta")
    module.load_state_dict(state, assign=True)
    assert module.scale.tolist() == [1.0, 2.0]
    cast = Scaled([1.0, 2.0]).double()
    cast.scale.fill_(0.0)
    cast.load_state_dict(state)
    assert (cast.scale.tolist(), cast.scale.dtype) == ([1.0, 2.0], torch.float64)


def test_a_constant_that_never_had_numbers_is_named() -> None:
    module = Scaled([1.0], device="meta").to_empty(device="cpu")
    with pytest.raises(
        LossregError, match=r"Scaled: its constant 'scale' was made on meta.*create the loss on a real device"
    ):
        module.load_state_dict(Scaled([1.0]).state_dict())
