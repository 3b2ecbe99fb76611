"""`check` prints a table of terms, or every mistake with its line and a fix."""

import json
import sys

import pytest
import torch

import lossreg


def test_a_good_file_exits_with_0_and_a_table_of_weights_over_the_epochs(run, good):
    result = run("check", good)
    assert result.exit_code == 0
    assert f"{good}: ok, 4 terms" in result.stdout
    rows = [line.split() for line in result.stdout.splitlines() if "Loss" in line]
    assert rows[0] == ["Term", "Loss", "epoch", "0", "epoch", "5", "epoch", "10", "epoch", "20", "Notes"]
    assert rows[1] == ["height", "local/HeightLoss", "3", "3", "3", "3"]
    assert rows[2] == ["slope", "local/SlopeLoss", "0", "0", "1", "1", "not", "normalised"]
    assert rows[3] == ["aux/small", "local/HeightLoss", "0.5", "0.4268", "0.25", "0"], "the group's weight multiplies"
    assert rows[4] == ["aux/slope", "local/SlopeLoss", "1", "1", "1", "1", "optional"]
    assert "Preprocesses" not in result.stdout, "which terms read what is known once they are made"
    assert "Preprocesses: Slopes\n" in run("check", "--build", good).stdout


def test_weights_that_never_move_have_one_column(run, write):
    shown = run("check", write("losses: {h: {loss: height, scale: 1, weight: 2.5}}\n")).stdout
    assert [line.split() for line in shown.splitlines()[2:]][::2] == [
        ["Term", "Loss", "Weight"],
        ["h", "local/HeightLoss", "2.5"],
    ]


def test_epochs_and_steps_have_a_table_each(run, write):
    text = """\
losses:
  a: {loss: slope, weight: {schedule: cosine, start: 0, end: 1, end_epoch: 10}}
  b: {loss: slope, weight: {schedule: cosine, start: 0, end: 1, end_epoch: 5000, unit: step}}
  c: {loss: slope, weight: 7}
  g:
    weight: {schedule: cosine, start: 0, end: 1, end_epoch: 10}
    losses: {d: {loss: slope, weight: {schedule: step, values: [1, 2], epoch_thresholds: [0, 9], unit: step}}}
"""
    shown = run("check", write(text)).stdout
    tables = [block.splitlines() for block in shown.split("\n\n")[1:]]
    firsts = [[line.split()[0] for line in table if "SlopeLoss" in line] for table in tables]
    assert ["a", "c"] in firsts
    assert ["b", "c"] in firsts
    assert "By epoch and by step: g/d; see `lossreg plot --steps-per-epoch N`" in shown


def test_many_thresholds_are_thinned_to_what_a_table_holds(run, write):
    weights, epochs = list(range(40)), list(range(0, 400, 10))
    text = f"epoch_thresholds: {epochs}\nlosses: [{{loss: slope, weight: {weights}}}]\n"
    heading = next(line for line in run("check", write(text)).stdout.splitlines() if "Term" in line)
    assert heading.count("epoch") == 8
    assert heading.split()[3] == "0"
    assert heading.split()[-1] == "390"


def test_a_weighting_is_named(run, write):
    shown = run("check", write("weighting: dwa\nlosses: [slope]\n")).stdout
    assert "Weighting: core/DWA" in shown


def test_a_single_loss_is_fine(run, write):
    result = run("check", write("loss: {loss: slope}\n"))
    assert result.exit_code == 0
    assert result.stdout.endswith("ok, a single loss: local/SlopeLoss\n")


def test_the_key_chooses_a_block(run, write):
    text = "mine:\n  losses: [slope]\ntheirs:\n  losses: [hieght]\n"
    assert run("check", write(text), "--key", "mine").exit_code == 0
    result = run("check", write(text), "--key", "theirs")
    assert result.exit_code == 1
    assert ":4:12: theirs.losses[0]" in result.stdout
    result = run("check", write(text), "--key", "ours")
    assert result.exit_code == 1
    assert "has no key 'ours'" in result.stdout


