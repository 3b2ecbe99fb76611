"""The component of a name, and the errors for unknown and ambiguous names."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lossreg
from lossreg.errors import AmbiguousNameError, LossregError, PluginError, PluginWarning, UnknownNameError
from lossreg.registry.components import Catalog
from lossreg.registry.plugins import Plugin, Switches, discover
from lossreg.registry.specs import LossSpec, ScheduleSpec

MANAGER, _ = discover(Switches(autoload=False))


def catalog(**plugins):
    """A catalog of plugins, each `name=[spec, ...]`."""
    return Catalog(MANAGER, [Plugin(name, f"{name}-dist", "1.0", tuple(specs)) for name, specs in plugins.items()])


def loss(name, *aliases, target="torch.nn:MSELoss", **options):
    return LossSpec(name, target, aliases=aliases, **options)


# --- one component, all its names -------------------------------------------------------------------


@pytest.mark.parametrize("name", ["DiceLoss", "dice", "a/DiceLoss", "a/dice"])
def test_a_component_is_found_by_each_of_its_names(name):
    found = catalog(a=[loss("DiceLoss", "dice"), loss("Other")], b=[loss("FocalLoss", "focal")])
    assert found.losses.find(name).name == "a/DiceLoss"


@pytest.mark.parametrize("dotted", ["torch.nn.MSELoss", "old.place.Loss"])
def test_a_dotted_path_is_a_name_too(dotted):
    entry = catalog(a=[loss("DiceLoss", targets=("old.place.Loss",)), loss("Other", target="b:C")]).losses.find(dotted)
    assert entry.name == "a/DiceLoss"
    assert entry.term_name(dotted) == dotted.rpartition(".")[2]


def test_a_registered_name_with_dots_comes_before_a_dotted_path():
    entry = catalog(a=[loss("b.C"), loss("Other", target="b:C")]).losses.find("b.C")
    assert (entry.name, entry.term_name("b.C"), entry.term_name("a/b.C")) == ("a/b.C", "b.C", "b.C")


def test_a_dotted_path_that_two_plugins_have_is_ambiguous():
    with pytest.raises(AmbiguousNameError, match=r"a/One .* and b/Two"):
        catalog(a=[loss("One")], b=[loss("Two")]).losses.find("torch.nn.MSELoss")


def test_a_misspelt_dotted_path_gets_the_nearest():
    with pytest.raises(UnknownNameError, match=r"did you mean 'torch\.nn\.MSELoss'"):
        catalog(a=[loss("One")]).losses.find("torch.nn.MSELos")


@pytest.mark.parametrize("name", ["b/DiceLoss", "diceloss", "", "/", "a/", "/DiceLoss", "a/a/DiceLoss", "a.DiceLoss"])
def test_what_is_no_name_of_it_does_not_find_it(name):
    with pytest.raises(UnknownNameError):
        catalog(a=[loss("DiceLoss", "dice")]).losses.find(name)


def test_kinds_have_names_of_their_own():
    found = catalog(a=[loss("Linear"), ScheduleSpec("Linear", "m:S")])
    assert found.losses.find("Linear").spec.kind == "loss"
    assert found.schedules.find("a/Linear").spec.kind == "schedule"


def test_globs_match_canonical_and_bare_names_in_any_case():
    found = catalog(seg=[loss("DiceLoss"), loss("BCELoss")], torch=[loss("BCELoss"), loss("MSELoss")])
    names = found.losses.names
    assert names() == ["seg/BCELoss", "seg/DiceLoss", "torch/BCELoss", "torch/MSELoss"]
    assert names("torch/*") == ["torch/BCELoss", "torch/MSELoss"]
    assert names("*dice*") == ["seg/DiceLoss"]
    assert names("bceloss") == ["seg/BCELoss", "torch/BCELoss"]
    assert names("[bm]*Loss") == ["seg/BCELoss", "torch/BCELoss", "torch/MSELoss"]
    assert names("nothing*") == []
    assert names("") == names("*")


# --- several ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["DiceLoss", "dice"])
def test_a_bare_name_that_two_plugins_offer_lists_the_candidates(name):
    found = catalog(b=[loss("DiceLoss", "dice")], a=[loss("DiceLoss", "dice")])
    message = f"loss '{name}' is offered by a/DiceLoss (a-dist 1.0) and b/DiceLoss (b-dist 1.0); write one in full"
    with pytest.raises(AmbiguousNameError, match=f"^{re.escape(message)}$"):
        found.losses.find(name)
    assert found.losses.find(f"a/{name}").plugin.name == "a"


def test_an_alias_may_collide_with_a_name():
    found = catalog(a=[loss("DiceLoss", "Dice")], b=[loss("Dice")])
    with pytest.raises(AmbiguousNameError, match=r"a/DiceLoss .* and b/Dice "):
        found.losses.find("Dice")
    assert found.shared_aliases() == [
        "loss alias 'Dice' is offered by a/DiceLoss (a-dist 1.0) and b/Dice (b-dist 1.0); add its namespace"
    ]


def test_a_bare_name_that_two_share_is_no_conflict():
    found = catalog(a=[loss("DiceLoss", "dice")], b=[loss("DiceLoss", "dice")])
    assert found.conflicts() == []
    assert found.shared_aliases() == [
        "loss alias 'dice' is offered by a/DiceLoss (a-dist 1.0) and b/DiceLoss (b-dist 1.0); add its namespace"
    ]


def test_two_distributions_that_claim_one_canonical_name_are_reported(packages):
    packages.offering("first-losses", "acme", "Huge", "Own")
    packages.offering("second-losses", "acme", "Huge", "Other")
    conflict = (
        "loss 'acme/Huge' is offered by acme/Huge (first-losses 1.0) and acme/Huge (second-losses 1.0); "
        "neither can be used"
    )
    with pytest.warns(PluginWarning, match=f"^{re.escape(conflict)}$"):
        found = lossreg.refresh()
    assert conflict in found.conflicts()
    assert [p.distribution for p in found.plugins if p.name == "acme"] == ["first-losses", "second-losses"]
    assert lossreg.find_loss("acme/Own").name == "Own"
    assert lossreg.find_loss("acme/Other").name == "Other"
    for name in ("Huge", "acme/Huge"):
        with pytest.raises(AmbiguousNameError, match=r"first-losses 1.0.*second-losses 1.0.*LOSSREG_DISABLE"):
            lossreg.find_loss(name)


def test_a_blocked_distribution_settles_the_conflict(packages, monkeypatch):
    packages.offering("first-losses", "acme", "Huge")
    packages.offering("second-losses", "acme", "Huge")
    monkeypatch.setenv("LOSSREG_DISABLE", "second-losses")
    (plugin,) = (p for p in lossreg.refresh().plugins if p.name == "acme")
    assert plugin.distribution == "first-losses"
    assert lossreg.find_loss("acme/Huge").name == "Huge"


NAMES = st.sampled_from(["A", "B", "C", "D"])
SPECS = st.lists(st.tuples(NAMES, st.sets(NAMES, max_size=2)), max_size=3)


@given(
    offers=st.dictionaries(st.sampled_from(["p", "q", "r"]), SPECS, min_size=1),
    order=st.permutations(["p", "q", "r"]),
    name=NAMES,
    plugin=st.sampled_from(["", "p/", "q/", "r/"]),
)
def test_the_order_of_installation_never_decides(offers, order, name, plugin):
    def answer(names):
        found = catalog(**{n: [loss(s, *sorted(a)) for s, a in offers[n]] for n in names if n in offers})
        try:
            return found.losses.find(plugin + name).name
        except LossregError as error:
            return str(error)

    assert answer(order) == answer(["p", "q", "r"])


# --- none -------------------------------------------------------------------------------------------


def test_an_unknown_name_gets_the_nearest():
    found = catalog(seg=[loss("SegLoss", "seg")], cross=[loss("CrossfieldAlignLoss", "crossfield_align")])
    with pytest.raises(UnknownNameError, match=r"^no loss is named 'segloss'; did you mean 'SegLoss'\?$"):
        found.losses.find("segloss")
    with pytest.raises(UnknownNameError, match=r"did you mean 'crossfield_align'"):
        found.losses.find("crosfield_align")
    with pytest.raises(UnknownNameError, match=r"did you mean 'seg/SegLoss'"):
        found.losses.find("seg/SegLos")


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("MSE", ["MSELoss"]),
        ("mse_loss", ["MSELoss"]),
        ("MASKEDMSE", ["MaskedMSELoss"]),
        ("CE", ["CrossEntropyLoss"]),
        ("Wobble", ["a/WobbleLoss", "b/WobbleLoss"]),
        ("nn/MSELoss", ["a/MSELoss"]),
        ("a/MSE", ["a/MSELoss"]),
        ("made.up.MSE", ["made.up.MSELoss"]),
        ("up.MSELoss", ["made.up.MSELoss", "torch.nn.MSELoss"]),
        ("other.up.Loss", []),
    ],
)
def test_what_is_shortened_gets_the_name_that_is_meant_in_full_where_it_is_ambiguous(name, near):
    names = ("MSELoss", "MaskedMSELoss", "CrossEntropyLoss", "WobbleLoss")
    found = catalog(a=[loss(n, target=f"made.up:{n}") for n in names], b=[loss("WobbleLoss")])
    with pytest.raises(UnknownNameError) as raised:
        found.losses.find(name)
    assert list(raised.value.near) == near


def test_where_nothing_is_near_the_listing_is_named():
    message = "no loss is named 'xyzzy'; `lossreg list --kind loss` shows what is installed"
    with pytest.raises(UnknownNameError, match=f"^{re.escape(message)}$"):
        catalog(seg=[loss("SegLoss")]).losses.find("xyzzy")
    with pytest.raises(UnknownNameError, match="list --kind schedule"):
        catalog().schedules.find("xyzzy")


@given(st.text(max_size=12))
def test_any_text_is_found_or_refused_in_our_own_words(text):
    found = catalog(seg=[loss("SegLoss", "seg")])
    if text in ("SegLoss", "seg", "seg/SegLoss", "seg/seg"):
        assert found.losses.find(text).name == "seg/SegLoss"
        return
    with pytest.raises(UnknownNameError) as raised:
        found.losses.find(text)
    assert repr(text) in str(raised.value)


# --- dotted targets ---------------------------------------------------------------------------------


def test_a_dotted_target_is_looked_up_and_not_imported():
    old = "old_package.losses.SegLoss"
    found = catalog(seg=[loss("SegLoss", target="nowhere_at_all.losses:Box.SegLoss", targets=(old,))])
    for dotted in (old, "nowhere_at_all.losses.Box.SegLoss"):
        assert found.losses.find_target(dotted).name == "seg/SegLoss"
    for other in ("nowhere_at_all.losses:Box.SegLoss", "SegLoss", "seg/SegLoss", "os.system"):
        with pytest.raises(UnknownNameError):
            found.losses.find_target(other)
    with pytest.raises(UnknownNameError, match=f"did you mean '{old}'"):
        found.losses.find_target("old_package.losses.SegLos")


def test_a_target_that_two_plugins_offer_is_ambiguous():
    found = catalog(a=[loss("One", target="m:T")], b=[loss("Two", target="m:T")])
    with pytest.raises(AmbiguousNameError, match=r"loss 'm\.T' is offered by a/One .* and b/Two "):
        found.losses.find_target("m.T")


def test_a_path_that_a_first_party_plugin_has_is_its_own_whoever_offers_it_too():
    ours = Plugin("torch", "lossreg-wrappers", "1.0", (loss("MSELoss"), loss("Twice"), loss("Twin", target="a:B")))
    theirs = Plugin("acme", "acme", "1.0", (loss("One", target="a:B"), loss("Two", target="c:D")))
    also = Plugin("zulu", "zulu", "1.0", (loss("Three", target="c:D"),))
    for plugins in ([ours, theirs, also], [also, theirs, ours]):
        found = Catalog(MANAGER, plugins).losses
        assert found.find("a.B").name == found.find_target("a.B").name == "torch/Twin"
        with pytest.raises(
            AmbiguousNameError, match=r"acme/Two .* and zulu/Three .*; write one in full, instead of the"
        ):
            found.find_target("c.D")
        with pytest.raises(AmbiguousNameError, match=r"torch/MSELoss .* and torch/Twice"):
            found.find_target("torch.nn.MSELoss")
        assert found.find("acme/One").spec.target == "a:B"
        assert [found.targets_of(entry) for entry in found if entry.name in ("acme/One", "torch/Twin")] == [[], ["a.B"]]


# --- packages that are not there --------------------------------------------------------------------


def test_a_loss_whose_package_is_missing_is_named_with_what_it_needs():
    found = catalog(a=[loss("DiceLoss", "dice", package="not-a-package>=1.4"), loss("Fine", package="pluggy>=1")])
    assert found.losses.names() == ["a/Fine"]
    for name in ("DiceLoss", "dice", "a/dice"):
        with pytest.raises(UnknownNameError, match=r"pip install 'not-a-package>=1\.4'"):
            found.losses.find(name)


def test_a_package_that_is_too_old_is_as_good_as_missing():
    found = catalog(a=[loss("DiceLoss", package="pluggy>=99")])
    with pytest.raises(UnknownNameError, match=r"'DiceLoss' needs pluggy>=99 \(pluggy .* is installed\)"):
        found.losses.find("DiceLoss")


def test_where_another_plugin_offers_the_name_a_missing_package_is_no_matter():
    found = catalog(a=[loss("DiceLoss", package="not-a-package")], b=[loss("DiceLoss")])
    assert found.losses.find("DiceLoss").name == "b/DiceLoss"


# --- what is told of a component --------------------------------------------------------------------


def test_the_names_of_a_component_are_those_that_mean_it_alone():
    offered = {
        "a": [loss("DiceLoss", "dice", "overlap", targets=("old.Dice", "m.T"))],
        "b": [loss("DiceLoss", "overlap"), loss("Other", target="m:T")],
    }
    losses = catalog(**offered).losses
    a, b, other = losses
    assert losses.names_of(a) == ["dice", "a/DiceLoss", "a/overlap", "a/dice"]
    assert losses.names_of(b) == ["b/DiceLoss", "b/overlap"]
    assert losses.names_of(other) == ["Other", "b/Other"]
    assert losses.targets_of(a) == ["old.Dice"]
    assert losses.targets_of(other) == []
    assert a.names == {"DiceLoss", "dice", "overlap", "a/DiceLoss", "a/dice", "a/overlap"} | {
        "torch.nn.MSELoss",
        "old.Dice",
        "m.T",
    }


def test_a_name_that_is_an_alias_of_itself_is_there_once():
    losses = catalog(a=[loss("DiceLoss", "DiceLoss", "dice")]).losses
    assert losses.names_of(losses.find("dice")) == ["DiceLoss", "dice", "a/dice", "a/DiceLoss"]


def test_a_component_says_where_it_is_from():
    (entry,) = catalog(a=[loss("DiceLoss")]).losses
    assert entry.origin == "loss 'a/DiceLoss' of plugin 'a' (a-dist 1.0)"
    (local,) = Catalog(MANAGER, [Plugin("local", specs=(loss("DiceLoss"),))]).losses
    assert local.origin == "loss 'local/DiceLoss' of plugin 'local'"


@pytest.mark.parametrize(
    ("target", "told"), [("torch.nn:Missing", "AttributeError"), ("no_such:X", "ModuleNotFoundError")]
)
def test_a_target_that_is_not_there_is_told_with_its_component(target, told):
    (entry,) = catalog(a=[loss("DiceLoss", target=target)]).losses
    with pytest.raises(PluginError) as raised:
        entry.load()
    start = f"loss 'a/DiceLoss' of plugin 'a' (a-dist 1.0): its target {target!r} cannot be imported: {told}: "
    assert str(raised.value).startswith(start)
    assert type(raised.value.__cause__).__name__ == told


def test_a_target_may_be_an_attribute_of_another():
    (entry,) = catalog(a=[loss("Loads", target="json:JSONDecoder.decode")]).losses
    assert entry.load() is json.JSONDecoder.decode


# --- plugins that could not be used -----------------------------------------------------------------


def broken(*names):
    """A catalog of a sound plugin `a`, and of plugins that were left out."""
    left_out = [Plugin(name, f"{name}-dist", "2.0", error=ValueError(f"no {name}")) for name in names]
    return Catalog(MANAGER, [Plugin("a", "a-dist", "1.0", (loss("DiceLoss"),)), *left_out]).losses


def test_a_bare_name_may_be_that_of_any_plugin_that_was_left_out():
    with pytest.raises(UnknownNameError) as raised:
        broken("b", "c").find("Focal")
    assert str(raised.value) == (
        "no loss is named 'Focal'; plugin 'b' (b-dist 2.0) could not be used: no b; plugin 'c' (c-dist 2.0) could not "
        "be used: no c; `lossreg plugins` shows the errors of plugins"
    )
    assert repr(raised.value.__cause__) == "ValueError('no b')"


def test_a_name_with_a_namespace_may_be_that_of_its_plugin_alone():
    with pytest.raises(UnknownNameError, match=r"plugin 'c' .* no c; `lossreg plugins`") as raised:
        broken("b", "c").find("c/Focal")
    assert "'b'" not in str(raised.value)
    assert repr(raised.value.__cause__) == "ValueError('no c')"
    with pytest.raises(UnknownNameError, match="`lossreg list --kind loss`") as raised:
        broken("b", "c").find("d/Focal")
    assert raised.value.__cause__ is None


def test_near_names_come_before_the_errors_of_plugins_and_none_where_they_are_not_asked_for():
    with pytest.raises(UnknownNameError, match=r"could not be used: no b; did you mean 'DiceLoss'\?$"):
        broken("b").find("DiceLos")
    with pytest.raises(UnknownNameError, match="`lossreg plugins` shows"):
        broken("b").find("DiceLos", suggest=False)


def test_at_most_three_near_names_are_told():
    found = catalog(a=[loss(f"PlainLoss{i}") for i in range(6)])
    with pytest.raises(UnknownNameError) as raised:
        found.losses.find("PlainLoss")
    assert str(raised.value).count("'PlainLoss") == 1 + 3
    assert len(raised.value.near) == 3


@pytest.mark.parametrize("name", [5, None, ["DiceLoss"], {}])
def test_a_name_is_a_text(name):
    with pytest.raises(UnknownNameError, match="expected the name of a loss, found"):
        catalog(a=[loss("DiceLoss")]).losses.find(name)


def test_a_class_in_place_of_a_name_is_told_what_takes_it():
    with pytest.raises(UnknownNameError, match=r"found the class dict; .*LossWrapper takes it"):
        catalog().losses.find(dict)
