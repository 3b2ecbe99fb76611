"""Discovery finds plugins in package metadata, and a broken plugin does not affect others."""

from __future__ import annotations

import re

import pytest

import lossreg
from lossreg.errors import PluginError, PluginWarning, UnknownNameError

BROKEN = {
    "raises at import": ("raise RuntimeError('no licence')", RuntimeError, "no licence"),
    "does not parse": ("def :", SyntaxError, "invalid syntax"),
    "imports what is not there": ("import not_there_at_all", ModuleNotFoundError, "not_there_at_all"),
    "exits at import": ("import sys; sys.exit(3)", PluginError, r"sys\.exit\(3\)"),
    "raises in a hook": (
        "@hookimpl\ndef lossreg_losses():\n    raise ValueError('out of order')",
        ValueError,
        "out of order",
    ),
    "exits in a hook": (
        "@hookimpl\ndef lossreg_losses():\n    raise SystemExit",
        PluginError,
        r"sys\.exit\(None\)",
    ),
    "returns a number": (
        "@hookimpl\ndef lossreg_losses():\n    return 5",
        PluginError,
        r"lossreg_losses\(\): expected a list of LossSpec, found 5",
    ),
    "returns a string": (
        "@hookimpl\ndef lossreg_losses():\n    return 'abc'",
        PluginError,
        "expected a list of LossSpec, found 'abc'",
    ),
    "returns a list of names": (
        "@hookimpl\ndef lossreg_losses():\n    return ['A']",
        PluginError,
        "expected a LossSpec",
    ),
    "returns a mapping": (
        "@hookimpl\ndef lossreg_losses():\n    return {'A': LossSpec('A', 'a:A')}",
        PluginError,
        "item 0: expected a LossSpec, found 'A'",
    ),
    "returns specs of another kind": (
        "@hookimpl\ndef lossreg_losses():\n    return [ScheduleSpec('A', 'a:A')]",
        PluginError,
        "expected a LossSpec",
    ),
    "raises half-way": (
        "@hookimpl\ndef lossreg_losses():\n    yield LossSpec('Half', 'a:A')\n    raise ValueError('empty')",
        ValueError,
        "empty",
    ),
    "one good hook, one bad": (
        "@hookimpl\ndef lossreg_losses():\n    return [LossSpec('Half', 'a:A')]\n"
        "@hookimpl\ndef lossreg_schedules():\n    return 1",
        PluginError,
        r"lossreg_schedules\(\): expected a list of ScheduleSpec, found 1",
    ),
    "a malformed spec": (
        "@hookimpl\ndef lossreg_losses():\n    return [LossSpec('A', 'no colon')]",
        PluginError,
        "expected 'package.module:Attribute', found",
    ),
    "a hook of another name": (
        "@hookimpl\ndef lossreg_optimizers():\n    return []",
        Exception,
        "lossreg_optimizers",
    ),
    "a hook of another signature": (
        "@hookimpl\ndef lossreg_losses(batch):\n    return []",
        Exception,
        "batch",
    ),
    "panics at import": (
        "class Panic(BaseException): pass\nraise Panic('out of cheese')",
        PluginError,
        "^Panic: out of cheese$",
    ),
    "panics in a hook": (
        "class Panic(BaseException): pass\n@hookimpl\ndef lossreg_losses():\n    raise Panic('out of cheese')",
        PluginError,
        "^Panic: out of cheese$",
    ),
    "panics half-way": (
        "@hookimpl\ndef lossreg_losses():\n    yield LossSpec('Half', 'a:A')\n    raise BaseException('empty')",
        PluginError,
        "^BaseException: empty$",
    ),
    "closes its generator": ("raise GeneratorExit", PluginError, "^GeneratorExit$"),
    "is cancelled": ("import asyncio\nraise asyncio.CancelledError", PluginError, "^CancelledError$"),
    "exits with an object of its own": (
        "class Evil:\n    def __repr__(self): raise ValueError\nraise SystemExit(Evil())",
        PluginError,
        r"sys\.exit\(\(no message: ValueError\)\)",
    ),
    "an error without a message": (
        "class Mute(Exception):\n    def __str__(self): raise BaseException\nraise Mute",
        PluginError,
        r"^Mute: \(no message: BaseException\)$",
    ),
    "an error with 10 MB of message": (
        "raise RuntimeError('x' * 10_000_000)",
        PluginError,
        r"^RuntimeError: x{2000}\.\.\. \(9,998,000 more characters\)$",
    ),
    "asks for losses at import": (
        "import lossreg\nlossreg.list_losses()",
        PluginError,
        "a plugin cannot look up losses at import or in a hook",
    ),
    "asks for losses in a hook": (
        "import lossreg\n@hookimpl\ndef lossreg_losses():\n    return lossreg.list_losses()",
        PluginError,
        "a plugin cannot look up losses at import or in a hook",
    ),
    "scans in a hook": (
        "import lossreg\n@hookimpl\ndef lossreg_losses():\n    lossreg.refresh()",
        PluginError,
        "a plugin cannot look up losses at import or in a hook",
    ),
    "specs without end": (
        "@hookimpl\ndef lossreg_losses():\n    while True: yield LossSpec('A', 'a:A')",
        PluginError,
        "expected at most 10,000 specs, found more",
    ),
    "100,000 specs": (
        "@hookimpl\ndef lossreg_schedules():\n    return [ScheduleSpec(f'A{i}', 'a:A') for i in range(100_000)]",
        PluginError,
        "expected at most 10,000 specs, found more",
    ),
    "a spec that was changed": (
        "a = LossSpec('A', 'a:A')\nobject.__setattr__(a, 'summary', None)\n"
        "@hookimpl\ndef lossreg_losses():\n    return [a]",
        PluginError,
        "LossSpec 'A': summary: expected one printable line of at most 1000 characters, found None",
    ),
    "a spec that checks nothing": (
        "class Spec(LossSpec):\n    def __post_init__(self): pass\n"
        "@hookimpl\ndef lossreg_losses():\n    return [Spec('A', 'a:A', aliases=5)]",
        PluginError,
        "LossSpec 'A': aliases: expected a tuple of strings, found 5",
    ),
    "a spec that raises as it is read": (
        "class Spec(LossSpec):\n    def __getattribute__(self, name): raise SystemExit(4)\n"
        "@hookimpl\ndef lossreg_losses():\n    return [Spec.__new__(Spec)]",
        PluginError,
        r"sys\.exit\(4\)",
    ),
    "a thing like a spec": (
        "import types\n@hookimpl\ndef lossreg_losses():\n    return [types.SimpleNamespace(name='A', target='a:A')]",
        PluginError,
        "item 0: expected a LossSpec, found an object of SimpleNamespace",
    ),
    "a thing whose text is an error": (
        "class Evil:\n    def __repr__(self): raise BaseException\n"
        "@hookimpl\ndef lossreg_losses():\n    return [Evil()]",
        PluginError,
        "item 0: expected a LossSpec, found an object of Evil",
    ),
    "one name twice": (
        "@hookimpl\ndef lossreg_losses():\n    return [LossSpec('A', 'a:A'), LossSpec('B', 'b:B', aliases=('A',))]",
        PluginError,
        "offers 'A' twice: as a:A and as b:B",
    ),
    "one spec twice": (
        "a = LossSpec('A', 'a:A')\n@hookimpl\ndef lossreg_losses():\n    return [a, a]",
        PluginError,
        "offers 'A' twice",
    ),
}


