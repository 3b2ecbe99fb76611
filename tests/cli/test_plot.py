"""`plot` draws the weight of each term over the epochs, as a picture or in the terminal."""

import os
import subprocess
import sys
from xml.etree import ElementTree

import click
import pytest

from lossreg.cli.curves import curves_of, draw_text
from lossreg.composition.schedules import FromCallable
from lossreg.config.grammar import CompoundConfig, TermConfig

STEPS = """\
losses:
  a: {loss: slope, weight: {schedule: cosine, start: 0, end: 1, end_epoch: 10}}
  b: {loss: slope, weight: {schedule: cosine, start: 0, end: 1, end_epoch: 500, unit: step}}
"""


def test_the_terminal_shows_each_term_with_its_values_under_its_thresholds(run, good):
    result = run("plot", good, "--epochs", "20", "--text")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines[::3]] == ["height", "slope", "aux/small", "aux/slope", "epoch"]
    axis, values = lines[-1], lines[4]
    assert axis.split()[1:] == ["0", "5", "10", "20"]
    for epoch, value in (("5", "0"), ("10", "1")):
        assert values[axis.index(epoch)] == value


def test_a_strip_is_empty_at_zero_and_full_at_the_peak(run, write):
    file = write("epoch_thresholds: [0, 10]\nlosses: [{loss: slope, weight: [0, 0.001]}]\n")
    strip = run("plot", file, "--epochs", "10").stdout.splitlines()[0].removeprefix("slope")
    assert strip.strip()[-1] == "█"
    assert strip.startswith("   ▁"), "a weight that is not zero is seen"


