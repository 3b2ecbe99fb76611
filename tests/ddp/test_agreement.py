"""No rank waits forever, for any missing terms, differences and failures of single ranks."""

from __future__ import annotations

from collections import Counter

import pytest
import random_criteria
from random_criteria import WEIGHTINGS

AT_ONCE = 20
WRAPS = ["inside", "beside", "by hand"]


def term(name, **options):
    own = {"group": None, "key": "k0", "power": 1, "learns": False, "weight": 1.0, "optional": False, "normalize": True}
    return {"name": name, **own, **options}


def config(*terms, weighting=None, **options):
    own = {"on_nonfinite": "ignore", "zero_weight": "keep", "track_norms": None, "derives": False}
    return {"terms": list(terms), "weighting": None if weighting is None else [weighting, {}], **own, **options}


def case(ours, theirs=None, *, wrap="by hand", lacks=((), ()), nan=((), ()), steps=3):
    """A case of steps that are alike."""
    found = {"configs": [ours, ours if theirs is None else theirs], "calibrate": False, "wrap": wrap, "seed": 1}
    return found | {"steps": [{"lacks": lacks, "nan": nan}] * steps}


@pytest.fixture
def agree(groups, tmp_path):
    """What two ranks make of each case; a rank that dies or waits fails the test with its case."""

    def ask(cases):
        try:
            answers = groups(2).run("agree", cases=cases, journal=str(tmp_path))
        except (AssertionError, EOFError, OSError):
            pytest.fail(f"a rank died, or did not answer, in {[path.read_text() for path in tmp_path.iterdir()]}")
        pairs = list(zip(*answers, strict=False))
        assert not any(map(random_criteria.waited, pairs[-1])), f"{pairs[-1]} in {cases[len(pairs) - 1]}"
        return pairs

    return ask


@pytest.mark.parametrize("number_of_cases", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_random_criteria_end_in_equal_state_or_with_the_same_error(agree, number_of_cases):
    ends = Counter()
    for start in range(0, number_of_cases, AT_ONCE):
        cases = [random_criteria.case(number) for number in range(start, start + AT_ONCE)]
        for found, answers in zip(cases, agree(cases), strict=True):
            assert random_criteria.alike(answers), f"{answers} in {found}"
            ends["state" if isinstance(answers[0], dict) else answers[0].partition(":")[0]] += 1
    assert ends["state"] > number_of_cases / 2
    assert ends["DistributedError"] > number_of_cases / 10


@pytest.mark.parametrize("wrap", WRAPS)
@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_a_group_that_one_rank_lacks_wholly_leaves_no_rank_waiting(agree, weighting, wrap):
    group = term("group", optional=True, group=config(term("a", key="k1"), term("b", key="k1"), weighting=weighting))
    [(first, second)] = agree([case(config(term("c"), group), wrap=wrap, lacks=(["k1"], []))])
    assert isinstance(first, dict)
    assert first == second


@pytest.mark.parametrize("on_nonfinite", ["ignore", "skip_term"])
def test_a_rank_that_lacks_all_terms_goes_on_with_the_others(agree, on_nonfinite):
    terms = [term("a", optional=True), term("b", optional=True, key="k1", learns=True)]
    cases = [
        case(config(*terms, weighting=weighting, on_nonfinite=on_nonfinite), wrap=wrap, lacks=([], ["k0", "k1"]))
        for weighting in (None, *WEIGHTINGS)
        for wrap in WRAPS
    ]
    for found, (first, second) in zip(cases, agree(cases), strict=True):
        assert isinstance(first, dict), (first, found)
        assert first == second, found


def test_a_group_that_is_skipped_keeps_its_parameters_on_the_graph(agree):
    group = term("group", group=config(term("a", key="k1", learns=True), weighting="uncertainty"))
    criterion = config(term("c"), group, on_nonfinite="skip_term")
    [(first, second)] = agree([case(criterion, wrap="inside", nan=([], ["k1"]))])
    assert isinstance(first, dict)
    assert first == second


def test_a_group_that_one_rank_skips_and_the_other_lacks_leaves_no_rank_waiting(agree):
    group = term("group", optional=True, group=config(term("a", key="k1"), weighting="uncertainty"))
    criterion = config(term("c"), group, on_nonfinite="skip_term")
    [(first, second)] = agree([case(criterion, lacks=(["k1"], []), nan=([], ["k1"]))])
    assert isinstance(first, dict)
    assert first == second


def test_terms_without_a_graph_on_one_rank_do_not_end_its_step_alone(agree):
    off = config(term("a", weight=0.0), term("b", weight=0.0, optional=True, key="k1"), zero_weight="skip")
    [(first, second)] = agree([case(off, lacks=([], ["k1"]))])
    assert isinstance(first, dict)
    assert first == second


TALK = {
    "a weighting": {"weighting": "dwa"},
    "skip_term": {"on_nonfinite": "skip_term"},
    "running norms": {"track_norms": "running"},
}


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("talk", TALK)
def test_an_error_of_one_rank_is_told_to_those_that_wait_in_a_collective(agree, talk, rank):
    inner = term("group", group=config(term("a", key="k1"), **TALK[talk]))
    lacks = [[], []]
    lacks[rank] = ["k1"]
    for criterion in (config(inner, term("c")), config(term("a", key="k1"), term("c"), **TALK[talk])):
        [answers] = agree([case(criterion, lacks=lacks)])
        reason = answers[rank]
        assert reason.startswith("MissingKeyError: loss 'a' needs 'gt.k1'; gt_batch has keys ['k0', 'k2', 'k3', 'k4']")
        assert answers[1 - rank] == f"DistributedError: rank {rank} failed with {reason}"


def test_a_value_that_raises_on_one_rank_is_told_to_the_other(agree):
    criterion = config(term("a"), weighting="cov", on_nonfinite="raise")
    [answers] = agree([case(criterion, nan=([], ["k0"]))])
    assert answers[1].startswith("NonFiniteError: MultiLoss 'multi': 'a' is nan at epoch 0")
    assert answers[0] == f"DistributedError: rank 1 failed with {answers[1]}"


def test_errors_of_both_ranks_are_raised_as_they_are(agree):
    [answers] = agree([case(config(term("a"), weighting="cov"), lacks=(["k0"], ["k0"]))])
    assert all(answer.startswith("MissingKeyError: loss 'a' needs 'gt.k0'") for answer in answers)


def test_the_first_forward_that_has_collectives_compares_the_criteria(agree):
    ours, theirs = config(term("a"), term("b"), weighting="dwa"), config(term("a"), weighting="relobralo")
    [(first, second)] = agree([case(ours, theirs)])
    assert first == second
    assert first.startswith("DistributedError: MultiLoss 'multi': expected the same criterion on every rank, found: ")
    assert "the list of terms is a, b on rank 0, a on rank 1; the weighting is " in first


def test_one_rank_may_evaluate_alone(groups):
    assert groups(2).run("evaluate_alone") == [(0.0, [0, 0]), None]
    assert groups(2).run("alive") == [2, 2]
