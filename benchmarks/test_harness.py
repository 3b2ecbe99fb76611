"""The benchmark compares functions with equal values, and reports what it measured."""

from __future__ import annotations

import json
import math
from importlib import import_module
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import batches
import composition
import counts
import losses
import pytest
import report
import startup
import sync
import textbook
import torch
from measure import Effort, Times, in_turns, interleaved, peak_bytes, saved_bytes
from results import BARS, BOTH, FORWARD, PEAK, SAVED, Row, counted, merge, timed, verdicts

pytestmark = pytest.mark.needs_plugins

TINY = Effort(seconds=0, rounds=2, compiled=False, sweeps=False)
MIB = 2**20
COUNTED = ("launches", "bytes", "host reads", "blocking copies", "kernels")
"""What the targets that are counted begin with."""


# --- the two sides of a ratio -------------------------------------------------------------------------


@pytest.mark.parametrize("tversky", [False, True])
@pytest.mark.parametrize("soft", [False, True])
def test_the_textbook_seg_loss_is_the_plugins(soft, tversky):
    pred, target = batches.segmentation((2, 2, 9, 7), soft=soft, dtype=torch.float64)
    formula = textbook.bce_dice_tversky if tversky else textbook.bce_dice
    value = batches.seg_loss(tversky=tversky)({"seg": pred}, {"gt_polygons_image": target})[0]
    expected = formula(pred, target)
    torch.testing.assert_close(value, expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(
        torch.autograd.grad(value, pred), torch.autograd.grad(expected, pred), rtol=1e-5, atol=1e-9
    )


@pytest.mark.parametrize("ignore_index", counts.IGNORING)
def test_the_textbook_loss_of_classes_is_the_plugins(ignore_index):
    logits, target = batches.classes((2, 5, 9, 7), dtype=torch.float64)
    value = batches.class_loss(5, ignore_index=ignore_index)({"seg": logits}, {"gt_polygons_image": target})[0]
    expected = textbook.class_dice(logits, target)
    torch.testing.assert_close(value, expected.double(), rtol=1e-6, atol=0)
    torch.testing.assert_close(
        torch.autograd.grad(value, logits), torch.autograd.grad(expected, logits), rtol=1e-5, atol=1e-9
    )


def test_the_textbook_frame_field_is_the_plugins():
    pred, gt = batches.frame_field(2, 12, dtype=torch.float64)
    value, expected = batches.frame_field_loss()(pred, gt)[0], textbook.frame_field(pred, gt)
    inputs = tuple(pred.values())
    torch.testing.assert_close(value, expected, rtol=1e-9, atol=0)
    torch.testing.assert_close(
        torch.autograd.grad(value, inputs), torch.autograd.grad(expected, inputs), rtol=1e-7, atol=1e-12
    )


def test_the_sum_by_hand_has_the_gradient_of_multi_loss():
    x = torch.rand(4, requires_grad=True)
    multi = composition.trivial(3, scheduled=True)
    loops = [composition.by_hand(multi, 5.0), composition.by_functions(multi, 5.0)]
    (expected,) = torch.autograd.grad(multi({"x": x}, {}, epoch=5.0)[0], x)
    for loop in loops:
        total, values, _ = loop({"x": x}, {})
        torch.testing.assert_close(torch.autograd.grad(total, x)[0], expected)
        assert list(values) == list(multi.names)


def test_sides_that_differ_are_refused():
    sides = losses.seg_sides((1, 2, 8, 8))
    sides.forwards["wrong"] = lambda: sides.forwards["textbook"]() * 1.001
    with pytest.raises(AssertionError, match="SegLoss: "):
        sides.check("SegLoss", "wrong")


# --- measuring ----------------------------------------------------------------------------------------


def test_every_round_times_each_side_once_and_begins_with_the_next():
    calls = []

    def timer(name: str, seconds: float) -> Any:
        return lambda number: calls.append(name) or seconds * number

    measured = in_turns({"a": timer("a", 1.0), "b": timer("b", 2.0), "c": timer("c", 4.0)}, TINY)
    assert "".join(calls[3:]) == "abcbca"
    assert {name: times.seconds for name, times in measured.items()} == {"a": (1, 1), "b": (2, 2), "c": (4, 4)}


def test_a_call_is_timed_on_the_threads_that_were_asked_for():
    threads = set()
    before = torch.get_num_threads()
    interleaved({"a": lambda: threads.add(torch.get_num_threads())}, TINY, threads=before + 1)
    assert threads == {before + 1}
    assert torch.get_num_threads() == before


def test_saved_bytes_are_those_beyond_the_inputs():
    x = torch.rand(1000, requires_grad=True)
    assert saved_bytes(lambda: (x * x).sum(), (x,)) == 0
    assert saved_bytes(lambda: x.exp().sum(), (x,)) == x.nbytes
    assert saved_bytes(lambda: (x.exp() ** 2).sum(), (x,)) == x.nbytes  # one storage, read twice


def test_a_peak_is_what_is_held_at_once():
    def at_once() -> Any:
        return torch.empty(MIB, dtype=torch.uint8), torch.empty(2 * MIB, dtype=torch.uint8)

    def in_turn() -> None:
        for size in (1, 2, 1):
            del_me = torch.empty(size * MIB, dtype=torch.uint8)
            del del_me

    assert peak_bytes(at_once) == pytest.approx(3 * MIB, rel=0.01)
    assert peak_bytes(in_turn) == pytest.approx(2 * MIB, rel=0.01)


# --- rows and bars ------------------------------------------------------------------------------------


def row(section: str = "losses", bar: str = "", ours: float = 1.0, theirs: float = 2.0) -> Row:
    setting = {"shape": [1, 2, 64, 64], "dtype": "float32", "threads": 2}
    return timed(section, "SegLoss", "textbook", setting, BOTH, Times((ours,) * 3), Times((theirs,) * 3), bar)


def test_a_ratio_is_of_medians_and_its_spread_over_rounds():
    compared = timed("losses", "a", "b", {}, BOTH, Times((1.0, 1.0, 4.0)), Times((3.0, 2.0, 8.0)))
    assert compared.ratio == 3.0
    assert (compared.low, compared.high) == (2.0, 3.0)
    assert (compared.ours_least, compared.theirs_least) == (1.0, 2.0)


def test_a_bar_is_held_against_the_worst_row():
    by_bar = {v["bar"]: v for v in verdicts([row(bar="seg hard", theirs=9.0), row(bar="seg hard", theirs=2.0)])}
    assert (by_bar["seg hard"]["measured"], by_bar["seg hard"]["met"]) == (2.0, False)
    assert (by_bar["frame"]["measured"], by_bar["frame"]["met"]) == (None, None)


def test_a_bar_on_a_cost_is_held_against_the_inverse():
    by_bar = {v["bar"]: v for v in verdicts([row(bar="tversky", ours=1.05, theirs=1.0)])}
    assert by_bar["tversky"]["measured"] == pytest.approx(1.05)
    assert by_bar["tversky"]["met"] is True


@pytest.fixture
def peaks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let all peaks be 1000 bytes, since the profiler takes seconds, and return the devices that they are asked for."""
    devices = []
    monkeypatch.setattr(losses, "peak_bytes", lambda call, device: (call(), devices.append(device), 1000)[-1])
    return devices


@pytest.mark.usefixtures("peaks")
def test_every_bar_has_rows_that_are_held_against_it():
    rows = [
        *losses.seg_bars((1, 2, 8, 8), False, TINY),
        *losses.seg_bars((1, 2, 8, 8), True, TINY),
        *losses.frame_bars(1, 16, TINY),
        *losses.class_bars((1, 19, 8, 8), torch.float32, TINY),
        *losses.class_bars((1, 3, 8, 8), torch.bfloat16, TINY),
        *composition.overhead(20, False, TINY),
        *composition.overhead(20, True, TINY),
        *composition.schedule(TINY),
    ]
    elsewhere = {"monai", "half", "list", "check", *(key for key in BARS if "compiled" in key)}
    elsewhere |= {"classes monai", *(key for key in BARS if key.startswith(COUNTED))}
    assert {r.bar for r in rows if r.bar} - {"classes monai"} == set(BARS) - elsewhere
    assert all((r.measured is not None) == bool(r.bar) for r in rows)
    assert {r.phase for r in rows} == {FORWARD, BOTH, SAVED, PEAK, "call"}
    assert all(math.isfinite(r.ratio) and r.ours >= 0 for r in rows)


@pytest.mark.usefixtures("peaks")
def test_monai_has_the_value_of_seg_loss_channel_by_channel_and_on_classes():
    pytest.importorskip("monai")
    rows = losses.peer_bars((2, 2, 16, 16), True, TINY)
    assert {r.against for r in rows if r.bar == "monai"} == {"MONAI DiceCELoss", losses.peers.SAME_VALUE}
    rows = losses.class_bars((2, 3, 16, 16), torch.float32, TINY)
    assert [r.against for r in rows if r.bar == "classes monai"] == [losses.peers.ON_CLASSES]


def test_a_peak_of_classes_is_told_as_a_multiple_of_the_logits_and_the_gradient(peaks):
    rows = losses.class_bars((1, 19, 8, 8), torch.float32, TINY)
    size = 19 * 8 * 8 * 4
    assert [r.measured for r in rows if r.bar == "classes peak"] == [(size + 1000) / (2 * size)]
    assert peaks == ["cpu"] * len([r for r in rows if r.phase == PEAK] + ["ours"])


def test_the_part_of_the_gpu_runs_on_any_device(peaks):
    rows = [row for _, measure in losses.gpu_cases(TINY, "cpu", sizes=(8,)) for row in measure()]
    assert set(peaks) == {"cpu"}
    assert {r.section for r in rows} == {"gpu"}
    assert {r.phase for r in rows} == {BOTH, PEAK}
    assert {r.case for r in rows} == {"SegLoss", "SegLoss on classes", "frame field"}
    with_amp = {(r.setting["dtype"], "amp" in r.setting) for r in rows}
    assert with_amp == {(d, a) for d in losses.DTYPES.values() for a in (False, True)} - {("float32", True)}
    assert all(math.isfinite(r.ratio) for r in rows)


def test_without_a_gpu_its_part_is_empty():
    if torch.cuda.is_available():
        pytest.skip("there is one")
    assert list(losses.gpu_cases(TINY)) == []


# --- counts -------------------------------------------------------------------------------------------


def test_what_a_device_is_asked_for_is_counted_beside_the_textbook():
    if lacking := counts.standin.missing():
        pytest.skip(f"the stand-in device {lacking}")
    rows = counts.rows_of("device", 16)  # in a process of its own, where the device stays
    assert {r.phase for r in rows} == set(counts.COUNTED)
    assert {r.bar for r in rows if r.bar} == {key for key in BARS if key.startswith(COUNTED[:-1])}
    assert all(r.theirs > 0 for r in rows if r.phase in ("launches", "read and written"))
    launches = {(r.case, r.against): r for r in rows if r.phase == "launches"}
    assert launches["frame field", "textbook"].theirs == 509
    assert not hasattr(torch, counts.standin.NAME)


def test_kernels_are_counted_where_there_is_a_compiler():
    assert [label for label, _ in counts.cases(TINY)][1:] == []
    assert [label for label, _ in counts.cases(Effort())][-1] == "compiled kernels"


def test_one_collective_a_term_gives_the_norms_of_sync():
    (pair,) = sync.compare(2, 3, TINY)
    assert pair.setting == {"terms": 3, "processes": 2}
    assert pair.rounds == 5 * TINY.rounds


# --- start-up -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [10, 500])
def test_a_made_up_installation_has_that_many_distributions(tmp_path, count):
    path = startup.install(tmp_path, count)
    names = {installed.metadata["Name"] for installed in distributions(path=[str(folder) for folder in path])}
    assert len(names) == count
    assert "lossreg" in names


def test_a_made_up_installation_lists_the_losses(tmp_path):
    listed = startup.run(startup.install(tmp_path, 500), "-m", "lossreg", "list", "seg/*")()
    assert b"SegLoss" in listed.stdout


def test_the_ten_terms_are_sound(tmp_path):
    (tmp_path / "ten.yaml").write_text(startup.TEN_TERMS)
    checked = startup.run(startup.install(tmp_path, 40), "-m", "lossreg", "check", str(tmp_path / "ten.yaml"))()
    assert b"10 terms" in checked.stdout


# --- the report ---------------------------------------------------------------------------------------


@pytest.fixture
def results() -> dict[str, Any]:
    rows = [
        row(),
        row("sizes", ours=2.0, theirs=1.0),
        counted("memory", "SegLoss", "textbook", {"shape": [2, 2]}, SAVED, 128, 3 * MIB, "seg saved", 32.0),
    ]
    machine = {
        "cpu": "A processor", "cores": 2, "instructions": "AVX2", "caches": {"l2": MIB}, "memory_gib": 8.0,
        "load_before": 0.1, "system": "Linux x86_64", "python": "3.11", "versions": {"torch": "2.13.0"}, "gpu": None,
    }  # fmt: skip
    data = {"date": "2026-01-01", "minutes": 9.0, "quick": False, "machine": machine, "calls": []}
    data |= {"rows": [vars(r) for r in rows], "bars": verdicts(rows)}
    return json.loads(json.dumps(data))


def test_every_part_of_the_report_is_written(results, tmp_path):
    report.write(results, tmp_path)
    parts = {path.stem.removeprefix("performance-") for path in tmp_path.glob("*.md")}
    assert parts == {"machine", "bars", "calls", *report.SECTIONS}
    assert "SegLoss against textbook" in (tmp_path / "performance-sizes.svg").read_text(encoding="utf-8")


def test_a_row_that_is_lost_is_in_bold(results):
    parts = report.tables(results)
    assert "| **0.50** (0.50 to 0.50) |" in parts["sizes"]
    assert "| 2.00 (2.00 to 2.00) |" in parts["losses"]


def test_bytes_and_bars_are_told_in_their_units(results):
    parts = report.tables(results)
    assert "| saved for backward | 128 B | 3 MiB | 24576 |" in parts["memory"]
    assert "| at most 64 bytes a plane (n, c) | 32.0 | yes |" in parts["bars"]
    assert "| at least 6 times faster | not measured |  |" in parts["bars"]


def test_counts_are_told_in_one_line_for_each_setting(results):
    for phase, ours, theirs, unit in (("launches", 23, 31, ""), ("read and written", MIB, 2 * MIB, "B")):
        made = counted("counts", "SegLoss", "textbook", {"shape": [2, 2]}, phase, ours, theirs, unit=unit)
        results["rows"].append(vars(made))
    table = report.tables(results)["counts"]
    assert "| setting | launches | read and written |" in table
    assert "| SegLoss | textbook | 2x2 | 23 / 31 | 1 MiB / 2 MiB |" in table


def test_a_later_run_replaces_the_sections_that_it_measured(results):
    later = {**results, "date": "2026-02-02", "rows": [vars(row("sizes", bar="seg hard"))], "calls": []}
    machine = {**results["machine"], "gpu": "A GPU"}
    merged = merge(results, {**later, "machine": machine})
    assert [r["section"] for r in merged["rows"]] == ["losses", "memory", "sizes"]
    assert [v["measured"] for v in merged["bars"] if v["bar"] == "seg hard"] == [2.0]
    assert (merged["date"], merged["machine"]) == (results["date"], results["machine"])
    assert "- Sizes: from another run, on 2026-02-02, A GPU, torch 2.13.0." in report.machine_text(merged)
    again = merge(merged, later)
    assert [(run["sections"], run["machine"]["gpu"]) for run in again["later"]] == [(["sizes"], None)]


def test_a_machine_without_a_gpu_says_that_its_section_was_skipped(results):
    assert report.tables(results)["gpu"] == "The machine had no GPU, so this section was skipped.\n"


@pytest.mark.parametrize(("value", "text"), [(2.5, "2.5 s"), (0.0123, "12.3 ms"), (4.2e-5, "42 µs"), (7.1e-8, "71 ns")])
def test_seconds_are_told_in_a_fitting_unit(value, text):
    assert report.seconds(value) == text


def test_the_run_behind_the_page_is_one_of_this_benchmark():
    path = Path(__file__).parents[1] / "docs" / "benchmarks" / "results.json"
    committed = json.loads(path.read_text(encoding="utf-8"))
    assert {verdict["bar"] for verdict in committed["bars"]} == set(BARS)
    assert report.rows_of(committed)


def test_a_run_writes_its_results_and_prints_the_bars(tmp_path, capsys, monkeypatch):
    pytest.importorskip("pytest_benchmark", reason="tox's `bench` has it")
    run = import_module("run")
    monkeypatch.setattr(run, "QUICK", TINY)
    run.main(["--quick", "--only", "composition", "--output", str(tmp_path / "out")])
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"results.json", "results.md", "sizes.svg"}
    results = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))
    assert {r["section"] for r in results["rows"]} == {"composition"}
    assert results["machine"]["versions"]["torch"] == torch.__version__
    assert "interp1d" in capsys.readouterr().out
