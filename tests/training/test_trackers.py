"""The log of terms in real trackers: what is read back from their stores is what was written."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lossreg import LossWrapper, MultiLoss
from lossreg.training.log import TermLog

pytestmark = pytest.mark.filterwarnings("ignore")  # of the libraries themselves

Numbers = dict[tuple[str, int], float]
"""Numbers by name and step."""


def logged(writer: Any) -> Numbers:
    """Log three steps; return what was written."""
    far = LossWrapper(nn.MSELoss(), "far (%)", pred_key="y", gt_key="y")
    near = LossWrapper(nn.L1Loss(), "near", pred_key="y", gt_key="y")
    criterion = MultiLoss([near, MultiLoss([far], [0.5], name="group")], [3.0, [0.0, 4.0]], [0, 4])
    written: Numbers = {}
    with TermLog(criterion, writer) as log:
        for step in (1, 2, 3):
            criterion({"y": torch.full((2,), float(step), requires_grad=True)}, {"y": torch.zeros(2)}, epoch=step)
            numbers = log.step()
            assert numbers is not None
            written |= {(name, step): number for name, number in numbers.items()}
    assert [written["losses/train_group/far (%)", step] for step in (1, 2, 3)] == [1.0, 4.0, 9.0]
    assert [written["weights/group/far (%)", step] for step in (1, 2, 3)] == [0.5, 1.0, 1.5]
    assert len(written) == 3 * 7
    return written


def test_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs tensorboard; tox -e trackers has it")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(tmp_path) as writer:
        written = logged(writer)
    events = EventAccumulator(str(tmp_path)).Reload()
    read = {(name, event.step): event.value for name in events.Tags()["scalars"] for event in events.Scalars(name)}
    assert read == pytest.approx(written)


@pytest.mark.parametrize("store", ["sqlite", "file"])
def test_mlflow(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason="needs mlflow; tox -e trackers has it")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.chdir(tmp_path)
    uri = f"sqlite:///{tmp_path}/mlflow.db" if store == "sqlite" else (tmp_path / "runs").as_uri()
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(uri)
    try:
        with mlflow.start_run() as run:
            written = logged(mlflow)
        client = mlflow.MlflowClient()
        names = client.get_run(run.info.run_id).data.metrics
        read = {(n, m.step): m.value for n in names for m in client.get_metric_history(run.info.run_id, n)}
        assert read == pytest.approx({(name.replace("(%)", "___"), step): n for (name, step), n in written.items()})
    finally:
        mlflow.set_tracking_uri(before)


@pytest.mark.parametrize("writer", ["run", "module"])
def test_wandb_offline(writer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb", reason="needs wandb; tox -e trackers has it")
    for variable in ("WANDB_DIR", "WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(variable, str(tmp_path))
    run = wandb.init(mode="offline", dir=tmp_path, project="terms")
    written = logged(run if writer == "run" else wandb)
    run.finish()
    file, end = next(tmp_path.glob("**/*.wandb")), time.monotonic() + 60
    while not history_of(file) and time.monotonic() < end:  # another process writes it
        time.sleep(0.1)
    assert history_of(file) == pytest.approx(written)


def history_of(file: Path) -> Numbers:
    """Return the numbers that an offline run has on disk."""
    from wandb.proto.wandb_internal_pb2 import Record

    found: Numbers = {}
    for data in records_of(file.read_bytes()):
        record = Record()
        record.ParseFromString(data)
        row = {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
        found |= {(name, row["_step"]): number for name, number in row.items() if not name.startswith("_")}
    return found


def records_of(data: bytes, block: int = 32768) -> Iterator[bytes]:
    """Yield the records of a file in the log format of LevelDB, after the seven bytes that W&B begins it with."""
    at, whole = 7, b""
    while at + 7 <= len(data):
        if block - at % block < 7:  # no header fits into the rest of a block
            at += block - at % block
            continue
        _checksum, length, kind = struct.unpack("<IHB", data[at : at + 7])
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            yield whole
            whole = b""