def failed(packages, name="broken"):
    plugin = packages.plugin(name)
    assert plugin.error is not None
    assert plugin.specs == ()
    return plugin.error


# --- the two ways in ------------------------------------------------------------------------------


def test_hooks_offer_all_four_kinds(packages):
    packages.hooked(
        "acme-losses",
        "acme",
        """
        @hookimpl
        def lossreg_losses():
            return (LossSpec("Huge", "torch.nn:HuberLoss", aliases=("huge",), summary="big"),)

        @hookimpl
        def lossreg_preprocesses():
            return [PreprocessSpec("Edges", "acme.pre:Edges", provides=("gt.edges",))]

        @hookimpl
        def lossreg_weightings():
            yield WeightingSpec("Even", "acme.weights:Even")

        @hookimpl
        def lossreg_schedules():
            return {ScheduleSpec("Saw", "acme.schedules:Saw")}
        """,
    )
    plugin = packages.plugin("acme")
    assert (plugin.distribution, plugin.version, plugin.error) == ("acme-losses", "1.0", None)
    assert {(s.kind, s.name) for s in plugin.specs} == {
        ("loss", "Huge"),
        ("preprocess", "Edges"),
        ("weighting", "Even"),
        ("schedule", "Saw"),
    }
    assert lossreg.find_loss("acme/Huge") is lossreg.find_loss("huge")
    assert lossreg.find_loss("huge").summary == "big"
    found = lossreg.registry.catalog()
    assert found.preprocesses.find("Edges").name == "acme/Edges"
    assert found.weightings.find("Even").name == "acme/Even"
    assert found.schedules.find("Saw").name == "acme/Saw"
    assert [entry.name for entry in found.providers("gt.edges")] == ["acme/Edges"]


