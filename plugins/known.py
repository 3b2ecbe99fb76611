"""Write what the core knows of the first-party plugins, which must all be installed: `python plugins/known.py`."""

from __future__ import annotations

import json

from lossreg.registry import catalog
from lossreg.registry.known import DISTRIBUTIONS, FIELDS, FILE


def listing() -> str:
    """Return the components of the installed plugins as a JSON array, one a line, which suits a diff."""
    lines = []
    for section in catalog().sections:
        for entry in (*section, *(entry for entry, _ in section.absent)):
            if entry.plugin.distribution in DISTRIBUTIONS:
                fields = {field: getattr(entry.spec, field, None) for field in FIELDS}
                line = {"distribution": entry.plugin.distribution, "plugin": entry.plugin.name, "kind": section.kind}
                lines.append(json.dumps(line | {field: value for field, value in fields.items() if value}))
    return "[\n" + ",\n".join(sorted(lines)) + "\n]\n"


if __name__ == "__main__":
    FILE.write_text(listing(), encoding="utf-8")
