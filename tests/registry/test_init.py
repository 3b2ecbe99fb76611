"""Components registered in this process, as in a notebook or a script."""

from __future__ import annotations

import pytest
import torch

import lossreg
from lossreg.errors import AmbiguousNameError, ArgumentError, PluginError, PluginWarning, UnknownNameError


@pytest.fixture(autouse=True)
def _alone(packages):
    packages.scan()


def test_a_class_is_registered_under_local():
    @lossreg.register("OffsetLoss", aliases=("offset",), summary="how far off")
    class OffsetLoss(lossreg.Loss):
        """Mean offset.

        More.
        """

        def compute(self, pred_batch, gt_batch):
            return (pred_batch - gt_batch).mean()

    assert lossreg.list_losses("local/*") == ["local/OffsetLoss"]
    for name in ("OffsetLoss", "offset", "local/OffsetLoss", "local/offset"):
        assert lossreg.find_loss(name).summary == "how far off"
    made = lossreg.create_loss("offset")
    assert isinstance(made, OffsetLoss)
    assert made.name == "offset"
    assert lossreg.create_loss("OffsetLoss", name="term").name == "term"


def test_the_summary_is_the_first_line_of_the_docstring():
    @lossreg.register("squared")
    def squared(pred, gt):
        """Squared difference.

        More.
        """
        return (pred - gt).square()

    @lossreg.register("silent")
    def silent(pred, gt):
        return (pred - gt).square()

    assert lossreg.find_loss("squared").summary == "Squared difference."
    assert lossreg.find_loss("silent").summary == ""
    value, _ = lossreg.create_loss("squared")(torch.tensor([1.0, 3.0]), torch.zeros(2))
    assert value == 5.0


def test_it_returns_what_it_was_given():
    def loss(pred, gt):
        return pred

    assert lossreg.register("mine")(loss) is loss


def test_a_class_of_another_library_and_a_lambda_can_be_registered():
    lossreg.register("huber", wrap={"reduction": "sum"})(torch.nn.HuberLoss)
    made = lossreg.create_loss("huber", delta=0.5)
    assert made(torch.full((4,), 2.0), torch.zeros(4))[0] == 4 * 0.5 * (2 - 0.25)
    lossreg.register("gap")(lambda pred, gt: (pred - gt).mean())
    assert lossreg.create_loss("gap")(torch.ones(2), torch.zeros(2))[0] == 1.0


def test_to_register_again_replaces():
    lossreg.register("mine", aliases=("old",))(lambda pred, gt: pred.sum() * 0)
    lossreg.register("mine", aliases=("new",))(lambda pred, gt: pred.sum() * 0 + 1)
    assert lossreg.list_losses("local/*") == ["local/mine"]
    assert lossreg.create_loss("mine")(torch.ones(1), torch.ones(1))[0] == 1.0
    assert lossreg.create_loss("new").name == "new"
    with pytest.raises(UnknownNameError):
        lossreg.find_loss("old")


def test_refresh_keeps_what_was_registered(packages):
    lossreg.register("mine")(torch.nn.L1Loss)
    packages.add("acme", losses={"Later": "torch.nn:L1Loss"})
    packages.scan()
    assert lossreg.list_losses("local/*") == ["local/mine"]
    assert lossreg.list_losses("acme/*") == ["acme/Later"]
    lossreg.register("mine2")(torch.nn.L1Loss)
    assert lossreg.list_losses("local/*") == ["local/mine", "local/mine2"]


def test_refresh_forgets_what_was_uninstalled(packages):
    packages.add("acme", losses={"Later": "torch.nn:L1Loss"})
    packages.scan()
    packages.remove("acme")
    packages.scan()
    assert lossreg.list_losses("acme/*") == []


