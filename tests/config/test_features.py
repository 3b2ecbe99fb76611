"""Every feature of the composition from YAML alone: build, train some steps, and see it at work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import lossreg
from lossreg import MultiLoss, load_loss

SCHEDULES = {
    "constant": "{schedule: constant, value: 2.0}",
    "piecewise": "{schedule: piecewise, values: [0, 1], epoch_thresholds: [0, 4]}",
    "step": "{schedule: step, values: [0, 1], epoch_thresholds: [0, 2]}",
    "polynomial": "{schedule: polynomial, start: 1, end: 0.1, end_epoch: 4, power: 2}",
    "cosine": "{schedule: cosine, start: 1, end: 0.1, end_epoch: 4}",
    "exponential": "{schedule: exponential, start: 1, end: 0.1, end_epoch: 4}",
    "sigmoid": "{schedule: sigmoid, start: 0, end: 1, end_epoch: 4}",
    "cyclic": "{schedule: cyclic, start: 0, end: 1, end_epoch: 4, cycles: 2}",
    "pchip": "{schedule: pchip, values: [0, 1, 0.5], epoch_thresholds: [0, 2, 4]}",
    "akima": "{schedule: akima, values: [0, 1, 0.5], epoch_thresholds: [0, 2, 4]}",
    "chain": "{schedule: chain, schedules: [1.0, {schedule: cosine, start: 1, end: 0, end_epoch: 2}], boundaries: [2]}",
}
WEIGHTINGS = ("uncertainty", "dwa", "softadapt", "relobralo", "cov")


class Net(nn.Module):
    """Two heads over a shared layer, and two auxiliary outputs of half and quarter size."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(1, 4, 3, padding=1)
        self.head = nn.Conv2d(4, 1, 1)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        x = self.head(self.body(image).relu())
        pools = {f"aux.{k}": nn.functional.avg_pool2d(x, 2**k) for k in range(3)}
        return {"x": x, "y": x.tanh(), **pools}


def train(multi_loss: MultiLoss, epochs: int = 5, **more_gt: Tensor) -> list[float]:
    """Train and return the total of each epoch."""
    torch.manual_seed(0)
    net = Net()
    parameters = [
        {"params": net.parameters()},
        {"params": list(multi_loss.weighting_parameters()), "weight_decay": 0.0},
    ]
    optimizer = torch.optim.SGD(parameters, lr=0.05)
    image = torch.rand(4, 1, 8, 8)
    gt = {"t": image.mul(2).sub(1), "m": (image > 0.5).float(), **more_gt}
    totals = []
    for epoch in range(epochs):
        total, _, _ = multi_loss(net(image), gt, epoch=epoch, step=epoch)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(total.item())
    return totals


def load(tmp_path: Path, text: str) -> MultiLoss:
    file = tmp_path / "loss.yaml"
    file.write_text(text)
    loaded: MultiLoss = load_loss(file)
    return loaded


TWO = """
losses:
  a: {loss: Foreign, pred_key: x, gt_key: t}
  b: {loss: scaled_l1, pred_key: y, gt_key: t, scale: 2.0}
"""


def test_a_plain_list_trains(tmp_path: Path) -> None:
    totals = train(load(tmp_path, TWO), epochs=20)
    assert totals[-1] < totals[0]


@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_schedules(name: str, tmp_path: Path) -> None:
    text = f"losses: {{a: {{loss: Foreign, pred_key: x, gt_key: t, weight: {SCHEDULES[name]}}}}}"
    multi_loss = load(tmp_path, text)
    weights = [multi_loss.effective_weights(epoch)["a"] for epoch in (-1, 0, 2, 4, 99)]
    assert weights[0] == weights[1]
    assert weights[3] == weights[4]
    assert name == "constant" or len(set(weights)) > 1
    assert all(torch.tensor(train(multi_loss)).isfinite())


def test_a_schedule_over_steps(tmp_path: Path) -> None:
    weight = "{schedule: piecewise, values: [0, 1], epoch_thresholds: [0, 4], unit: step}"
    totals = train(load(tmp_path, f"losses: {{a: {{loss: Foreign, pred_key: x, gt_key: t, weight: {weight}}}}}"))
    assert totals[0] == 0.0
    assert totals[4] > 0.0


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_weightings(name: str, tmp_path: Path) -> None:
    multi_loss = load(tmp_path, f"weighting: {name}\n{TWO}")
    assert all(torch.tensor(train(multi_loss)).isfinite())
    assert type(multi_loss.weighting).__name__.lower() == name


