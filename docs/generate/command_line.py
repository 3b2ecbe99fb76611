"""Write the help of each command, and draw the pictures for the pages `command_line` and `diagnosing`.

`python docs/generate/command_line.py [FOLDER]`
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

import click
import torch

from lossreg import diagnose, load_loss
from lossreg.cli import main as program

PAGES = Path(__file__).parents[1]
WIDTH = 84  # characters per line of help on the page


def block(page: str, language: str) -> str:
    """Return the first code block of a page in a language, so that pictures match the page."""
    match = re.search(rf"^```{language}\n(.*?)^```", (PAGES / page).read_text("utf-8"), re.DOTALL | re.MULTILINE)
    assert match, f"{page} has no {language} block"
    return match[1]


def draw_commands(folder: Path, scratch: Path) -> None:
    """Run `plot` and `graph` on the YAML of the page."""
    config = scratch / "config.yaml"
    config.write_text(block("command_line.md", "yaml"), encoding="utf-8")
    plot = ["plot", str(config), "--epochs", "20", "-o", str(folder / "weights.svg")]
    graph = ["graph", str(config), "--format", "svg", "-o", str(folder / "graph.svg")]
    for command in (plot, graph):
        program(command, standalone_mode=False)


def draw_diagnosis(folder: Path, scratch: Path) -> None:
    """Draw the diagnosis of the example on the page `diagnosing`."""
    config = scratch / "terms.yaml"
    config.write_text(block("diagnosing.md", "yaml"), encoding="utf-8")
    multi_loss = load_loss(config)
    model = torch.nn.Linear(2, 2, bias=False)
    torch.nn.init.eye_(model.weight)
    pred = {"height": model(torch.tensor([[1.0, 2.0]]))}
    gt = {"height": torch.tensor([[4.0, 2.0]]), "zero": torch.zeros(1, 2)}
    diagnose(multi_loss, pred, gt, model, epoch=5).plot(folder / "cosines.svg")


def options() -> str:
    """Return the `--help` of every command, in the order of the program."""
    parent = click.Context(
        program, info_name="lossreg", terminal_width=WIDTH, max_content_width=WIDTH, **program.context_settings
    )
    parts = []
    for name in program.list_commands(parent):
        command = program.get_command(parent, name)
        assert command is not None
        text = command.get_help(click.Context(command, info_name=name, parent=parent))
        parts.append(f"### lossreg {name}\n\n```text\n{text}\n```\n")
    return "\n".join(parts)


def main(folder: Path) -> None:
    """Write the help and the pictures into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "options.md").write_text(options(), encoding="utf-8")
    with tempfile.TemporaryDirectory() as scratch:
        draw_commands(folder, Path(scratch))
        draw_diagnosis(folder, Path(scratch))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else PAGES / "generated")
