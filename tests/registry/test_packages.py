"""A spec may name a package that its target needs; only its metadata is read."""

from __future__ import annotations

import sys

import pytest

from lossreg.errors import PluginError, UnknownNameError
from lossreg.registry.components import Catalog
from lossreg.registry.packages import distribution, install_line, unmet
from lossreg.registry.plugins import Plugin, Switches, discover
from lossreg.registry.specs import LossSpec


def test_what_is_installed_meets_a_requirement():
    assert unmet(None) == unmet("torch") == unmet("Torch>=2.4") == ""


def test_what_is_missing_is_named():
    assert unmet("no-such-library>=2") == "no-such-library is not installed"


def test_a_version_that_is_too_old_is_named():
    assert unmet("pluggy>=999").startswith("pluggy ")
    assert unmet("pluggy>=999").endswith(" is installed")


def test_the_line_that_installs_it_can_be_pasted():
    assert install_line("monai>=1.5") == "pip install 'monai>=1.5'"
    assert install_line("lossreg-wrappers", "monai>=1.5") == "pip install lossreg-wrappers 'monai>=1.5'"
    assert distribution("monai>=1.5") == "monai"


@pytest.mark.parametrize("package", ["", "monai 1.5", ">=1.5", "monai; python_version<'4'", 3])
def test_a_malformed_package_is_refused(package):
    with pytest.raises(PluginError, match=r"package: expected 'distribution>=version', found"):
        LossSpec("DiceLoss", "monai.losses:DiceLoss", package=package)


@pytest.fixture
def losses():
    manager, _ = discover(Switches(autoload=False))
    specs = (
        LossSpec("DiceLoss", "here:DiceLoss", package="torch"),
        LossSpec("FarLoss", "far:FarLoss", aliases=("far",), targets=("old.FarLoss",), package="far-library>=2"),
    )
    other = (LossSpec("DiceLoss", "far:DiceLoss", package="far-library"),)
    return Catalog(manager, [Plugin("a", "a-losses", "1.0", specs), Plugin("b", "b-losses", "1.0", other)]).losses


def test_only_what_can_be_used_is_offered(losses):
    assert losses.names() == ["a/DiceLoss"]
    assert [(entry.name, reason) for entry, reason in losses.absent] == [
        ("a/FarLoss", "far-library is not installed"),
        ("b/DiceLoss", "far-library is not installed"),
    ]


def test_what_cannot_be_used_makes_no_name_ambiguous(losses):
    assert losses.find("DiceLoss").name == "a/DiceLoss"


@pytest.mark.parametrize("name", ["FarLoss", "a/FarLoss", "far", "a/far"])
def test_to_ask_for_it_says_what_to_install(losses, name):
    with pytest.raises(UnknownNameError, match=r"needs far-library>=2 \(far-library is not installed\); pip install"):
        losses.find(name)


@pytest.mark.parametrize("dotted", ["far.FarLoss", "old.FarLoss"])
def test_to_ask_for_its_dotted_path_says_what_to_install(losses, dotted):
    with pytest.raises(UnknownNameError, match="pip install 'far-library>=2'"):
        losses.find_target(dotted)
    assert "far" not in sys.modules
