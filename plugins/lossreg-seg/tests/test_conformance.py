"""Each loss of this package keeps the contract of a loss."""

from __future__ import annotations

from lossreg.testing import check_loss, parametrize_losses


@parametrize_losses(plugin="lossreg-seg")
def test_contract(loss):
    report = check_loss(loss)
    assert report.passed, report
