"""`list`, `show` and `plugins` show what is installed."""

import json

import pytest
import yaml

import lossreg
from lossreg.registry import catalog
from lossreg.registry.plugins import Plugin


def names(result):
    return [line.split()[0] for line in result.stdout.splitlines()[2:]]


def test_list_shows_name_alias_summary_and_origin(run):
    line = next(line for line in run("list").stdout.splitlines() if line.startswith("local/HeightLoss"))
    assert line.split() == ["local/HeightLoss", "height", "Mean", "absolute", "height.", "this", "process"]


@pytest.mark.parametrize("pattern", ["*SLOPE*", "local/Slope*", "slopeloss"])
def test_list_takes_a_glob_of_full_or_bare_names_in_any_case(run, pattern):
    assert names(run("list", pattern)) == ["local/SlopeLoss"]


def test_list_of_a_glob_that_matches_nothing_exits_with_1(run):
    result = run("list", "*Chamfer*")
    assert result.exit_code == 1
    assert "no loss matches '*Chamfer*'" in result.stderr


@pytest.mark.parametrize(
    ("kind", "some"),
    [
        ("preprocess", "local/Slopes"),
        ("schedule", "core/Cosine"),
        ("weighting", "core/DWA"),
        ("loss", "local/SlopeLoss"),
    ],
)
def test_list_of_each_kind(run, kind, some):
    assert some in names(run("list", "--kind", kind))


@pytest.fixture
def absent() -> None:
    lossreg.register("FarLoss", summary="one of a library that is not here", package="no-such-library>=2")(len)


def test_a_loss_whose_package_is_not_installed_is_not_listed(run, absent):
    assert "local/FarLoss" not in names(run("list"))


def test_list_all_shows_it_with_the_line_that_installs_the_package(run, absent):
    result = run("list", "--all", "*far*")
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("local/FarLoss")]
    assert line.rstrip().endswith("needs no-such-library>=2")
    assert "pip install 'no-such-library>=2'" in result.stdout
    (listed,) = json.loads(run("list", "--all", "*far*", "--json").stdout)
    assert listed["install"] == "pip install 'no-such-library>=2'"


def test_show_of_it_says_what_to_install(run, absent):
    result = run("show", "FarLoss")
    assert result.exit_code == 1
    assert "pip install 'no-such-library>=2'" in result.stderr


def test_list_as_json_holds_the_same(run):
    listed = json.loads(run("list", "--json").stdout)
    assert [entry["name"] for entry in listed] == lossreg.list_losses()
    height = next(entry for entry in listed if entry["name"] == "local/HeightLoss")
    assert height == {
        "name": "local/HeightLoss", "kind": "loss", "summary": "Mean absolute height.", "aliases": ["height"],
        "plugin": "local", "distribution": "", "version": "",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["HeightLoss", "height", "local/HeightLoss", "local/height"])
def test_show_tells_all_about_a_component_by_any_of_its_names(run, name):
    shown = run("show", name).stdout
    for text in (
        "local/HeightLoss\n", "Mean absolute height.", "old.place.HeightLoss", "pred.height", "gt.valid",
        '  - {loss: height, scale: "???", weight: 1.0}',
    ):  # fmt: skip
        assert text in shown
    rows = {line.split()[0]: line.split()[1:] for line in shown.splitlines() if line.strip()}
    assert rows["scale"] == ["float", "required", "metres", "a", "unit."]
    assert rows["weight"] == ["list[float]", "|", "None", "null", "(under", "args:)", "of", "each", "class."]
    assert rows["name"][:2] == ["str", "height"]


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


def test_plugins_shows_the_core_and_what_it_offers(run):
    line = next(line for line in run("plugins").stdout.splitlines() if line.startswith("core"))
    assert line.split() == f"core lossreg {lossreg.__version__} 1 preprocess, 11 schedules, 8 weightings".split()


@pytest.fixture
def broken(monkeypatch):
    current = catalog()
    plugin = Plugin("bad", "bad-dist", "0.3", error=ImportError("no licence"))
    monkeypatch.setattr(lossreg.registry, "_catalog", type(current)(current.manager, (*current.plugins, plugin)))


def test_plugins_shows_a_broken_one_with_its_reason(run, broken):
    shown = run("plugins")
    assert shown.exit_code == 0
    assert "plugin 'bad' (bad-dist 0.3) is skipped:\n  ImportError: no licence" in shown.stdout


def test_plugins_as_json(run, broken):
    shown = json.loads(run("plugins", "--json").stdout)
    core, *_, bad = shown["plugins"]
    assert "Cosine" in core["offers"]["schedules"]
    assert core["error"] is None
    assert bad["error"] == {"type": "ImportError", "message": "no licence"}
    assert shown["conflicts"] == []


def test_plugins_tells_what_is_blocked_and_what_is_not_there_to_block(run, monkeypatch):
    monkeypatch.setenv("LOSSREG_DISABLE", "LossReg_Sge, pytest")
    result = run("plugins")
    assert "In LOSSREG_DISABLE, but no installed plugin: LossReg_Sge, pytest" in result.stdout
    listed = json.loads(run("plugins", "--json").stdout)
    assert (listed["blocked"], listed["unknown"]) == ([], ["LossReg_Sge", "pytest"])


@pytest.mark.needs_plugins
def test_plugins_tells_what_is_blocked(run, monkeypatch):
    monkeypatch.setenv("LOSSREG_DISABLE", "lossreg-seg")
    lossreg.refresh()
    assert "Blocked by LOSSREG_DISABLE: lossreg-seg" in run("plugins").stdout


def test_plugins_tells_what_is_odd_about_an_installation(run, monkeypatch):
    current = catalog()
    note = "odd is installed in several versions"
    odd = Plugin("odd", "odd", "2.0", note=note)
    monkeypatch.setattr(lossreg.registry, "_catalog", type(current)(current.manager, [*current.plugins, odd]))
    assert note in run("plugins").stdout
    listed = json.loads(run("plugins", "--json").stdout)
    assert {plugin["name"]: plugin["note"] for plugin in listed["plugins"]}["odd"] == note