@pytest.mark.parametrize(("suffix", "magic"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")])
def test_the_suffix_says_what_is_written(run, good, tmp_path, suffix, magic):
    pytest.importorskip("matplotlib")
    picture = tmp_path / f"weights{suffix}"
    result = run("plot", good, "-o", picture)
    assert result.exit_code == 0
    assert result.stdout == f"wrote {picture}\n"
    assert picture.read_bytes().startswith(magic)


def test_the_picture_names_every_term_and_labels_the_thresholds(run, good, tmp_path, monkeypatch):
    matplotlib = pytest.importorskip("matplotlib")
    monkeypatch.setitem(matplotlib.rcParams, "svg.fonttype", "none")
    picture = tmp_path / "weights.svg"
    run("plot", good, "--output", picture)
    texts = [
        "".join(node.itertext()).strip() for node in ElementTree.parse(picture).iter() if node.tag.endswith("}text")
    ]
    assert {"height", "slope", "aux/small", "aux/slope", "epoch"} <= set(texts)
    assert {"0", "5", "10", "20", "22"} <= set(texts), "the thresholds on the axis"
    assert {"3", "0.5"} <= set(texts), "the weights at the thresholds"


@pytest.mark.parametrize("suffix", [".xyz", ""])
def test_an_unknown_suffix_is_misuse(run, good, tmp_path, suffix):
    picture = tmp_path / f"weights{suffix}"
    result = run("plot", good, "-o", picture)
    assert result.exit_code == 2
    assert "write a .png, .svg or .pdf" in result.stderr
    assert list(tmp_path.iterdir()) == [good]


def test_a_folder_that_is_not_there_is_an_error(run, good, tmp_path):
    pytest.importorskip("matplotlib")
    result = run("plot", good, "-o", tmp_path / "absent" / "weights.png")
    assert result.exit_code == 1
    assert "cannot be written" in result.stderr


WITHOUT_MATPLOTLIB = """
import sys

import lossreg
from lossreg.cli import main

sys.modules["matplotlib"] = None  # what an import finds is as if it were not installed


@lossreg.register("l1")
def l1(pred, target):
    return (pred - target).abs().mean()


main(sys.argv[1:])
"""


def test_a_picture_without_matplotlib_is_refused(write, tmp_path):
    file, picture = write("losses: [l1]\n"), tmp_path / "weights.png"
    command = [sys.executable, "-c", WITHOUT_MATPLOTLIB, "plot", str(file), "-o", str(picture)]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == (
        f"Error: {picture} is not written, since matplotlib is not installed: pip install 'lossreg[plot]', or draw in "
        "the terminal with --text\n"
    )
    assert not picture.exists()


def test_text_goes_to_a_file_too(run, good, tmp_path):
    file = tmp_path / "weights.txt"
    assert run("plot", good, "--text", "-o", file).exit_code == 0
    assert "█" in file.read_text(encoding="utf-8")


def test_text_is_no_picture(run, good, tmp_path):
    result = run("plot", good, "--text", "-o", tmp_path / "plot.svg")
    assert result.exit_code == 2
    assert "--text writes no picture" in result.stderr


def test_epochs_and_steps_need_a_common_axis(run, write):
    file = write(STEPS)
    result = run("plot", file)
    assert result.exit_code == 2
    assert "(b); give --steps-per-epoch" in result.stderr
    shown = run("plot", file, "--steps-per-epoch", "100", "--epochs", "10").stdout.splitlines()
    assert shown[-1].split() == ["epoch", "0", "5", "10"]


def test_steps_alone_are_the_axis(run, write):
    text = STEPS.replace("end_epoch: 10}", "end_epoch: 100, unit: step}")
    assert run("plot", write(text)).stdout.splitlines()[-1].split()[:2] == ["step", "0"]


def test_an_adaptive_weighting_is_mentioned(run, write):
    assert "Weighting: DWA" in run("plot", write("weighting: dwa\nlosses: [slope]\n")).stderr


def test_a_single_loss_has_nothing_to_plot(run, write):
    result = run("plot", write("loss: slope\n"))
    assert result.exit_code == 1
    assert "describes a single loss (local/SlopeLoss)" in result.stderr


HARD = """\
epoch_thresholds: [0, 1.0e15]
losses:
  - {loss: slope, name: 'a$\\frac{$', weight: [-3.0e38, 3.0e38]}
  - {loss: slope, name: '$x^', weight: 0}
  - {loss: slope, name: tiny, epoch_thresholds: [0, 5.0e-324], weight: [1.0e-320, 0]}
"""


@pytest.mark.parametrize("options", [[], ["--epochs", "1e-6"], ["--epochs", "1e15"], ["--steps-per-epoch", "1e15"]])
def test_any_name_any_weight_and_any_epoch_can_be_drawn(run, write, tmp_path, options):
    pytest.importorskip("matplotlib")
    file = write(HARD)
    text = run("plot", file, "--text", *options)
    assert text.exit_code == 0
    assert "a$\\frac{$" in text.stdout
    picture = tmp_path / "weights.svg"
    assert run("plot", file, "-o", picture, *options).exit_code == 0
    ElementTree.parse(picture)


@pytest.mark.parametrize("option", ["--epochs", "--steps-per-epoch"])
@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "-1", "0", "1e16", "1e400", "x"])
def test_a_number_that_no_axis_has_is_misuse(run, good, option, value):
    result = run("plot", good, option, value)
    assert result.exit_code == 2
    assert f"Invalid value for '{option}'" in result.stderr


def test_a_picture_of_more_losses_than_it_has_room_for_is_refused(run, write, tmp_path):
    file = write("losses: {" + ", ".join(f"a{i}: slope" for i in range(31)) + "}")
    result = run("plot", file, "-o", tmp_path / "weights.svg")
    assert result.exit_code == 1
    assert "expected at most 20 losses and 160 thresholds for a picture, found 31 and 31; --text" in result.stderr
    assert run("plot", file, "--text").exit_code == 0


def test_a_schedule_that_raises_is_said():
    config = CompoundConfig("", [TermConfig("", "a", FromCallable(lambda epoch: epoch / 0))])
    with pytest.raises(click.ClickException, match="a: its weight cannot be computed: float division by zero"):
        draw_text(curves_of(config), 10)
