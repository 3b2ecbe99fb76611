"""The public names of `lossreg` are there in a new process, though each is imported at its first use."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import lossreg
for name in lossreg.__all__:
    getattr(lossreg, name)
assert set(lossreg.__all__) <= set(dir(lossreg))
try:
    lossreg.not_there
except AttributeError as error:
    print(error)
"""


def test_every_public_name_is_there() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout == "module 'lossreg' has no attribute 'not_there'\n"
