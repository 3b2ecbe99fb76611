"""The monitor says nothing of the training runs that the pages and the demo show; they are clean."""

from __future__ import annotations

from pathlib import Path

import pytest
from page_runs import LONGER, watched

from lossreg import Monitor

SEEDS = [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 11))]


@pytest.mark.needs_plugins
@pytest.mark.filterwarnings("ignore")  # of the libraries that a page uses
@pytest.mark.parametrize("page", LONGER)
@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_said_of_a_page(page: str, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if page == "lightning":
        for package in ("lightning.pytorch", "pytorch_lightning"):  # both, as other tests in this process want them
            pytest.importorskip(package, reason="the page on Lightning needs it")
    monitors = watched(page, seed, tmp_path, monkeypatch)
    assert sum(len(monitor.samples) for monitor in monitors) == 20
    assert [str(verdict) for monitor in monitors for verdict in monitor.verdicts] == []


@pytest.mark.needs_plugins
@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_nothing_is_said_of_the_demo(seed: int, tmp_path: Path) -> None:
    from lossreg.demo import train as demo  # needs the extra `demo`

    config = demo.resolved_config(Path(demo.__file__).with_name("demo.yaml"))
    run = demo.build_run(demo.Settings(epochs=5, seed=seed, count=64, size=32, batch_size=4), config)
    with Monitor(run.criterion, every=10) as monitor:
        demo.train(run, tmp_path)
    assert len(monitor.samples) == 8
    assert [str(verdict) for verdict in monitor.verdicts] == []
