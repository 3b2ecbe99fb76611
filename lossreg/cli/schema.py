"""`lossreg schema`: print the JSON Schema of a file, for an editor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lossreg.cli.import_option import importing
from lossreg.cli.output import Safe, echo, json_text, writing


@click.command("schema", epilog="Example: lossreg schema -o lossreg.schema.json")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="File to write.")
@click.option(
    "--key",
    metavar="PATH",
    help="Dotted path of the compound loss in a file. By default a file is a training config, or a compound loss "
    "itself.",
)
@importing
def schema_command(output: Path | None, key: str | None) -> None:
    """Print a JSON Schema of a loss file, with every installed component and its parameters.

    An editor with a YAML language server completes and checks a file that begins with
    "# yaml-language-server: $schema=lossreg.schema.json". Write it anew when a plugin is installed.
    """
    from lossreg.config.schema import schema

    if key is not None and not all(key.split(".")):
        raise click.UsageError(f"--key {key!r}: expected a dotted path such as loss_params.compound_loss")
    text = _text(schema(key))
    if output is None:
        echo(text)
        return
    with writing(output) as draft:
        draft.write_text(text + "\n", encoding="utf-8")


def _text(document: dict[str, Any]) -> str:
    """Return a schema as compact JSON with one definition per line, so that a new plugin changes few lines."""
    definitions = document.pop("$defs")
    lines = [f"{json_text(name, compact=True)}:{json_text(node, compact=True)}" for name, node in definitions.items()]
    return Safe(json_text(document, compact=True).removesuffix("}") + ',"$defs":{\n' + ",\n".join(lines) + "\n}}")
