"""What "Compatibility and versions" in docs/writing_a_plugin.md promises: a plugin built against 0.1 goes on working.

Its wheel, `tests/data/made_for_0_1-1.0-py3-none-any.whl`, is not built anew once 0.1.0 is released. Its sources, a
config and a checkpoint of 0.1 are in it. It has every hook, every field of the specs and a component of each kind. When
a minor version changes the interface, add a wheel that was made for it, and keep this one while the old interface is
taken.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

WHEEL = Path(__file__).parents[1] / "data" / "made_for_0_1-1.0-py3-none-any.whl"

SCRIPT = """
import json, sys
from importlib.resources import files

import lossreg

found = lossreg.list_losses()
summary = lossreg.find_loss("absolute").summary
without_torch = "torch" not in sys.modules

import torch
from made_for_0_1.examples import heights, nothing

data = files("made_for_0_1")
pred, gt = heights()
gt["valid"] = (gt["height"] > 1.5).float()
criterion = lossreg.load_loss(str(data / "config.yaml")).train()
criterion.update_norm(pred, gt, 3)
totals, values, extra = [], {}, {}
for _ in range(2):
    total, values, extra = criterion(pred, gt, epoch=2)
    totals.append(float(total))
(slope,) = torch.autograd.grad(total, [pred["height"]])

resumed = lossreg.load_loss(str(data / "config.yaml")).train()
resumed.load_state_dict(torch.load(str(data / "checkpoint.pt"), weights_only=True))
resumed(pred, gt, epoch=3)

empty, _ = lossreg.create_loss("old/AbsoluteLoss", name="empty", factor=2.0)(*nothing(), normalize=False)
print(json.dumps({
    "found": found,
    "summary": summary,
    "without_torch": without_torch,
    "values": {name: float(value) for name, value in values.items()},
    "norms": {loss.name: float(loss.norm) for loss in criterion.loss_funcs},
    "extra": float(extra["gap"]["halved"]),
    "totals": totals,
    "slope": slope.tolist(),
    "steps": resumed.state_dict()["weighting.steps"].tolist(),
    "resumed_norms": {loss.name: float(loss.norm) for loss in resumed.loss_funcs},
    "empty": float(empty),
}))
"""


@pytest.fixture(scope="module")
def old(tmp_path_factory):
    """What the plugin's components do in a process where a broken plugin is an error."""
    folder = tmp_path_factory.mktemp("old")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", folder, WHEEL]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LOSSREG_")}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=kept | {"PYTHONPATH": str(folder), "LOSSREG_STRICT": "1"},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def expected():
    """The raw value of each term, in float64."""
    steps = np.arange(48.0).reshape(3, 4, 4)
    pred, target = np.sin(steps) + 1.5, np.cos(3 * steps) + 1.5
    error, valid = np.abs(pred - target), target > 1.5
    return {
        "named": 2 * error.mean(),
        "alias": (error * np.array([1, 2, 3, 4])[:, None])[valid].mean(),
        "target": 3 * error.mean(),
        "doubled": ((pred - 2 * target) ** 2).mean(),
        "line": (error**3).mean(),
        "function": 0.5 * (pred * target).mean(),
        "gap": (target.mean() - pred.mean()) ** 2,
    }


def test_the_wheel_is_the_one_of_0_1():
    digest = "1e78e996071d89f4c4f7267fb14032fc2768b55b984be90952b4b80027aa5aad"
    assert hashlib.sha256(WHEEL.read_bytes()).hexdigest() == digest


def test_its_losses_are_found_and_described_without_torch(old):
    names = {"old/AbsoluteLoss", "old/DoubledLoss", "old/GapLoss", "made-for-0-1/OneLineLoss"}
    assert names | {"made-for-0-1/one_line_function"} <= set(old["found"])
    assert old["summary"] == "mean absolute error of heights, with a factor"
    assert old["without_torch"]


def test_its_terms_have_their_values_and_norms(old, expected):
    normalised = expected | {"doubled": 1.0}
    assert old["norms"] == pytest.approx(normalised, rel=1e-5)
    assert old["values"] == pytest.approx(dict.fromkeys(expected, 1.0) | {"doubled": expected["doubled"]}, rel=1e-5)
    assert old["extra"] == pytest.approx(expected["gap"] / 2, rel=1e-5)


def test_a_batch_with_nothing_to_learn_is_0(old):
    assert old["empty"] == 0


def test_its_schedule_and_weighting_make_the_total(old):
    scheduled = {"alias": 0.5, "target": 0.5 * 2**2}  # at epoch 2: half way from 0 to 4, and half of the square
    once = sum(scheduled.get(name, 1.0) * value for name, value in old["values"].items())
    # the weighting rises by 1 a step, before it weighs
    assert old["totals"] == pytest.approx([2 * once, 3 * once], rel=1e-5)
    assert np.any(np.array(old["slope"]) != 0)


def test_a_checkpoint_of_0_1_is_resumed(old, expected):
    # three steps before it was saved and one after; the weights of two terms were 0 in the first
    assert old["steps"] == [4.0, 3.0, 3.0, 4.0, 4.0, 4.0, 4.0]
    assert old["resumed_norms"] == pytest.approx(expected | {"doubled": 1.0}, rel=1e-5)
