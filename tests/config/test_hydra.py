"""The Hydra app of the documentation, run as a user runs it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

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


def run(app: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(filter(None, [str(app), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "pick.py", *overrides], cwd=app, env=environment, capture_output=True, text=True, timeout=300
    )


def total(app: Path, *overrides: str) -> float:
    finished = run(app, *overrides)
    assert finished.returncode == 0, finished.stderr
    return float(finished.stdout.split()[-1])


def expected(name: str, seed: int = 0) -> float:
    torch.manual_seed(seed)
    pred = torch.rand(2, 1, 8, 8)
    return float(getattr(torch.nn, name)()(pred, pred.round()))


def test_a_loss_is_picked_by_its_name(app: Path) -> None:
    assert total(app) == pytest.approx(expected("MSELoss"), abs=1e-4)
    assert total(app, "loss=torch/L1Loss") == pytest.approx(expected("L1Loss"), abs=1e-4)
    assert total(app, "loss=L1Loss", "loss.reduction=sum") == pytest.approx(128 * expected("L1Loss"), abs=1e-3)


def test_a_parameter_is_overridden(app: Path) -> None:
    one = total(app, "loss=seg", "loss.gt_channel_selector=0", "loss.bce_coef=1", "loss.dice_coef=0")
    two = total(app, "loss=seg", "loss.gt_channel_selector=0", "loss.bce_coef=2", "loss.dice_coef=0")
    assert two == pytest.approx(2 * one, abs=2e-4)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["loss=seg", "loss.bce_coef=much"], "Value 'much' of type 'str' could not be converted to Float"),
        (["loss=seg", "loss.bce_ceof=1"], "Key 'bce_ceof' not in 'SegLoss'"),
        (["loss=seg", "loss.gt_channel_selector=0", "+loss.bce_ceof=1"], "did you mean 'bce_coef'?"),
        (["loss=seg"], "gt_channel_selector"),
        (["loss=torch/L2Loss"], "Could not find 'loss/torch/L2Loss'"),
        (["loss=compound", "+losses=[seg]", "losses.seg.n_classes=x"], "could not be converted to Integer"),
    ],
)
def test_a_mistake_is_refused(app: Path, overrides: list[str], message: str) -> None:
    finished = run(app, *overrides)
    assert finished.returncode != 0
    assert message in finished.stderr


def test_a_term_is_added_by_its_weight(app: Path) -> None:
    assert total(app, "loss=compound", "+losses.MSELoss.weight=2") == pytest.approx(2 * expected("MSELoss"), abs=1e-4)


def test_terms_are_picked_and_weighted(app: Path) -> None:
    picked = ["loss=compound", "+losses=[torch/L1Loss,torch/MSELoss]"]
    weighted = total(app, *picked, "losses.L1Loss.weight=3", "+w=0.5", "losses.MSELoss.weight=${w}")
    assert weighted == pytest.approx(3 * expected("L1Loss") + 0.5 * expected("MSELoss"), abs=2e-4)


def test_a_weighting_and_a_schedule_are_picked(app: Path) -> None:
    picked = ["loss=compound", "+losses=[torch/L1Loss]"]
    schedule = ["+schedule@losses.L1Loss.weight=constant", "losses.L1Loss.weight.value=4"]
    assert total(app, *picked, *schedule) == pytest.approx(4 * expected("L1Loss"), abs=2e-4)
    weighed = ["+weighting@loss.weighting=uncertainty", "loss.weighting.strategy=dwa"]
    assert "DWA" in run(app, *picked, *weighed).stderr  # which is there, and asks for the epoch


def test_the_whole_config_builds_what_its_node_builds(app: Path) -> None:
    script = (
        (app / "pick.py").read_text().replace("instantiate(cfg.loss)", "__import__('lossreg').get_loss_function(cfg)")
    )
    (app / "pick.py").write_text(script)
    assert total(app) == pytest.approx(expected("MSELoss"), abs=1e-4)
    picked = ["loss=compound", "+losses=[torch/L1Loss]", "+losses.MSELoss.weight=3", "losses.L1Loss.weight=0"]
    assert total(app, *picked) == pytest.approx(3 * expected("MSELoss"), abs=2e-4)
    refused = run(app, "loss=compound", "+losses.MSELos.weight=2")
    assert "loss.losses.MSELos.loss: no loss is named 'MSELos' (did you mean 'MSELoss'" in refused.stderr


def test_a_multirun_goes_over_losses_and_seeds(app: Path) -> None:
    finished = run(app, "--multirun", "loss=torch/L1Loss,torch/MSELoss", "seed=1,2", "hydra.sweep.dir=jobs")
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
def test_a_target_inside_a_node_is_never_imported(app: Path, overrides: list[str]) -> None:
    finished = run(app, *overrides)
    assert finished.returncode != 0
    assert "_target_" in finished.stderr
    assert not (app / "imported").exists()


def test_registering_imports_no_torch() -> None:
    code = (
        "import sys; from lossreg.config.hydra import register_configs as r; r(); r(); sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


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
