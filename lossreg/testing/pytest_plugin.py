"""The pytest plugin: `--lossreg-plugin`, and a test for each loss of a package. It imports no torch."""

from __future__ import annotations

import sys
from collections.abc import Generator
from typing import Any

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    group = parser.getgroup("lossreg")
    group.addoption(
        "--lossreg-plugin",
        action="append",
        default=[],
        metavar="NAME",
        help="plugin or distribution whose losses `--pyargs lossreg.testing.suite` checks; may be repeated",
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Generator[None, Any, Any]:  # noqa: ARG001
    """Show the whole of each report of `check_loss` that a failed test holds: pytest cuts what an assertion says."""
    made = yield
    engine = sys.modules.get("lossreg.testing.engine")
    if engine is not None and call.excinfo is not None and made.failed:
        values = [value for entry in call.excinfo.traceback for value in entry.locals.values()]
        reports = {id(value): value for value in values if isinstance(value, engine.Report) and not value.passed}
        made.sections += [(f"contract of {report.name}", str(report)) for report in reports.values()]
    return made


def parametrize_losses(plugin: str) -> pytest.MarkDecorator:
    """Run a test for each loss of a package, its canonical name as the argument `loss`.

    ::

        @parametrize_losses(plugin="my-losses")
        def test_contract(loss):
            report = check_loss(loss)
            assert report.passed, report

    Args:
        plugin: a plugin's name (the namespace of its losses) or its distribution's; `local` for what this process
            registered.

    Raises:
        PluginError: no such plugin is installed, or it is broken.
    """
    names = losses_of(plugin)
    marked: pytest.MarkDecorator = pytest.mark.parametrize("loss", names, ids=names)
    return marked


def losses_of(plugin: str) -> list[str]:
    """Return the canonical names of a plugin's or a distribution's losses.

    Raises:
        PluginError: no such plugin is installed, or it is broken.
    """
    # imported here, since pytest imports this module in every project of the environment
    from packaging.utils import canonicalize_name

    from lossreg.errors import PluginError
    from lossreg.registry import catalog

    wanted = canonicalize_name(plugin)

    def belongs(found: Any) -> bool:
        return wanted in (canonicalize_name(found.name), canonicalize_name(found.distribution))

    every = [*catalog().plugins, *(entry.plugin for entry in catalog().losses)]  # what this process registered, too
    plugins = [found for found in every if belongs(found)]
    for found in plugins:
        if found.error is not None:
            raise PluginError(f"{found.origin} cannot be used: {found.error}") from found.error
    if not plugins:
        installed = sorted({found.distribution or found.name for found in every})
        raise PluginError(f"no plugin {plugin!r} is installed; there are {', '.join(installed)}")
    names = [entry.name for entry in catalog().losses if belongs(entry.plugin)]
    if not names:
        raise PluginError(f"{plugin!r} offers no loss here; `lossreg list --all` says what would have to be installed")
    return names
