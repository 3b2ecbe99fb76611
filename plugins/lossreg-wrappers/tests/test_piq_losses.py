"""Plugin `piq`: every loss of piq with a gradient, with its values and gradients."""

from __future__ import annotations

import sys

import pytest
import torch
from torch.nn.modules.loss import _Loss

import lossreg
from lossreg.registry import catalog

PLUGIN = "piq"

NOT_OFFERED = {"CLIPIQA": "it returns a score without a gradient"}


def _library():
    import piq

    return piq


def test_every_public_loss_is_offered():
    public = {name for name, cls in vars(_library()).items() if isinstance(cls, type) and issubclass(cls, _Loss)}
    offered = {entry.spec.name for entry in catalog().losses if entry.plugin.name == "piq"}
    assert offered == public - set(NOT_OFFERED)


def test_value_and_gradient_are_the_librarys(entry, example, direct):
    pred, gt = example(entry)
    ours, own = (pred["seg"].clone().requires_grad_() for _ in range(2))
    value, _ = lossreg.create_loss(entry.name, **entry.spec.example_args)({"seg": ours}, gt)
    expected = direct(getattr(_library(), entry.spec.name), entry, {"seg": own}, gt, **entry.spec.example_args)
    assert torch.equal(value, expected)
    assert torch.equal(torch.autograd.grad(value, ours)[0], torch.autograd.grad(expected, own)[0])


def test_value_in_a_multi_loss_is_the_librarys(entry, example, direct, term):
    pred, gt = example(entry)
    criterion = term({"_target_": f"piq.{entry.spec.name}", **entry.spec.example_args})
    expected = direct(getattr(_library(), entry.spec.name), entry, pred, gt, **entry.spec.example_args)
    torch.testing.assert_close(criterion(pred, gt)[0], expected)


# --- losses that download weights: with random ones in their place --------------------------------


@pytest.fixture
def weights(monkeypatch):
    """Return a function that sets what is read in place of a download, and makes VGG without weights."""
    torchvision = pytest.importorskip("torchvision")

    def vgg(make):
        def made(**_options):
            torch.manual_seed(0)
            return make(weights=None)

        return made

    for name in ("vgg16", "vgg19"):
        monkeypatch.setattr(f"piq.perceptual.{name}", vgg(getattr(torchvision.models, name)))

    def put(state):
        monkeypatch.setattr("torch.hub.load_state_dict_from_url", lambda *_args, **_options: state)

    return put


def _images(size=32):
    generator = torch.Generator().manual_seed(0)
    pred, gt = (torch.rand(2, 3, size, size, generator=generator) for _ in range(2))
    return pred.requires_grad_(), gt


def _agree(name, pred, gt, arguments=None, **own):
    arguments = arguments or {}
    value, _ = lossreg.create_loss(f"piq/{name}", **arguments)(pred, gt)
    expected = getattr(_library(), name)(**arguments, **own)(pred, gt)
    assert torch.equal(value, expected)
    ours, theirs = (torch.autograd.grad(some, pred)[0] for some in (value, expected))
    assert torch.equal(ours, theirs)
    assert ours.any()


@pytest.mark.parametrize("name", ["ContentLoss", "StyleLoss"])
@pytest.mark.parametrize("arguments", [{}, {"feature_extractor": "vgg19", "layers": ["relu1_2"], "distance": "mae"}])
def test_losses_of_features_have_the_librarys_value(weights, name, arguments):
    weights(None)
    _agree(name, *_images(), arguments)


def test_lpips_has_the_librarys_value(weights):
    weights([torch.rand(1, channels, 1, 1) for channels in (64, 128, 256, 512, 512)])
    _agree("LPIPS", *_images())


def test_dists_has_the_librarys_value(weights):
    channels = (3, 64, 128, 256, 512, 512)
    weights({name: torch.rand(1, sum(channels), 1, 1) for name in ("alpha", "beta")})
    _agree("DISTS", *_images(64))


def test_pieapp_has_the_librarys_value_with_gradients(weights, monkeypatch):
    from piq.pieapp import PieAPPModel

    torch.manual_seed(0)
    state = PieAPPModel().state_dict()
    place = "ref_score_subtract.weight"  # piq adds an axis to it

    weights(None)
    monkeypatch.setattr(
        "torch.hub.load_state_dict_from_url", lambda *_args, **_options: {**state, place: state[place].squeeze(1)}
    )
    _agree("PieAPP", *_images(96), enable_grad=True)


def test_brisque_has_the_librarys_value(monkeypatch):
    module = pytest.importorskip("piq") and sys.modules["piq.brisque"]  # `piq.brisque` is its function
    coefficients, vectors = torch.rand(7, 1), torch.rand(7, 36)
    monkeypatch.setattr(module, "load_url", lambda *_args, **_options: (coefficients, vectors.clone()))
    pred, _ = _images(64)
    value, _ = lossreg.create_loss("piq/BRISQUELoss")(pred, {})
    expected = _library().BRISQUELoss()(pred).squeeze()
    assert torch.equal(value, expected)
    assert torch.equal(*(torch.autograd.grad(some, pred)[0] for some in (value, expected)))
