"""Plugin `auraloss`: the public losses of `auraloss.time` and `auraloss.freq`, with their values and gradients."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
import torch
from torch import nn

import lossreg
from lossreg.registry import catalog

PLUGIN = "auraloss"

NOT_OFFERED = {
    "ChromaSTFTLoss": "auraloss 0.4 fails to build it: its filters are no tensor",
    "RandomResolutionSTFTLoss": "it draws its resolutions in every forward, from numpy's global random numbers, which "
    "neither torch's seed nor a checkpoint sets; use auraloss/MultiResolutionSTFTLoss",
}


def _public():
    import auraloss

    modules = (auraloss.time, auraloss.freq, auraloss.perceptual)
    return {
        name: cls
        for module in modules
        for name, cls in vars(module).items()
        if isinstance(cls, type) and issubclass(cls, nn.Module) and cls.__module__ == module.__name__
    }


def test_every_public_loss_is_offered():
    offered = {entry.spec.name for entry in catalog().losses if entry.plugin.name == "auraloss"}
    assert offered == {name for name in _public() if name.endswith("Loss")} - set(NOT_OFFERED)


def test_a_loss_that_is_not_offered_draws_its_values():
    loss, signal = _public()["RandomResolutionSTFTLoss"](max_fft_size=64), torch.randn(1, 1, 512)
    torch.manual_seed(0)
    first = loss(signal, signal.flip(-1))
    torch.manual_seed(0)
    assert loss(signal, signal.flip(-1)) != first


def test_value_and_gradient_are_the_librarys(entry, example, direct):
    pred, gt = example(entry)
    (key,) = pred
    ours, own = (pred[key].clone().requires_grad_() for _ in range(2))
    value, _ = lossreg.create_loss(entry.name, **entry.spec.example_args)({key: ours}, gt)
    expected = direct(_public()[entry.spec.name], entry, {key: own}, gt, **entry.spec.example_args)
    assert torch.equal(value, expected)
    assert torch.equal(torch.autograd.grad(value, ours)[0], torch.autograd.grad(expected, own)[0])


def test_value_in_a_multi_loss_is_the_librarys(entry, example, direct, term):
    pred, gt = example(entry)
    public = _public()[entry.spec.name]
    criterion = term({"_target_": f"{public.__module__}.{public.__name__}", **entry.spec.example_args})
    expected = direct(public, entry, pred, gt, **entry.spec.example_args)
    torch.testing.assert_close(criterion(pred, gt)[0], expected)


@pytest.fixture
def librosa(monkeypatch):
    """Put a module in the place of librosa, whose filters are the same random numbers at every call."""

    def filters(*, sr, n_fft, n_mels=0, n_chroma=0):
        generator = torch.Generator().manual_seed(sr)
        return torch.rand(n_mels + n_chroma, n_fft // 2 + 1, generator=generator).numpy()

    stand_in, module = ModuleType("librosa"), ModuleType("librosa.filters")
    stand_in.filters = module
    module.mel = module.chroma = filters
    monkeypatch.setitem(sys.modules, "librosa", stand_in)
    monkeypatch.setitem(sys.modules, "librosa.filters", module)
    monkeypatch.setattr("lossreg_wrappers.auraloss_modules.find_spec", lambda _name: True)


@pytest.mark.parametrize("options", [{}, {"n_mels": 5, "mag_distance": "L2", "w_lin_mag": 0.5, "eps": 1e-4}])
@pytest.mark.usefixtures("librosa")
def test_mel_spectrograms_have_the_librarys_value(options):
    arguments = {"sample_rate": 8000, "fft_size": 256, "hop_size": 8, "win_length": 32, **options}
    pred, gt = torch.randn(2, 1, 512, requires_grad=True), torch.randn(2, 1, 512)
    value, _ = lossreg.create_loss("auraloss/MelSTFTLoss", **arguments)(pred, gt)
    expected = _public()["MelSTFTLoss"](**arguments)(pred, gt)
    assert torch.equal(value, expected)
    assert torch.equal(*(torch.autograd.grad(some, pred)[0] for some in (value, expected)))


@pytest.mark.usefixtures("librosa")
def test_the_library_fails_to_build_what_is_not_offered():
    with pytest.raises(TypeError, match=r"cannot assign 'numpy\.ndarray' object to buffer 'fb'"):
        _public()["ChromaSTFTLoss"](sample_rate=8000)


def test_without_librosa_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr("lossreg_wrappers.auraloss_modules.find_spec", lambda _name: None)
    with pytest.raises(ImportError, match="MelSTFTLoss needs librosa for its filters: pip install librosa"):
        lossreg.create_loss("auraloss/MelSTFTLoss", sample_rate=8000)
