"""The pytest plugin: `--lossreg-plugin`, `parametrize_losses` and `parametrize_components`; without torch."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Generator
from typing import Any, NamedTuple

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option `--lossreg-plugin`."""
    group = parser.getgroup("lossreg")
    group.addoption(
        "--lossreg-plugin",
        action="append",
        default=[],
        metavar="NAME",
        help="plugin or distribution whose components `--pyargs lossreg.testing.suite` checks; may be repeated",
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Generator[None, Any, Any]:  # noqa: ARG001
    """Add the full reports of the checks to a failed test, since pytest cuts the text of an assertion."""
    test_report = yield
    engine = sys.modules.get("lossreg.testing.engine")
    if engine is not None and call.excinfo is not None and test_report.failed:
        values = [value for entry in call.excinfo.traceback for value in entry.locals.values()]
        reports = {id(value): value for value in values if isinstance(value, engine.Report) and not value.passed}
        test_report.sections += [(f"contract of {report.name}", str(report)) for report in reports.values()]
    return test_report


def parametrize_losses(plugin: str) -> pytest.MarkDecorator:
    """Return a decorator that runs a test for each loss of a package, with its canonical name as `loss`.

    ::

        @parametrize_losses(plugin="my-losses")
        def test_contract(loss):
            report = check_loss(loss)
            assert report.passed, report

    Args:
        plugin: the name of a plugin (the namespace of its losses) or of its distribution; `local` for losses
            registered in this process.

    Raises:
        PluginError: no such plugin is installed, or it is broken.
    """
    names = losses_of(plugin)
    marked: pytest.MarkDecorator = pytest.mark.parametrize("loss", names, ids=names)
    return marked


class Component(NamedTuple):
    """One component of a plugin; its `str` is its canonical name, after its kind if it is no loss."""

    kind: str
    name: str

    def __str__(self) -> str:
        return self.name if self.kind == "loss" else f"{self.kind} {self.name}"


def parametrize_components(plugin: str) -> pytest.MarkDecorator:
    """Return a decorator that runs a test for each loss, schedule, weighting and preprocess of a package.

    ::

        @parametrize_components(plugin="my-losses")
        def test_contract(component):
            report = check_component(component)
            assert report.passed, report

    Args:
        plugin: as for `parametrize_losses`.

    Raises:
        PluginError: no such plugin is installed, or it is broken.
    """
    found = components_of(plugin)
    marked: pytest.MarkDecorator = pytest.mark.parametrize("component", found, ids=map(str, found))
    return marked


def losses_of(plugin: str) -> list[str]:
    """Return the canonical names of a plugin's or a distribution's losses.

    Raises:
        PluginError: no such plugin is installed, or it is broken, or it offers no loss.
    """
    names = [component.name for component in components_of(plugin) if component.kind == "loss"]
    if not names:
        from lossreg.errors import PluginError

        raise PluginError(f"{plugin!r} offers no loss here; `lossreg list --all` shows what to install")
    return names


def components_of(plugin: str) -> list[Component]:
    """Return the components of a plugin or a distribution, losses first.

    Raises:
        PluginError: no such plugin is installed, or it is broken, or it offers nothing.
    """
    # imported here, because pytest imports this module in every project of the environment
    from packaging.utils import canonicalize_name

    from lossreg.errors import PluginError, PluginWarning
    from lossreg.registry import catalog

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PluginWarning)  # other plugins may be broken; this one raises below
        known = catalog()
    wanted = canonicalize_name(plugin)

    def matches(candidate: Any) -> bool:
        return wanted in (canonicalize_name(candidate.name), canonicalize_name(candidate.distribution))

    entries = [entry for section in known.sections for entry in section]
    every = [*known.plugins, *(entry.plugin for entry in entries)]  # also those of this process
    plugins = [candidate for candidate in every if matches(candidate)]
    for broken in plugins:
        if broken.error is not None:
            raise PluginError(f"{broken.origin} cannot be used: {broken.error}") from broken.error
    if not plugins:
        installed = sorted({candidate.distribution or candidate.name for candidate in every})
        raise PluginError(f"no plugin {plugin!r} is installed; installed are {', '.join(installed)}")
    found = [Component(entry.spec.kind, entry.name) for entry in entries if matches(entry.plugin)]
    if not found:
        raise PluginError(f"{plugin!r} offers nothing here; `lossreg list --all` shows what to install")
    return found
