"""One config that mixes the losses of five libraries, and trains in the demo."""

import csv
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from lossreg import load_loss
from lossreg.demo.command import demo_command

pytestmark = pytest.mark.needs_torchvision

CONFIG = Path(__file__).parents[2] / "docs" / "examples" / "five_libraries.yaml"


LIBRARIES = ["torch", "segmentation_models_pytorch", "monai", "kornia", "torchvision"]


def test_each_term_is_of_another_library() -> None:
    modules = [module for term in load_loss(CONFIG).loss_funcs for module in term.modules()]
    homes = {type(module).__module__.partition(".")[0] for module in modules}
    functions = {f.__module__.partition(".")[0] for m in modules for f in vars(m).values() if callable(f)}
    assert set(LIBRARIES) <= homes | functions


def test_it_trains(tmp_path: Path) -> None:
    arguments = ["--config", str(CONFIG), "--scenes", "32", "--epochs", "3", "--output", str(tmp_path)]
    result = CliRunner().invoke(demo_command, arguments)
    assert result.exit_code == 0, result.output
    with (tmp_path / "metrics.csv").open(newline="") as file:
        before, *_, after = csv.DictReader(file)
    for term in ("BCELoss", "smp_dice", "tversky", "focal", "sigmoid_focal_loss"):
        assert float(after[f"value/{term}"]) < float(before[f"value/{term}"])
    untrained, trained = (float(n) for n in re.findall(r"IoU .*?(0\.\d+).*?(0\.\d+)", result.output)[0][::-1])
    assert trained > untrained + 0.2
