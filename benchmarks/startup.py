"""Measure the start-up time of the command line, compared with importing torch, with few and many distributions."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import distributions
from importlib.util import find_spec
from pathlib import Path
from timeit import timeit

from measure import Effort, in_turns
from results import Row, timed

TEN_TERMS = """\
epoch_thresholds: [0, 5, 10]
loss_list:
  - {loss: seg, gt_channel_selector: [0, 1], bce_coef: 0.5, dice_coef: 0.5, weight: 10.0}
  - {loss: crossfield_align, weight: [0.0, 0.5, 1.0]}
  - {loss: crossfield_align90, weight: 0.2}
  - {loss: crossfield_smooth, weight: 0.005}
  - {loss: seg_crossfield, name: interior, pred_channel: 0, weight: [0, 0, 0.2]}
  - {loss: seg_crossfield, name: edge, pred_channel: 1, weight: [0, 0, 0.2]}
  - {loss: seg_edge_interior, weight: [0, 0, 0.2]}
  - {loss: torch/SmoothL1Loss, name: height, pred_key: height, gt_key: height}
  - {loss: torch/BCEWithLogitsLoss, name: valid, pred_key: valid, gt_key: valid}
  - {loss: torch/MSELoss, pred_key: slope, gt_key: slope, weight: {schedule: cosine, start: 1, end: 0, end_epoch: 9}}
"""
OURS = ("lossreg", "lossreg_seg", "lossreg_crossfield", "lossreg_wrappers", "lossreg_example")


def install(folder: Path, count: int) -> list[Path]:
    """Create a folder with the metadata of exactly `count` distributions, and return the import path.

    The packages and the metadata are links to the installed ones, lossreg first. If `count` is larger, the rest is
    made up.
    """
    sites = list(dict.fromkeys(Path(str(installed.locate_file(""))) for installed in distributions()))
    folders = {path.name.partition("-")[0].lower(): path for site in sites for path in site.glob("*.dist-info")}
    metadata = sorted(folders.values(), key=lambda path: (not path.name.startswith("lossreg"), path.name))
    for site in sites:
        for entry in site.iterdir():
            if entry.suffix not in {".dist-info", ".pth"} and not (folder / entry.name).exists():
                (folder / entry.name).symlink_to(entry)
    for path in metadata[:count]:
        (folder / path.name).symlink_to(path)
    for i in range(count - len(metadata[:count])):
        made_up = folder / f"made_up_{i}-1.0.dist-info"
        made_up.mkdir()
        (made_up / "METADATA").write_text(f"Metadata-Version: 2.1\nName: made-up-{i}\nVersion: 1.0\n", encoding="utf-8")
        (made_up / "entry_points.txt").write_text(f"[console_scripts]\nmade-up-{i} = made_up:main\n", encoding="utf-8")
    trees = [Path(spec.origin).parents[1] for name in OURS if (spec := find_spec(name)) and spec.origin]
    return [*dict.fromkeys(tree for tree in trees if tree not in sites), folder]


def run(path: list[Path], *arguments: str) -> Callable[[], object]:
    """Return a function that runs Python with this import path and no other packages."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path)), "PYTHONSAFEPATH": "1"}
    command = [sys.executable, "-S", *arguments]
    return lambda: subprocess.run(command, env=environment, check=True, capture_output=True)


def compare(count: int, effort: Effort) -> list[Row]:
    """Time `lossreg list`, `lossreg check` and the compared commands, with `count` distributions."""
    with tempfile.TemporaryDirectory() as name, tempfile.TemporaryDirectory() as configs:
        path, config = install(Path(name), count), Path(configs) / "ten_terms.yaml"
        config.write_text(TEN_TERMS, encoding="utf-8")
        calls = {
            "lossreg check of ten terms": run(path, "-m", "lossreg", "check", str(config)),
            "lossreg list": run(path, "-m", "lossreg", "list"),
            "python -c 'import torch'": run(path, "-c", "import torch"),
            "python -c 'import lossreg'": run(path, "-c", "import lossreg"),
            "python -c pass": run(path, "-c", "pass"),
        }
        times = in_turns({n: lambda number, c=c: timeit(c, number=number) for n, c in calls.items()}, effort, block=0)
    setting = {"distributions": count}
    return [
        timed("startup", ours, other, setting, "process", times[ours], times[other], bar)
        for ours, other, bar in (
            ("lossreg list", "python -c 'import torch'", "list"),
            ("lossreg list", "python -c pass", ""),
            ("lossreg check of ten terms", "python -c 'import torch'", "check"),
        )
    ] + [
        timed(
            "startup", "python -c 'import lossreg'", "python -c 'import torch'", setting, "process",
            times["python -c 'import lossreg'"], times["python -c 'import torch'"],
        )
    ]  # fmt: skip


def cases(effort: Effort) -> Iterator[tuple[str, Callable[[], list[Row]]]]:
    """Yield the comparisons with labels for the progress bar."""
    for count in (40, 1000) if effort.sweeps else (40,):
        yield f"start-up among {count} distributions", lambda c=count: compare(c, effort)
