"""The core knows the components of the first-party plugins, and says what to install for one."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

import lossreg
from lossreg.errors import ConfigError, UnknownNameError
from lossreg.registry import components, known, packages, plugins
from lossreg.registry.specs import LossSpec

PLUGINS = Path(__file__).parents[2] / "plugins"


def unmet(requirement: str | None) -> str:
    """Say of our distributions and of MONAI that they are not installed, and of others what is so."""
    if requirement is not None and requirement.startswith(("lossreg-", "monai")):
        return f"{packages.distribution(requirement)} is not installed"
    return packages.unmet(requirement)


@pytest.fixture
def none_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the core alone, without any plugin."""
    for module in (known, components):
        monkeypatch.setattr(module, "unmet", unmet)
    monkeypatch.setattr(plugins, "_installations", list)
    monkeypatch.setattr(lossreg.registry, "_local", {})
    monkeypatch.setattr(lossreg.registry, "_catalog", None)


@pytest.mark.parametrize(
    ("name", "install"),
    [
        ("torch/L1Loss", "pip install lossreg-wrappers"),
        ("L1Loss", "pip install lossreg-wrappers"),
        ("torch.nn.L1Loss", "pip install lossreg-wrappers"),
        ("torch.nn.modules.loss.L1Loss", "pip install lossreg-wrappers"),
        ("seg", "pip install lossreg-seg"),
        ("SegLoss", "pip install lossreg-seg"),
        ("crossfield_align", "pip install lossreg-crossfield"),
        ("monai/DiceLoss", "pip install lossreg-wrappers 'monai>=1.5.1'"),
    ],
)
def test_a_name_of_a_distribution_that_is_not_installed_says_what_to_install(
    none_installed: None, name: str, install: str
) -> None:
    with pytest.raises(UnknownNameError) as refused:
        lossreg.create_loss(name)
    distribution = install.split()[2]
    assert refused.value.problem.startswith(f"loss {name!r} needs {distribution} ({distribution} is not installed)")
    assert refused.value.hint == install


def test_a_name_that_several_libraries_share_tells_each_way(none_installed: None) -> None:
    with pytest.raises(UnknownNameError) as refused:
        lossreg.find_loss("DiceLoss")
    ways = refused.value.hint.split(" or ")
    assert "pip install lossreg-wrappers 'monai>=1.5.1'" in ways
    assert len(ways) == len(set(ways)) > 1


def test_a_preprocess_is_known_too(none_installed: None) -> None:
    with pytest.raises(UnknownNameError, match="preprocess 'GtField' needs lossreg-crossfield"):
        lossreg.registry.catalog().preprocesses.find("GtField")


def test_a_config_says_it_where_the_name_stands(none_installed: None) -> None:
    with pytest.raises(ConfigError) as refused:
        lossreg.build_compound_loss_from_config({"losses": ["torch.nn.L1Loss", {"loss": "crossfield_smooth"}]})
    assert [(problem.path, problem.kind, problem.hint) for problem in refused.value.problems] == [
        ("loss_params.compound_loss.losses[0].loss", "unknown", "pip install lossreg-wrappers"),
        ("loss_params.compound_loss.losses[1].loss", "unknown", "pip install lossreg-crossfield"),
    ]


def test_a_name_that_nobody_offers_is_as_unknown_as_ever(none_installed: None) -> None:
    with pytest.raises(UnknownNameError, match="no loss is named 'torch/Nothing'"):
        lossreg.find_loss("torch/Nothing")


def test_a_registered_name_comes_first(none_installed: None) -> None:
    lossreg.register("L1Loss")(len)
    assert lossreg.find_loss("L1Loss").target == "builtins:len"


def test_nothing_is_missing_where_all_are_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known, "unmet", lambda requirement: "")
    monkeypatch.setattr(known, "_known", lambda: pytest.fail("the file was read"))
    assert known.missing() == []


@pytest.mark.parametrize(
    ("switch", "value", "left"),
    [
        ("LOSSREG_DISABLE_AUTOLOAD", "1", set()),
        ("LOSSREG_DISABLE", "lossreg-wrappers seg", {"lossreg-crossfield"}),
        ("LOSSREG_DISABLE", "torch", set(known.DISTRIBUTIONS)),
    ],
)
def test_what_the_user_disabled_is_not_missing(
    none_installed: None, monkeypatch: pytest.MonkeyPatch, switch: str, value: str, left: set[str]
) -> None:
    monkeypatch.setenv(switch, value)
    found = known.missing()
    assert {one.distribution for one in found} == left
    assert not any(one.plugin in value.split() for one in found)


def test_what_is_known_are_valid_specs_of_the_named_distributions(none_installed: None) -> None:
    found = known.missing()
    assert {one.distribution for one in found} == set(known.DISTRIBUTIONS)
    assert all(one.spec.summary for one in found)
    assert all(one.spec.package for one in found if one.plugin == "monai")
    assert any(isinstance(one.spec, LossSpec) and one.spec.name == "SegLoss" for one in found)


@pytest.mark.needs_plugins
def test_the_file_is_of_the_plugins_as_they_are() -> None:
    listing = runpy.run_path(str(PLUGINS / "known.py"))["listing"]
    assert known.FILE.read_text(encoding="utf-8") == listing(), "write it anew: python plugins/known.py"


def test_every_first_party_distribution_is_known_but_the_template() -> None:
    folders = {folder.parent.name for folder in PLUGINS.glob("*/pyproject.toml")}
    assert set(known.DISTRIBUTIONS) == folders - {"lossreg-example"}
