"""Where the tests of a module are: in the file of its name, in the folder of its name."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ELSEWHERE = {
    "__main__.py": "cli/test_safe_output.py",  # two lines; `python -m lossreg` is started there
    "demo/__main__.py": "demo/test_command.py",  # the same
    "demo/files.py": "demo/test_command.py",  # names of files, which a run writes there
    # the checks of the kit: for each there is a component that breaks it alone
    "testing/composition.py": "testing/test_planted_faults.py",
    "testing/gradients.py": "testing/test_planted_faults.py",
    "testing/numbers.py": "testing/test_planted_faults.py",
    "testing/state.py": "testing/test_planted_faults.py",
    "testing/part.py": "testing/test_planted_parts.py",
    "testing/preprocesses.py": "testing/test_planted_parts.py",
    "testing/schedules.py": "testing/test_planted_parts.py",
    "testing/weightings.py": "testing/test_planted_parts.py",
    "testing/suite.py": "testing/test_pytest_plugin.py",  # another pytest runs it
}
"""Modules whose tests stand in another file, with that file."""


def has_code(module: Path) -> bool:
    """Say whether a module has more than a docstring."""
    return len(ast.parse(module.read_text(encoding="utf-8")).body) > 1


def place_of(module: str) -> str:
    """Return where the tests of a module stand; those of a package's `__init__.py` in `test_init.py`."""
    folder, _, name = module.rpartition("/")
    return f"{folder}/test_{name.strip('_')}".removeprefix("/").replace("__.py", ".py")


MODULES = sorted(str(path.relative_to(ROOT / "lossreg")) for path in (ROOT / "lossreg").rglob("*.py") if has_code(path))


@pytest.mark.parametrize("module", MODULES)
def test_a_module_has_its_file_of_tests(module: str) -> None:
    place = ELSEWHERE.get(module, place_of(module))
    assert (ROOT / "tests" / place).is_file(), f"lossreg/{module}: expected tests/{place}"


def test_what_stands_elsewhere_is_there_and_has_no_file_of_its_own() -> None:
    assert [module for module in ELSEWHERE if module not in MODULES] == []
    assert [module for module in ELSEWHERE if (ROOT / "tests" / place_of(module)).exists()] == []


def test_the_place_of_a_module() -> None:
    assert place_of("__init__.py") == "test_init.py"
    assert place_of("cli/__init__.py") == "cli/test_init.py"
    assert place_of("composition/weighting/base.py") == "composition/weighting/test_base.py"
