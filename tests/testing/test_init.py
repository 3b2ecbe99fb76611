"""The kit without Hypothesis."""

from __future__ import annotations

import subprocess
import sys


def test_without_hypothesis_the_checks_are_there_and_a_strategy_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['hypothesis'] = None\n"
        "import lossreg.testing\n"
        "assert lossreg.testing.promises()\n"
        "try:\n    lossreg.testing.batches\n"
        "except ImportError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "the strategies of lossreg.testing need Hypothesis: pip install 'lossreg[testing]'\n"
