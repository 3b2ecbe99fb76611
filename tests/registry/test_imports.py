"""Describing losses imports neither torch nor any loss."""

from __future__ import annotations

import sys

import pytest

HEAVY = ("torch", "numpy", "scipy", "hydra", "omegaconf", "matplotlib", "pandas")

SPY = """
import sys
heavy = [name for name in {heavy!r} if name in sys.modules]
heavy += [name for name in sys.modules if name.endswith(".losses") and not name == "lossreg.losses"]
assert not heavy, heavy
"""


@pytest.fixture
def installed(packages):
    """A package of each kind, whose losses cannot be imported."""
    bomb = "raise RuntimeError('a loss was imported')"
    packages.offering("hooked", "hooked", "Huge", target="hooked_pkg.losses:Huge")
    packages.add("lined", losses={"Tiny": "lined_pkg.losses:Tiny"})
    for package in ("hooked_pkg", "lined_pkg"):
        (packages.folder / package).mkdir()
        (packages.folder / package / "__init__.py").write_text("")
        (packages.folder / package / "losses.py").write_text(bomb)
    packages.hooked("broken", "broken", "raise RuntimeError('no licence')")
    return packages


@pytest.mark.parametrize(
    "code",
    [
        "import lossreg",
        "import lossreg; dir(lossreg)",
        "from lossreg import LossSpec, PreprocessSpec, ScheduleSpec, WeightingSpec, hookimpl, register",
        "from lossreg import ConfigError, LossregError",
        "import lossreg; assert {'hooked/Huge', 'lined/Tiny'} <= set(lossreg.list_losses())",
        "import lossreg; assert lossreg.find_loss('Huge').target == 'hooked_pkg.losses:Huge'",
        "import lossreg; lossreg.refresh(); lossreg.refresh()",
    ],
)
def test_describing_imports_neither_torch_nor_a_loss(installed, code):
    installed.python(code + SPY.format(heavy=HEAVY))


@pytest.mark.parametrize(
    "arguments",
    [["list"], ["list", "--json"], ["list", "huge", "tiny", "losses"], ["plugins"], ["plugins", "--json"], ["--help"]],
)
def test_the_command_line_lists_without_torch_or_a_loss(installed, arguments):
    code = f"""
    import sys
    from lossreg.cli import main
    try:
        main({arguments!r})
    except SystemExit as done:
        assert done.code in (0, None), done.code
    """
    output = installed.python(code.replace("\n    ", "\n") + SPY.format(heavy=HEAVY))
    expected = {"list": ["Huge", "Tiny"], "plugins": ["hooked", "lined", "no licence"]}.get(arguments[0], ["list"])
    assert all(text in output for text in expected)


def test_the_installed_command_is_the_same(installed):
    output = installed.run(sys.executable, "-m", "lossreg", "plugins")
    assert "no licence" in output


def test_of_a_broken_plugin_a_new_process_warns_once(installed):
    code = """
    import warnings
    with warnings.catch_warnings(record=True) as caught:
        import lossreg
        assert not caught
        lossreg.list_losses(); lossreg.list_losses()
    print(len(caught), caught[0].message)
    """
    assert installed.python(code) == ("1 plugin 'broken' (broken 1.0) is skipped: RuntimeError: no licence\n")
