"""Each component of this package keeps its contract."""

from __future__ import annotations

from lossreg.testing import check_component, parametrize_components


@parametrize_components(plugin="lossreg-example")
def test_contract(component):
    report = check_component(component)
    assert report.passed, report