def test_gradnorm_takes_its_shared_parameters_from_the_caller(tmp_path: Path) -> None:
    multi_loss = load(tmp_path, f"weighting: {{strategy: gradnorm, alpha: 1.0}}\n{TWO}")
    net = Net()
    multi_loss.weighting.set_shared_parameters(net.body.parameters())
    image = torch.rand(4, 1, 8, 8)
    total, _, _ = multi_loss(net(image), {"t": image}, epoch=0)
    total.backward()
    assert net.body.weight.grad.abs().sum() > 0


def test_groups_with_a_weighting_of_their_own(tmp_path: Path) -> None:
    text = """
epoch_thresholds: [0, 4]
losses:
  a: {loss: Foreign, pred_key: x, gt_key: t}
  g:
    weight: [0, 1]
    weighting: cov
    losses:
      b: {loss: scaled_l1, pred_key: y, gt_key: t}
      h: {losses: {c: {loss: Foreign, pred_key: y, gt_key: t, weight: 3}}}
"""
    multi_loss = load(tmp_path, text)
    assert multi_loss.effective_weights(2) == {"a": 1.0, "g/b": 0.5, "g/h/c": 1.5}
    assert all(torch.tensor(train(multi_loss)).isfinite())


def test_deep_supervision_reaches_every_scale(tmp_path: Path) -> None:
    text = "losses: {deep: {loss: Foreign, gt_key: t, deep_supervision: {outputs: 'aux.*', weights: same}}}"
    totals = train(load(tmp_path, text), epochs=20)
    assert totals[-1] < totals[0]


def test_optional_terms_come_and_go(tmp_path: Path) -> None:
    text = TWO + "  c: {loss: Foreign, pred_key: x, gt_key: rare, optional: true}\n"
    multi_loss = load(tmp_path, "weighting: dwa\n" + text)
    train(multi_loss, epochs=2)
    train(multi_loss, epochs=2, rare=torch.zeros(4, 1, 8, 8))
    assert multi_loss.weighting.counts.tolist()[2] > 0


@given(data=st.data())
def test_groups_at_any_depth_flatten_to_the_list_with_multiplied_weights(data: st.DataObject) -> None:
    weights = st.integers(-3, 3).map(float)
    leaf = st.fixed_dictionaries({"weight": weights})
    members = lambda inner: st.lists(inner, min_size=1, max_size=3)  # noqa: E731
    group = lambda inner: st.fixed_dictionaries({"weight": weights, "losses": members(inner)})  # noqa: E731
    tree = data.draw(st.recursive(leaf, group, max_leaves=8))

    def name(node: dict[str, Any], label: str) -> dict[str, Any]:
        if "losses" in node:
            return {**node, "name": label, "losses": [name(n, f"n{i}") for i, n in enumerate(node["losses"])]}
        return {**node, "name": label, "loss": "offset", "offset": float(len(label))}

    grouped = lossreg.build_compound_loss_from_config({"losses": [name(tree, "top")]})
    pred = {"x": torch.full((3,), 2.0, requires_grad=True)}
    total, values, _ = grouped(pred, {})
    flat = sum(grouped.effective_weights()[path] * value.item() for path, value in values.items())
    assert total.item() == pytest.approx(flat, rel=1e-5, abs=1e-4)
    assert set(values) == set(grouped.effective_weights())


@given(st.lists(st.sampled_from([0.0, 1.0, 2.0]), min_size=1, max_size=5))
def test_skip_and_keep_give_the_same_total_and_gradients(weights: list[float]) -> None:
    results = []
    for zero_weight in ("keep", "skip"):
        terms = [{"loss": "offset", "name": f"t{i}", "offset": float(i), "weight": w} for i, w in enumerate(weights)]
        terms.append({"loss": "offset", "name": "last"})
        multi_loss = lossreg.build_compound_loss_from_config({"losses": terms, "zero_weight": zero_weight})
        x = torch.tensor([0.5, -3.0], requires_grad=True)
        total, values, _ = multi_loss({"x": x}, {})
        total.backward()
        results.append((total.item(), x.grad.tolist(), {k: v.item() for k, v in values.items()}))
    assert results[0] == results[1]
