"""The text of a report, and declared exceptions."""

from __future__ import annotations

import pytest
import torch

from lossreg.errors import PluginError, UnknownNameError
from lossreg.testing import check_loss


def _outcome(report, check):
    (result,) = (result for result in report.results if result.check == check)
    return result


def test_a_declared_exception_is_no_failure_and_keeps_its_reason(planted):
    report = check_loss(planted.Unbiased, exceptions={"one_pixel": "a variance takes two"})
    assert report.passed, report
    assert [(r.check, r.message) for r in report.exceptions] == [("one_pixel", "a variance takes two")]


def test_an_exception_that_is_not_needed_is_a_failure(planted):
    report = check_loss(planted.Sound, exceptions={"one_pixel": "a variance takes two"})
    assert [result.check for result in report.failures] == ["one_pixel"]
    assert "remove its exception" in report.failures[0].message


def test_an_exception_for_no_check_is_a_failure(planted):
    report = check_loss(planted.Sound, exceptions={"onepixel": "misspelt"})
    assert [result.check for result in report.failures] == ["onepixel"]


def test_a_report_is_a_table(planted):
    lines = str(check_loss(planted.Unbiased)).splitlines()
    assert lines[0].startswith("Unbiased: ")
    assert "1 failed" in lines[0]
    assert lines[1].split()[:2] == ["failed", "one_pixel"]


def test_the_repr_of_a_report_is_one_short_line_with_what_failed(planted):
    report = check_loss(planted.Unbiased)
    assert repr(report).startswith("<Report Unbiased: 1 failed, ")
    assert repr(report).endswith("(one_pixel)>")
    assert len(repr(report)) < 240  # pytest cuts longer ones


def test_a_message_says_what_was_found_and_what_to_change(planted):
    (failure,) = check_loss(planted.Views).failures
    assert "channels-last" in failure.message or "view" in failure.message
    assert "`reshape`" in failure.message


def test_functions_modules_and_objects_are_taken_as_they_are(planted):
    def absolute_error(prediction, target):
        """Mean absolute error."""
        return (prediction - target).abs().mean()

    for loss in (torch.nn.MSELoss(), planted.Sound()):
        report = check_loss(loss)
        assert report.passed, report
    # nobody else can import a function of a function, and the kit says so
    assert [result.check for result in check_loss(absolute_error).failures] == ["pickles"]


def test_an_example_is_a_function_a_name_or_a_pair(planted):
    pred, gt = planted.nothing_valid()
    for example in (planted.nothing_valid, "planted:nothing_valid", (pred, gt)):
        assert check_loss(planted.Sound, example).passed


def test_random_numbers_of_the_caller_go_on_as_before(planted):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    check_loss(planted.Random)
    assert torch.equal(torch.rand(2), expected)


def test_what_is_not_there_is_an_error():
    with pytest.raises(UnknownNameError):
        check_loss("no-such/Loss")
    with pytest.raises(PluginError, match="cannot be imported"):
        check_loss(torch.nn.MSELoss(), "no_such_module:batch")


def test_a_check_that_does_not_apply_says_why(planted):
    assert "not registered" in _outcome(check_loss(planted.Sound), "builds_from_yaml").message
