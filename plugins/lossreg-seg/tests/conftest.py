"""Fixtures: the golden batch, random batches, and the textbook formula in float64."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from lossreg_seg import SegLoss
from lossreg_seg.blocks import Blocks
from torch import Tensor

ALL = slice(None)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def golden() -> dict[str, Any]:
    """Return inputs, values and gradients of the original implementation."""
    return json.loads((Path(__file__).parent / "data" / "segloss.json").read_text())


def _textbook(
    p: Tensor, t: Tensor, bce: float = 0.5, dice: float = 0.5, tversky: float = 0.0, w: Tensor | None = None
) -> Tensor:
    p, t = p.double(), t.double()
    entropy = torch.nn.functional.binary_cross_entropy(p, t, reduction="none")
    loss = bce * (entropy if w is None else entropy * w.double()).mean()
    tp, fp, fn = (p * t).sum((2, 3)), (p * (1 - t)).sum((2, 3)), (t * (1 - p)).sum((2, 3))
    loss = loss + dice * (1 - (2 * tp + 1) / (p.sum((2, 3)) + t.sum((2, 3)) + 1 + 1e-7)).mean()
    if tversky:
        index = (tp + 1e-6) / (tp + 0.01 * fp + 0.99 * fn + 1e-6)
        loss = loss + tversky * ((1 - index) ** 0.25).mean()
    return loss


@pytest.fixture(scope="session")
def textbook() -> Callable[..., Tensor]:
    """Return the textbook formula in float64."""
    return _textbook


@contextlib.contextmanager
def _as_elsewhere(yes: bool = True) -> Iterator[None]:
    """Let the kernels take the way that they take on other devices, here on the CPU."""
    if not yes:
        yield
        return
    never = property(lambda planes: False, lambda planes, value: None)
    with mock.patch.object(Blocks, "on_cpu", never, create=True):
        yield


@pytest.fixture(scope="session")
def as_elsewhere() -> Callable[..., contextlib.AbstractContextManager[None]]:
    """Return a context in which the kernels take the way of other devices."""
    return _as_elsewhere


def _value_and_grad(loss: Any, pred: Tensor, gt: Any) -> tuple[Tensor, Tensor]:
    leaf = pred.detach().clone().requires_grad_()
    out = loss(leaf, gt)
    value = out[0] if isinstance(out, tuple) else out
    value.backward()
    assert leaf.grad is not None
    return value.detach(), leaf.grad


@pytest.fixture(scope="session")
def value_and_grad() -> Callable[..., tuple[Tensor, Tensor]]:
    """Call a loss on a copy of `pred`; return its value and the gradient of `pred`."""
    return _value_and_grad


@pytest.fixture(scope="session")
def seg() -> Callable[..., SegLoss]:
    """Return a SegLoss, by default over all channels."""
    return lambda **options: SegLoss("seg", **{"gt_channel_selector": ALL, **options})
