"""Skip an environment of another Python where there is no CPU build of torch for it.

On Linux the index's own wheels of torch bring CUDA along, gigabytes that no test uses. `ANY_TORCH=1` takes them all the
same.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from tox.execute.request import StdinSource
from tox.plugin import impl
from tox.tox_env.api import ToxEnv
from tox.tox_env.errors import Skip

TESTED = Path(__file__).parent / "requirements" / "tested.txt"


@impl
def tox_on_install(tox_env: ToxEnv, arguments: object, section: str, of_type: str) -> None:  # noqa: ARG001
    """Ask the environment's own pip for a CPU build before the first install."""
    name = tox_env.conf.name
    if of_type != "deps" or not re.match(r"py3\d+-", name) or sys.platform != "linux" or "ANY_TORCH" in os.environ:
        return
    found = re.search(r"^torch==(\S+)$", TESTED.read_text(encoding="utf-8"), re.MULTILINE)
    assert found, f"{TESTED} pins no torch"
    cpu_build = f"torch=={found[1]}+cpu"
    asked = tox_env.execute(
        ["python", "-I", "-m", "pip", "install", "--dry-run", "--no-deps", cpu_build],
        stdin=StdinSource.OFF,
        run_id="cpu-torch",
        show=False,
    )
    if asked.exit_code:
        raise Skip(f"pip finds no {cpu_build} for this Python")