def test_refresh_warns_of_a_plugin_that_is_still_loaded_from_another_version(packages):
    packages.offering("acme", "acme", "Hooked")
    packages.add("plain", losses={"Line": "torch.nn:L1Loss"})
    packages.scan()
    packages.remove("acme")
    packages.remove("plain")
    packages.offering("acme", "acme", "Hooked", version="2.0")
    packages.add("plain", version="2.0", losses={"Line": "torch.nn:L1Loss"})
    message = r"plugin 'acme' \(acme 2\.0\): version 1\.0 is still loaded in this process; restart Python"
    with pytest.warns(PluginWarning, match=message) as warned:
        lossreg.refresh()
    assert len(warned) == 1
    lossreg.refresh()  # told once


def test_a_local_name_never_wins_over_an_installed_one(packages):
    packages.add("acme", losses={"Huge": "torch.nn:L1Loss"})
    packages.scan()
    lossreg.register("Huge")(torch.nn.HuberLoss)
    with pytest.raises(AmbiguousNameError, match=r"acme/Huge \(acme 1\.0\) and local/Huge; write one in full"):
        lossreg.find_loss("Huge")
    assert lossreg.find_loss("local/Huge").target.endswith("HuberLoss")


@pytest.mark.parametrize("first", [{"name": "dice"}, {"name": "Dice", "aliases": ("dice",)}])
def test_two_local_components_of_one_name_are_refused(first):
    lossreg.register(**first)(torch.nn.L1Loss)
    with pytest.raises(PluginError, match="offers 'dice' twice"):
        lossreg.register("DiceLoss", aliases=("dice",))(torch.nn.MSELoss)
    assert lossreg.list_losses("local/*") == [f"local/{first['name']}"]


def test_the_four_kinds():
    @lossreg.register("double", kind="preprocess")
    class Double(lossreg.Preprocess):
        """Twice the mask."""

        requires = ("gt.mask",)
        provides = ("gt.double",)

    lossreg.register("saw", kind="schedule")(lambda: lambda epoch: epoch % 1)
    lossreg.register("even", kind="weighting")(lossreg.Weighting)
    found = lossreg.registry.catalog()
    spec = found.preprocesses.find("double").spec
    assert (spec.requires, spec.provides, spec.summary) == (("gt.mask",), ("gt.double",), "Twice the mask.")
    assert found.preprocesses.find("double").load() is Double
    assert found.schedules.find("local/saw").name == "local/saw"
    assert found.weightings.find("even").load() is lossreg.Weighting
    assert lossreg.list_losses("local/*") == []


def test_a_decorator_without_a_name_says_what_to_write():
    with pytest.raises(PluginError, match=r"register: expected a name, found .*; write @lossreg.register\('CLoss'\)"):

        @lossreg.register
        class CLoss(torch.nn.L1Loss):
            pass

    with pytest.raises(PluginError, match="register: expected a name, found None"):
        lossreg.register(None)


def test_what_is_malformed_is_refused_and_changes_nothing():
    with pytest.raises(
        PluginError, match="register: kind: expected loss or preprocess or weighting or schedule, found 'metric'"
    ):
        lossreg.register("mine", kind="metric")
    with pytest.raises(PluginError, match="beginning with a letter or '_', found 'my loss'"):
        lossreg.register("my loss")(torch.nn.L1Loss)
    with pytest.raises(PluginError, match="provides: expected the keys that the preprocess computes"):
        lossreg.register("mine", kind="preprocess")(lossreg.Preprocess)
    with pytest.raises(PluginError, match=r"register: expected a class or a function, found HuberLoss\(\)"):
        lossreg.register("mine")(torch.nn.HuberLoss())
    with pytest.raises(PluginError, match=r"register: a field of a loss: expected .*, found 'alias'"):
        lossreg.register("mine", alias="short")(torch.nn.L1Loss)
    assert lossreg.list_losses("local/*") == []


def test_a_glob_is_a_text():
    with pytest.raises(ArgumentError, match=r"list_losses: filter: expected a glob such as .*, found 5"):
        lossreg.list_losses(5)
