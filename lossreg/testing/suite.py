"""Test the components of a plugin: `pytest --pyargs lossreg.testing.suite --lossreg-plugin my-losses`."""

from __future__ import annotations

import pytest

from lossreg.errors import PluginError
from lossreg.testing.pytest_plugin import Component, components_of


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Create a test for each component of the plugins in the option `--lossreg-plugin`."""
    plugins = metafunc.config.getoption("--lossreg-plugin")
    if not plugins:
        raise pytest.UsageError("expected a plugin, found none: add --lossreg-plugin my-losses")
    try:
        found = [component for plugin in plugins for component in components_of(plugin)]
    except PluginError as error:
        raise pytest.UsageError(str(error)) from error
    metafunc.parametrize("component", found, ids=map(str, found))


def test_contract(component: Component) -> None:
    """Check the contract of one component."""
    from lossreg.testing import check_component

    report = check_component(component)
    assert report.passed, report
