"""Members of a model's dictionary of losses on several ranks: the same names, norms and weights on all of them."""

from __future__ import annotations

import random

import pytest

NAMES = ["loss_box", "loss_class", "aux_0", "aux_1", "error"]
OPTIONS = [
    {"rest": 1.0},
    {"terms": {"loss_box": 2.0}, "rest": 0.5, "weighting": None},
    {"terms": {"loss_*": {"weight": 1.0, "optional": True}}, "rest": 0},
    {"terms": {"loss_box": {"optional": True}, "aux_?": {"optional": True}}, "rest": 1.0, "on_nonfinite": "skip_term"},
    {"rest": 1.0, "track_norms": "running"},
]


def case(number: int) -> dict:
    """Return a case where each rank's first batch in training has other members, and later ones have fewer."""
    chance = random.Random(number)
    first = [chance.sample(NAMES, chance.randint(1, len(NAMES))) for _ in range(2)]
    if "terms" in (options := chance.choice(OPTIONS)) and options["terms"].get("loss_box") == 2.0:
        first = [list(dict.fromkeys([*names, "loss_box"])) for names in first]
    both = sorted({*first[0], *first[1]})
    needed = ["loss_box"] if options.get("terms", {}).get("loss_box") == 2.0 else []
    later = [[list(dict.fromkeys([*needed, *chance.sample(both, chance.randint(1, len(both)))])) for _ in "ab"]]
    looked = [[list(dict.fromkeys([*needed, *first[rank]]))] * chance.randint(0, 1) for rank in range(2)]
    return {
        "names": NAMES,
        "looked": looked,
        "steps": [first, *later],
        "options": options,
        "calibrate": False,
    }


def test_ranks_with_other_members_end_with_the_same(groups) -> None:
    cases = [case(number) for number in range(30)]
    for found, (ours, theirs) in zip(cases, zip(*groups(2).run("members", cases=cases), strict=True), strict=True):
        assert isinstance(ours, dict), (ours, found)
        assert isinstance(theirs, dict), (theirs, found)
        for key in ("names", "weights", "gradients"):
            assert ours[key] == theirs[key], (key, found)
        if found["options"].get("track_norms"):
            assert ours["norms"] == theirs["norms"]
        met = {name for presents in found["steps"][0] for name in presents}
        assert {*ours["names"]} <= {*met, *NAMES}
        for (_, members), presents in zip(ours["totals"], (step[0] for step in found["steps"]), strict=True):
            assert {name.removeprefix("det/") for name in members} == {*ours["names"]} & {*presents}


def one(steps, options, looked=((), ()), calibrate=False):
    return {"names": NAMES, "looked": looked, "steps": steps, "options": options, "calibrate": calibrate}


def test_a_name_that_is_none_ends_every_rank(groups) -> None:
    bad = "a\nb"
    cases = [{**one([[["loss_box"], ["loss_box", bad]]], {"rest": 1.0}), "names": ["loss_box", bad]}]
    for (answer,) in groups(2).run("members", cases=cases):
        assert answer.startswith("BatchError: from_dict 'det': a member of the dictionary: expected a name")
    assert groups(2).run("alive") == [2, 2]


def test_calibration_gives_all_ranks_the_same_norms(groups) -> None:
    cases = [one([[NAMES, NAMES]], {"terms": {"loss_box": 1.0}, "rest": 1.0}, calibrate=True)]
    (ours,), (theirs,) = groups(2).run("members", cases=cases)
    assert ours["norms"] == theirs["norms"]
    assert min(abs(norm - 1) for norm in ours["norms"]) > 0


def test_calibration_over_other_members_is_an_error_on_every_rank(groups) -> None:
    cases = [one([[["loss_box", "aux_0"], ["loss_box"]]], {"rest": 1.0}, calibrate=True)]
    for (answer,) in groups(2).run("members", cases=cases):
        assert answer.startswith("DistributedError: calibrate_norms: ")
        said = "the list of members (name them under `terms`) of group 'det' is aux_0, loss_box on rank 0, loss_box on"
        assert said in answer


@pytest.mark.parametrize("weighting", [False, True])
def test_a_late_member_of_one_rank_ends_every_rank_that_waits(groups, weighting) -> None:
    steps = [[["loss_box"], ["loss_box"]], [["loss_box"], ["loss_box", "aux_0"]]]
    options = {"rest": 1.0, **({"on_nonfinite": "skip_term"} if weighting else {"track_norms": "running"})}
    (ours,), (theirs,) = groups(2).run("members", cases=[one(steps, options)])
    assert "takes 'aux_0', which came after the members were fixed" in theirs
    assert ours.startswith("DistributedError: ")
    assert "rank 1 failed with BatchError" in ours
    assert groups(2).run("alive") == [2, 2]
