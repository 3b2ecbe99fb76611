"""Verdicts on histories of plain numbers: each at its bound, and not beyond."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossreg.training.verdicts import Sample, TermSample, verdicts

FINE = {"value": 1.0, "is_labelled": True, "norm": 1.0, "weight": 1.0, "factor": 1.0, "length": 1.0}


def term(**changes):
    return TermSample(**{**FINE, "reached": True, "is_constant": False, **changes})


def history(*samples, cosine=0.0):
    """Each sample is a mapping of terms; values move, so that none is stuck."""
    found = []
    for step, terms in enumerate(samples):
        means = {path: t.value for path, t in terms.items() if t.is_labelled}
        pairs = {("a", "b"): cosine} if {"a", "b"} <= terms.keys() else {}
        found.append(Sample(step, terms, means, pairs))
    return found


def kinds(samples, paths=("a", "b")):
    return {(verdict.kind, verdict.terms) for verdict in verdicts(samples, paths)}


def moving(samples, **changes):
    return [{"a": term(value=1.0 + 0.1 * i, **changes), "b": term(value=2.0 - 0.1 * i)} for i in range(samples)]


def test_nothing_is_said_of_terms_that_learn():
    assert kinds(history(*moving(8))) == set()


@pytest.mark.parametrize(
    "changes", [{"reached": False}, {"length": 0.0}, {"is_constant": True}], ids=["reached", "length", "constant"]
)
def test_dead_takes_two_labelled_samples(changes):
    dead = {"a": term(**changes), "b": term(value=3.0)}
    unlabelled = {"a": term(is_labelled=False, **changes), "b": term(value=4.0)}
    assert kinds(history(dead)) == set()
    assert ("dead", ("a",)) not in kinds(history(dead, unlabelled))
    assert ("dead", ("a",)) in kinds(history(dead, unlabelled, dead))


def test_what_has_learnt_all_or_is_off_is_not_dead():
    assert not kinds(history(*[{"a": term(value=0.0, length=0.0), "b": term(value=i)} for i in (1.0, 2.0)]))
    assert not kinds(history(*[{"a": term(weight=0.0, factor=0.0, reached=False)}] * 2))


@pytest.mark.parametrize(("share", "said"), [(0.9989, False), (0.9991, True)])
def test_dominant_is_from_999_of_1000_parts_of_the_gradients(share, said):
    samples = moving(2, factor=share / (1 - share))
    assert (("dominant", ("a",)) in kinds(history(*samples))) is said


def test_a_term_is_not_dominant_because_the_others_have_learnt_all():
    samples = moving(6)
    for sample in samples[-2:]:
        sample["b"] = term(value=1e-4, length=1e-4)
    assert kinds(history(*samples)) == set()


@pytest.mark.parametrize(("cosine", "said"), [(-0.79, False), (-0.81, True)])
def test_conflict_is_below_its_cosine_at_three_samples(cosine, said):
    assert (("in conflict", ("a", "b")) in kinds(history(*moving(3), cosine=cosine))) is said
    assert not kinds(history(*moving(2), cosine=cosine))


def test_a_negative_weight_turns_a_direction():
    assert ("in conflict", ("a", "b")) in kinds(history(*moving(3, factor=-1.0), cosine=0.9))


def test_counted_twice_is_one_direction_and_a_ratio_that_stays():
    assert ("counted twice", ("a", "b")) in kinds(history(*moving(3, length=2.0), cosine=1.0))
    longer = moving(3)
    longer[1]["a"] = term(value=1.1, length=2.0)
    assert not kinds(history(*longer, cosine=1.0))


def test_never_present_takes_three_looks_and_one_batch_lifts_it():
    absent = {"b": term()}
    assert kinds(history(*[{**absent, "b": term(value=i)} for i in range(2)])) == set()
    samples = [{"b": term(value=float(i))} for i in range(3)]
    assert kinds(history(*samples)) == {("never present", ("a",))}
    assert kinds(history({"a": term(), "b": term()}, *samples)) == set()


def test_stuck_is_from_the_first_sample_on():
    still = [{"a": term(), "b": term(value=float(i))} for i in range(5)]
    assert kinds(history(*still)) == {("stuck", ("a",))}
    assert kinds(history({"a": term(value=2.0), "b": term()}, *still)) == set()


@pytest.mark.parametrize(("norm", "said"), [(99.0, False), (101.0, True)])
def test_a_norm_may_not_grow_a_hundredfold(norm, said):
    samples = history(*moving(1), {"a": term(value=norm, norm=norm), "b": term(value=3.0)})
    assert (("exploding norm", ("a",)) in kinds(samples)) is said


@pytest.mark.parametrize("value", [101.0, 0.0009])
def test_a_norm_of_other_data_is_told_at_the_start(value):
    far = [{"a": term(value=value * (1 + 0.01 * i)), "b": term(value=i + 1.0)} for i in range(2)]
    assert ("exploding norm", ("a",)) in kinds(history(*far))
    assert ("exploding norm", ("a",)) not in kinds(history(*moving(2), *far))


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_not_finite_is_said_at_once(number):
    assert ("not finite", ("a",)) in kinds(history({"a": term(value=number), "b": term()}))
    assert ("not finite", ("a",)) in kinds(history({"a": term(length=number), "b": term()}))


NUMBERS = st.floats(allow_nan=True, allow_infinity=True)
TERMS = st.builds(
    TermSample,
    NUMBERS,
    st.booleans(),
    st.none() | NUMBERS,
    NUMBERS,
    NUMBERS,
    st.floats(0),
    st.booleans(),
    st.booleans(),
)


@given(st.lists(st.dictionaries(st.sampled_from("ab"), TERMS), min_size=1, max_size=6), st.floats(-1, 1))
def test_no_history_is_an_error(samples, cosine):
    for verdict in verdicts(history(*samples, cosine=cosine), ("a", "b")):
        assert str(verdict)