BAD = """\
# planted mistakes
loss_params:
  compound_loss:
    normalise_losses: true
    epoch_thresholds: [0, 5, 10]
    loss_list:
      - {loss: hieght, scale: 1.0}
      - loss: height
        scale: tall
        weight: [0, 1]
      - {loss: height, name: third, scael: 2}
      - {_target_: os.system, name: fourth}
      - loss: slope
        weight: {schedule: cosin, start: 0, end: 1, end_epoch: 5}
      - {loss: slope, name: slope}
      - loss: {_target_: old.place.HeightLoss, name: seventh, scale: "${oc.env:HOME}"}
"""
PLANTED = [
    (4, 5, "loss_params.compound_loss.normalise_losses", "normalize_losses"),
    (7, 10, "loss_params.compound_loss.loss_list[0].loss", "did you mean 'height'"),
    (9, 9, "loss_params.compound_loss.loss_list[1].scale", "scale: 1.0"),
    (10, 9, "loss_params.compound_loss.loss_list[1].weight", "one weight for each of epoch_thresholds"),
    (11, 37, "loss_params.compound_loss.loss_list[2].scael", "did you mean 'scale'"),
    (12, 10, "loss_params.compound_loss.loss_list[3]._target_", "`lossreg list --kind loss` shows"),
    (14, 18, "loss_params.compound_loss.loss_list[4].weight.schedule", "osine'?"),
    (15, 9, "loss_params.compound_loss.loss_list[5]", "give one of them another name"),
    (16, 63, "loss_params.compound_loss.loss_list[6].loss.scale", "allow_resolvers"),
]


def test_every_mistake_of_a_file_is_shown_in_one_run_with_line_column_text_and_fix(run, write):
    file = write(BAD)
    result = run("check", file)
    assert result.exit_code == 1
    blocks = result.stdout.split("\n\n")
    assert blocks.pop() == f"{len(PLANTED)} errors in {file}\n"
    for block, (line, column, path, words) in zip(blocks, PLANTED, strict=True):
        head, *rest = block.splitlines()
        assert head.startswith(f"{file}:{line}:{column}: {path}")
        assert words in rest[-1]
        assert rest[-1].startswith("  fix: ")
        text = BAD.splitlines()[line - 1]
        assert f"  {line} | {text}" in rest
        marks = next(row for row in rest if set(row) <= set(" |^"))
        assert marks.index("^") == rest[1].index("| ") + 1 + column


def test_mistakes_as_json(run, write):
    result = run("check", write(BAD), "--json")
    assert result.exit_code == 1
    data = json.loads(result.stdout)
    assert not data["ok"]
    assert [(e["line"], e["column"]) for e in data["errors"]] == [planted[:2] for planted in PLANTED]
    assert data["errors"][0] == {
        "path": "loss_params.compound_loss.normalise_losses", "line": 4, "column": 5,
        "message": "is not a key of this block", "fix": "did you mean 'normalize_losses'?", "kind": "unknown",
        "text": "    normalise_losses: true",
    }  # fmt: skip


def test_a_good_file_as_json(run, good):
    data = json.loads(run("check", good, "--json").stdout)
    assert data["ok"]
    assert data["errors"] == []
    assert "preprocesses" not in data
    assert json.loads(run("check", good, "--build", "--json").stdout) == {**data, "preprocesses": ["Slopes"]}
    slope = data["terms"][1]
    assert slope == {
        "name": "slope", "loss": "local/SlopeLoss", "unit": "epoch", "weights": [[0.0, 0.0], [5.0, 0.0], [10.0, 1.0]],
        "normalize": False, "optional": False,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("a: 1\nloss: [1,\nb: 2", ":2:7", "is not valid YAML"),
        ("a: 1\na: 2\n", ":2:1", "duplicate key a"),
        ("a: 1\n\tb: 2\n", ":2:1", "is not valid YAML"),
        ("a: \x07\n", ":1:4", "is not valid YAML"),
        ("- a\n", "", "expected a mapping"),
        ("", "", "no loss is configured"),
        ("x: 1\n", "", "no loss is configured"),
        ("[" * 5000, "", ""),
    ],
)
def test_what_is_no_config_at_all_is_an_error_at_its_place(run, write, text, place, words):
    file = write(text)
    result = run("check", file)
    assert result.exit_code == 1
    assert result.stdout.startswith(f"{file}{place}")
    assert words in result.stdout
    assert result.stdout.endswith(f"\n1 error in {file}\n")


