"""The files of a run, each written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CHECKPOINT = "checkpoint.pt"
CONFIG = "config.yaml"
METRICS = "metrics.csv"
TERMS = "terms.png"
PANEL = "panel.png"
DIAGNOSIS_TABLE = "diagnosis.json"
DIAGNOSIS_PICTURE = "diagnosis.png"

RESULTS = (METRICS, CONFIG, CHECKPOINT, TERMS, PANEL, DIAGNOSIS_TABLE, DIAGNOSIS_PICTURE)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path to write to that takes the place of `path` at the end, in one step; not where it raises."""
    draft = path.with_name(f".draft-{path.name}")  # of the same suffix
    try:
        yield draft
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
