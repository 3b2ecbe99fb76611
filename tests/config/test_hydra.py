"""The Hydra app of the documentation, run as a user runs it: in the tests' own process, but for one multirun."""

from __future__ import annotations

import dataclasses
import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

pytestmark = pytest.mark.needs_plugins

PAGE = Path(__file__).parents[2] / "docs" / "hydra.md"


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """Save the app that stands in the page."""
    script = re.search(r"```python\n(# pick\.py\n.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert script is not None
    (tmp_path / "pick.py").write_text(script[1], encoding="utf-8")
    # a module that tells when it is imported
    (tmp_path / "canary.py").write_text("open('imported', 'w').close()\ndef sing(**_): pass\n")
    return tmp_path


@dataclasses.dataclass(frozen=True)
class Finished:
    """What a run of the app printed, and its exit code."""

    returncode: int
    stdout: str
    stderr: str


Run = Callable[..., Finished]


@pytest.fixture
def run(app: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return the function that runs the app with overrides."""
    monkeypatch.chdir(app)
    monkeypatch.syspath_prepend(app)

    def run(*overrides: str) -> Finished:
        quiet = ["hydra/job_logging=none", "hydra/hydra_logging=none"]  # they would outlive the run
        monkeypatch.setattr(sys, "argv", ["pick.py", *overrides, *quiet])
        code: Any = 0
        try:
            runpy.run_path("pick.py", run_name="__main__")
        except SystemExit as end:
            code = end.code
        return Finished(int(code or 0), *capfd.readouterr())

    return run


@pytest.fixture
def total(run: Run) -> Callable[..., float]:
    """Return the function that runs the app with overrides and gives the total that it printed."""

    def total(*overrides: str) -> float:
        finished = run(*overrides)
        assert finished.returncode == 0, finished.stderr
        return float(finished.stdout.split()[-1])

    return total


def expected(name: str, seed: int = 0) -> float:
    torch.manual_seed(seed)
    pred = torch.rand(2, 1, 8, 8)
    return float(getattr(torch.nn, name)()(pred, pred.round()))


def test_a_loss_is_picked_by_its_name(total: Callable[..., float]) -> None:
    assert total() == pytest.approx(expected("MSELoss"), abs=1e-4)
    assert total("loss=torch/L1Loss") == pytest.approx(expected("L1Loss"), abs=1e-4)
    assert total("loss=L1Loss", "loss.reduction=sum") == pytest.approx(128 * expected("L1Loss"), abs=1e-3)


def test_a_parameter_is_overridden(total: Callable[..., float]) -> None:
    one = total("loss=seg", "loss.gt_channel_selector=0", "loss.bce_coef=1", "loss.dice_coef=0")
    two = total("loss=seg", "loss.gt_channel_selector=0", "loss.bce_coef=2", "loss.dice_coef=0")
    assert two == pytest.approx(2 * one, abs=2e-4)


DWA = ("+weighting@loss.weighting=dwa", "loss.weighting.strategy=dwa")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["loss=seg", "loss.bce_coef=much"], "Value 'much' of type 'str' could not be converted to Float"),
        (["loss=seg", "loss.bce_ceof=1"], "Key 'bce_ceof' not in 'SegLoss'"),
        (["loss=seg", "loss.gt_channel_selector=0", "+loss.bce_ceof=1"], "did you mean 'bce_coef'?"),
        (["loss=compound", "+losses=[L1Loss]", *DWA, "loss.weighting.tempreture=1"], "'tempreture' not in 'DWA'"),
        (["loss=seg"], "gt_channel_selector"),
        (["loss=torch/L2Loss"], "Could not find 'loss/torch/L2Loss'"),
        (["loss=compound", "+losses=[seg]", "losses.seg.n_classes=x"], "could not be converted to Integer"),
        (["loss=compound", "+losses=[seg]", "losses.seg.wrap.inputs=x"], "expected one key or more"),
        (["loss=compound", "+losses=[L1Loss]", "losses.L1Loss.wrap.target_dtyp=long"], "'target_dtyp' not in 'Wrap'"),
        (["loss=compound", "+losses=[L1Loss]", "losses.L1Loss.wrap.reduction=median"], "losses.L1Loss.wrap.reduction"),
    ],
)
def test_a_mistake_is_refused(run: Run, overrides: list[str], message: str) -> None:
    finished = run(*overrides)
    assert finished.returncode != 0
    assert message in finished.stderr


def test_a_term_is_added_by_its_weight(total: Callable[..., float]) -> None:
    assert total("loss=compound", "+losses.MSELoss.weight=2") == pytest.approx(2 * expected("MSELoss"), abs=1e-4)


def test_terms_are_picked_and_weighted(total: Callable[..., float]) -> None:
    picked = ["loss=compound", "+losses=[torch/L1Loss,torch/MSELoss]"]
    weighted = total(*picked, "losses.L1Loss.weight=3", "+w=0.5", "losses.MSELoss.weight=${w}")
    assert weighted == pytest.approx(3 * expected("L1Loss") + 0.5 * expected("MSELoss"), abs=2e-4)


def test_what_a_term_is_given_is_overridden_key_by_key(total: Callable[..., float]) -> None:
    elements = ["loss=compound", "+losses=[torch/L1Loss]", "losses.L1Loss.reduction=none"]
    for wrap in ("losses.L1Loss.wrap.reduction=sum", "losses.L1Loss.wrap={reduction: sum}"):
        assert total(*elements, wrap) == pytest.approx(128 * expected("L1Loss"), abs=1e-3)
    assert total(*elements) == pytest.approx(expected("L1Loss"), abs=1e-4)


def test_a_weighting_and_a_schedule_are_picked(total: Callable[..., float], run: Run) -> None:
    picked = ["loss=compound", "+losses=[torch/L1Loss]"]
    schedule = ["+schedule@losses.L1Loss.weight=constant", "losses.L1Loss.weight.value=4"]
    assert total(*picked, *schedule) == pytest.approx(4 * expected("L1Loss"), abs=2e-4)
    weighed = ["+weighting@loss.weighting=uncertainty", "loss.weighting.strategy=dwa"]
    assert "DWA" in run(*picked, *weighed).stderr  # which is there, and asks for the epoch


def test_the_whole_config_builds_what_its_node_builds(app: Path, total: Callable[..., float], run: Run) -> None:
    script = (
        (app / "pick.py").read_text().replace("instantiate(cfg.loss)", "__import__('lossreg').get_loss_function(cfg)")
    )
    (app / "pick.py").write_text(script)
    assert total() == pytest.approx(expected("MSELoss"), abs=1e-4)
    picked = ["loss=compound", "+losses=[torch/L1Loss]", "+losses.MSELoss.weight=3", "losses.L1Loss.weight=0"]
    assert total(*picked) == pytest.approx(3 * expected("MSELoss"), abs=2e-4)
    refused = run("loss=compound", "+losses.MSELos.weight=2")
    assert "loss.losses.MSELos.loss: no loss is named 'MSELos' (did you mean 'MSELoss'" in refused.stderr


def test_a_multirun_goes_over_losses_and_seeds(app: Path) -> None:
    sweep = ["--multirun", "loss=torch/L1Loss,torch/MSELoss", "seed=1,2", "hydra.sweep.dir=jobs"]
    finished = subprocess.run([sys.executable, "pick.py", *sweep], cwd=app, capture_output=True, text=True, timeout=300)
    assert finished.returncode == 0, finished.stderr
    found = [(app / "jobs" / str(job) / "total.txt").read_text() for job in range(4)]
    jobs = [(name, seed) for name in ("L1Loss", "MSELoss") for seed in (1, 2)]
    assert found == [f"{name} {expected(name, seed):.4f}" for name, seed in jobs]


@pytest.mark.parametrize(
    "overrides",
    [
        ["loss=torch/L1Loss", "+loss.args.x={_target_: canary.sing}"],
        ["loss=seg", "loss.gt_channel_selector={_target_: canary.sing}"],
        ["loss=compound", "+losses.MSELoss.args={_target_: canary.sing}"],
        ["loss=compound", "+losses.a={_target_: canary.sing}"],
        ["loss=compound", "+losses=[seg]", "losses.seg.gt_channel_selector={_target_: canary.sing}"],
    ],
)
def test_a_target_inside_a_node_is_never_imported(
    app: Path, run: Run, monkeypatch: pytest.MonkeyPatch, overrides: list[str]
) -> None:
    monkeypatch.delitem(sys.modules, "canary", raising=False)
    finished = run(*overrides)
    assert finished.returncode != 0
    assert "_target_" in finished.stderr
    assert not (app / "imported").exists()


def test_registering_imports_no_torch() -> None:
    code = (
        "import sys; from lossreg.config.hydra import register_configs as r; r(); r(); sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_registering_reads_no_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    from lossreg.config.hydra import register_configs
    from lossreg.registry.source import Sources

    monkeypatch.setattr(Sources, "of", lambda *_: pytest.fail("parameters are read when a node is chosen"))
    register_configs()


def test_every_registered_loss_is_offered() -> None:
    from hydra.core.config_store import ConfigStore

    import lossreg
    from lossreg.config.hydra import register_configs

    register_configs()
    store = ConfigStore.instance()
    for name in lossreg.list_losses():
        group, _, short = name.rpartition("/")
        for kind in ("loss", "losses"):
            assert store.load(f"{kind}/{group}/{short}.yaml").node["loss"] == name
