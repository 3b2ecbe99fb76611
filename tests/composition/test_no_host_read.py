"""No forward reads a value back to the host: tensors without values go through every part of the composition.

A tensor on `meta` and a fake one have a shape, a dtype and a device, and no values. On `meta`, which is not the CPU,
all that a CPU may look at is left out, as on a GPU. (A fake GPU would be no better, and torch built without CUDA
cannot index one.) The losses alone are tried by the kit, and their kernels by the plugins' own tests.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from lossreg import MultiLoss
from lossreg.composition.weighting.shared import AtSharedParameters

GRADIENTS = ("gradnorm", "balancer", "lrannealing")  # they take a gradient of each term
OPTIONS: list[dict[str, Any]] = [
    {},
    *({"weighting": name} for name in ("uncertainty", "dwa", "softadapt", "relobralo", "cov", *GRADIENTS)),
    {"track_norms": "running"},
    {"zero_weight": "skip"},
    {"normalize_losses": False},
]
FEW = (
    "seg",
    "align",
    "edge_interior",
    "mse",
)  # for those of GRADIENTS, whose time grows with the square of their number


def _forwards(first_party: SimpleNamespace, options: dict[str, Any], device: str) -> list[Tensor]:
    """Return what forwards and a backward give on a device, for batches with all terms and with some."""
    weighting = options.get("weighting")
    if weighting in GRADIENTS:
        options = {**options, "losses": {name: first_party.terms[name] for name in FEW}}
    multi_loss = first_party.build(**options)
    multi_loss.make_optional()
    if device != "cpu":  # a module cannot move a parameter that is fake, not even to where it is
        multi_loss.to(device)
    shared = torch.nn.Parameter(torch.ones((), device=device))
    if isinstance(multi_loss.weighting, AtSharedParameters):
        multi_loss.weighting.set_shared_parameters([shared])
    pred, gt = ({key: tensor.detach().to(device) for key, tensor in side.items()} for side in first_party.batch())
    pred = {key: tensor * shared for key, tensor in pred.items()}
    without_field = {key: tensor for key, tensor in pred.items() if key != "crossfield"}
    found: list[Tensor] = []
    for epoch in (0, 1, 1, 2.5) if weighting == "dwa" else (0, 2.5):  # DWA weighs from its third epoch
        for some in (pred, without_field):
            total, values, _ = multi_loss(some, gt, epoch=epoch)
            found += [total, *values.values()]
    found.append(multi_loss.weighted_terms(pred, gt, epoch=epoch))
    total.backward()
    assert shared.grad is not None
    return [*found, shared.grad, *multi_loss.buffers()]


@pytest.mark.needs_plugins
@pytest.mark.parametrize("where", ["meta", "fake"])
@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: str(*options.values()) or "plain")
def test_no_value_is_read(first_party: SimpleNamespace, options: dict[str, Any], where: str) -> None:
    if where == "meta":
        assert {tensor.device.type for tensor in _forwards(first_party, options, "meta")} == {"meta"}
    else:
        with FakeTensorMode(allow_non_fake_inputs=False):
            _forwards(first_party, options, "cpu")


def _branches(pred: Tensor, gt: Tensor) -> Tensor:
    return pred.mean() if pred.mean() > gt.mean() else gt.mean()


def test_a_read_would_show() -> None:
    multi_loss = MultiLoss([_branches], [1.0]).to("meta")
    with pytest.raises(RuntimeError, match="meta"):
        multi_loss(torch.ones(3, device="meta"), torch.ones(3, device="meta"))
    with FakeTensorMode(), pytest.raises(DataDependentOutputException):
        MultiLoss([_branches], [1.0])(torch.ones(3), torch.ones(3))
