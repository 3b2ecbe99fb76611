"""`check` reports ten mistakes in the guide's file in one run, with their lines and without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.needs_plugins

GUIDE = """\
loss_params:
  compound_loss:
    normalize_losses: true
    normalization_params:
      max_samples: 1000
    loss_list:
      - _target_: pytorch_segmentation_models_trainer.custom_losses.base_loss.SegLoss
        name: seg
        gt_channel_selector: 0
        bce_coef: 0.5
        dice_coef: 0.5
        weight: 1.0
      - _target_: pytorch_segmentation_models_trainer.custom_losses.base_loss.CrossfieldAlignLoss
        name: crossfield_align
        weight:
          - 0.0
          - 0.0
          - 1.0
          - 1.0
    epoch_thresholds: [0, 5, 10, 50]
"""

BROKEN = """\
loss_params:
  compound_loss:
    normalize_loss: true
    normalization_params:
      max_samples: many
    loss_list:
      - _target_: pytorch_segmentation_models_trainer.custom_losses.base_loss.SegLos
        name: seg
        gt_channel_selector: 0
        bce_coef: 0.5
        dice_coef: 0.5
        weight: heavy
      - _target_: pytorch_segmentation_models_trainer.custom_losses.base_loss.CrossfieldAlignLoss
        nam: crossfield_align
        weight:
          - 0.0
          - 0.0
          - 1.0
          - 1.0
      - {loss: seg, name: a/b, gt_channel_selector: 0, bce_coef: half}
      - {loss: seg, name: other, gt_channel_selectr: 0, dice_coef: some}
    epoch_thresholds: [0, 10, 5, 50]
"""
MISTAKES = [  # line, path, message, fix
    (3, "normalize_loss", "is not a key of this block", "did you mean 'normalize_losses'?"),
    (5, "normalization_params.max_samples", "expected a number of samples above 0, found 'many'", "max_samples: 1000"),
    (7, "loss_list[0]._target_", "no loss is named", "base_loss.SegLoss'"),
    (12, "loss_list[0].weight", "expected a number, a list of numbers or a schedule", "weight: 1.0"),
    (14, "loss_list[1].nam", "is not a parameter of crossfield/CrossfieldAlignLoss", "did you mean 'name'?"),
    (
        20,
        "loss_list[2].name",
        "expected a name without '/', of at most 100 printable characters, found 'a/b'",
        "name: my_term",
    ),
    (20, "loss_list[2].bce_coef", "expected a number, found 'half'", "bce_coef: 0.5"),
    (21, "loss_list[3].gt_channel_selectr", "is not a parameter of seg/SegLoss", "did you mean 'gt_channel_selector'?"),
    (21, "loss_list[3].dice_coef", "expected a number, found 'some'", "dice_coef: 0.5"),
    (22, "epoch_thresholds", "expected a list of epochs in ascending order", "epoch_thresholds: [0, 5, 10, 50]"),
]


def check(file: Path, *options: str) -> tuple[int, str, list[str]]:
    """Run `check` in a process of its own; return its exit code, its output, and what it imported of the heavy."""
    program = (
        "import sys; from lossreg.cli import main\n"
        "try: main()\n"
        "finally: print([m for m in ('torch', 'scipy', 'hydra') if m in sys.modules], file=sys.stderr)"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, "check", str(file), *options], capture_output=True, text=True, check=False
    )
    return run.returncode, run.stdout, json.loads(run.stderr.splitlines()[-1].replace("'", '"'))


def test_the_guides_file_is_good_and_checked_without_torch(tmp_path):
    file = tmp_path / "guide.yaml"
    file.write_text(GUIDE, encoding="utf-8")
    code, printed, imported = check(file)
    assert code == 0
    assert [line.split()[:2] for line in printed.splitlines()[4:]] == [
        ["seg", "seg/SegLoss"],
        ["crossfield_align", "crossfield/CrossfieldAlignLoss"],
    ]
    assert imported == []


def test_all_ten_mistakes_are_told_in_one_run_at_their_lines_without_torch(tmp_path):
    file = tmp_path / "broken.yaml"
    file.write_text(BROKEN, encoding="utf-8")
    code, printed, imported = check(file, "--json")
    assert code == 1
    assert imported == []
    errors = json.loads(printed)["errors"]
    for error, (line, path, message, fix) in zip(errors, MISTAKES, strict=True):
        assert error["path"] == f"loss_params.compound_loss.{path}"
        assert error["line"] == line
        assert error["text"] == BROKEN.splitlines()[line - 1]
        assert message in error["message"]
        assert fix in error["fix"]
