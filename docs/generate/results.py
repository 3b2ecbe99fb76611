"""Write the tables and plots of the page `results` from the committed runs.

`python docs/generate/results.py [FOLDER]`
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

DOCS = Path(__file__).parents[1]
sys.path.insert(0, str(DOCS.parent / "benchmarks"))

if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else DOCS / "generated"
    import_module("trainings_report").write(DOCS / "benchmarks", folder)
