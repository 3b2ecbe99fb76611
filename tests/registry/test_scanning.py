"""The scan: what plugins may do in it, threads that wait for it, and slow plugins."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import threading
import time
import warnings

import pytest

import lossreg
from lossreg import registry
from lossreg.errors import AmbiguousNameError, PluginWarning
from lossreg.registry import foreign

HOOK = "@hookimpl\ndef lossreg_losses():\n    return [LossSpec('Hooked', 'torch.nn:L1Loss')]\n"
REGISTER = "import lossreg\nlossreg.register('Mine', summary='mine')(len)\n"


# --- what a plugin registers in the process -----------------------------------------------------------


def test_a_sound_plugin_may_register_at_its_import(packages):
    packages.hooked("acme", "acme", REGISTER + HOOK)
    lossreg.refresh()  # no warning
    assert {*lossreg.list_losses("acme/*"), *lossreg.list_losses("local/*")} == {"acme/Hooked", "local/Mine"}


def test_a_sound_plugin_may_register_in_a_hook(packages):
    source = "import lossreg\n@hookimpl\ndef lossreg_losses():\n    lossreg.register('Mine')(len)\n    return []"
    packages.hooked("acme", "acme", source)
    for _ in range(2):
        lossreg.refresh()
        assert lossreg.list_losses("local/*") == ["local/Mine"]


@pytest.mark.parametrize("fault", ["1/0", "raise SystemExit", "@hookimpl\ndef lossreg_losses():\n    return 5", ""])
def test_what_a_plugin_that_is_left_out_registered_is_left_out_with_it(packages, fault):
    packages.hooked("acme", "acme", REGISTER + fault)
    packages.offering("sound", "sound", "Sound")
    with pytest.warns(PluginWarning, match="plugin 'acme'"):
        lossreg.refresh()
    assert lossreg.list_losses("local/*") == []
    assert lossreg.list_losses("sound/*") == ["sound/Sound"]


def test_what_the_process_registered_before_stays_where_a_plugin_fails(packages):
    lossreg.register("Mine", summary="before")(len)
    packages.hooked("acme", "acme", REGISTER + "1/0")
    packages.scan()
    assert lossreg.find_loss("local/Mine").summary == "before"


FIRST = "import lossreg\nlossreg.register('Focal', summary='one')(len)\n"
SECOND = "import lossreg\nlossreg.register('Other', aliases=('Focal', 'other'))(len)\n"


@pytest.mark.parametrize("second", [FIRST, SECOND])
def test_two_plugins_that_register_one_name_are_both_kept_and_named(packages, second):
    packages.hooked("one-losses", "one", FIRST + HOOK)
    packages.hooked("two-losses", "two", second + HOOK)
    with pytest.warns(PluginWarning, match="loss 'local/Focal' is offered by .*one.* and .*two.*; neither") as warned:
        lossreg.refresh()
    assert len(warned) == 1
    assert lossreg.list_losses("*/Hooked") == ["one/Hooked", "two/Hooked"]
    both = r"registered by plugin 'one' \(one-losses 1.0\)\) and .*registered by plugin 'two' \(two-losses 1.0\)\)"
    with pytest.raises(AmbiguousNameError, match=both):
        lossreg.find_loss("Focal")


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_name_that_a_script_registers_is_that_of_the_script(packages, when):
    packages.hooked("one-losses", "one", FIRST + HOOK)
    packages.hooked("two-losses", "two", SECOND + HOOK)
    if when == "after":
        packages.scan()
    lossreg.register("Focal", summary="mine")(len)
    lossreg.refresh()  # no warning
    assert [lossreg.find_loss(name).summary for name in ("Focal", "local/Focal")] == ["mine", "mine"]
    assert lossreg.find_loss("other").name == "Other"
    assert lossreg.list_losses("local/*") == ["local/Focal", "local/Other"]


def test_a_plugin_that_registers_one_name_twice_is_left_out(packages):
    packages.hooked("two-losses", "two", FIRST + SECOND + HOOK)
    with pytest.warns(PluginWarning, match=r"plugin 'two' .* is skipped: .*it offers 'Focal' twice"):
        lossreg.refresh()


def test_a_plugin_that_asks_for_losses_does_not_stop_a_later_scan(packages):
    packages.hooked("acme", "acme", "import lossreg\nlossreg.list_losses()")
    packages.scan()
    packages.remove("acme")
    packages.offering("sound", "sound", "Sound")
    lossreg.refresh()
    assert lossreg.list_losses("sound/*") == ["sound/Sound"]


# --- what a plugin does to the process ----------------------------------------------------------------


def test_the_filters_of_warnings_stay_as_they_were(packages):
    packages.hooked("acme", "acme", "import warnings\nwarnings.filterwarnings('ignore', 'no such text')\n" + HOOK)
    before = list(warnings.filters)
    lossreg.refresh()
    assert warnings.filters == before
    assert lossreg.list_losses("acme/*") == ["acme/Hooked"]


# --- threads ------------------------------------------------------------------------------------------


def test_threads_that_ask_at_once_share_one_scan(packages, monkeypatch):
    packages.hooked("acme", "acme", "import time, builtins\ntime.sleep(0.2)\n" + HOOK)
    monkeypatch.setattr(registry, "_catalog", None)
    scans, scan = [], registry.discover
    monkeypatch.setattr(registry, "discover", lambda *args: scans.append(1) or scan(*args))
    found = []
    threads = [threading.Thread(target=lambda: found.append(registry.catalog())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(scans) == 1
    assert len(found) == 4
    assert len({id(catalog) for catalog in found}) == 1
    assert found[0].losses.names("acme/*") == ["acme/Hooked"]


def test_threads_that_register_at_once_lose_nothing(packages):
    packages.scan()
    names = [f"Loss{i}" for i in range(40)]
    start = threading.Barrier(4)

    def register(mine):
        start.wait(60)
        for name in mine:
            lossreg.register(name)(len)

    threads = [threading.Thread(target=register, args=(names[i::4],)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert lossreg.list_losses("local/*") == sorted(f"local/{name}" for name in names)


# --- a plugin that hangs ------------------------------------------------------------------------------


def test_a_plugin_that_takes_long_is_named_while_it_loads(packages, monkeypatch, caplog):
    monkeypatch.setattr(foreign, "SLOW", 0.05)
    packages.hooked("slow-losses", "slow", "import time\ntime.sleep(0.5)\n" + HOOK)
    with caplog.at_level(logging.WARNING, "lossreg.registry"):
        lossreg.refresh()
    assert "lossreg is still loading plugin 'slow' (slow-losses 1.0)" in caplog.messages


def test_who_is_quick_is_not_named(packages, monkeypatch, caplog):
    monkeypatch.setattr(foreign, "SLOW", 30)
    packages.hooked("quick", "quick", HOOK)
    before = threading.active_count()
    with caplog.at_level(logging.WARNING, "lossreg.registry"):
        lossreg.refresh()
    assert caplog.messages == []
    deadline = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before


@pytest.mark.parametrize("place", ["import", "hook"])
def test_an_interrupt_passes_with_a_note_of_whom_it_met(packages, place):
    source = "raise KeyboardInterrupt" if place == "import" else HOOK.replace("return", "raise KeyboardInterrupt or")
    before = registry.catalog()
    packages.hooked("slow-losses", "slow", source)
    with pytest.raises(KeyboardInterrupt) as raised:
        lossreg.refresh()
    assert raised.value.__notes__ == ["stopped while loading plugin 'slow' (slow-losses 1.0)"]
    assert registry.catalog() is before


def test_the_command_tells_whom_an_interrupt_met(packages):
    packages.hooked(
        "slow-losses", "slow", "import sys, time\nprint('here', file=sys.stderr, flush=True)\ntime.sleep(60)"
    )
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    try:
        with subprocess.Popen(
            [sys.executable, "-m", "lossreg", "list"], env=packages.environment(), stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stderr is not None
            assert process.stderr.readline() == "here\n"
            process.send_signal(signal.SIGINT)
            told = process.stderr.read()
    finally:
        signal.signal(signal.SIGINT, before)
    assert "stopped while loading plugin 'slow' (slow-losses 1.0)" in told
    assert "Traceback" not in told
    assert process.returncode == 1
