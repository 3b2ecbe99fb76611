"""Fixtures shared by the tests of all adapted libraries."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module, metadata
from typing import Any

import pytest
import torch

import lossreg
from lossreg.registry import catalog
from lossreg.registry.catalog import Entry

LIBRARIES = {
    "smp": "segmentation-models-pytorch",
    "monai": "monai",
    "kornia": "kornia",
    "torchvision": "torchvision",
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that takes `entry` for every loss of its module's `PLUGIN` that is offered here."""
    if "entry" in metafunc.fixturenames:
        plugin = metafunc.module.PLUGIN
        entries = [entry for entry in catalog().losses if entry.plugin.name == plugin]
        metafunc.parametrize("entry", entries, ids=[entry.name for entry in entries])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests of libraries that are not installed."""
    for item in items:
        distribution = LIBRARIES.get(getattr(getattr(item, "module", None), "PLUGIN", ""))
        if distribution is not None and not _installed(distribution):
            item.add_marker(pytest.mark.skip(reason=f"{distribution} is not installed"))


def _installed(distribution: str) -> bool:
    try:
        return bool(metadata.version(distribution))
    except metadata.PackageNotFoundError:
        return False


@pytest.fixture
def example() -> Callable[[Entry[Any]], tuple[dict[str, Any], dict[str, Any]]]:
    """Return the function that makes a spec's example batch."""

    def make(entry: Entry[Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        module, _, function = entry.spec.example.partition(":")
        pred, gt = getattr(import_module(module), function)()
        return pred, gt

    return make


@pytest.fixture
def term() -> Callable[..., lossreg.MultiLoss]:
    """Return the function that builds a criterion of terms, as a config gives them."""

    def build(*terms: dict[str, Any]) -> lossreg.MultiLoss:
        return lossreg.build_compound_loss_from_config({"loss_list": list(terms)})

    return build


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