def test_bytes_that_are_no_text_are_an_error(run, tmp_path):
    file = tmp_path / "binary.yaml"
    file.write_bytes(b"\xff\xfe\x00loss")
    assert run("check", file).exit_code == 1


def test_control_characters_of_a_file_never_reach_the_terminal(run, write):
    result = run("check", write('losses: [{loss: "\\e[2Jevil"}, {loss: slope, "\\e]0;title\\a": 1}]\n'))
    assert result.exit_code == 1
    assert "\x1b" not in result.stdout
    assert "\x07" not in result.stdout
    assert "\\x1b]0;title" in result.stdout


def test_of_a_long_line_the_part_around_the_mistake_is_shown(run, write):
    result = run("check", write(f"losses: [{{loss: slope, name: {'n' * 90}, wieght: 3, pred_key: {'x' * 240}}}]\n"))
    shown, marks = result.stdout.splitlines()[2:4]
    assert len(shown) < 140
    assert shown[marks.index("^") : marks.rindex("^") + 1] == "wieght: 3"


def test_what_a_constructor_refuses_is_found_where_it_is_built(run, write):
    file = write("losses:\n  - {loss: height, scale: 1.0, input: logits}\n")
    assert run("check", file).exit_code == 0
    result = run("check", "--build", file)
    assert result.exit_code == 1
    assert ":2:5: losses[0]" in result.stdout
    assert "logits or probabilities" in result.stdout
    assert "fix: `lossreg show local/HeightLoss` tells what it takes" in result.stdout


@pytest.mark.parametrize(
    ("inner", "outer", "notes"),
    [
        ("normalize: false", "{}", "not normalised"),
        ("{}", "normalize: false", "not normalised"),
        ("{}", "optional: true", "optional"),
        ("{}", "{}", None),
    ],
)
def test_what_a_group_says_holds_for_its_terms(run, write, inner, outer, notes):
    inner, outer = (text if text != "{}" else "weight: 1" for text in (inner, outer))
    shown = run("check", write(f"losses: [{{name: g, {outer}, losses: [{{loss: slope, {inner}}}]}}]\n")).stdout
    assert ("Notes" in shown) == (notes is not None)
    assert notes is None or shown.rstrip().endswith(notes)


@pytest.mark.parametrize("command", ["plot", "graph"])
def test_other_commands_show_the_same_mistakes(run, write, command):
    file = write(BAD)
    result = run(command, file)
    assert result.exit_code == 1
    assert result.stdout == run("check", file).stdout


def test_build_tells_of_a_constructor_that_ends_the_process(run, write):
    @lossreg.register("Exits")
    class Exits(torch.nn.Module):
        def __init__(self) -> None:
            sys.exit(0)

    result = run("check", "--build", write("losses: [{loss: Exits}]"))
    assert result.exit_code == 1
    assert "it called sys.exit(0)" in result.stdout


def test_a_property_that_ends_the_process_ends_no_command_as_if_all_were_well(run, write):
    @lossreg.register("Leaves")
    class Leaves(lossreg.Loss):
        @property
        def requires(self) -> tuple[str, ...]:
            sys.exit(0)

    result = run("check", "--build", write("losses: [{loss: Leaves}]"))
    assert result.exit_code == 1
    assert "it called sys.exit(0)" in result.output
