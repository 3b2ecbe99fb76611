"""`show` tells what one component is for, what it takes, and its parameters."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from typing import Any

import pytest
import torch
import yaml

import lossreg
from lossreg.registry import catalog
from lossreg.registry.plugins import Plugin


@pytest.fixture
def absent() -> None:
    lossreg.register("FarLoss", summary="one of a library that is not here", package="no-such-library>=2")(len)


def test_show_of_it_says_what_to_install(run, absent):
    result = run("show", "FarLoss")
    assert result.exit_code == 1
    assert "pip install 'no-such-library>=2'" in result.stderr


@pytest.mark.parametrize("name", ["HeightLoss", "height", "local/HeightLoss", "local/height"])
def test_show_tells_all_about_a_component_by_any_of_its_names(run, name):
    shown = run("show", name).stdout
    for text in (
        "local/HeightLoss\n", "Mean absolute height.", "old.place.HeightLoss", "pred.height", "gt.valid",
        '  - {loss: height, scale: "???", weight: 1.0}',
    ):  # fmt: skip
        assert text in shown
    parameters = shown.partition("Parameters\n\n")[2].partition("\n\nIn YAML:")[0].split("\n\n")
    assert parameters == [
        "  name: str = height\n      the term's name.",
        "  scale: float, required\n      metres a unit.",
        "  weight: list[float] | None = null (under args)\n      of each class.",
    ]


def test_show_as_json_has_the_parameters(run):
    shown = json.loads(run("show", "height", "--json").stdout)
    assert shown["parameters"] == [
        {"name": "name", "type": "str", "required": False, "doc": "the term's name."},
        {"name": "scale", "type": "float", "required": True, "doc": "metres a unit."},
        {"name": "weight", "type": "list[float] | None", "required": False, "default": None, "doc": "of each class."},
    ]
    assert shown["requires"] == ["pred.height"]
    assert shown["yaml"] == '- {loss: height, scale: "???", weight: 1.0}'


@pytest.mark.parametrize(
    ("masks", "masking", "expected"),
    [(False, "", "no"), (True, "", "yes"), (True, "pixels; with a count", "pixels; with a count")],
)
def test_show_says_whether_a_loss_takes_a_mask(run, masks, masking, expected):
    @lossreg.register("Masked", masking=masking)
    class Masked(lossreg.Loss):
        """A loss."""

    Masked.masks = masks
    rows = [line.split(":", 1)[1].strip() for line in run("show", "Masked").stdout.splitlines() if "Mask:" in line]
    assert rows == [expected]
    assert json.loads(run("show", "Masked", "--json").stdout)["mask"] == expected


def test_show_says_nothing_of_masks_where_that_is_not_known(run):
    @lossreg.register("Plain")
    def plain(pred, target):
        """Return a loss."""

    for name in ("Plain", "cosine"):
        assert "Mask:" not in run("show", name).stdout
        assert "mask" not in json.loads(run("show", name, "--json").stdout)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("cosine", 'weight: {schedule: cosine, start: "???", end: "???", end_epoch: "???"}'),
        ("DWA", "weighting: {strategy: dwa}"),
        ("Slopes", "- {preprocess: Slopes}"),
    ],
)
def test_show_knows_schedules_weightings_and_preprocesses(run, name, line):
    assert f"\n  {line}\n" in run("show", name).stdout


def test_show_of_a_weighting_imports_no_torch():
    code = """
import sys
from click.testing import CliRunner
from lossreg.cli import main
result = CliRunner().invoke(main, ["show", "dwa"])
assert result.exit_code == 0 and "temperature" in result.stdout, result.output
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_line_of_every_installed_component_is_yaml_that_names_it(run):
    for section in catalog().sections:
        for entry in section:
            described = json.loads(run("show", entry.name, "--kind", section.kind, "--json").stdout)
            line = yaml.safe_load(described["yaml"])
            item = line[0] if isinstance(line, list) else next(iter(line.values()))
            assert section.find(next(iter(item.values()))) is entry


def test_the_line_of_a_loss_without_required_parameters_builds(run):
    line = json.loads(run("show", "slope", "--json").stdout)["yaml"]
    built = lossreg.build_compound_loss_from_config({"loss_list": yaml.safe_load(line)})
    assert built.names == ("slope",)


@pytest.mark.parametrize(("typo", "meant"), [("hieght", "height"), ("cosin", "cosine"), ("gradnom", "gradnorm")])
def test_show_of_an_unknown_name_suggests_the_nearest_of_any_kind(run, typo, meant):
    result = run("show", typo)
    assert result.exit_code == 1
    assert "did you mean" in result.stderr
    assert meant in result.stderr.lower()


