"""Write the table of the page `tested_versions` from the records of `docs/record_runs.py`.

`python docs/generate/tested_versions.py [FOLDER]`
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[1]


def row(name: str, record: dict[str, Any]) -> str:
    """Return the row of an environment."""
    versions = ", ".join(f"{package} {version}" for package, version in record["versions"].items())
    result = f"{record['passed']} passed, {record['failed']} failed, {record['skipped']} skipped"
    cells = (f"`{name}`", record["python"], versions, record["date"], result)
    return f"| {' | '.join(cells)} |"


def table(records: dict[str, dict[str, Any]]) -> str:
    """Return the table of all environments, by name."""
    head = "| environment | Python | versions | date | result |\n|---|---|---|---|---|\n"
    return head + "".join(f"{row(name, record)}\n" for name, record in sorted(records.items()))


if __name__ == "__main__":
    records = json.loads((DOCS / "tested_versions.json").read_text(encoding="utf-8"))
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else DOCS / "generated"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tested-versions.md").write_text(table(records), encoding="utf-8")