def test_one_line_is_enough(packages):
    packages.add("acme-losses", losses={"Huge": "torch.nn:HuberLoss", "Tiny": "acme.losses:Box.Tiny"})
    plugin = packages.plugin("acme-losses")
    assert (plugin.distribution, plugin.version, plugin.error) == ("acme-losses", "1.0", None)
    assert lossreg.list_losses("acme-losses/*") == ["acme-losses/Huge", "acme-losses/Tiny"]
    assert lossreg.find_loss("Tiny").target == "acme.losses:Box.Tiny"


def test_one_line_is_not_imported_until_the_loss_is_used(packages):
    source = "raise RuntimeError('imported')"
    packages.add("acme", losses={"Bomb": "acme_bomb:Bomb"}, modules={"acme_bomb.py": source})
    packages.scan()
    assert lossreg.find_loss("Bomb").name == "Bomb"
    assert packages.modules() == set()
    with pytest.raises(PluginError, match="'acme_bomb:Bomb' cannot be imported: RuntimeError: imported"):
        lossreg.create_loss("Bomb")


def test_one_distribution_may_use_both_ways(packages):
    packages.offering("acme", "hooks", "Hooked")
    info = packages.folder / "acme-1.0.dist-info" / "entry_points.txt"
    info.write_text(info.read_text() + "[lossreg.losses]\nLined = torch.nn:L1Loss\n")
    packages.scan()
    assert lossreg.list_losses("*ed") >= ["acme/Lined", "hooks/Hooked"]


def test_a_plugin_may_be_a_class_or_an_object(packages):
    source = """
    class Plugin:
        @hookimpl
        def lossreg_losses(self):
            return [LossSpec("Huge", "torch.nn:HuberLoss")]

    plugin = Plugin()
    """
    packages.add(
        "acme",
        hooks={"acme": "acme_object:plugin"},
        modules={"acme_object.py": "from lossreg import LossSpec, hookimpl\n" + source.replace("\n    ", "\n")},
    )
    assert packages.plugin("acme").error is None
    assert lossreg.list_losses("acme/*") == ["acme/Huge"]


def test_a_plugin_may_offer_nothing(packages):
    packages.hooked("quiet", "quiet", "@hookimpl\ndef lossreg_losses():\n    return None\n")
    plugin = packages.plugin("quiet")
    assert (plugin.specs, plugin.error) == ((), None)


