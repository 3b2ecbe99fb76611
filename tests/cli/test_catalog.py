"""`list` and `plugins` show what is installed."""

import json

import pytest

import lossreg
from lossreg.registry import catalog, components
from lossreg.registry.plugins import Plugin


def names(result):
    return [line.split()[0] for line in result.stdout.partition("\n\n")[0].splitlines()[2:]]


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


@pytest.fixture
def made():
    """Register losses with facts that no other loss has, of which one needs a library that is not installed."""
    register = lossreg.register
    register("FocalThing", summary="down-weights easy cobbles", words=("puddle drought",), tasks=("cobblestones",))(len)
    register("PlainThing", summary="for cobblestones", tasks=("cobblestones", "gravel estimation"))(len)
    register("FarThing", words=("puddles",), package="no-such-library>=2")(len)


def test_list_of_words_finds_what_they_describe_best_match_first(run, made):
    found = names(run("list", "puddle", "cobblestone"))
    assert found[0] == "local/FocalThing"
    assert set(found[1:]) == {"local/PlainThing", "local/FarThing"}
    assert names(run("list", "loss for puddles of Cobblestones?")) == found


def test_list_of_words_finds_what_is_not_installed_too_and_says_what_it_needs(run, made):
    result = run("list", "puddle")
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("local/FarThing")]
    assert "(needs no-such-library>=2)" in line
    assert "  pip install 'no-such-library>=2'\n" in result.stdout
    assert "local/FarThing" not in run("list", "*Thing").stdout


def test_list_of_words_knows_first_party_losses_that_are_not_installed(run, monkeypatch):
    spec = lossreg.LossSpec("ZebraLoss", "zebras:ZebraLoss", summary="stripes")
    monkeypatch.setattr(components, "missing", lambda: [("lossreg-zebra", "zebra", spec)])
    lossreg.refresh()
    result = run("list", "stripes")
    assert names(result)[0] == "zebra/ZebraLoss"
    assert "needs lossreg-zebra" in result.stdout
    assert "  pip install lossreg-zebra\n" in result.stdout
    (listed,) = json.loads(run("list", "stripes", "--json").stdout)
    assert (listed["needs"], listed["install"]) == ("lossreg-zebra", "pip install lossreg-zebra")
    assert "zebra/ZebraLoss" not in names(run("list"))
    assert "zebra/ZebraLoss" in names(run("list", "--all"))


@pytest.mark.parametrize(
    ("task", "found"),
    [
        ("cobblestones", ["local/FocalThing", "local/PlainThing"]),
        ("Gravel", ["local/PlainThing"]),
        ("estimation of gravel", ["local/PlainThing"]),
    ],
)
def test_list_of_a_task(run, made, task, found):
    assert names(run("list", "--task", task)) == found


def test_list_of_a_task_and_words_or_a_glob(run, made):
    assert names(run("list", "--task", "gravel", "cobblestone")) == ["local/PlainThing"]
    assert names(run("list", "--task", "cobblestones", "*focal*thing")) == ["local/FocalThing"]


def test_list_of_an_unknown_task_tells_the_tasks(run, made):
    result = run("list", "--task", "cooking")
    assert result.exit_code == 1
    assert "no loss is for 'cooking'; the tasks are " in result.stderr
    assert "gravel estimation" in result.stderr


def test_list_of_several_globs(run):
    assert names(run("list", "*slopeloss", "*heightloss")) == ["local/HeightLoss", "local/SlopeLoss"]


def test_list_of_a_word_that_says_nothing_shows_all(run):
    assert run("list", "losses").stdout == run("list").stdout


def test_list_of_a_misspelt_word_suggests_one(run, made):
    result = run("list", "pudle")
    assert result.exit_code == 1
    assert "no loss matches 'pudle'; did you mean 'puddle'" in result.stderr


def test_list_of_a_word_of_another_kind_names_the_command(run):
    result = run("list", "monotone", "interpolation")
    assert result.exit_code == 1
    assert "`lossreg list --kind schedule 'monotone interpolation'` finds some" in result.stderr


def test_list_as_json_has_the_facts(run, made):
    focal, *_ = json.loads(run("list", "puddle drought", "--json").stdout)
    assert (focal["tasks"], focal["words"]) == (["cobblestones"], ["puddle drought"])


def heading(shown):
    return shown.splitlines()[0].split()


def test_in_a_narrow_terminal_the_distribution_gives_way_first_and_names_are_whole(at_width):
    name, alias = "a_name_of_a_loss_that_is_rather_long", "an_alias_that_is_long_too"
    lossreg.register(name, aliases=(alias,), summary="word " * 30, package="no-such-library>=2")(len)
    shown = {columns: at_width(columns, "list", "--all", "*rather*") for columns in (120, 110, 80, 50)}
    assert heading(shown[120]) == ["Name", "Alias", "Summary", "Distribution"]
    assert heading(shown[110]) == ["Name", "Alias", "Summary"]
    assert heading(shown[80]) == heading(shown[50]) == ["Name", "Summary"]
    for columns, text in shown.items():
        table = text.partition("\n\n")[0].splitlines()
        assert max(map(len, table)) <= columns
        assert any(line.split()[0] == f"local/{name}" for line in table)
        assert "(needs no-such-library>=2)" in " ".join(text.split())


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
    assert "(needs no-such-library>=2)" in line
    assert "pip install 'no-such-library>=2'" in result.stdout
    (listed,) = json.loads(run("list", "--all", "*far*", "--json").stdout)
    assert listed["install"] == "pip install 'no-such-library>=2'"


def test_list_as_json_holds_the_same(run):
    listed = json.loads(run("list", "--json").stdout)
    assert [entry["name"] for entry in listed] == lossreg.list_losses()
    height = next(entry for entry in listed if entry["name"] == "local/HeightLoss")
    assert height == {
        "name": "local/HeightLoss", "kind": "loss", "summary": "Mean absolute height.", "aliases": ["height"],
        "plugin": "local", "distribution": "", "version": "", "words": [], "formula": "", "source": "", "url": "",
        "tasks": [], "prediction": "", "ground_truth": "",
    }  # fmt: skip


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


def test_a_terminal_is_shown_the_best_matches_of_words_and_a_pipe_all(run, at_width):
    for i in range(30):
        lossreg.register(f"Zebra{i:02}", summary="stripes" + " of a herd" * (i == 29))(len)
    shown = at_width(80, "list", "zebra", "herd")
    assert shown.count("local/Zebra") == 20
    assert shown.index("local/Zebra29") < shown.index("local/Zebra00")
    assert "These are the best 20 of 30 matches" in shown
    assert run("list", "zebra", "herd").stdout.count("local/Zebra") == 30
    assert at_width(80, "list", "Zebra*").count("local/Zebra") == 30
