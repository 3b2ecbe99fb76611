"""The names of the files that a run writes."""

from __future__ import annotations

CHECKPOINT = "checkpoint.pt"
CONFIG = "config.yaml"
METRICS = "metrics.csv"
TERMS = "terms.png"
PANEL = "panel.png"
DIAGNOSIS_TABLE = "diagnosis.json"
DIAGNOSIS_PICTURE = "diagnosis.png"
MONITOR_TABLE = "monitor.json"
MONITOR_PICTURE = "monitor.png"

RESULTS = (
    METRICS,
    CONFIG,
    CHECKPOINT,
    TERMS,
    PANEL,
    DIAGNOSIS_TABLE,
    DIAGNOSIS_PICTURE,
    MONITOR_TABLE,
    MONITOR_PICTURE,
)