def test_the_core_is_a_plugin_too(packages):
    core = packages.plugin("core")
    assert (core.distribution, core.version) == ("lossreg", lossreg.__version__)
    assert {spec.kind for spec in core.specs} == {"schedule", "weighting", "preprocess"}


def test_every_target_of_the_core_is_there(packages):
    found = packages.scan()
    for section in (found.schedules, found.weightings):
        for entry in section:
            if entry.plugin.name == "core":
                assert entry.load().__name__ == entry.spec.name


# --- isolation ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_plugin_is_kept_aside_and_its_neighbours_work(packages, kind):
    source, error_type, message = BROKEN[kind]
    packages.offering("a-neighbour", "before", "Before")
    packages.hooked("broken", "broken", source)
    packages.offering("z-neighbour", "after", "After")
    with pytest.warns(PluginWarning, match=r"plugin 'broken' \(broken 1\.0\) is skipped: ") as caught:
        found = lossreg.refresh()
    assert len(caught) == 1
    (plugin,) = (p for p in found.plugins if p.name == "broken")
    assert isinstance(plugin.error, error_type)
    assert plugin.specs == ()
    with pytest.raises(error_type, match=message):
        raise plugin.error
    assert lossreg.list_losses("before/*") == ["before/Before"]
    assert lossreg.list_losses("after/*") == ["after/After"]
    assert lossreg.list_losses("broken/*") == []
    assert lossreg.create_loss("After").name == "After"


def test_a_missing_module_is_kept_aside(packages):
    packages.add("broken", hooks={"broken": "nowhere.plugin"})
    assert isinstance(failed(packages), ModuleNotFoundError)


def test_a_missing_attribute_is_kept_aside(packages):
    packages.add("broken", hooks={"broken": "broken_module:plugin"}, modules={"broken_module.py": ""})
    assert isinstance(failed(packages), AttributeError)


def test_a_plugin_that_is_nothing_is_kept_aside(packages):
    packages.add("broken", hooks={"broken": "broken_module:plugin"}, modules={"broken_module.py": "plugin = None"})
    failed(packages)


def test_an_optional_hook_of_another_name_is_let_pass(packages):
    source = """
    @hookimpl(optionalhook=True)
    def lossreg_of_a_later_version(thing):
        raise RuntimeError

    @hookimpl
    def lossreg_losses():
        return [LossSpec("Huge", "torch.nn:HuberLoss")]
    """
    packages.hooked("acme", "acme", source)
    assert packages.plugin("acme").error is None
    assert lossreg.list_losses("acme/*") == ["acme/Huge"]


def test_all_that_are_broken_are_warned_of(packages):
    packages.hooked("broken-a", "a", "1/0")
    packages.hooked("broken-b", "b", "1/0")
    with pytest.warns(PluginWarning) as caught:
        lossreg.refresh()
    assert [str(w.message).split(" is ")[0] for w in caught] == [
        "plugin 'a' (broken-a 1.0)",
        "plugin 'b' (broken-b 1.0)",
    ]


def test_a_lossless_broken_plugin_is_the_cause_where_its_loss_is_asked_for(packages):
    packages.hooked("broken", "broken", "raise RuntimeError('no licence')")
    packages.scan()
    for name in ("broken/Anything", "AnythingAtAll"):
        with pytest.raises(
            UnknownNameError, match=r"plugin 'broken' \(broken 1\.0\) could not be used: no licence"
        ) as raised:
            lossreg.find_loss(name)
        assert isinstance(raised.value.__cause__, RuntimeError)
    with pytest.raises(UnknownNameError) as raised:
        lossreg.find_loss("other/Anything")
    assert "broken" not in str(raised.value)


def test_a_repaired_plugin_is_found_again(packages):
    packages.hooked("acme", "acme", "1/0")
    assert packages.plugin("acme").error is not None
    packages.remove("acme")
    packages.offering("acme", "acme", "Repaired")
    assert packages.plugin("acme").error is None
    assert lossreg.list_losses("acme/*") == ["acme/Repaired"]


