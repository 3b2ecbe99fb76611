"""Whatever the code of a plugin raises is contained and described, and a slow one is reported."""

from __future__ import annotations

import logging
import time

import pytest

from lossreg.errors import PluginError
from lossreg.registry import foreign
from lossreg.registry.foreign import as_exception, described, message_of, watched


class Panic(BaseException):
    """What pyo3 raises is like this."""


class MuteError(Exception):
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (SystemExit(3), r"while importing 'acme': it called sys\.exit\(3\)"),
        (Panic("at the disco"), r"while importing 'acme': Panic: at the disco"),
        (GeneratorExit(), r"while importing 'acme': GeneratorExit"),
    ],
)
def test_what_is_no_exception_becomes_one(error: BaseException, says: str) -> None:
    with pytest.raises(PluginError, match=f"^{says}$") as caught, foreign.foreign("importing 'acme'"):
        raise error
    assert caught.value.__cause__ is error


def test_an_exception_is_raised_as_it_is() -> None:
    error = ValueError("mine")
    with pytest.raises(ValueError, match=r"^mine$") as caught, foreign.foreign("importing 'acme'"):
        raise error
    assert caught.value is error
    assert not hasattr(error, "__notes__")


def test_an_interrupt_says_what_it_stopped() -> None:
    with pytest.raises(KeyboardInterrupt) as caught, foreign.foreign("importing 'acme'"):
        raise KeyboardInterrupt
    assert caught.value.__notes__ == ["stopped while importing 'acme'"]


def test_descriptions() -> None:
    assert described(ValueError("a")) == "ValueError: a"
    assert described(ValueError()) == "ValueError"
    assert described(SystemExit("bye")) == "it called sys.exit('bye')"
    assert described(MuteError()) == "MuteError: (no message: RuntimeError)"
    assert len(message_of(ValueError("x" * 5_000))) < 2_100


def test_an_error_with_a_message_that_can_be_shown_is_itself() -> None:
    error = ValueError("a")
    assert as_exception(error) is error


@pytest.mark.parametrize("error", [MuteError(), Panic("a"), ValueError("x" * 2_001)], ids=["mute", "panic", "long"])
def test_any_other_is_replaced_by_what_describes_it(error: BaseException) -> None:
    made = as_exception(error)
    assert type(made) is PluginError
    assert str(made) == str(PluginError(described(error)))
    assert made.__cause__ is error


def test_a_slow_plugin_is_reported_and_a_quick_one_is_not(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="lossreg.registry")
    with watched("loading 'quick'"):
        pass
    monkeypatch.setattr(foreign, "SLOW", 0.01)
    with watched("loading 'slow'"):
        for _ in range(500):
            if caplog.messages:
                break
            time.sleep(0.01)
    assert caplog.messages == ["lossreg is still loading 'slow'"]
