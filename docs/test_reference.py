"""The reference pages are complete: every key of the grammar, every command, every public name."""

from __future__ import annotations

import json
import re
import runpy
from collections.abc import Collection
from importlib.util import find_spec
from pathlib import Path
from pkgutil import resolve_name
from types import SimpleNamespace
from typing import Any, ClassVar

import click
import pytest
from jsonschema import Draft202012Validator

from lossreg import keys
from lossreg.cli import main as program
from lossreg.config.build import get_loss_function
from lossreg.config.legacy import LEGACY_BLOCKS
from lossreg.errors import ConfigError
from lossreg.registry import catalog
from lossreg.registry.params import parameters
from lossreg.values import keys_of

DOCS = Path(__file__).parent


def script(name: str) -> SimpleNamespace:
    """Return the names of a script in `docs/generate`."""
    return SimpleNamespace(**runpy.run_path(str(DOCS / "generate" / f"{name}.py")))


class TestYaml:
    reference = script("yaml_reference")
    BLOCKS = reference.blocks()

    @pytest.mark.parametrize(
        ("block", "keys"),
        [
            ("compound", keys_of(keys.Compound)),
            ("group", keys_of(keys.Group)),
            ("term", keys_of(keys.Term)),
            ("wrap", keys_of(keys.Wrap)),
            ("channels", keys_of(keys.Cut)),
            ("deep", keys_of(keys.Deep)),
            ("normalization", keys_of(keys.Normalization)),
            ("legacy", [f"coefs.{key}" for key in keys_of(keys.Coefs)]),
            ("legacy", [f"seg_loss_params.{key}" for key in keys_of(keys.SegLossParams)]),
            ("switched", ["compute_seg", "compute_crossfield"]),
            ("switched", [f"seg_params.{key}" for key in keys_of(keys.SegParams)]),
            ("switched", [f"pl_trainer.{key}" for key in keys_of(keys.Trainer)]),
            ("file", ["loss_params.compound_loss", *LEGACY_BLOCKS, "loss"]),
        ],
    )
    def test_every_declared_key_has_a_row_with_its_sentence(self, block: str, keys: Collection[str]):
        rows = re.findall(r"^\| `(\S+)` \|", self.reference.table(self.BLOCKS[block], block), re.MULTILINE)
        assert set(keys) - set(rows) == set()

    def test_every_weight_of_the_legacy_block_has_a_row(self):
        config = {
            "compute_seg": True,
            "compute_crossfield": True,
            "seg_params": dict.fromkeys(keys_of(keys.SegParams), True),
            "loss_params": {"multi_loss": {"coefs": {}}},
        }
        with pytest.raises(ConfigError) as error:
            get_loss_function(config)
        missing = {problem.path.removeprefix("loss_params.multi_loss.") for problem in error.value.problems}
        assert missing == {key for key in self.BLOCKS["legacy"] if key.startswith("coefs.")} - {
            "coefs.epoch_thresholds"
        }

    def test_a_key_without_a_description_fails(self):
        with pytest.raises(ValueError, match=r"the schema does not describe term\.new; give it a description"):
            self.reference.table({"new": {"type": "string"}}, "term")

    @pytest.mark.parametrize("block", BLOCKS)
    def test_the_examples_are_what_the_schema_takes(self, block: str):
        for key, own in self.BLOCKS[block].items():
            validator = Draft202012Validator({"$defs": self.reference.DEFS, "allOf": [own]})
            for example in self.reference.resolved(own).get("examples", ()):
                assert not list(validator.iter_errors(example)), f"{block}.{key}: {json.dumps(example)}"

    def test_every_table_is_on_the_page(self, tmp_path: Path):
        self.reference.main(tmp_path)
        included = re.findall(r"generated/(yaml-\w+\.md)", (DOCS / "yaml_reference.md").read_text("utf-8"))
        assert sorted(included) == sorted(path.name for path in tmp_path.iterdir())


def test_every_command_is_shown_at_work_and_with_its_options():
    page = (DOCS / "command_line.md").read_text("utf-8")
    commands = program.list_commands(click.Context(program))
    assert re.findall(r"^## (\w+):", page, re.MULTILINE) == commands
    assert re.findall(r"^### lossreg (\w+)$", script("command_line").options(), re.MULTILINE) == commands
    assert "```{include} generated/options.md" in page


NEEDS = {"lossreg.training.huggingface": "transformers", "lossreg.training.ignite": "ignite"}
"""Modules that need a library which not every environment has."""


def documented(text: str) -> list[Any]:
    """Return the objects that the text of a page documents with autodoc."""
    found: list[Any] = []
    module = "lossreg"
    for directive, argument in re.findall(r"^\.\. (\w+):: (\S+?)(?:\(\))?$", text, re.MULTILINE):
        if directive == "currentmodule":
            module = argument
        elif directive == "automodule":
            found += public(argument).values()
        elif directive.startswith("auto"):
            name = argument if "." in argument else f"{module}.{argument}"
            needed = next((library for part, library in NEEDS.items() if name.startswith(f"{part}.")), None)
            if needed is None or find_spec(needed) is not None:
                found.append(resolve_name(name))
    return found


def public(module: str) -> dict[str, Any]:
    """Return the names in `__all__` of a module, or else its names without an underscore."""
    contents = resolve_name(module)
    own = [name for name, value in vars(contents).items() if getattr(value, "__module__", None) == module]
    return {n: getattr(contents, n) for n in getattr(contents, "__all__", own) if not n.startswith("_")}


