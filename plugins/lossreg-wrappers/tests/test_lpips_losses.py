"""Plugin `lpips`: the loss of lpips, with its values and gradients; its networks have random weights."""

from __future__ import annotations

import pytest
import torch

import lossreg

PLUGIN = "lpips"


def _library():
    import lpips

    return lpips


def _images(size=64):
    generator = torch.Generator().manual_seed(0)
    pred, gt = (torch.rand(2, 3, size, size, generator=generator) for _ in range(2))
    return pred.requires_grad_(), gt


def test_every_public_loss_is_offered():
    assert _library().LPIPS
    assert lossreg.list_losses("lpips/*") == ["lpips/LPIPS"]


@pytest.mark.parametrize(
    "arguments", [{}, {"net": "vgg"}, {"net": "squeeze", "spatial": True}, {"lpips": False}, {"version": "0.0"}]
)
@pytest.mark.parametrize("normalize", [False, True])
def test_value_and_gradient_are_the_librarys(arguments, normalize):
    pred, gt = _images()
    torch.manual_seed(0)
    made = lossreg.create_loss("lpips/LPIPS", pnet_rand=True, normalize=normalize, **arguments)
    torch.manual_seed(0)
    expected = _library().LPIPS(pnet_rand=True, verbose=False, **arguments)(pred, gt, normalize=normalize).mean()
    value, _ = made(pred, gt)
    assert torch.equal(value, expected)
    assert torch.equal(*(torch.autograd.grad(some, pred)[0] for some in (value, expected)))


def test_the_learned_weights_come_with_the_library():
    state = torch.load(f"{_library().__path__[0]}/weights/v0.1/alex.pth", map_location="cpu")
    made = lossreg.create_loss("lpips/LPIPS", pnet_rand=True)
    for name, tensor in state.items():
        assert torch.equal(made.loss_func.state_dict()[name], tensor)


def test_it_is_fixed_and_has_no_dropout_in_training():
    pred, gt = _images()
    made = lossreg.create_loss("lpips/LPIPS", pnet_rand=True).train()
    assert not any(parameter.requires_grad for parameter in made.parameters())
    assert made(pred, gt)[0] == made(pred, gt)[0] == made.eval()(pred, gt)[0]
