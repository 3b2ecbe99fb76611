"""The training of the demo: stopped and resumed, it ends with the same numbers under any weighting."""

import functools
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from lossreg.demo import pictures, scenes
from lossreg.demo.command import DEMO_CONFIG
from lossreg.demo.train import Settings, build_run, read_checkpoint, resolved_config, restore, train

pytestmark = pytest.mark.needs_plugins


@pytest.fixture(scope="module", autouse=True)
def scenes_once_and_no_pictures() -> Iterator[None]:
    """Make the scenes of a seed once, and draw no pictures: both take longer than the training."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scenes, "generate_scenes", functools.cache(scenes.generate_scenes))
        patch.setattr(pictures, "draw_pictures", lambda run, output: None)
        yield


def with_weighting(path: Path, line: str) -> Path:
    """Write the packaged config with one more line."""
    path.write_text(DEMO_CONFIG.read_text().replace("    loss_list:\n", f"    {line}\n    loss_list:\n"))
    return path


_WEIGHTINGS = ["uncertainty", "dwa", "gradnorm", "softadapt", "relobralo", "cov"]


@pytest.mark.parametrize("weighting", _WEIGHTINGS)
def test_a_weighting_swapped_in_by_one_line_trains_and_resumes_in_mid_run(tmp_path: Path, weighting: str) -> None:
    config = resolved_config(with_weighting(tmp_path / "c.yaml", f"weighting: {weighting}"))
    settings = Settings(epochs=3, count=16, size=32, batch_size=4)
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    whole.mkdir()

    def copy_after_two(row: dict[str, float]) -> None:
        if row["epoch"] == 1:
            shutil.copytree(whole, resumed)

    train(build_run(settings, config), whole, on_epoch=copy_after_two)
    run = build_run(settings, config)
    restore(run, read_checkpoint(resumed))
    train(run, resumed)
    assert (resumed / "metrics.csv").read_bytes() == (whole / "metrics.csv").read_bytes()
    states = [read_checkpoint(output) for output in (whole, resumed)]
    for key in ("network", "criterion"):
        assert states[0][key].keys() == states[1][key].keys()
        for name, tensor in states[0][key].items():
            assert torch.equal(tensor, states[1][key][name]), name
