"""The process that loads all plugins without torch: what other plugins do in it is no finding about this one."""

from __future__ import annotations

import os

import pytest
from made_packages import packages as packages

from lossreg.testing import declaration
from lossreg.testing.contract import Broken

HOOK = "@hookimpl\ndef lossreg_losses():\n    return []\n"


@pytest.fixture(autouse=True)
def _anew(packages, monkeypatch):
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join(filter(None, [str(packages.folder), os.environ.get("PYTHONPATH")]))
    )
    declaration._failing_without_torch.cache_clear()
    yield
    declaration._failing_without_torch.cache_clear()


def test_a_plugin_that_prints_is_no_fault_of_another(packages):
    packages.hooked("loud", "loud", "import atexit, os\nprint('hello')\natexit.register(print, 'bye')\n" + HOOK)
    packages.hooked("low", "low", "import os\nos.write(1, b'hello')\n" + HOOK)
    assert declaration._failing_without_torch() == {}


def test_only_a_plugin_that_imports_torch_fails_whatever_the_switches(packages, monkeypatch):
    packages.hooked("heavy", "heavy", "import torch\n" + HOOK)
    packages.hooked("light", "light", HOOK)
    monkeypatch.setenv("LOSSREG_STRICT", "1")
    assert list(declaration._failing_without_torch()) == ["heavy"]


def test_a_process_that_a_plugin_ends_is_told_as_such(packages):
    packages.hooked(
        "fatal", "fatal", "import os, sys\nprint('no licence', file=sys.stderr, flush=True)\nos._exit(3)\n" + HOOK
    )
    with pytest.raises(Broken, match="without torch ended, code 3: no licence"):
        declaration._failing_without_torch()
