"""Write the tables of the page `performance` from the committed results.

`python docs/generate/performance.py [FOLDER]`
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path

DOCS = Path(__file__).parents[1]
sys.path.insert(0, str(DOCS.parent / "benchmarks"))

if __name__ == "__main__":
    results = json.loads((DOCS / "benchmarks" / "results.json").read_text(encoding="utf-8"))
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else DOCS / "generated"
    import_module("report").write(results, folder)
