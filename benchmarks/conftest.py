"""Let the tests and pytest-benchmark import the modules beside them, as the scripts do."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
