"""The demo from end to end, on few and small scenes."""

import csv
import functools
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import yaml
from click.testing import CliRunner, Result

from lossreg.demo import pictures, scenes
from lossreg.demo.command import DEMO_CONFIG, demo_command
from lossreg.demo.pictures import draw_pictures

pytestmark = pytest.mark.needs_plugins

SMALL = ["--scenes", "16", "--size", "32", "--batch-size", "4"]
TERMS = [
    "seg",
    "crossfield_align",
    "crossfield_align90",
    "crossfield_smooth",
    "seg_interior_crossfield",
    "seg_edge_crossfield",
    "seg_edge_interior",
]


@pytest.fixture(scope="module", autouse=True)
def scenes_once_and_no_pictures() -> Iterator[None]:
    """Make the scenes of a seed once, and draw no pictures: both take longer than the training."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scenes, "generate_scenes", functools.cache(scenes.generate_scenes))
        patch.setattr(pictures, "draw_pictures", lambda run, output: None)
        yield


def demo(output: Path, *arguments: object) -> Result:
    result = CliRunner().invoke(demo_command, [*SMALL, "--output", str(output), *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def trained(output: Path, *arguments: object) -> list[dict[str, str]]:
    result = demo(output, *arguments)
    assert result.exit_code == 0, result.output
    return rows(output)


def rows(output: Path) -> list[dict[str, str]]:
    with (output / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def with_weighting(path: Path, line: str) -> Path:
    """Write the packaged config with one more line."""
    path.write_text(DEMO_CONFIG.read_text().replace("    loss_list:\n", f"    {line}\n    loss_list:\n"))
    return path


def test_a_run_leaves_its_metrics_config_checkpoint_and_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "draw_pictures", draw_pictures)
    result = demo(tmp_path / "run", "--epochs", 2)
    assert result.exit_code == 0, result.output
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == [
        "checkpoint.pt",
        "config.yaml",
        "metrics.csv",
        "panel.png",
        "terms.png",
    ]
    table = rows(tmp_path / "run")
    assert [row["epoch"] for row in table] == ["0", "1"]
    assert list(table[0]) == [
        "epoch",
        "total",
        "iou",
        *(f"{c}/{t}" for t in TERMS for c in ("value", "norm", "weight")),
    ]
    assert table[0]["weight/seg"] == "10.0"
    for name in TERMS:
        assert name in result.output
    assert f"IoU on the held-out images: {float(table[1]['iou']):.4f}, before training 0." in result.output
    for picture in ("panel.png", "terms.png"):
        assert (tmp_path / "run" / picture).read_bytes().startswith(b"\x89PNG")


def test_the_total_of_a_row_is_its_terms_over_norms_times_weights(tmp_path: Path) -> None:
    row = {key: float(value) for key, value in trained(tmp_path, "--epochs", 1)[0].items()}
    total = sum(row[f"value/{t}"] / row[f"norm/{t}"] * row[f"weight/{t}"] for t in TERMS)
    assert row["total"] == pytest.approx(total, rel=1e-5)


def test_the_resolved_config_makes_the_same_run_again(tmp_path: Path) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text("top: 7.0\n" + DEMO_CONFIG.read_text().replace("weight: 10.0", 'weight: "${top}"'))
    first = trained(tmp_path / "a", "--epochs", 1, "--config", config)
    resolved = yaml.safe_load((tmp_path / "a" / "config.yaml").read_text())
    assert resolved["loss_params"]["compound_loss"]["loss_list"][0]["weight"] == 7.0
    assert trained(tmp_path / "b", "--epochs", 1, "--config", tmp_path / "a" / "config.yaml") == first


def test_a_bare_compound_block_is_a_config_too(tmp_path: Path) -> None:
    config = tmp_path / "bare.yaml"
    config.write_text("loss_list: [{loss: seg, gt_channel_selector: [0, 1, 2], weight: 1.0}]\n")
    assert float(trained(tmp_path / "run", "--epochs", 1, "--config", config)[0]["total"]) > 0


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others(tmp_path: Path) -> None:
    first = trained(tmp_path / "a", "--epochs", 1, "--seed", 3)
    assert trained(tmp_path / "b", "--epochs", 1, "--seed", 3) == first
    assert trained(tmp_path / "c", "--epochs", 1, "--seed", 4) != first


def test_training_raises_the_iou_and_brings_the_heaviest_terms_below_their_norms(tmp_path: Path) -> None:
    table = trained(tmp_path, "--epochs", 6, "--scenes", 32)
    untrained = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["untrained_iou"]
    assert float(table[-1]["iou"]) > untrained + 0.15
    assert float(table[-1]["total"]) < float(table[0]["total"])
    # a norm is the untrained value; crossfield_align90 falls only once the tangent is learnt, in a longer run
    for name in ("seg", "crossfield_align"):
        assert float(table[-1][f"value/{name}"]) < 0.9 * float(table[-1][f"norm/{name}"]), name


def test_a_second_run_in_a_folder_replaces_the_first(tmp_path: Path) -> None:
    trained(tmp_path, "--epochs", 2)
    assert len(trained(tmp_path, "--epochs", 1)) == 1


# --- resuming -------------------------------------------------------------------------------------


def test_a_run_that_is_stopped_and_resumed_ends_with_the_same_numbers(tmp_path: Path) -> None:
    whole = trained(tmp_path / "whole", "--epochs", 3)
    trained(tmp_path / "parts", "--epochs", 2)
    assert trained(tmp_path / "parts", "--epochs", 3, "--resume") == whole


def test_effective_weights_show_what_an_adaptive_weighting_does(tmp_path: Path) -> None:
    config = with_weighting(tmp_path / "c.yaml", "weighting: relobralo")
    first, *_, last = trained(tmp_path / "run", "--epochs", 3, "--config", config)
    assert float(first["weight/seg"]) != float(last["weight/seg"])


@pytest.mark.slow
def test_a_run_that_is_killed_at_random_steps_ends_with_the_same_numbers() -> None:
    script = Path(__file__).with_name("kill_and_resume.py")
    done = subprocess.run(
        [sys.executable, script, "--stops", "2"], capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"2 kills in \d+ runs: the same numbers each time\n", done.stdout)


def test_resuming_a_run_that_was_stopped_before_its_first_checkpoint_starts_it(tmp_path: Path) -> None:
    whole = trained(tmp_path / "whole", "--epochs", 1)
    assert trained(tmp_path / "empty", "--epochs", 1, "--resume") == whole


def test_resuming_a_finished_run_changes_nothing(tmp_path: Path) -> None:
    whole = trained(tmp_path, "--epochs", 1)
    assert trained(tmp_path, "--resume") == whole


def test_resuming_under_other_settings_is_refused(tmp_path: Path) -> None:
    trained(tmp_path, "--epochs", 1)
    result = demo(tmp_path, "--resume", "--seed", 5, "--scenes", 20)
    assert result.exit_code == 1
    assert "the checkpoint has another seed, count" in result.output


def test_a_broken_checkpoint_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(b"no checkpoint")
    result = demo(tmp_path, "--resume")
    assert result.exit_code == 1
    assert "not a checkpoint of this demo" in result.output


def test_diagnose_shows_the_terms_and_their_cosines(tmp_path: Path) -> None:
    result = demo(tmp_path, "--epochs", 1, "--diagnose")
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "diagnosis.json").read_text())
    assert [term["name"] for term in found["terms"]] == TERMS
    assert found["cosines"][0][0] == pytest.approx(1)
    assert (tmp_path / "diagnosis.png").read_bytes().startswith(b"\x89PNG")
    assert "Cosine" in result.output


def test_monitor_finds_nothing_wrong_with_the_demo(tmp_path: Path) -> None:
    result = demo(tmp_path, "--epochs", 2, "--monitor")
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "monitor.json").read_text())
    assert [list(sample["terms"]) for sample in found["samples"][:1]] == [TERMS]
    assert found["verdicts"] == []
    assert (tmp_path / "monitor.png").read_bytes().startswith(b"\x89PNG")
    assert "nothing stands out" in result.output


# --- mistakes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--image", __file__], "use --image and --labels together"),
        (["--image", __file__, "--labels", __file__], "expected a raster, found"),
        (["--image", "nowhere.tif"], "does not exist"),
        (["--size", "36"], "--size: expected a multiple of 8, found 36"),
        (["--batch-size", "32"], "--scenes: expected at least one batch of 32, found 16"),
        (["--batch-size", "3", "--nproc", "2"], "--batch-size: expected a multiple of 2 processes, found 3"),
        (["--epochs", "0"], "--epochs"),
        (["--config", __file__], "is not a YAML file that lossreg can read"),
    ],
)
def test_a_mistake_is_one_message_and_no_traceback(tmp_path: Path, arguments: list[str], says: str) -> None:
    result = demo(tmp_path / "run", *arguments)
    assert result.exit_code in (1, 2)
    assert says in result.output
    assert "Traceback" not in result.output


def test_all_mistakes_of_a_config_are_shown(tmp_path: Path) -> None:
    config = tmp_path / "bad.yaml"
    config.write_text("loss_params: {compound_loss: {loss_list: [{loss: sge, weight: 1}, {loss: seg, weight: x}]}}")
    result = demo(tmp_path / "run", "--config", config)
    assert result.exit_code == 1
    assert "loss_list[0]" in result.output
    assert "loss_list[1]" in result.output
    assert "Traceback" not in result.output


def test_a_config_of_a_single_loss_is_refused(tmp_path: Path) -> None:
    config = tmp_path / "single.yaml"
    config.write_text("loss: {_target_: torch.nn.MSELoss}")
    result = demo(tmp_path / "run", "--config", config)
    assert result.exit_code == 1
    assert "this file gives a single MSELoss" in result.output


def test_an_output_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = demo(tmp_path / "file" / "run")
    assert result.exit_code == 1
    assert "Traceback" not in result.output


def test_help_imports_no_torch() -> None:
    code = (
        "import sys; from lossreg.demo.command import demo_command; "
        "demo_command(['--help'], standalone_mode=False); sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, check=False)
    assert done.returncode == 0


# --- processes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("torchrun", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_two_processes_end_with_the_norms_and_losses_of_one(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    in_two_processes: Callable[..., list[str]],
    torchrun: bool,
) -> None:
    def start(arguments: list[str]) -> None:
        assert arguments[:4] == ["--standalone", "--nproc-per-node=2", "-m", "lossreg.demo"]
        said.extend(in_two_processes("lossreg.demo.command:demo_command", arguments[4:], standalone_mode=False))

    said: list[str] = []
    alone = trained(tmp_path / "one", "--epochs", 2)
    arguments = ["--epochs", "2", "--nproc", "2"]
    if torchrun:
        command = [sys.executable, "-m", "lossreg.demo", *SMALL, "--output", str(tmp_path / "two"), *arguments]
        subprocess.run(command, check=True, timeout=300)
    else:
        monkeypatch.setattr("torch.distributed.run.main", start)
        trained(tmp_path / "two", *arguments)
    said.append(capfd.readouterr().out)
    assert "".join(said).count("IoU on the held-out images") == 1
    together = rows(tmp_path / "two")
    for one, two in zip(alone, together, strict=True):
        assert float(one["total"]) == pytest.approx(float(two["total"]), rel=5e-4)
        for name in TERMS:
            assert float(one[f"norm/{name}"]) == pytest.approx(float(two[f"norm/{name}"]), rel=1e-6)
    for name in TERMS:  # later epochs: Adam lets a rounding grow, most in terms that have no weight yet
        assert float(alone[0][f"value/{name}"]) == pytest.approx(float(together[0][f"value/{name}"]), rel=1e-3)


@pytest.mark.parametrize("option", ["--seed", "--epochs", "--scenes", "--size", "--batch-size", "--nproc"])
def test_a_number_out_of_range_is_misuse(option: str) -> None:
    result = CliRunner().invoke(demo_command, [option, "99999999999999999999999"])
    assert result.exit_code == 2
    assert f"Invalid value for '{option}'" in result.stderr
