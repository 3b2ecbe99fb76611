"""Small runs for the monitor: a network with three heads, clean or with one planted fault."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from lossreg import LossWrapper, MultiLoss, calibrate_norms
from lossreg.training.monitor import Monitor

_TRUTH = torch.randn(8, 11, generator=torch.Generator().manual_seed(5))


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(8, 32), nn.Tanh())
        self.a, self.b, self.c = nn.Linear(32, 4), nn.Linear(32, 4), nn.Linear(32, 3)

    def forward(self, x):
        hidden = self.body(x)
        return {"a": self.a(hidden), "b": self.b(hidden), "c": self.c(hidden)}


def batch(generator, samples=16):
    x = torch.randn(samples, 8, generator=generator)
    y = torch.tanh(x @ _TRUTH)
    return x, {
        "a": y[:, :4],
        "b": y[:, 4:8],
        "c": y[:, 8:].argmax(1),
        "none": torch.zeros(samples, 4, dtype=torch.bool),
    }


def term(loss, name, key):
    return LossWrapper(loss, name, pred_key=key, gt_key=key)


def fit():
    return term(nn.MSELoss(), "fit", "a")


def near():
    return term(nn.L1Loss(), "near", "b")


def classes():
    return term(nn.CrossEntropyLoss(), "classes", "c")


def train(
    losses=None,
    weights=None,
    *,
    steps=200,
    every=25,
    seed=0,
    calibrate=False,
    plant=lambda criterion, network: None,
    change=lambda criterion, step, pred, gt: (pred, gt),
    parameters=lambda network: network.parameters(),
    same_batch=False,
    **options,
):
    """Return the monitor of a run.

    Args:
        plant: changes the criterion or the network before the first step.
        change: changes predictions and targets at a step.
        parameters: those that are optimised.
        same_batch: whether every step has the first batch.
    """
    torch.manual_seed(seed)
    network, generator = Network(), torch.Generator().manual_seed(seed)
    losses = [fit(), near(), classes()] if losses is None else losses
    criterion = MultiLoss(losses, weights or [1.0] * len(losses), **options)
    if calibrate:
        batches = [batch(generator) for _ in range(5)]
        calibrate_norms(criterion, network, batches, batch_fn=lambda model, b: (model(b[0]), b[1], len(b[0])))
    plant(criterion, network)
    optimizer = torch.optim.Adam([p for p in parameters(network) if p.requires_grad], 1e-3)
    first = batch(generator)
    with Monitor(criterion, every=every) as monitor:
        for step in range(steps):
            x, gt = first if same_batch else batch(generator)
            pred, gt = change(criterion, step, network(x), gt)
            total, _, _ = criterion(pred, gt, epoch=step)
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
    return monitor


# --- faults -----------------------------------------------------------------------------------------


def _masked():
    loss = fit()
    loss.take_mask("gt.none")
    return loss


def _dead_head(_criterion, network):
    network.a = nn.Sequential(nn.Linear(32, 4), nn.ReLU())
    nn.init.constant_(network.a[0].bias, -50.0)


def _freeze(_criterion, network):
    for part in (network.body, network.b):
        part.requires_grad_(False)


def _norm(number):
    def plant(criterion, _network):
        criterion.loss_funcs[0].norm.fill_(number)

    return plant


def _heavier(criterion, step, pred, gt):
    if step == 90:
        criterion.set_weight("near", 1e4)
    return pred, gt


def _growing(_criterion, step, pred, gt):
    return pred, {**gt, "a": gt["a"] * 1.1**step}


def _pred(**changes):
    return lambda criterion, step, pred, gt: ({**pred, **{k: change(pred[k]) for k, change in changes.items()}}, gt)


def _gt(**changes):
    return lambda criterion, step, pred, gt: (pred, {**gt, **{k: change(gt[k]) for k, change in changes.items()}})


def _steep(pred, gt):
    return (torch.sigmoid(1e6 * pred) - gt).abs().mean()


def _against(pred, gt):
    return F.mse_loss(pred, -gt)


FAULTS = {
    "a weight of 1e4": ("dominant", ("near",), {"weights": [1.0, 1e4, 1.0]}),
    "a weight of 1e4 from step 90 on": ("dominant", ("near",), {"change": _heavier}),
    "one term under two names": (
        "counted twice",
        ("fit", "again"),
        {"losses": [fit(), near(), term(nn.MSELoss(), "again", "a")], "calibrate": True},
    ),
    "half of a term beside it": (
        "counted twice",
        ("fit", "half"),
        {"losses": [fit(), near(), term(lambda p, t: 0.5 * F.mse_loss(p, t), "half", "a")]},
    ),
    "targets that are all ignored": (
        "never present",
        ("classes",),
        {"change": _gt(c=lambda c: torch.full_like(c, -100))},
    ),
    "a mask that leaves nothing": ("never present", ("fit",), {"losses": [_masked(), near(), classes()]}),
    "a key that never comes": (
        "never present",
        ("near",),
        {
            "optional_terms": ["near"],
            "change": lambda criterion, step, pred, gt: (pred, {k: v for k, v in gt.items() if k != "b"}),
        },
    ),
    "a detached prediction": ("dead", ("fit",), {"change": _pred(a=torch.Tensor.detach)}),
    "a rounded prediction": (
        "dead",
        ("hard",),
        {"losses": [term(lambda p, t: (p.round() - t).abs().mean(), "hard", "a"), near()]},
    ),
    "a dead head": ("dead", ("fit",), {"plant": _dead_head}),
    "a frozen branch": ("dead", ("near",), {"plant": _freeze}),
    "a saturated activation": ("dead", ("steep",), {"losses": [term(_steep, "steep", "a"), near()]}),
    "a loss of the target alone": (
        "dead",
        ("alone",),
        {"losses": [term(lambda p, t: (t - t.mean()).square().mean(), "alone", "a"), near()]},
    ),
    "opposed terms": ("in conflict", ("fit", "against"), {"losses": [fit(), term(_against, "against", "a"), near()]}),
    "a negative weight": (
        "in conflict",
        ("fit", "more"),
        {"losses": [fit(), term(nn.SmoothL1Loss(), "more", "a"), near()], "weights": [1.0, -0.5, 1.0]},
    ),
    "a norm of smaller data": ("exploding norm", ("fit",), {"calibrate": True, "plant": _norm(1e-4)}),
    "a norm of greater data": ("exploding norm", ("fit",), {"calibrate": True, "plant": _norm(1e5)}),
    "targets that grow under a running norm": (
        "exploding norm",
        ("fit",),
        {"calibrate": True, "track_norms": "running", "norm_momentum": 0.5, "change": _growing},
    ),
    "a target that is NaN": ("not finite", ("fit",), {"change": _gt(a=lambda a: a * float("nan"))}),
    "an optimizer without the parameters": (
        "stuck",
        ("near",),
        {"parameters": lambda network: [*network.a.parameters(), *network.c.parameters()], "same_batch": True},
    ),
}
"""What is planted, the verdict and the terms that it must name, and how."""
