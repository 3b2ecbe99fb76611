"""The network of the demo."""

import pytest
import torch

from lossreg.demo.network import FrameFieldUNet

pytestmark = pytest.mark.needs_plugins  # needs the extra `demo`


@pytest.mark.parametrize("channels", [1, 3, 8])
def test_it_gives_probabilities_and_a_field_of_the_size_of_the_image(channels: int) -> None:
    predicted = FrameFieldUNet(channels)(torch.rand(2, channels, 32, 40))
    assert predicted["seg"].shape == (2, 3, 32, 40)
    assert predicted["crossfield"].shape == (2, 4, 32, 40)
    assert predicted["seg"].min() > 0
    assert predicted["seg"].max() < 1
    assert predicted["crossfield"].abs().max() <= 2


def test_the_output_of_an_image_does_not_depend_on_its_batch() -> None:
    network, images = FrameFieldUNet(), torch.rand(4, 3, 32, 32)
    together, alone = network(images)["seg"][1:2], network(images[1:2])["seg"]
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)


def test_each_head_alone_reaches_the_shared_layer() -> None:
    network = FrameFieldUNet()
    for key in ("seg", "crossfield"):
        gradients = torch.autograd.grad(network(torch.rand(1, 3, 32, 32))[key].sum(), network.shared_parameters())
        assert all(gradient.abs().sum() > 0 for gradient in gradients)
