"""`card` describes a loss in three formats, and rebuilds it from each."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import Result

import lossreg
from lossreg.config.card import Record

Run = Callable[..., Result]


@pytest.fixture
def checkpoint(good: Path, tmp_path: Path) -> Path:
    """A checkpoint of the criterion of `good`, with a norm that no new one has."""
    criterion = lossreg.load_loss(good)
    criterion({"height": torch.tensor([[1.0, 3.0]])}, {}, epoch=7)
    criterion.loss_funcs[0].norm.fill_(0.1)
    criterion.calibrated.fill_(True)
    torch.save({"criterion": criterion.state_dict()}, tmp_path / "some.pt")
    return tmp_path / "some.pt"


@pytest.mark.parametrize("suffix", [".md", ".html", ".tex"])
def test_each_format_is_rebuilt_to_equal_values(
    run: Run, good: Path, checkpoint: Path, tmp_path: Path, suffix: str
) -> None:
    card, yaml, state = tmp_path / f"card{suffix}", tmp_path / "again.yaml", tmp_path / "again.pt"
    result = run("card", good, "--checkpoint", checkpoint, "-o", card)
    assert result.exit_code == 0
    assert result.stdout.endswith(f"wrote {card}\n")
    result = run("card", "--rebuild", card, "--strict", "-o", yaml, "--checkpoint", state)
    assert (result.exit_code, result.stdout) == (0, f"wrote {state}\nwrote {yaml}\n")
    one, other = lossreg.load_loss(good), lossreg.load_loss(yaml)
    one.load_state_dict(torch.load(checkpoint, weights_only=True)["criterion"])
    other.load_state_dict(torch.load(state, weights_only=True))
    batch = ({"height": torch.tensor([[1.0, 2.0, 5.0]])}, {})
    for epoch in (0.0, 7.5, 30.0):
        expected, values, _ = one(*batch, epoch=epoch)
        for found in (other, lossreg.rebuild(card, strict=True)):
            total, others, _ = found(*batch, epoch=epoch)
            assert torch.equal(total, expected)
            assert others == values


def test_without_an_output_markdown_is_printed_in_80_columns(run: Run, good: Path) -> None:
    result = run("card", good)
    assert result.exit_code == 0
    assert result.stdout.startswith("# Loss card\n\nThe loss of config.yaml: 4 terms. Written by lossreg ")
    assert max(map(len, result.stdout.splitlines())) <= 80
    record, changed = Record.read(result.stdout.encode(), "card.md")
    assert changed == []
    assert record.state == {}
    assert "▁" in result.stdout, "the weights are drawn in characters"


def test_rebuild_prints_the_yaml_and_tells_of_a_state(run: Run, good: Path, checkpoint: Path, tmp_path: Path) -> None:
    card = tmp_path / "card.md"
    run("card", good, "--checkpoint", checkpoint, "-o", card)
    result = run("card", "--rebuild", card)
    assert result.exit_code == 0
    (tmp_path / "again.yaml").write_text(result.stdout)
    assert lossreg.load_loss(tmp_path / "again.yaml").plan() == lossreg.load_loss(good).plan()
    assert result.stderr == "The card also holds a state; --checkpoint FILE writes it.\n"


@pytest.mark.filterwarnings("default")
def test_a_tampered_card_is_an_error_and_a_changed_text_a_warning(run: Run, good: Path, tmp_path: Path) -> None:
    card = tmp_path / "card.md"
    run("card", good, "-o", card)
    text = card.read_text()
    card.write_text(text.replace("scale: 2.0", "scale: 3.0"))
    result = run("card", "--rebuild", card)
    assert result.exit_code == 0
    assert "scale: 2.0" in result.stdout, "of the record"
    assert result.stderr.startswith(f"Warning: {card}: the text around the record was changed")
    result = run("card", "--rebuild", "--strict", card)
    assert (result.exit_code, result.stdout) == (1, "")
    lines = text.splitlines()
    lines[-3] = lines[-3][::-1]
    card.write_text("\n".join(lines))
    result = run("card", "--rebuild", card)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"Error: {card}: the record of the card ")


def test_a_card_may_come_from_standard_input(good: Path) -> None:
    command = [sys.executable, "-m", "lossreg", "card", "-"]
    text = "losses: [{loss: from_dict, rest: 1.0}]"
    made = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
    again = subprocess.run([*command, "--rebuild"], input=made.stdout, capture_output=True, text=True, check=True)
    assert again.stdout == "losses:\n- {loss: from_dict, rest: 1.0}\n"
    assert again.stderr == ""


def test_the_card_of_a_config_imports_no_torch() -> None:
    code = (
        "import sys; from lossreg.cli import main\n"
        "try: main(['card', '-'])\n"
        "except SystemExit as end: sys.exit(end.code or 3 * ('torch' in sys.modules))"
    )
    text = "losses: [{loss: from_dict, rest: {schedule: cosine, start: 0, end: 1, end_epoch: 3}}]"
    done = subprocess.run([sys.executable, "-c", code], input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_file_with_mistakes_is_told_as_check_tells_it(run: Run, write: Callable[[str], Path], tmp_path: Path) -> None:
    file = write("losses: [{loss: hieght}]\n")
    result = run("card", file, "-o", tmp_path / "card.md")
    assert result.exit_code == 1
    assert "no loss is named 'hieght'" in result.stdout
    assert not (tmp_path / "card.md").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "card.pdf"], "card.pdf: cannot tell what to write; write a .md, .html or .tex"),
        (["--checkpoint", "none.pt"], "--checkpoint none.pt: there is no such file"),
        (["--strict"], "--strict has a meaning with --rebuild only"),
        (["--rebuild", "--key", "a.b"], "--key has no meaning with --rebuild"),
    ],
)
def test_wrong_usage(run: Run, good: Path, arguments: list[str], message: str) -> None:
    result = run("card", good, *arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_what_is_no_card_and_what_has_no_state(run: Run, good: Path, tmp_path: Path) -> None:
    result = run("card", "--rebuild", good)
    assert result.exit_code == 1
    assert "expected one loss card as `lossreg card` writes it, found none" in result.stderr
    run("card", good, "-o", tmp_path / "card.md")
    result = run("card", "--rebuild", tmp_path / "card.md", "--checkpoint", tmp_path / "new.pt")
    assert result.exit_code == 1
    assert "the card holds no state" in result.stderr
    assert not (tmp_path / "new.pt").exists()


def test_a_checkpoint_of_another_loss_is_an_error(run: Run, good: Path, write: Callable[..., Path]) -> None:
    other = write("losses: [{loss: slope}]", "other.yaml")
    torch.save(lossreg.load_loss(other).state_dict(), other.with_suffix(".pt"))
    result = run("card", good, "--checkpoint", other.with_suffix(".pt"))
    assert result.exit_code == 1
    assert "expected the terms ['height', 'slope', 'aux'], found ['slope']" in result.stderr


def test_a_single_loss_has_no_card(run: Run, write: Callable[[str], Path]) -> None:
    result = run("card", write("loss: slope"))
    assert result.exit_code == 1
    assert "describes a single loss (local/SlopeLoss)" in result.stderr


def test_without_matplotlib_the_weights_are_characters(
    run: Run, good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for suffix in (".md", ".html", ".tex"):
        result = run("card", good, "-o", tmp_path / f"card{suffix}")
        assert result.exit_code == 0
        assert result.stdout == f"wrote {tmp_path / 'card'}{suffix}\n"
        assert "matplotlib is not installed, so the card has no pictures: pip install 'lossreg[plot]'" in result.stderr
    assert "▁" in (tmp_path / "card.md").read_text()
    assert "▁" in (tmp_path / "card.html").read_text()
    assert "<code>L(e) = " in (tmp_path / "card.html").read_text()
    assert "includegraphics" not in (tmp_path / "card.tex").read_text()
