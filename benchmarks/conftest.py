"""Make the modules of this folder importable for the tests and pytest-benchmark."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