@pytest.mark.parametrize(
    "module",
    [
        "lossreg",
        "lossreg.errors",
        "lossreg.testing",
        "lossreg.composition.schedules",
        "lossreg.config.hydra",
        "lossreg.training.lightning",
        "lossreg_seg",
        "lossreg_crossfield",
    ],
)
def test_every_public_name_is_on_the_page_of_the_api_or_of_a_loss(module: str):
    shown = documented((DOCS / "api.md").read_text("utf-8"))
    shown += [value for text in TestLosses.PAGES.values() for value in documented(text)]
    assert [name for name, value in public(module).items() if not any(value is other for other in shown)] == []


def test_every_weighting_is_on_the_page_of_the_api():
    shown = documented((DOCS / "api.md").read_text("utf-8"))
    core = [entry for entry in catalog().weightings if entry.plugin.name == "core"]
    assert [entry.name for entry in core if entry.load() not in shown] == []


class TestLosses:
    """The generated pages of losses, and the table of all."""

    generator = script("losses")
    PAGES: ClassVar[dict[str, str]] = generator.pages()
    ENTRIES = tuple(generator.described())

    def test_every_described_loss_has_a_page_and_a_row_also_if_it_is_not_installed(self):
        names = [entry.name for entry in self.ENTRIES]
        assert {f"losses/{name}.md" for name in names} == self.PAGES.keys() - {"generated/losses.md"}
        rows = re.findall(r"^\| \[(\S+)\]\(losses/(\S+)\.md\) \|", self.PAGES["generated/losses.md"], re.MULTILINE)
        assert rows == [(name, name) for name in names]
        offered = {entry.name for entry in catalog().losses} | {entry.name for entry, _ in catalog().losses.absent}
        assert offered - set(names) == {"lossreg-example/LogCoshLoss"}  # one entry point, without a spec

    def test_a_page_says_what_the_spec_says(self):
        for entry in self.ENTRIES:
            page, spec = self.PAGES[f"losses/{entry.name}.md"], entry.spec
            facts = dict(re.findall(r"^- \*\*([^:]+):\*\* (.+)$", page, re.MULTILINE))
            assert facts["For"] == ", ".join(spec.tasks), entry.name
            assert {"Prediction", "Target"} <= facts.keys(), entry.name
            assert spec.url in facts.get("Documentation", ""), entry.name
            assert re.findall(r"^\$\$(.+)\$\$$", page, re.MULTILINE) == spec.formula.split(r" \qquad "), entry.name

    def test_a_row_has_the_tasks_that_the_filter_reads(self):
        rows = re.findall(r"^\| \[(\S+)\].* \| ([^|]+) \|$", self.PAGES["generated/losses.md"], re.MULTILINE)
        assert dict(rows) == {entry.name: ", ".join(entry.spec.tasks) for entry in self.ENTRIES}

    def test_a_page_has_every_parameter_of_an_installed_loss(self):
        installed = set(catalog().losses)
        for entry in self.ENTRIES:
            if entry in installed and entry.plugin.name not in self.generator.CLASSES:
                rows = re.findall(r"^\| `(\w+)` \|", self.PAGES[f"losses/{entry.name}.md"], re.MULTILINE)
                found = parameters(entry.load(), hidden=entry.spec.hidden, tensors=entry.spec.tensors)
                assert rows == [parameter.name for parameter in found if parameter.settable], entry.name

    def test_no_page_has_the_markup_of_a_docstring(self):
        for path, text in self.PAGES.items():
            prose = re.sub(r"```\{eval-rst\}.*?```", "", text, flags=re.DOTALL)
            assert re.search(r":\w+:`|(?<!`)``(?!`)|`_|\.\. \w+::", prose) is None, path

    def test_the_pages_are_the_same_each_time(self):
        assert script("losses").pages() == self.PAGES

    def test_every_loss_of_ours_has_its_formula_its_picture_and_its_class_on_its_page(self):
        ours = [entry for entry in self.ENTRIES if entry.plugin.name in self.generator.CLASSES]
        assert {entry.spec.name for entry in ours} == set(self.generator.DRAWN)
        for entry in ours:
            page = self.PAGES[f"losses/{entry.name}.md"]
            assert f"generated/loss-{entry.spec.name}.svg" in page
            assert f".. autoclass:: lossreg_{entry.plugin.name}.{entry.spec.name}\n" in page

    @pytest.mark.parametrize(
        ("reference", "markdown"),
        [
            (":attr:`margin`", "`margin`"),
            (":class:`~torch.nn.L1Loss`", "`torch.nn.L1Loss`"),
            (":ref:`the notes <notes>`", "`the notes`"),
            ("one of ``'none'`` | ``'mean'``", r"one of `'none'` \| `'mean'`"),
            ("the term .. math:: \\log(2\\pi)", "the term (a formula)"),
            (".. note:: it is slow", "it is slow"),
            ("a `paper <https://arxiv.org>`__.", "a paper."),
            ("p_t * [0, 1] < $1", r"p\_t \* \[0, 1\] \< \$1"),
        ],
    )
    def test_a_librarys_words_are_made_plain(self, reference: str, markdown: str):
        assert self.generator.plain(reference) == markdown
