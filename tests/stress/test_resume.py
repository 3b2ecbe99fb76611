"""A few of the random stops of `resume.py`, which can do any number."""

from __future__ import annotations

import importlib.util
import random
from pathlib import Path

import pytest
import torch


def load(name):
    spec = importlib.util.spec_from_file_location(f"lossreg_stress_{name}", Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


resume = load("resume")


@pytest.mark.slow
def test_a_run_that_is_killed_and_resumed_is_the_uninterrupted_one(tmp_path):
    # the weighting with the largest state; `tox run -e stress` tries all of them, and more often
    assert len(resume.compare(tmp_path, "relobralo", 2, random.Random(0))) == 2


def test_a_difference_would_be_found():
    state = {"a": {"b": torch.tensor([1.0, 2.0])}, "c": [1, {"d": 2}]}
    assert resume.differences(state, state) == []
    assert resume.differences(state, {"a": {"b": torch.tensor([1.0, 2.5])}, "c": [1, {"d": 3}]}) == ["a.b.", "c.1.d."]


def test_a_step_that_comes_out_differently_when_it_is_done_again_is_found(tmp_path):
    first, second = (f"3 {' '.join([number.hex()] * 9)}\n" for number in (0.1, 0.2))
    (tmp_path / "log.txt").write_text(first + first)
    assert list(resume.lines(tmp_path)) == [3]
    (tmp_path / "log.txt").write_text(first + second)
    with pytest.raises(AssertionError, match="step 3 came out differently"):
        resume.lines(tmp_path)