def test_a_plugin_without_a_marked_hook_is_told_how_to_mark_it(packages):
    packages.hooked("broken", "broken", "def lossreg_losses():\n    return [LossSpec('A', 'a:A')]")
    with pytest.raises(PluginError, match=r"it has no hook; mark its functions with @lossreg\.hookimpl"):
        raise failed(packages)


# --- lines and metadata that do not parse -----------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("Huge = torch.nn", "target: expected 'package.module:Attribute', found"),  # a module, no attribute
        ("Huge = torch nn HuberLoss", "torch nn HuberLoss"),
        ("Huge = ", "Huge"),
        ("Huge Loss = torch.nn:HuberLoss", "found 'Huge Loss'"),
        ("Huge/Loss = torch.nn:HuberLoss", "found 'Huge/Loss'"),
        ("Huge = torch.nn:HuberLoss\nHuge = torch.nn:L1Loss", "offers 'Huge' twice"),
    ],
)
def test_a_malformed_line_takes_its_own_distribution_out_alone(packages, line, message):
    packages.add("broken", text=f"[lossreg.losses]\nFine = torch.nn:L1Loss\n{line}\n")
    packages.add("sound", losses={"Sound": "torch.nn:L1Loss"})
    with pytest.raises(PluginError, match=message):
        raise failed(packages)
    assert lossreg.list_losses("sound/*") == ["sound/Sound"]


@pytest.mark.parametrize("value", ["acme plugin", ":", "", "acme:plugin:more"])
def test_a_malformed_hook_line_takes_its_own_plugin_out_alone(packages, value):
    packages.add("broken", text=f"[lossreg]\nbroken = {value}\n")
    packages.offering("sound", "sound", "Sound")
    failed(packages)
    assert lossreg.list_losses("sound/*") == ["sound/Sound"]


@pytest.mark.parametrize("group", ["lossreg", "lossreg.losses"])
def test_entry_points_that_cannot_be_read_take_their_own_distribution_out_alone(packages, group):
    packages.add("broken", text=f"[{group}]\nno equals sign\n")
    packages.add("sound", losses={"Sound": "torch.nn:L1Loss"})
    assert isinstance(failed(packages), PluginError)
    assert lossreg.list_losses("sound/*") == ["sound/Sound"]


def test_entry_points_of_other_programs_that_cannot_be_read_are_no_affair_of_ours(packages):
    packages.add("foreign", text="[console_scripts]\nno equals sign\n")
    packages.add("sound", losses={"Sound": "torch.nn:L1Loss"})
    plugins = lossreg.refresh().plugins
    assert "foreign" not in {p.distribution for p in plugins}
    assert lossreg.list_losses("sound/*") == ["sound/Sound"]


def test_a_distribution_without_metadata_takes_nothing_down(packages):
    packages.add("broken", losses={"Huge": "torch.nn:HuberLoss"})
    (packages.folder / "broken-1.0.dist-info" / "METADATA").unlink()
    packages.add("sound", losses={"Sound": "torch.nn:L1Loss"})
    packages.scan()
    assert lossreg.list_losses("sound/*") == ["sound/Sound"]


def test_of_two_copies_on_the_path_the_first_counts(packages, tmp_path, monkeypatch):
    packages.add("acme", version="1.0", losses={"Old": "torch.nn:L1Loss"})
    older, packages.folder = packages.folder, tmp_path / "first"
    packages.add("acme", version="2.0", losses={"New": "torch.nn:L1Loss"})
    monkeypatch.syspath_prepend(packages.folder)
    assert packages.plugin("acme").version == "2.0"
    assert lossreg.list_losses("acme/*") == ["acme/New"]
    packages.folder = older


