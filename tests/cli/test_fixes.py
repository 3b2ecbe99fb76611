"""The fix of each mistake fixes it: applied as it is written, the file checks clean."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

import lossreg


@pytest.fixture(autouse=True)
def losses(local_losses: None) -> None:
    """Losses whose names may be shortened."""
    for name in ("QuuxLoss", "TwoWordsLoss"):
        lossreg.register(name, targets=(f"made.up.{name}",))(lambda pred, gt: (pred - gt).abs().mean())


SOME = "[{loss: torch/L1Loss, weight: 1.0}]"
NO_TERMS = [
    ("", f"losses: {SOME}"),
    ("# nothing yet\n", f"losses: {SOME}"),
    ("losses:", f"losses: {SOME}"),
    ("losses: []", f"losses: {SOME}"),
    ("loss_list: 3", f"loss_list: {SOME}"),
]
"""Files without terms, each with the fix that is told, which is all of the fixed file."""
MISTAKES = [
    (
        "slope",
        "loss: slope",
        "loss: slope",
    ),
    (
        "- slope\n- {loss: height, scale: 1}",
        "write `losses:` in a line above it",
        "losses:\n- slope\n- {loss: height, scale: 1}",
    ),
    (
        "losses: slope",
        "losses: [slope]",
        "losses: [slope]",
    ),
    (
        "loss_param: {compound_loss: {losses: [slope]}}",
        "write `loss_params` for 'loss_param'",
        "loss_params: {compound_loss: {losses: [slope]}}",
    ),
    (
        "loss_params: {compund_loss: {losses: [slope]}}",
        "write `compound_loss` for 'compund_loss'",
        "loss_params: {compound_loss: {losses: [slope]}}",
    ),
    (
        "loses: [slope]",
        "write `losses` for 'loses'",
        "losses: [slope]",
    ),
    (
        "loss_params: {compound_loss: {loses: [slope]}}",
        "did you mean 'losses'?",
        "loss_params: {compound_loss: {losses: [slope]}}",
    ),
    (
        "losses: [{los: slope}]",
        "write `loss` for 'los'",
        "losses: [{loss: slope}]",
    ),
    (
        "losses: [Quux]",
        "did you mean 'QuuxLoss'?",
        "losses: [QuuxLoss]",
    ),
    (
        "losses: [quux_loss]",
        "did you mean 'QuuxLoss'?",
        "losses: [QuuxLoss]",
    ),
    (
        "losses: [TW]",
        "did you mean 'TwoWordsLoss'?",
        "losses: [TwoWordsLoss]",
    ),
    (
        "losses: [no/QuuxLoss]",
        "did you mean 'local/QuuxLoss'?",
        "losses: [local/QuuxLoss]",
    ),
    (
        "losses: [{_target_: made.up.Quux}]",
        "did you mean 'made.up.QuuxLoss'?",
        "losses: [{_target_: made.up.QuuxLoss}]",
    ),
    (
        "losses: [{_target_: up.QuuxLoss}]",
        "did you mean 'made.up.QuuxLoss'?",
        "losses: [{_target_: made.up.QuuxLoss}]",
    ),
    (
        "losses: [{loss: slope, weight: [0, 1]}]",
        "add `epoch_thresholds: [0, 10]`",
        "epoch_thresholds: [0, 10]\nlosses: [{loss: slope, weight: [0, 1]}]",
    ),
    (
        "losses: [{loss: slope, weight: [0, 1, 2]}]",
        "add `epoch_thresholds: [0, 10, 20]`",
        "losses: [{loss: slope, weight: [0, 1, 2], epoch_thresholds: [0, 10, 20]}]",
    ),
    (
        "epoch_thresholds: [0, 5, 9]\nlosses: [{loss: slope, weight: [0, 1]}]",
        "give one weight for each of epoch_thresholds, as in `weight: [0, 1, 1]`",
        "epoch_thresholds: [0, 5, 9]\nlosses: [{loss: slope, weight: [0, 1, 1]}]",
    ),
    (
        "epoch_thresholds: [0]\nlosses: [{loss: slope, weight: [0, 1]}]",
        "give one weight for each of epoch_thresholds, as in `weight: [0]`",
        "epoch_thresholds: [0]\nlosses: [{loss: slope, weight: [0]}]",
    ),
    (
        "epoch_thresholds: [9, 0]\nlosses: [{loss: slope, weight: [0, 1]}]",
        "epoch_thresholds: [0, 9]",
        "epoch_thresholds: [0, 9]\nlosses: [{loss: slope, weight: [0, 1]}]",
    ),
    (
        "epoch_thresholds: 9\nlosses: [{loss: slope, weight: [0, 1]}]",
        "epoch_thresholds: [0, 9]",
        "epoch_thresholds: [0, 9]\nlosses: [{loss: slope, weight: [0, 1]}]",
    ),
    (
        "losses: [{loss: slope, weight: '2.5'}]",
        "weight: 2.5",
        "losses: [{loss: slope, weight: 2.5}]",
    ),
    (
        "losses: [{loss: slope, weight: high}]",
        "weight: 1.0",
        "losses: [{loss: slope, weight: 1.0}]",
    ),
    (
        "losses: [{loss: slope, weight: cosine}]",
        "weight: {schedule: cosine, start: 1.0, end: 1.0, end_epoch: 1.0}",
        "losses: [{loss: slope, weight: {schedule: cosine, start: 1.0, end: 1.0, end_epoch: 1.0}}]",
    ),
    (
        "losses: [{loss: slope, weight: {start: 1}}]",
        "weight: {schedule: cosine, start: 1.0, end: 0.0, end_epoch: 10}",
        "losses: [{loss: slope, weight: {schedule: cosine, start: 1.0, end: 0.0, end_epoch: 10}}]",
    ),
    (
        "losses: [{loss: slope, wieght: 2}]",
        "did you mean 'weight'?",
        "losses: [{loss: slope, weight: 2}]",
    ),
    (
        "losses: [height]",
        "{loss: height, scale: 1.0}",
        "losses: [{loss: height, scale: 1.0}]",
    ),
    (
        "losses: [{loss: height}]",
        "scale: 1.0",
        "losses: [{loss: height, scale: 1.0}]",
    ),
    (
        "losses: [{loss: height, scael: 2}]",
        "did you mean 'scale'?",
        "losses: [{loss: height, scale: 2}]",
    ),
    (
        "losses: [{loss: height, scale: 1, weight: [0.2, 0.8]}]",
        "add `epoch_thresholds: [0, 10]`; for the loss's own, args: {weight: [0.2, 0.8]}",
        "losses: [{loss: height, scale: 1, args: {weight: [0.2, 0.8]}}]",
    ),
    (
        "losses: [slope, slope]",
        "give one of them another name, as in `name: slope_2`",
        "losses: [slope, {loss: slope, name: slope_2}]",
    ),
    (
        "losses: [{loss: slope, name: a/b}]",
        "name: my_term",
        "losses: [{loss: slope, name: my_term}]",
    ),
    (
        "losses: [{losses: [slope]}]",
        "name: my_group",
        "losses: [{losses: [slope], name: my_group}]",
    ),
    (
        "weighting: gradNorm\nlosses: [slope, QuuxLoss]",
        "did you mean 'gradnorm'?",
        "weighting: gradnorm\nlosses: [slope, QuuxLoss]",
    ),
    (
        "normalise_losses: false\nlosses: [slope]",
        "did you mean 'normalize_losses'?",
        "normalize_losses: false\nlosses: [slope]",
    ),
    (
        "normalize_losses: 'no'\nlosses: [slope]",
        "normalize_losses: false",
        "normalize_losses: false\nlosses: [slope]",
    ),
    (
        "losses: [{loss: from_dict}]",
        "rest: 1.0",
        "losses: [{loss: from_dict, rest: 1.0}]",
    ),
    (
        "losses: [{loss: slope, pred_key: [a]}]",
        "pred_key: height",
        "losses: [{loss: slope, pred_key: height}]",
    ),
    (
        "losses:\n  - loss: slope\n   weight: 2",
        "indent it as far as the lines that belong together with it",
        "losses:\n  - loss: slope\n    weight: 2",
    ),
    (
        "losses:\n\t- slope",
        "indent with spaces, and quote a text that begins with such a character",
        "losses:\n  - slope",
    ),
    (
        "losses: [{loss: slope, weight: 1]",
        "close the bracket, or put a comma between the items",
        "losses: [{loss: slope, weight: 1}]",
    ),
    (
        "losses: [slope]\nlosses: [slope]",
        "keep one of the two",
        "losses: [slope]",
    ),
]
"""Each file with a mistake, the fix that is told, and the file with the fix applied."""


@pytest.mark.parametrize(("text", "fix", "fixed"), MISTAKES, ids=[text for text, *_ in MISTAKES])
def test_the_fix_fixes(
    text: str, fix: str, fixed: str, run: Callable[..., Result], write: Callable[[str], Path]
) -> None:
    told = json.loads(run("check", "--json", write(text)).stdout)
    assert [error["fix"] for error in told["errors"]] == [fix]
    assert run("check", write(fixed)).exit_code == 0
    told_to_write = ["own, (.+)", "`([^`]+)`", "did you mean '([^']+)'", r"^(\w+: .+|\{.+\})"]
    written = next((found[1] for words in told_to_write if (found := re.search(words, fix))), "")
    assert written in fixed, "the file has what the fix tells to write"


@pytest.mark.needs_plugins
@pytest.mark.parametrize(("text", "fix"), NO_TERMS)
def test_the_fix_of_a_file_without_terms_is_a_file(
    text: str, fix: str, run: Callable[..., Result], write: Callable[[str], Path]
) -> None:
    told = json.loads(run("check", "--json", write(text)).stdout)
    assert [error["fix"] for error in told["errors"]] == [fix]
    assert run("check", write(fix)).exit_code == 0


def test_the_errors_of_missing_arguments_are_in_their_order(
    run: Callable[..., Result], write: Callable[[str], Path]
) -> None:
    told = json.loads(run("check", "--json", write("losses: [{loss: slope, weight: {schedule: cosine}}]")).stdout)
    assert [error["fix"].split(":")[0] for error in told["errors"]] == ["start", "end", "end_epoch"]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ("chekc a.yaml", 2, "no command is named 'chekc'; did you mean 'check'?"),
        ("lst", 2, "no command is named 'lst'; did you mean 'list'?"),
        ("validate", 2, "no command is named 'validate'; the commands are list, show, plugins, env, check,"),
        ("list --kidn loss", 2, "--kind"),
        ("list --kind losses", 2, "did you mean 'loss'?"),
        ("show Quux", 1, "nothing is named 'Quux'; did you mean 'QuuxLoss'?"),
        ("show hieght", 1, "did you mean 'height'?"),
        ("show Cosin --kind schedule", 1, "did you mean 'cosine'?"),
        ("graph --format svgg -", 2, "did you mean 'svg'?"),
        ("new My_Losses", 2, "such as my-losses"),
        ("plot - -o a.jpeg", 2, "write a .png, .svg or .pdf"),
    ],
)
def test_a_mistake_on_the_command_line_tells_what_is_meant(
    arguments: str, code: int, said: str, run: Callable[..., Result]
) -> None:
    result = run(*arguments.split())
    assert result.exit_code == code
    assert said in result.stderr
