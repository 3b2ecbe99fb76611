"""`lossreg card`: describe a loss for readers, in Markdown, HTML or LaTeX, and rebuild it from such a card."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lossreg.cli.import_option import importing
from lossreg.cli.loading import load_config, mistakes_shown
from lossreg.cli.output import echo, refuse_suffix, writing
from lossreg.config.reading import Source

if TYPE_CHECKING:
    from torch import Tensor

    from lossreg.composition.multiloss import MultiLoss
    from lossreg.config.grammar import CompoundConfig

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command("card", epilog="Example: lossreg card config.yaml -o card.html --checkpoint checkpoint.pt")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, readable=True, allow_dash=True))
@click.option("--key", metavar="PATH", help="Dotted path of the compound loss in FILE, as for check.")
@importing
@click.option(
    "-o",
    "--output",
    type=_FILE,
    help="Card to write, .md, .html or .tex; by default Markdown on standard output. With --rebuild, the YAML file.",
)
@click.option(
    "--checkpoint",
    type=_FILE,
    help="Checkpoint whose norms and other state the card holds. With --rebuild, the checkpoint to write.",
)
@click.option("--rebuild", is_flag=True, help="FILE is a card: write its config, and with --checkpoint its state.")
@click.option("--strict", is_flag=True, help="With --rebuild, another version of a distribution is an error.")
def card_command(
    file: str, key: str | None, output: Path | None, checkpoint: Path | None, rebuild: bool, strict: bool
) -> None:
    """Describe the loss of FILE for readers: formulas, weights, parameters, sources and versions.

    The card also holds the loss itself as data: --rebuild and lossreg.rebuild make an equal criterion of it. They
    verify its digest and tell of versions that differ. PyTorch is imported for a --checkpoint only.
    """
    if rebuild:
        if key is not None:
            raise click.UsageError("--key has no meaning with --rebuild: a card holds one loss")
        _rebuild(file, output, checkpoint, strict)
        return
    if strict:
        raise click.UsageError("--strict has a meaning with --rebuild only")
    _write(file, key, output, checkpoint)


def _write(file: str, key: str | None, output: Path | None, checkpoint: Path | None) -> None:
    from lossreg.cli.card_formats import FORMATS, draw, has_matplotlib
    from lossreg.cli.card_text import Formula, Picture, card_text
    from lossreg.config.card import Record

    suffix = ".md" if output is None else output.suffix.lower()
    if output is not None and suffix not in FORMATS:
        refuse_suffix(output, list(FORMATS))
    if checkpoint is not None and not checkpoint.exists():
        raise click.UsageError(f"--checkpoint {checkpoint}: there is no such file")
    source = Source(*_content(file))
    config = load_config(source, key)
    criterion, state = (None, None) if checkpoint is None else _trained(source, config, checkpoint)
    record = Record.of(config, state)
    blocks = card_text(config, record, source.name, criterion)
    form = FORMATS[suffix](None if output is None else output.with_suffix(""))
    text = form.card(blocks, record)
    if output is None:
        echo(text, end="")
        return
    needed = Picture if suffix != ".html" else (Picture, Formula)
    if any(isinstance(block, needed) for block in blocks) and not has_matplotlib():
        echo("matplotlib is not installed, so the card has no pictures: pip install 'lossreg[plot]'", err=True)
    draw(form.pictures, writing)
    with writing(output) as draft:
        draft.write_text(text, encoding="utf-8")


def _trained(source: Source, config: CompoundConfig, checkpoint: Path) -> tuple[MultiLoss, dict[str, Tensor]]:
    """Return the criterion with a checkpoint loaded, and the state that a card needs."""
    from lossreg.config.build import build_parsed
    from lossreg.config.card import read_checkpoint, state_of

    with mistakes_shown(source):
        criterion = build_parsed(config)
    return criterion, state_of(criterion, read_checkpoint(checkpoint))


def _rebuild(file: str, output: Path | None, checkpoint: Path | None, strict: bool) -> None:
    from lossreg.config.card import read_card

    name, content = _content(file)
    record, config = read_card(content, name, strict=strict)
    if checkpoint is not None and not record.state:
        raise click.ClickException(f"{name}: the card holds no state; it was written without --checkpoint")
    if checkpoint is not None:
        import torch

        state = record.build(config, name).state_dict()
        with writing(checkpoint) as draft:
            torch.save(state, draft)
    if output is not None:
        with writing(output) as draft:
            draft.write_text(record.config, encoding="utf-8")
    elif checkpoint is None:
        echo(record.config, end="")
    if record.state and checkpoint is None:
        echo("The card also holds a state; --checkpoint FILE writes it.", err=True)


def _content(file: str) -> tuple[str, bytes]:
    """Return the name and the first bytes of a file, or of standard input for `-`: one more than a card may have."""
    from lossreg.config.card import MAX_CARD

    if file != "-":
        with open(file, "rb") as stream:
            return file, stream.read(MAX_CARD + 1)
    if sys.stdin is None:
        raise click.ClickException("<stdin>: cannot be read: it is closed")
    return "<stdin>", sys.stdin.buffer.read(MAX_CARD + 1)