def test_show_of_an_unknown_name_names_no_kind_that_nobody_gave(run):
    assert "nothing is named 'zzz'" in run("show", "zzz").stderr
    assert "nothing is named 'gradnom'" in run("show", "gradnom").stderr
    assert "no schedule is named 'gradnom'" in run("show", "gradnom", "--kind", "schedule").stderr


def test_show_of_a_pattern_names_the_command_for_it(run):
    result = run("show", "local/*")
    assert result.exit_code == 1
    assert "expected one name, found 'local/*'; `lossreg list 'local/*'` lists losses" in " ".join(
        result.stderr.split()
    )


@pytest.mark.parametrize("disabled", ["ac", "acme"])
def test_show_of_a_name_of_a_blocked_plugin_names_the_switch(run, monkeypatch, tmp_path, disabled):
    folder = tmp_path / "acme-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text("[lossreg]\nac = acme.plugin\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("LOSSREG_DISABLE", disabled)
    lossreg.refresh()
    result = run("show", "ac/Huge")
    assert result.exit_code == 1
    assert "nothing is named 'ac/Huge'; LOSSREG_DISABLE switches the plugin 'ac' off" in result.stderr
    assert "LOSSREG_DISABLE" not in run("show", "acme/Huge").stderr


def test_show_of_a_name_that_two_kinds_share_asks_for_the_kind(run):
    @lossreg.register("Cosine")
    class Cosine(lossreg.Loss): ...

    result = run("show", "Cosine")
    assert result.exit_code == 1
    assert "local/Cosine is a loss and core/Cosine is a schedule; choose with --kind" in result.stderr
    assert "  - {loss: Cosine, weight: 1.0}" in run("show", "Cosine", "--kind", "loss").stdout


def test_show_of_an_ambiguous_alias_lists_the_candidates(run, monkeypatch):
    spec = lossreg.LossSpec("DiceLoss", "torch.nn:MSELoss", aliases=("same",))
    current = catalog()
    plugins = [Plugin(name, f"{name}-dist", "1.0", (spec,)) for name in ("one", "two")]
    monkeypatch.setattr(lossreg.registry, "_catalog", type(current)(current.manager, [*current.plugins, *plugins]))
    result = run("show", "same")
    assert result.exit_code == 1
    assert "one/DiceLoss (one-dist 1.0) and two/DiceLoss (two-dist 1.0)" in result.stderr
    assert "{loss: one/DiceLoss, weight: 1.0}" in run("show", "one/DiceLoss").stdout


def test_show_of_a_loss_that_cannot_be_imported_exits_with_1(run, monkeypatch):
    spec = lossreg.LossSpec("Gone", "no_such_package.losses:Gone")
    plugin = Plugin("gone", "gone-dist", "1.2", (spec,))
    current = catalog()
    found = type(current)(current.manager, (*current.plugins, plugin))
    monkeypatch.setattr(lossreg.registry, "_catalog", found)
    result = run("show", "Gone")
    assert result.exit_code == 1
    assert "gone-dist 1.2" in result.stderr
    assert "no_such_package" in result.stderr


FACTS = {
    "tasks": ("segmentation", "depth"),
    "prediction": "logits (N, C, ...)",
    "ground_truth": "class indices (N, ...)",
    "formula": r"-\log p_y",
    "source": "A. Author 1999",
    "url": "https://example.org/told",
}


def facts_of(shown):
    """Return the lines of facts by their heading."""
    return dict(line.split(": ", 1) for line in shown.split("\n\n")[1].splitlines() if not line.startswith(" "))


def test_show_tells_what_the_spec_says(run):
    lossreg.register("Told", words=("odd",), **FACTS)(len)
    facts = {heading: text.strip() for heading, text in facts_of(run("show", "Told").stdout).items()}
    assert facts == {
        "Kind": "loss", "Tasks": "segmentation, depth", "Prediction": FACTS["prediction"],
        "Target": FACTS["ground_truth"], "Reads": "the only tensor of each side, or those at pred_key and gt_key",
        "Formula": FACTS["formula"], "Source": FACTS["source"], "Page": FACTS["url"],
        "From": "this process (builtins:len)",
    }  # fmt: skip
    shown = json.loads(run("show", "Told", "--json").stdout)
    assert {key: shown[key] for key in FACTS} == {**FACTS, "tasks": ["segmentation", "depth"]}
    assert shown["words"] == ["odd"]


def test_show_tells_the_keys_that_a_wrapped_loss_reads(run):
    lossreg.register("Three", wrap={"inputs": ("pred.a", "pred.b", "gt.c")})(len)
    assert facts_of(run("show", "Three").stdout)["Requires"].strip() == "pred.a, pred.b, gt.c"
    assert json.loads(run("show", "Three", "--json").stdout)["requires"] == ["pred.a", "pred.b", "gt.c"]


