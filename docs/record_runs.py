"""Record what tox ran, on which versions and with which result, for the page `tested_versions`.

    python docs/record_runs.py .tox                  # every environment that has reports
    python docs/record_runs.py .tox adapters-oldest  # some

The counts come from the reports of pytest in `.tox/reports`, the versions from the environment itself, or from the
property `versions` of a report, where a test installs an environment of its own. A record replaces the one before of
the same environment; the others stay.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from lossreg.atomic import replacing

RECORDS = Path(__file__).with_name("tested_versions.json")
PACKAGES = (
    "lossreg",
    "torch",
    "numpy",
    "scipy",
    "pydantic",
    "monai",
    "kornia",
    "segmentation-models-pytorch",
    "torchvision",
    "timm",
    "torchjd",
    "auraloss",
    "geomloss",
    "lightly",
    "lpips",
    "piq",
    "pytorch-metric-learning",
    "torchmetrics",
    "lightning",
    "accelerate",
    "transformers",
    "pytorch-ignite",
    "jsonargparse",
    "tensorboard",
    "mlflow",
    "wandb",
)
"""The distributions whose versions are told, where they are installed."""

VERSIONS = """
import json, platform, sys
from importlib import metadata

found = {}
for name in sys.argv[1:]:
    try:
        found[name] = metadata.version(name)
    except metadata.PackageNotFoundError:
        pass
system = f"{platform.system()} {platform.machine()}"
print(json.dumps({"python": platform.python_version(), "system": system, "versions": found}))
"""

Record = dict[str, Any]


def reports_of(tox: Path) -> dict[str, list[Path]]:
    """Return the reports of each environment: those with its name, and those with more behind a hyphen."""
    names = sorted((path.parents[1].name for path in tox.glob("*/bin/python")), key=len, reverse=True)
    found: dict[str, list[Path]] = {}
    for report in sorted((tox / "reports").glob("*.xml")):
        name = next((name for name in names if report.stem == name or report.stem.startswith(f"{name}-")), None)
        if name is not None:
            found.setdefault(name, []).append(report)
    return found


def record_of(tox: Path, reports: list[Path]) -> Iterator[tuple[str, Any]]:
    """Yield the fields of a record: date, counts, Python, system and versions."""
    suites = [suite for report in reports for suite in ElementTree.parse(report).iter("testsuite")]
    total = {
        name: sum(int(suite.get(name, 0)) for suite in suites) for name in ("tests", "failures", "errors", "skipped")
    }
    failed = total["failures"] + total["errors"]
    yield "date", max(suite.get("timestamp", "") for suite in suites)[:10]
    yield "passed", total["tests"] - failed - total["skipped"]
    yield "failed", failed
    yield "skipped", total["skipped"]
    command = [tox / "bin" / "python", "-I", "-c", VERSIONS, *PACKAGES]
    facts = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    for suite in suites:
        for told in suite.iter("property"):
            if told.get("name") == "versions":
                versions = json.loads(told.get("value", "{}"))
                facts["versions"] |= {name: versions[name] for name in PACKAGES if name in versions}
    yield from facts.items()


def main(tox: Path, names: list[str], records: Path = RECORDS) -> None:
    """Write the records of some environments, or of all that have reports."""
    found = reports_of(tox)
    if absent := sorted(set(names) - set(found)):
        raise SystemExit(f"no reports of {', '.join(absent)} in {tox / 'reports'}; run `tox run -e {','.join(absent)}`")
    kept: dict[str, Record] = json.loads(records.read_text(encoding="utf-8")) if records.exists() else {}
    for name in names or found:
        kept[name] = dict(record_of(tox / name, found[name]))
    with replacing(records) as draft:
        draft.write_text(json.dumps(dict(sorted(kept.items())), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
