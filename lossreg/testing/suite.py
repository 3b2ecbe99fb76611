"""Test the losses of a plugin: `pytest --pyargs lossreg.testing.suite --lossreg-plugin my-losses`."""

from __future__ import annotations

import pytest

from lossreg.errors import PluginError
from lossreg.testing.pytest_plugin import losses_of


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Create a test for each loss of the plugins in the option `--lossreg-plugin`."""
    plugins = metafunc.config.getoption("--lossreg-plugin")
    if not plugins:
        raise pytest.UsageError("expected a plugin, found none: add --lossreg-plugin my-losses")
    try:
        names = [name for plugin in plugins for name in losses_of(plugin)]
    except PluginError as error:
        raise pytest.UsageError(str(error)) from error
    metafunc.parametrize("loss", names, ids=names)


def test_contract(loss: str) -> None:
    """Check the contract of one loss."""
    from lossreg.testing import check_loss

    report = check_loss(loss)
    assert report.passed, report
