"""The hooks that a plugin may implement are these, and a plugin can implement each."""

from __future__ import annotations

import pluggy
import pytest

from lossreg.registry import hookspecs
from lossreg.registry.hookspecs import hookimpl

LISTS = ("lossreg_losses", "lossreg_preprocesses", "lossreg_weightings", "lossreg_schedules")


@pytest.fixture
def manager() -> pluggy.PluginManager:
    made = pluggy.PluginManager("lossreg")
    made.add_hookspecs(hookspecs)
    return made


def test_there_are_five(manager: pluggy.PluginManager) -> None:
    assert {name for name in vars(manager.hook) if name.startswith("lossreg_")} == {*LISTS, "lossreg_wrap"}


def test_the_lists_of_all_plugins_count_but_the_first_wrapper_alone(manager: pluggy.PluginManager) -> None:
    class First:
        lossreg_losses = staticmethod(hookimpl(lambda: ["a"]))
        lossreg_wrap = staticmethod(hookimpl(lambda loss, name, options: None))

    class Second:
        lossreg_losses = staticmethod(hookimpl(lambda: ["b"]))
        lossreg_wrap = staticmethod(hookimpl(lambda name: f"wrapped {name}"))

    for plugin in (First(), Second()):
        manager.register(plugin)
    manager.check_pending()
    assert sorted(manager.hook.lossreg_losses()) == [["a"], ["b"]]
    assert manager.hook.lossreg_wrap(loss=None, name="c", options={}) == "wrapped c"


def test_a_hook_with_an_argument_that_there_is_not_is_refused(manager: pluggy.PluginManager) -> None:
    class Wrong:
        lossreg_wrap = staticmethod(hookimpl(lambda losses: None))

    with pytest.raises(pluggy.PluginValidationError, match="losses"):
        manager.register(Wrong())
