"""Min-SNR weights: the paper's formula in float64, the schedules of noise, and the weights as `sample_weight`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import lossreg
from lossreg.composition.diffusion import MinSNR
from lossreg.errors import DtypeError, MissingKeyError, RangeError, ShapeError

FORMULAS = {
    "epsilon": lambda snr, gamma: np.minimum(snr, gamma) / snr,
    "x0": lambda snr, gamma: np.minimum(snr, gamma),
    "v": lambda snr, gamma: np.minimum(snr, gamma) / (snr + 1),
}


def cosine(t: float) -> float:
    return float(np.cos((t + 0.008) / 1.008 * np.pi / 2) ** 2)


def alphas_cumprod(betas: str, steps: int) -> Any:
    """Return the cumulative products as the papers define them."""
    each = {
        "linear": np.linspace(1e-4, 0.02, steps),
        "scaled_linear": np.linspace(1e-4**0.5, 0.02**0.5, steps) ** 2,
        "cosine": [min(1 - cosine((i + 1) / steps) / cosine(i / steps), 0.999) for i in range(steps)],
    }[betas]
    return np.cumprod(1 - np.asarray(each))


def weights(preprocess: MinSNR, timesteps: Any) -> Any:
    _, gt = preprocess({}, {"timesteps": torch.as_tensor(timesteps)})
    return gt["snr_weight"]


@pytest.mark.parametrize("steps", [10, 1000])
@pytest.mark.parametrize("betas", ["linear", "scaled_linear", "cosine"])
@pytest.mark.parametrize("prediction", FORMULAS)
def test_meets_the_formula_of_the_paper(prediction: Any, betas: Any, steps: int) -> None:
    a = alphas_cumprod(betas, steps)
    found = weights(MinSNR(prediction, 5.0, betas, steps), np.arange(steps))
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found, FORMULAS[prediction](a / (1 - a), 5.0), rtol=1e-5)


@given(st.lists(st.floats(0.001, 0.999), min_size=1, max_size=5), st.floats(0.1, 50), st.sampled_from(list(FORMULAS)))
def test_takes_given_products(a: list[float], gamma: float, prediction: Any) -> None:
    found = weights(MinSNR(prediction, gamma, alphas_cumprod=a), np.arange(len(a)))
    snr = np.array(a) / (1 - np.array(a))
    np.testing.assert_allclose(found, FORMULAS[prediction](snr, gamma), rtol=1e-5)


def test_no_noise_and_no_signal_are_the_limits() -> None:
    for prediction, expected in (("epsilon", [1.0, 0.0]), ("x0", [0.0, 5.0]), ("v", [0.0, 0.0])):
        found = weights(MinSNR(prediction, alphas_cumprod=[0.0, 1.0]), [0, 1])  # type: ignore[arg-type]
        assert found.tolist() == expected


@pytest.mark.needs_plugins
def test_weighs_the_samples_of_a_term() -> None:
    criterion = lossreg.build_compound_loss_from_config(
        {
            "pre_processes": [{"preprocess": "min_snr", "prediction": "v", "betas": "cosine"}],
            "loss_list": [{"loss": "MSELoss", "pred_key": "x", "gt_key": "y", "sample_weight": "gt.snr_weight"}],
        }
    )
    pred, target, timesteps = torch.rand(3, 2, 4), torch.rand(3, 2, 4), torch.tensor([0, 500, 998])
    total, _, _ = criterion({"x": pred}, {"y": target, "timesteps": timesteps})
    w = weights(MinSNR("v", betas="cosine"), timesteps)
    errors = (pred - target).square().mean((1, 2))
    torch.testing.assert_close(total, (w * errors).sum() / w.sum())


def test_is_in_no_checkpoint_and_real_on_meta() -> None:
    with torch.device("meta"):
        preprocess = MinSNR()
    assert preprocess.state_dict() == {}
    assert torch.equal(weights(preprocess, [3]), weights(MinSNR(), [3]))


def test_keeps_its_precision_and_reads_nothing_on_a_device() -> None:
    found = weights(MinSNR(), torch.zeros(2, dtype=torch.int64, device="meta"))
    assert found.is_meta
    assert found.shape == (2,)


@pytest.mark.parametrize(
    ("timesteps", "error", "message"),
    [
        (3, ShapeError, r"has shape \(\), expected \(N,\)"),
        ([[0, 1]], ShapeError, r"has shape \(1, 2\), expected \(N,\)"),
        ([0.5], DtypeError, "has dtype float32, expected an integer dtype"),
        ([3, 1000], RangeError, "expected numbers from 0 to 999, found 1000; set `steps`"),
        ([-1], RangeError, "found -1"),
    ],
)
def test_malformed_timesteps_are_refused(timesteps: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        weights(MinSNR(), torch.tensor(timesteps))


def test_missing_timesteps_are_refused() -> None:
    with pytest.raises(MissingKeyError, match=r"MinSNR needs 'gt.timesteps'"):
        MinSNR()({}, {})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prediction": "noise"}, "prediction: expected"),
        ({"gamma": 0.0}, "gamma: expected a finite number above 0"),
        ({"betas": "quadratic"}, "betas: expected"),
        ({"steps": 0}, "steps: expected a whole number of 1 or more"),
        ({"beta_end": 1.0}, "beta_end: expected a number above 0 and below 1"),
        ({"alphas_cumprod": [0.5, 1.5]}, r"alphas_cumprod\[1\]: expected a number from 0 to 1"),
        ({"alphas_cumprod": []}, "alphas_cumprod: is empty"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MinSNR(**options)
