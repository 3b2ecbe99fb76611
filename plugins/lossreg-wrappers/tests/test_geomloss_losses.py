"""Plugin `geomloss`: the loss between point clouds, with its values and gradients."""

from __future__ import annotations

import pytest
import torch

import lossreg

PLUGIN = "geomloss"

NOT_OFFERED = {
    "ImagesBarycenter": "it returns a mean of images",
    "sinkhorn_divergence": "it compares images only with pykeops, which compiles code",
}


def _library():
    import geomloss

    return geomloss


def _clouds():
    generator = torch.Generator().manual_seed(0)
    return torch.rand(2, 6, 3, generator=generator).requires_grad_(), torch.rand(2, 5, 3, generator=generator)


def test_every_public_loss_is_offered():
    public = {name for name, value in vars(_library()).items() if callable(value)}
    assert lossreg.list_losses("geomloss/*") == [f"geomloss/{name}" for name in public - set(NOT_OFFERED)]


@pytest.mark.parametrize("loss", ["sinkhorn", "energy", "gaussian", "laplacian"])
@pytest.mark.parametrize("arguments", [{}, {"blur": 0.2, "p": 1}, {"diameter": 2.0, "scaling": 0.7}])
def test_value_and_gradient_are_the_librarys(loss, arguments):
    pred, gt = _clouds()
    value, _ = lossreg.create_loss("geomloss/SamplesLoss", loss=loss, **arguments)(pred, gt)
    expected = _library().SamplesLoss(loss, **arguments)(pred, gt).mean()
    torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(*(torch.autograd.grad(some, pred)[0] for some in (value, expected)))


def test_points_may_have_weights(term):
    pred, gt = _clouds()
    weights = torch.rand(2, 6).softmax(1), torch.rand(2, 5).softmax(1)
    built = term(
        {
            "_target_": "geomloss.SamplesLoss",
            "wrap": {"inputs": ["pred.weights", "pred.points", "gt.weights", "gt.points"]},
        }
    )
    value, _, _ = built({"points": pred, "weights": weights[0]}, {"points": gt, "weights": weights[1]})
    torch.testing.assert_close(value, _library().SamplesLoss()(weights[0], pred, weights[1], gt).mean())


def test_its_steps_depend_on_the_batch_without_a_diameter():
    with pytest.raises(lossreg.LossregError, match="set `diameter`"):
        lossreg.create_loss("geomloss/SamplesLoss").take_mask("gt.valid")
    assert lossreg.create_loss("geomloss/SamplesLoss", diameter=2.0).masks
    assert lossreg.create_loss("geomloss/SamplesLoss", loss="energy").masks


@pytest.mark.parametrize("option", ["cost", "kernel", "potentials"])
def test_functions_and_formulas_cannot_be_set(term, option):
    with pytest.raises(lossreg.ConfigError, match=option):
        term({"loss": "geomloss/SamplesLoss", option: "Norm2(X-Y)"})