# --- versions of the core ---------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["hooks", "losses"])
@pytest.mark.parametrize("requirement", ["lossreg>=99", "LossReg>99,<100", "lossreg (>=99) ; python_version>'3'"])
def test_a_plugin_for_a_newer_core_is_left_out_unimported(packages, way, requirement):
    lines = {way: {"acme": "acme_plugin"}} if way == "hooks" else {way: {"Huge": "torch.nn:HuberLoss"}}
    packages.add("acme", **lines, modules={"acme_plugin.py": "1/0"}, requires=[requirement])
    with pytest.raises(PluginError, match=rf"it requires lossreg.*99.*, found lossreg {lossreg.__version__}") as caught:
        raise packages.plugin("acme").error
    assert re.search(r"\(pip install 'lossreg[^)]*99[^)]*'\) .*\(pip install --upgrade acme\)", str(caught.value))
    assert packages.modules() == set()


@pytest.mark.parametrize(
    "requirement",
    [
        "lossreg",
        f"lossreg=={lossreg.__version__}",
        "lossreg>=0.0.1,<99",
        "lossreg-seg>=99",
        "lossreg>=99; extra == 'later'",
        "lossreg>=99; python_version < '3'",
    ],
)
@pytest.mark.parametrize("way", ["hooks", "losses"])
def test_a_plugin_for_this_core_is_taken(packages, way, requirement):
    if way == "hooks":
        packages.offering("acme", "acme", "Huge", requires=[requirement])
    else:
        packages.add("acme", losses={"Huge": "torch.nn:HuberLoss"}, requires=[requirement])
    assert packages.plugin("acme").error is None


@pytest.mark.parametrize("way", ["hooks", "losses"])
def test_a_requirement_that_cannot_be_read_takes_nothing_else_down(packages, way):
    if way == "hooks":
        packages.offering("broken", "broken", "Huge", requires=["lossreg=>1=2"])
    else:
        packages.add("broken", losses={"Huge": "torch.nn:HuberLoss"}, requires=["lossreg=>1=2"])
    packages.add("sound", losses={"Sound": "torch.nn:L1Loss"})
    failed(packages)
    assert lossreg.list_losses("sound/*") == ["sound/Sound"]


# --- switches -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("switch", ["bad", "bad-losses", " other , bad ", "Bad_Losses", "other bad", "other\tbad"])
def test_a_disabled_plugin_is_not_even_imported(packages, monkeypatch, switch):
    packages.hooked("bad-losses", "bad", "1/0", module="bad_plugin")
    packages.offering("good-losses", "good", "Good")
    monkeypatch.setenv("LOSSREG_DISABLE", switch)
    plugins = lossreg.refresh().plugins  # no warning
    assert "bad" not in {p.name for p in plugins}
    assert packages.modules() == {"good_losses_plugin"}
    assert lossreg.list_losses("good/*") == ["good/Good"]


def test_a_disabled_distribution_offers_no_line(packages, monkeypatch):
    packages.add("acme", losses={"Huge": "torch.nn:HuberLoss"})
    monkeypatch.setenv("LOSSREG_DISABLE", "acme")
    assert "acme" not in {p.name for p in lossreg.refresh().plugins}


def test_without_autoload_only_the_core_is_there(packages, monkeypatch):
    packages.hooked("bad", "bad", "1/0")
    packages.add("lines", losses={"Huge": "torch.nn:HuberLoss"})
    monkeypatch.setenv("LOSSREG_DISABLE_AUTOLOAD", "1")
    assert [p.name for p in lossreg.refresh().plugins] == ["core"]
    assert lossreg.list_losses() == []
    monkeypatch.setenv("LOSSREG_DISABLE_AUTOLOAD", "0")
    assert "lines" in {p.name for p in packages.scan().plugins}


@pytest.mark.parametrize("off", ["", " ", "0", "false", "False", "no", "OFF", " off "])
def test_a_switch_that_is_off_switches_nothing_on(packages, monkeypatch, off):
    packages.add("lines", losses={"Huge": "torch.nn:HuberLoss"})
    packages.hooked("bad", "bad", "1/0")
    monkeypatch.setenv("LOSSREG_DISABLE_AUTOLOAD", off)
    monkeypatch.setenv("LOSSREG_STRICT", off)
    assert "lines" in {plugin.name for plugin in packages.scan().plugins}


