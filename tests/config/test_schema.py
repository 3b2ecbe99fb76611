"""The JSON Schema agrees with the builder: what it accepts builds, what it refuses does not."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match
from omegaconf import OmegaConf
from torch import nn

import lossreg
from lossreg.config.build import build_compound_loss_from_config, get_loss_function
from lossreg.config.grammar import Grammar
from lossreg.config.schema import schema
from lossreg.errors import ConfigError, ConfigProblem
from lossreg.keys import SPECIAL_KEYS, Compound, Cut, Deep, Group, Normalization, Term, Wrap
from lossreg.testing import loss_configs
from lossreg.values import keys_of

# What JSON Schema has no words for, so that the builder alone refuses it: kind, what the path ends with, and what the
# constructor or the reader says, where that tells one rule from another.
BUILDER_ALONE = {
    "terms have different names": ("conflict", r"\]|\.[^.]*", r"has the name .*, as has "),
    "epochs ascend": ("range", r"epoch_thresholds", r"ascending order, found \["),
    "a list of weights has thresholds, as many as values": (
        "missing|conflict",
        r"weight|coefs\.\w+|schedules\[\d+\]",
        r"epoch_thresholds",
    ),
    "a schedule inherits thresholds only where there are some": ("missing", r"epoch_thresholds", r"is missing; core/"),
    "min_samples is at most max_samples": ("conflict", r"normalization_params", ""),
    "an argument is given once": ("conflict", r"args\.\w+", ""),
    "a constructor takes its values, the batch has what a term reads": ("refused", "", ""),
    "what else is on can be compiled": ("conflict", r"compile", ""),
    "an integer is not written as 1.0": ("type", "", r"found \d+\.0$"),
}
# What the builder reads all the same.
SCHEMA_ALONE = "a nested loss has its parameters beside `loss`, a group, or a further `loss`; a target is null"

# that a list may be meant for the loss is no refusal
pytestmark = pytest.mark.filterwarnings("ignore::lossreg.errors.ConfigWarning")

quick = settings(derandomize=True, database=None, suppress_health_check=list(HealthCheck))
seen: Counter[str] = Counter()


def refusals_of_file(file: Any) -> Sequence[ConfigProblem]:
    """Return why the builder refuses a whole config."""
    try:
        load(file)
    except ConfigError as error:
        return error.problems
    return []


def refusals(block: Any) -> Sequence[ConfigProblem]:
    """Return why the builder refuses a compound block; its constructors are called only for what its grammar takes."""
    grammar = Grammar()
    grammar.compound(copy.deepcopy(block), "block")
    if not grammar.problems:
        try:
            build_compound_loss_from_config(block)
        except ConfigError as error:
            return error.problems
    return grammar.problems


def is_of(problem: ConfigProblem, kinds: str, place: str, words: str) -> bool:
    """Say whether a problem is one that the builder alone finds."""
    fits = re.fullmatch(kinds, problem.kind) and re.search(f"(?:{place})$", problem.path)
    return bool(fits and re.search(words, problem.message))


def disagreement(
    validator: Draft202012Validator,
    block: Any,
    refused: Callable[[Any], Sequence[ConfigProblem]] = refusals,
    otherwise: Callable[[Any], bool] = lambda block: nested_otherwise(block),
) -> str | None:
    """Say how schema and builder disagree on a block, beyond what is listed above.

    Args:
        validator: of the schema.
        block: what both are given.
        refused: says why the builder refuses it.
        otherwise: says whether it is of those that the schema alone refuses.
    """
    accepted = validator.is_valid(block)
    problems = refused(block)
    seen["accepted" if accepted else "refused"] += 1
    if not accepted and not problems:
        if otherwise(block):
            seen[SCHEMA_ALONE] += 1
            return None
        return f"refused by the schema alone: {[error.message for error in validator.iter_errors(block)]}"
    if not accepted:
        return None
    for problem in problems:
        rule = next((name for name, rule in BUILDER_ALONE.items() if is_of(problem, *rule)), None)
        if rule is None:
            return f"refused by the builder alone: {problem}"
        seen[rule] += 1
    return None


def nested_otherwise(data: Any) -> bool:
    """Say whether a block holds a loss in a spelling that the schema does not know: nested, or beside a null target."""
    if isinstance(data, list):
        return any(map(nested_otherwise, data))
    if not isinstance(data, dict):
        return False
    inner = data.get("loss")
    known = (*keys_of(Term), *SPECIAL_KEYS)
    otherwise = isinstance(inner, dict) and (
        any(key not in known for key in data)
        or isinstance(inner.get("loss"), dict)
        or "losses" in inner
        or "loss_list" in inner
        or not {"loss", "_target_"} & set(inner)
        or "args" in data
    )
    otherwise = otherwise or (inner is not None and data.get("_target_", "") is None)
    return otherwise or any(map(nested_otherwise, data.values()))


def replaced(file: Any) -> bool:
    """Say whether another value replaces one of a legacy block, so that the builder does not read what is checked."""
    params = file.get("loss_params")
    blocks = [params, *(params.get(key) for key in ("multi_loss", "multiloss"))] if isinstance(params, dict) else []
    names = [name for block in blocks if isinstance(block, dict) for name in block.get("seg_loss_params") or ()]
    switches = params.get("compound_loss") if isinstance(params, dict) else None
    over = {key for key, value in switches.items() if value is not None} if isinstance(switches, dict) else set()
    return len(set(names)) < len(names) or bool(over & {"epoch_thresholds", "normalization_params", "pre_processes"})


BLOCKS_OF_KEYS = (Compound, Group, Term, Wrap, Deep, Normalization, Cut)


# --- configs --------------------------------------------------------------------------------------

NUMBERS = st.sampled_from([0, 1, 2, 0.5, 3.0, -1.5])
SCHEDULES = st.sampled_from(
    [
        {"schedule": "cosine", "start": 1, "end": 0.0, "end_epoch": 5},
        {"schedule": "core/Cosine", "start": 1, "end": 0, "end_epoch": 5, "unit": "step"},
        {"schedule": "cyclic", "start": 1, "end": 0, "end_epoch": 5, "cycles": 3},
        {"schedule": "step", "values": [1, 2], "epoch_thresholds": [0, 4]},
        {"schedule": "step", "values": [1, 2]},
        {"schedule": "chain", "schedules": [1, {"schedule": "constant", "value": 2}, [0, 1]], "boundaries": [2, 4]},
        {"schedule": "cosine", "start": 1, "end": 0, "end_epoch": 0},
    ]
)
WEIGHTS = NUMBERS | st.lists(NUMBERS, min_size=1, max_size=3) | SCHEDULES
EPOCHS = st.sampled_from([None, [0, 5], [0, 5, 10], [5], [5, 0]])
LOSSES = st.sampled_from(
    [
        {"loss": "offset"},
        {"loss": "OffsetLoss", "offset": 1.0, "mode": "square"},
        {"loss": "local/OffsetLoss", "channels": [0, 1], "args": {"offset": 2}},
        {"_target_": "old.place.OffsetLoss", "channels": None, "_recursive_": False},
        {"loss": "Foreign", "args": {"weight": [1, 2.5], "name": "label"}},
        {
            "loss": "local/Foreign",
            "pred_key": "a",
            "gt_key": None,
            "wrap": {"target_dtype": "long", "reduction": "sum"},
        },
        {"loss": "scaled_l1", "scale": 2, "input": None, "dtype": "input"},
        {"loss": "offset", "dtype": "float16"},
        {"loss": "scaled_l1", "deep_supervision": {"outputs": "aux.*", "weights": [1, 2], "resize": "bilinear"}},
        {"loss": "local/offset", "deep_supervision": ["a", "b"], "input": "logits"},
    ]
)
OWN = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["a", "b", "c", None]),
        "weight": WEIGHTS,
        "epoch_thresholds": EPOCHS,
        "normalize": st.booleans(),
        "optional": st.booleans(),
    },
)
TERMS = st.deferred(
    lambda: (
        st.builds(lambda loss, own: {**loss, **own}, LOSSES, OWN)
        | st.builds(lambda loss, own: {"loss": loss, **own}, LOSSES, OWN)
        | st.sampled_from(["offset", "scaled_l1"])
        | GROUPS
    )
)
SHARED: dict[str, st.SearchStrategy[Any]] = {
    "epoch_thresholds": EPOCHS,
    "pre_processes": st.sampled_from(
        [None, [], ["MakeX"], [{"preprocess": "MakeX", "factor": 2}], [{"preprocess": "local/MakeX"}]]
    ),
    "weighting": st.sampled_from([None, "dwa", "core/GradNorm", {"strategy": "dwa", "temperature": 2.0}]),
    "zero_weight": st.sampled_from(["keep", "skip"]),
    "batch_keys": st.sampled_from([None, ["pred.x", "gt.y"], []]),
    "on_nonfinite": st.sampled_from(["ignore", "raise", "skip_term"]),
}
LISTED = st.deferred(
    lambda: (
        st.lists(TERMS, min_size=1, max_size=3)
        | st.dictionaries(st.sampled_from(["x", "y", "z", "", "a/b"]), TERMS | st.none(), min_size=1, max_size=3)
    )
)
GROUPS = st.deferred(
    lambda: st.builds(
        lambda terms, rest: {"losses": terms, **rest},
        LISTED,
        st.fixed_dictionaries({"name": st.sampled_from(["g", "h"])}, optional={"weight": WEIGHTS, **SHARED}),
    )
)
BLOCKS = st.builds(
    lambda key, terms, rest: {key: terms, **rest},
    st.sampled_from(["loss_list", "losses"]),
    LISTED,
    st.fixed_dictionaries(
        {},
        optional={
            **SHARED,
            "normalize_losses": st.booleans(),
            "normalization_params": st.sampled_from(
                [None, {}, {"min_samples": 1, "max_samples": None}, {"min_samples": 5, "max_samples": 2}]
            ),
            "track_norms": st.sampled_from([None, "running"]),
            "norm_momentum": st.sampled_from([0.5, 1]),
            "compile": st.booleans(),
        },
    ),
)
KEYS = st.sampled_from(
    sorted({*(key for block in BLOCKS_OF_KEYS for key in keys_of(block)), *SPECIAL_KEYS, "offset", "hook", "ofset"})
)
OTHERS = (
    st.none()
    | st.booleans()
    | NUMBERS
    | st.sampled_from(["", "offset", "MakeX", "nothing", "a/b", "???", "keep", "os.system", "old.place.OffsetLoss"])
    | st.sampled_from([[], {}, [1], ["a"], [None], [[0]], {"a": 1}, {"loss": "offset"}, {"schedule": "cosine"}])
)


SINGLES = st.builds(
    lambda loss, rest: {"loss": loss | rest if isinstance(loss, dict) else loss},
    LOSSES | st.sampled_from(["offset", "local/scaled_l1", "Foreign"]),
    st.fixed_dictionaries(
        {}, optional={"name": st.sampled_from(["a", None]), "weight": WEIGHTS, "epoch_thresholds": EPOCHS}
    ),
)
LEGACY_TERMS = (
    *("seg", "crossfield_align", "crossfield_align90", "crossfield_smooth"),
    *("seg_interior_crossfield", "seg_edge_crossfield", "seg_edge_interior"),
)
FLAGS = st.sampled_from([True, True, True, False, None])
LEGACY = st.builds(
    lambda flags, channels, spelling, coefs, block, params: {
        **flags,
        "seg_params": channels,
        "loss_params": {spelling: {"coefs": coefs, **block}, **params},
    },
    st.fixed_dictionaries({}, optional={"compute_seg": FLAGS, "compute_crossfield": FLAGS}),
    st.fixed_dictionaries({}, optional={f"compute_{name}": FLAGS for name in ("interior", "edge", "vertex")}),
    st.sampled_from(["multi_loss", "multiloss"]),
    st.fixed_dictionaries(
        dict.fromkeys(LEGACY_TERMS, WEIGHTS),
        optional={"epoch_thresholds": EPOCHS},
    ),
    st.fixed_dictionaries(
        {},
        optional={
            "normalization_params": st.sampled_from([None, {}, {"min_samples": 1}]),
            "seg_loss_params": st.sampled_from([None, {}, {"bce_coef": 1.0, "w0": 50}, {"dice_coef": 0}]),
        },
    ),
    st.fixed_dictionaries(
        {},
        optional={
            "seg_loss_params": st.sampled_from([None, {}, {"tversky_focal_coef": 0.5, "use_dist": True, "sigma": 10}]),
            "compound_loss": st.sampled_from([None, {}, {"normalize_losses": False}, {"weighting": "dwa"}]),
        },
    ),
)


def ways(data: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [way, *(found for key, item in items for found in ways(item, (*way, key)))]


@st.composite
def mutants(draw: st.DrawFn, configs: st.SearchStrategy[Any] = BLOCKS) -> Any:
    """A config in which one or two places have another value, another key, one key more or less."""
    data = json.loads(json.dumps(draw(configs)))  # no two places share a value
    for _ in range(draw(st.integers(1, 2))):
        places = ways(data)[1:]
        if not places:
            break
        *around, key = draw(st.sampled_from(places))
        holder = data
        for step in around:
            holder = holder[step]
        how = draw(st.sampled_from(["other", "other", "drop", "rename", "add", "wrap"]))
        if how == "drop":
            del holder[key]
        elif how == "rename" and isinstance(holder, dict):
            holder[draw(KEYS)] = holder.pop(key)
        elif how == "add" and isinstance(holder, dict):
            holder[draw(KEYS)] = copy.deepcopy(draw(OTHERS))
        elif how == "wrap":
            holder[key] = draw(st.sampled_from([[holder[key]], {"loss": holder[key]}]))
        else:
            holder[key] = copy.deepcopy(draw(OTHERS))
    return data


# --- tests ----------------------------------------------------------------------------------------


@pytest.fixture
def agree(local_losses: None) -> Callable[[Any], None]:
    """Say that schema and builder agree on a compound block."""
    made = schema()
    validator = Draft202012Validator({"$defs": made["$defs"], "$ref": "#/$defs/compound"})

    def check(block: Any) -> None:
        difference = disagreement(validator, block)
        assert difference is None, f"{difference}\n{block}"

    return check


@pytest.fixture
def agree_on_files(local_losses: None) -> Callable[[Any], None]:
    """Say that schema and builder agree on a whole config."""
    validator = Draft202012Validator(schema())

    def check(file: Any) -> None:
        difference = disagreement(validator, file, refusals_of_file, replaced)
        assert difference is None, f"{difference}\n{file}"

    return check


def test_it_is_valid_by_the_meta_schema() -> None:
    made, deeper = schema(), schema("a.b")
    Draft202012Validator.check_schema(made)
    assert deeper.pop("$defs") == made["$defs"]
    Draft202012Validator.check_schema(deeper)


@pytest.mark.needs_plugins  # it needs none, but takes long: once is enough
@pytest.mark.parametrize("part", [0, *(pytest.param(part, marks=pytest.mark.slow) for part in range(1, 8))])
def test_it_agrees_with_the_builder(agree: Callable[[Any], None], part: int) -> None:
    seen.clear()
    settings(quick, max_examples=188)(seed(part)(given(BLOCKS)(agree)))()
    settings(quick, max_examples=312)(seed(part)(given(mutants())(agree)))()
    assert seen["accepted"] + seen["refused"] >= 475
    assert min(seen["accepted"], seen["refused"]) >= 100
    assert seen[SCHEMA_ALONE] <= 6


def test_it_agrees_with_the_builder_on_a_single_loss(agree_on_files: Callable[[Any], None]) -> None:
    seen.clear()
    settings(quick, max_examples=200)(given(SINGLES)(agree_on_files))()
    settings(quick, max_examples=600)(given(mutants(SINGLES))(agree_on_files))()
    assert min(seen["accepted"], seen["refused"]) >= 150
    assert seen["accepted"] + seen["refused"] >= 700


@pytest.mark.needs_plugins
@pytest.mark.parametrize("part", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_it_agrees_with_the_builder_on_a_legacy_block(agree_on_files: Callable[[Any], None], part: int) -> None:
    seen.clear()
    settings(quick, max_examples=150)(seed(part)(given(LEGACY)(agree_on_files)))()
    settings(quick, max_examples=300)(seed(part)(given(mutants(LEGACY))(agree_on_files)))()
    assert min(seen["accepted"], seen["refused"]) >= 75
    assert seen["accepted"] + seen["refused"] >= 400
    assert seen[SCHEMA_ALONE] <= 25


def test_it_takes_what_builds_with_any_installed_loss() -> None:
    validator = Draft202012Validator(schema())

    @settings(quick, max_examples=100)
    @given(loss_configs())
    def taken(config: Any) -> None:
        assert [error.message for error in validator.iter_errors(config)] == []

    taken()


TERM = {"loss": "offset", "weight": 2}
COMPOUND = {"loss_list": [TERM]}


@pytest.mark.parametrize(
    "file",
    [
        COMPOUND,
        {"losses": {"a": TERM}, "weighting": "dwa"},
        {"losses": {"a": None, "loss": TERM, "b": "offset"}},
        {"losses": {"a": TERM, "loss": "offset"}},
        {"loss_params": {"compound_loss": COMPOUND, "other": 1}, "anything": [1]},
        {"loss_params": {"compound_loss": COMPOUND, "multi_loss": "what is not read"}, "loss": 5},
        {"losses": [{"loss": "from_dict", "terms": {"a": 1}}]},
        {"losses": [{"loss": "from_dict", "rest": 1, "_convert_": "all"}]},
        {"losses": [{"loss": {"loss": "offset"}, "name": "a"}]},
        {"loss": "offset"},
        {"loss": {"loss": "Foreign", "weight": [0.2, 0.8]}, "loss_params": None},
        {"loss": {"_target_": "old.place.OffsetLoss", "name": "a"}, "loss_params": {}},
        {"epochs": [0, 5], "loss_params": {"compound_loss": {"losses": [{**TERM, "epoch_thresholds": "${epochs}"}]}}},
        {"n": "offset", "w": 1, "loss_params": {"compound_loss": {"losses": [{"loss": "${n}", "weight": "${w}"}]}}},
        {"t": [TERM], "loss_params": {"compound_loss": {"losses": "${t}", "normalize_losses": True}}},
        {"c": COMPOUND, "loss_params": {"compound_loss": "${c}"}},
    ],
)
def test_files_that_both_take(file: Any) -> None:
    assert list(Draft202012Validator(schema()).iter_errors(file)) == []
    assert callable(load(file))


@pytest.mark.parametrize(
    "file",
    [
        {},
        {"loss_params": {}},
        {"loss": None},
        {"loss": 5},
        {"loss": "offsets"},
        {"loss": {"loss": "offset", "ofset": 1}},
        {"loss": {"loss": "offset", "name": "a/b"}},
        {"loss": {"loss": "offset", "_partial_": True}},
        {"loss_list": []},
        {"losses": [{"loss": "from_dict"}]},
        {"losses": [{"loss": "from_dict", "terms": {}}]},
        {"losses": [{"loss": "from_dict", "terms": {"a": 1}, "trems": {}}]},
        {"losses": [{"loss": {"loss": "offset", "name": "b"}, "name": "a"}]},
        {"losses": {"a": None}},
        {"losses": {"a": None, "loss": "offset"}},
        {"losses": {"a": None, "_target_": "old.place.OffsetLoss"}},
        {"losses": [TERM], "loss_list": [TERM]},
        {"loss_params": {"compound_loss": {}}, "loss": "offset"},
        {"loss_params": {"compound_loss": 5}, "loss": "offset"},
        {"loss_params": {"compound_loss": {"losses": None, "zero_weight": "keep"}}},
        {"loss_params": {"multi_loss": {}}},
        {"loss_params": {"multiloss": {"coefs": {}}, "compound_loss": {"zero_weight": "no"}}},
        {"losses": [{**TERM, "offset": "???"}]},
        {"losses": [{"loss": "Foreign", "args": {"weight": "heavy"}}]},
    ],
)
def test_files_that_both_refuse(file: Any) -> None:
    assert list(Draft202012Validator(schema()).iter_errors(file))
    with pytest.raises(ConfigError):
        load(file)


def load(file: Any) -> Any:
    """Build as `load_loss` does, without a file."""
    file = OmegaConf.create(file)
    return build_compound_loss_from_config(file) if {"losses", "loss_list"} & set(file) else get_loss_function(file)


def test_a_key_chooses_where_the_compound_loss_stands() -> None:
    validator = Draft202012Validator(schema("model.loss"))
    assert validator.is_valid({"model": {"loss": COMPOUND}, "rest": 1})
    assert not validator.is_valid({"model": {"loss": {}}})
    assert not validator.is_valid({"model": {}})


def test_it_describes_a_loss() -> None:
    made = schema()["$defs"]
    assert {"offset", "OffsetLoss", "local/offset", "local/OffsetLoss"} <= set(made["loss_name"]["anyOf"][0]["enum"])
    parameters = made["loss:local/OffsetLoss"]["properties"]
    assert parameters["offset"] == {"description": "what to add.", "$ref": "#/$defs/number", "default": 0.0}
    assert made["number"] == {"type": ["number", "string"], "pattern": r"\$\{"}
    assert parameters["mode"]["anyOf"][0] == {"enum": ["abs", "square"]}
    assert "hook" not in parameters, "only Python can give it"


def test_a_dotted_path_is_a_name_and_a_name_is_no_path() -> None:
    lossreg.register("Old", targets=("old.place.Old",))(len)
    validator = Draft202012Validator(schema())
    for term in ("old.place.Old", {"loss": "old.place.Old"}, {"_target_": "old.place.Old"}):
        assert validator.is_valid({"losses": [term]})
        assert refusals({"losses": [term]}) == []
    for term in ("old.place.New", {"loss": "old.place.New"}, {"_target_": "Old"}):
        assert not validator.is_valid({"losses": [term]})
        assert refusals({"losses": [term]}) != []
    schedule = {"schedule": "lossreg.composition.schedules.Constant", "value": 1.0}
    assert validator.is_valid({"losses": [{"loss": "Old", "weight": schedule}]})
    assert refusals({"losses": [{"loss": "Old", "weight": schedule}]}) == []


def test_it_says_what_a_loss_is_for_and_takes() -> None:
    lossreg.register(
        "Told", summary="Mean of it.", tasks=("depth", "audio"), prediction="waveforms (N, T)", ground_truth="none"
    )(len)
    lossreg.register("Short", summary="mean of it")(len)
    made = schema()["$defs"]
    about = "Mean of it. For depth, audio. Prediction: waveforms (N, T). Target: none"
    assert made["loss:local/Told"]["description"] == about
    assert made["loss:local/Short"]["description"] == "mean of it"


def test_what_several_losses_say_alike_stands_once() -> None:
    @lossreg.register("First")
    def first(prediction: Any, *, margin: float = 1.0, scale: float = 1.0) -> None:
        """Compare.

        Args:
            prediction: the prediction.
            margin: what lies between the two classes.
            scale: a small number.
        """

    @lossreg.register("Second")
    def second(prediction: Any, *, margin: float = 1.0, scale: float = 1.0) -> None:
        """Compare otherwise.

        Args:
            prediction: the prediction.
            margin: what lies between the two classes.
            scale: a large number.
        """

    made = schema()["$defs"]
    one, other = (made[f"loss:local/{name}"]["properties"] for name in ("First", "Second"))
    assert one["margin"] == other["margin"]
    shared = made[one["margin"]["$ref"].removeprefix("#/$defs/")]
    about = "what lies between the two classes."
    assert shared == {"description": about, "$ref": "#/$defs/number", "default": 1.0}
    assert (one["scale"]["description"], other["scale"]["description"]) == ("a small number.", "a large number.")


def test_parameters_of_one_name_that_are_told_in_three_ways_stay_apart() -> None:
    def told(about: str) -> Any:
        def loss(prediction: Any, *, margin: float = 1.0) -> None: ...

        loss.__doc__ = f"Compare.\n\nArgs:\n    prediction: it.\n    margin: {about}.\n"
        return loss

    words = [f"what lies between the {way} of the two classes" for way in ("means", "peaks", "tails")]
    for i in range(6):
        lossreg.register(f"Margin{i}")(told(words[i // 2]))
    made = schema()["$defs"]
    references = [made[f"loss:local/Margin{i}"]["properties"]["margin"]["$ref"] for i in range(6)]
    abouts = [made[reference.removeprefix("#/$defs/")]["description"] for reference in references]
    assert abouts == [f"{words[i // 2]}." for i in range(6)]


def test_choices_that_only_the_docstring_lists_are_those_of_the_grammar() -> None:
    """`per_sample` is the term's own key, which a lone loss does not have."""

    @lossreg.register("Listed")
    class Listed(nn.Module):
        """A loss.

        Args:
            reduction: 'mean' or 'sum'.
            padding: 'same' | 'valid'.
        """

        def __init__(self, reduction: str = "mean", padding: str = "same") -> None:
            super().__init__()

    validator = Draft202012Validator(schema())
    for keys, fits, fits_alone in (
        ({"reduction": "sum", "padding": "valid"}, True, True),
        ({"args": {"reduction": "sum"}}, True, True),
        ({"reduction": "per_sample"}, True, False),
        ({"reduction": "Sum"}, False, False),
        ({"args": {"padding": "vald"}}, False, False),
    ):
        loss: Any = {"loss": "Listed", **keys}
        grammar, alone = Grammar(), Grammar()
        grammar.compound({"losses": [loss]}, "")
        alone.single(loss, "loss")
        assert validator.is_valid({"losses": [loss]}) == (not grammar.problems) == fits
        assert validator.is_valid({"loss": loss}) == (not alone.problems) == fits_alone


@pytest.mark.parametrize(
    ("term", "place", "message"),
    [
        ({"loss": "offset", "ofset": 1}, "", "'ofset' is not one of ['offset', 'mode', 'channels']"),
        ({"loss": "offset", "weight": True}, ".weight", "True is not of type 'number', 'array', 'object', 'string'"),
        ({"loss": "offset", "offset": "1"}, ".offset", r"'1' does not match '\\$\\{'"),
        ({"loss": "offset", "weight": {"schedule": "cosine"}}, ".weight", "'start' is a required property"),
    ],
)
def test_an_error_is_at_its_place_and_names_it(term: Any, place: str, message: str) -> None:
    error = best_match(Draft202012Validator(schema()).iter_errors({"losses": [term]}))
    assert (error.json_path, error.message) == (f"$.losses[0]{place}", message)


def test_torch_is_not_imported() -> None:
    code = "import sys; from lossreg.config.schema import schema; schema(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