def test_show_tells_which_named_inputs_are_optional(run):
    inputs = {"embeddings": "pred.embeddings", "labels": "gt.labels", "pairs": "gt.pairs", "epoch": "epoch"}
    lossreg.register("PairLoss", wrap={"inputs": inputs, "optional_inputs": ["pairs"]})(len)
    shown = json.loads(run("show", "PairLoss", "--json").stdout)
    assert (shown["requires"], shown["optional"]) == (["pred.embeddings", "gt.labels"], ["gt.pairs"])


@pytest.mark.parametrize(
    ("masking", "sample_weight", "count"),
    [
        ("pixels; with a count", True, True),
        ("pixels, in none of the sums; no count", True, False),
        ("no: it sorts the errors of all pixels", False, False),
    ],
)
def test_show_tells_whether_a_wrapped_loss_takes_weights_and_has_a_count(run, masking, sample_weight, count):
    lossreg.register("Wrapped", masking=masking)(len)
    shown = json.loads(run("show", "Wrapped", "--json").stdout)
    assert (shown["mask"], shown["sample_weight"], shown["count"]) == (masking, sample_weight, count)
    facts = facts_of(run("show", "Wrapped").stdout)
    assert [facts[heading].strip() == "yes" for heading in ("Sample weight", "Count")] == [sample_weight, count]


def test_show_tells_whether_a_loss_has_a_count(run):
    @lossreg.register("Counting")
    class Counting(lossreg.Loss):
        """A loss."""

        def counts(self, gt_batch):
            """Return the counts."""

    assert json.loads(run("show", "Counting", "--json").stdout)["count"] is True
    assert json.loads(run("show", "height", "--json").stdout)["count"] is False


def test_show_keeps_the_name_of_a_term_apart_from_a_parameter_called_so(run):
    @lossreg.register("G6")
    class G6(torch.nn.Module):
        """A loss."""

        def __init__(self, name: str, size: int = 1) -> None: ...

    assert "  name: str, required (under args)\n" in run("show", "G6").stdout
    shown = json.loads(run("show", "G6", "--json").stdout)
    assert shown["parameters"][0]["required"]
    assert shown["yaml"] == '- {loss: G6, args: {name: "???"}, weight: 1.0}'


def test_show_tells_what_the_factory_of_a_default_makes(run):
    @lossreg.register("Made")
    @dataclasses.dataclass
    class Made:
        """A loss."""

        scales: list[float] = dataclasses.field(default_factory=lambda: [1.0, 0.5])
        other: Any = dataclasses.field(default_factory=object)

    shown = run("show", "Made").stdout
    assert "  scales: list[float] = [1.0, 0.5]\n" in shown
    assert "  other: any\n" in shown
    first, second = json.loads(run("show", "Made", "--json").stdout)["parameters"]
    assert first["default"] == [1.0, 0.5]
    assert not second["required"]
    assert "default" not in second


def test_show_has_plain_words(run):
    @lossreg.register("Marked", summary="a :class:`~torch.nn.Module` of ``x``")
    class Marked(lossreg.Loss):
        r"""A loss.

        Args:
            alpha: a factor :math:`\\alpha \\geq 0` of ``"mean"``. Default: :math:`1.0`.
        """

        def __init__(self, name: str, alpha: float = 1.0) -> None: ...

    shown = run("show", "Marked").stdout
    assert "a `Module` of `x`\n" in shown
    assert '  alpha: float = 1.0\n      a factor alpha >= 0 of "mean".\n' in shown


@pytest.mark.parametrize("columns", [None, 80, 60])
def test_show_fits_the_terminal(run, at_width, columns):
    path = "long_package_of_old.with_long_modules.inside.where_it_was_before.HeightLoss"
    lossreg.register("Long", summary="word " * 40, source="word " * 40, targets=(path, path + "2"))(len)
    shown = run("show", "Long").stdout if columns is None else at_width(columns, "show", "Long")
    assert f"\nAlso as:\n  {path}," in shown  # an address is never broken, and has a line of its own if it is long
    assert 50 < max(len(line) for line in shown.splitlines() if path not in line) <= (columns or 80)


@pytest.mark.needs_plugins
def test_show_understands_a_dotted_path(run):
    assert run("show", "torch.nn.L1Loss").stdout == run("show", "torch/L1Loss").stdout


@pytest.mark.needs_plugins
def test_show_of_each_loss_reads_well_at_80_columns(run):
    for name in (
        "torch/CrossEntropyLoss",
        "monai/DiceLoss",
        "kornia/mutual_information_loss_3d",
        "seg/SegLoss",
    ):
        shown = run("show", name).stdout
        lines = shown.partition("In YAML:")[0].splitlines()
        assert all(len(line) <= 80 or len(line.split()) == 1 for line in lines)  # an address is not broken
        assert not any(mark in shown for mark in ("``", ":math:", ":class:", ":attr:", "`_"))