@pytest.mark.parametrize("on", ["1", "true", "TRUE", "yes", " on "])
def test_a_switch_that_is_on_is_on(packages, monkeypatch, on):
    packages.hooked("bad", "bad", "1/0")
    monkeypatch.setenv("LOSSREG_STRICT", on)
    with pytest.raises(PluginError, match="cannot be used"):
        lossreg.refresh()
    monkeypatch.setenv("LOSSREG_DISABLE_AUTOLOAD", on)
    assert [plugin.name for plugin in lossreg.refresh().plugins] == ["core"]


@pytest.mark.parametrize("name", ["LOSSREG_STRICT", "LOSSREG_DISABLE_AUTOLOAD"])
def test_a_switch_that_is_neither_is_refused(packages, monkeypatch, name):
    monkeypatch.setenv(name, "maybe")
    with pytest.raises(PluginError, match=rf"{name}: expected 1, true, yes, on .* or 0, false, .*, found 'maybe'"):
        lossreg.refresh()


def test_strict_raises_at_discovery_and_keeps_the_old_catalog(packages, monkeypatch):
    packages.offering("good", "good", "Good")
    before = packages.scan()
    packages.hooked("bad", "bad", "raise RuntimeError('no licence')")
    monkeypatch.setenv("LOSSREG_STRICT", "1")
    with pytest.raises(PluginError, match=r"plugin 'bad' \(bad 1\.0\) cannot be used: no licence") as raised:
        lossreg.refresh()
    assert isinstance(raised.value.__cause__, RuntimeError)
    assert lossreg.registry.catalog() is before
    monkeypatch.setenv("LOSSREG_STRICT", "0")
    assert packages.plugin("bad").error is not None


def test_strict_says_nothing_where_all_is_well(packages):
    packages.offering("good", "good", "Good")
    code = """
    import warnings; warnings.simplefilter("error")
    import lossreg
    print(lossreg.list_losses("good/*"))
    """
    assert packages.python(code, LOSSREG_STRICT="1") == "['good/Good']\n"


def test_the_scan_is_made_once(packages):
    packages.hooked("counting", "counting", "print('imported')\n@hookimpl\ndef lossreg_losses():\n    print('asked')")
    code = """
    import lossreg
    print("start")
    for _ in range(3):
        lossreg.list_losses()
    lossreg.refresh()
    """
    assert packages.python(code).split() == ["start", "imported", "asked", "asked"]


ODD_OBJECTS = {
    "equals all": "def __eq__(self, other): return True",
    "cannot be compared": "def __eq__(self, other): raise BaseException('no')",
    "cannot be hashed": "__hash__ = None",
    "raises in hash": "def __hash__(self): raise SystemExit(0)",
    "raises at every attribute": "def __getattribute__(self, name): raise SystemExit(0)",
    "has every attribute": "def __getattr__(self, name): return self",
    "cannot be listed": "def __dir__(self): raise KeyError('no')",
}


@pytest.mark.parametrize("kind", ODD_OBJECTS)
def test_an_odd_object_for_a_plugin_touches_no_other(packages, kind):
    hook = "    @hookimpl\n    def lossreg_losses(self): return [LossSpec('Odd', 'a:A')]\n"
    source = f"from lossreg import LossSpec, hookimpl\nclass Odd:\n    {ODD_OBJECTS[kind]}\n{hook}odd = Odd()\n"
    packages.offering("a-neighbour", "before", "Before")
    packages.add("odd", hooks={"odd": "odd_object:odd"}, modules={"odd_object.py": source})
    packages.offering("z-neighbour", "after", "After")
    found = {plugin.name: plugin.error for plugin in packages.scan().plugins}
    assert (found["before"], found["after"]) == (None, None)
    assert lossreg.create_loss("after/After").name == "After"
