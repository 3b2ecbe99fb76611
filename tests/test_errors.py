"""What errors say: every mistake, where it is and how to fix it, in a text that a terminal can show."""

from __future__ import annotations

import inspect
import pickle
import warnings

import pytest
import torch

import lossreg
from lossreg import errors
from lossreg.errors import ArgumentError, CheckpointError, ConfigError, ConfigProblem, MissingKeyError, UnknownNameError

PROBLEM = ConfigProblem("losses[0].a", "expected 1, found 2", "write a: 1", "range")


def test_every_error_is_a_lossreg_error_and_every_warning_a_user_warning() -> None:
    classes = [c for c in vars(errors).values() if inspect.isclass(c) and c.__module__ == errors.__name__]
    raised = [c for c in classes if issubclass(c, Exception)]
    assert len(raised) > 20
    for kind in raised:
        assert issubclass(kind, UserWarning if kind.__name__.endswith("Warning") else errors.LossregError), kind


def test_a_problem_is_its_path_what_is_wrong_and_the_fix() -> None:
    assert str(PROBLEM) == "losses[0].a: expected 1, found 2 (write a: 1)"
    assert str(ConfigProblem("", "is odd")) == "is odd"
    assert str(ConfigProblem("a\x1b[2J", "b\x1b[2J\nc")) == r"a\x1b[2J: b\x1b[2J" + "\nc"


def test_one_problem_is_a_line_and_several_are_counted() -> None:
    assert str(ConfigError("no loss")) == "no loss"
    assert ConfigError("no loss").problems == (ConfigProblem("", "no loss"),)
    assert str(ConfigError([PROBLEM] * 2)) == f"2 errors in the config:\n  - {PROBLEM}\n  - {PROBLEM}"
    many = str(ConfigError([PROBLEM] * 1_051)).splitlines()
    assert (many[0], many[-1]) == ("1,051 errors in the config:", "  and 1,001 more")
    assert len(many) == 52


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (ArgumentError, f"MultiLoss: {PROBLEM}"),
        (CheckpointError, f"MultiLoss: nothing was loaded, since the checkpoint does not fit: {PROBLEM}"),
    ],
)
def test_an_error_with_an_owner_travels_between_processes(kind: type[ArgumentError], text: str) -> None:
    error = kind("MultiLoss", [PROBLEM])
    copied = pickle.loads(pickle.dumps(error))
    assert str(error) == str(copied) == text
    assert (copied.owner, copied.problems) == ("MultiLoss", (PROBLEM,))


def test_they_are_also_the_errors_that_python_code_expects() -> None:
    expected = {
        "UnknownNameError": LookupError,
        "MissingKeyError": KeyError,
        "ShapeError": ValueError,
        "DtypeError": TypeError,
        "RangeError": ValueError,
        "ConfigError": ValueError,
        "ArgumentError": TypeError,
        "CheckpointError": RuntimeError,
        "NonFiniteError": ArithmeticError,
    }
    for name, kind in expected.items():
        assert issubclass(getattr(errors, name), kind), name
    assert issubclass(ArgumentError, ValueError)


def test_a_key_error_has_its_text_without_quotes_of_python() -> None:
    assert str(MissingKeyError("no 'x'\x1b")) == r"no 'x'\x1b"
    assert str(MissingKeyError()) == ""


def test_an_unknown_name_has_its_hint_apart() -> None:
    error = UnknownNameError("no loss is named 'sge'", "did you mean 'seg'?", iter(["seg"]))
    assert str(error) == "no loss is named 'sge'; did you mean 'seg'?"
    assert (error.problem, error.hint, error.near) == ("no loss is named 'sge'", "did you mean 'seg'?", ("seg",))
    assert str(UnknownNameError("none")) == "none"


def test_a_warning_is_at_the_line_of_the_user() -> None:
    def made(unnormalized: tuple[str, ...] = ()) -> lossreg.MultiLoss:
        losses = [lossreg.LossWrapper(torch.nn.L1Loss(), name) for name in "ab"]
        return lossreg.MultiLoss(losses, [1.0, 1.0], unnormalized=unnormalized)

    criterion = made()
    state = {f"0.{key}": value for key, value in made(("b",)).state_dict().items()}
    state["0.calibrated"] = torch.tensor(True)
    lines = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        lines.append(inspect.currentframe().f_lineno + 1)
        criterion(torch.ones(2, 1, requires_grad=True), torch.zeros(2, 1))
        lines.append(inspect.currentframe().f_lineno + 1)
        torch.nn.Sequential(criterion).load_state_dict(state)
    assert [(warning.filename, warning.lineno) for warning in caught] == [(__file__, line) for line in lines]


def test_a_warning_where_all_lines_are_of_lossreg_is_told() -> None:
    code = "from lossreg.errors import warn\nwarn('all the same', RuntimeWarning)"
    with pytest.warns(RuntimeWarning, match="all the same"):
        exec(compile(code, "alone.py", "exec"), {"__name__": "lossreg.alone"})
