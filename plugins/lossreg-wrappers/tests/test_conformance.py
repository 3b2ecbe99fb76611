"""Each adapted loss keeps the contract of a loss, except for declared exceptions."""

from __future__ import annotations

import pytest
from lossreg_wrappers.exceptions import EXCEPTIONS

from lossreg.registry import catalog
from lossreg.testing import check_component, check_loss
from lossreg.testing.pytest_plugin import components_of


def test_contract(entry):
    report = check_loss(entry.name)
    assert report.passed, report


@pytest.mark.parametrize(
    "component", [c for c in components_of("lossreg-wrappers") if c.kind != "loss"] or [None], ids=str
)
def test_contract_of_a_weighting(component):
    if component is None:
        pytest.skip("torchjd is not installed")
    report = check_component(component)
    assert report.passed, report


def test_exceptions_are_of_losses_that_there_are():
    every = [*catalog().losses, *(entry for entry, _ in catalog().losses.absent)]
    offered = {dotted for entry in every for dotted in entry.spec.dotted}
    declared = {f"{module}.{name}" for module, losses in EXCEPTIONS.items() for name in losses}
    assert declared <= offered
