"""How large a compound loss may be, and what the names in it may be: refused before anything is built or drawn."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import lossreg
from lossreg.composition.schedules import Chain, Constant, Cosine, Piecewise, Schedule
from lossreg.config.bounds import MAX_COMPONENTS, MAX_KNOTS, MAX_THRESHOLDS
from lossreg.config.parsing import Permissions, parse_file
from lossreg.config.size import knot_count
from lossreg.losses.wrapper import LossWrapper

CYCLIC = "{schedule: cyclic, start: 0, end: 1, end_epoch: 10, cycles: 1000}"
MOST_SECONDS = 5.0  # of this process, whatever else the machine does


def _terms(count: int, term: str = "Plain") -> str:
    return "{" + ", ".join(f"a{i}: {term}" for i in range(count)) + "}"


def _chain(count: int) -> str:
    boundaries = ", ".join(str(11 * i) for i in range(1, count))
    return f"{{schedule: chain, boundaries: [{boundaries}], schedules: [{', '.join([CYCLIC] * count)}]}}"


@pytest.fixture
def parse(tmp_path: Path, local_losses: None) -> Callable[[str], Any]:
    def write_and_parse(text: str) -> Any:
        file = tmp_path / "loss.yaml"
        file.write_text(text, encoding="utf-8")
        return parse_file(file, None, Permissions())

    return write_and_parse


@pytest.fixture
def local_losses() -> None:
    @lossreg.register("Plain")
    class Plain(lossreg.Loss):
        """A loss."""

        def compute(self, pred_batch: Any, gt_batch: Any) -> Any:
            return pred_batch["x"].mean()


def refusal(parse: Callable[[str], Any], text: str) -> lossreg.ConfigError:
    began = time.process_time()
    with pytest.raises(lossreg.ConfigError) as caught:
        parse(text)
    assert time.process_time() - began < MOST_SECONDS
    return caught.value


BEYOND = {
    "losses": (
        f"losses: {_terms(MAX_COMPONENTS + 1)}",
        "losses",
        "expected at most 500 losses, groups and preprocesses",
    ),
    "losses in a group": (f"losses: [{{name: g, losses: {_terms(MAX_COMPONENTS)}}}]", "losses", "found 501"),
    "a group's chain of cycles": (
        f"losses: [{{name: g, weight: {_chain(20)}, losses: {_terms(4)}}}]",
        "losses",
        "expected weights that change their course at most 20,000 times, found 80,",
    ),
    "thresholds": (
        f"epoch_thresholds: {list(range(MAX_THRESHOLDS + 1))}\nlosses: [Plain]",
        "epoch_thresholds",
        "expected at most 1,000 epochs, found 1,001",
    ),
    "an epoch": (
        "epoch_thresholds: [0, 1.7e308]\nlosses: [{loss: Plain, weight: [0, 1]}]",
        "losses[0].weight",
        "expected epochs and steps of at most 1e+15",
    ),
    "the end of a course": (
        "losses: [{loss: Plain, weight: {schedule: cosine, start: 0, end: 1, end_epoch: 1.0e300}}]",
        "losses[0].weight",
        "expected epochs and steps of at most 1e+15",
    ),
    "a weight": ("losses: [{loss: Plain, weight: 1.0e39}]", "losses[0].weight", "at most 3.4e+38"),
    "a weight in a group": (
        "losses: [{name: g, weight: 1.0e30, losses: [{loss: Plain, weight: -1.0e30}]}]",
        "losses[0].losses[0].weight",
        "those of the groups around multiplied, found 1e+60",
    ),
    "a key": (f"losses: [Plain]\n{'k' * 251}: 1", "", "a key of 251 characters"),
    "references": (
        "a: 1\nlosses: [Plain]\nb: [" + ("'" + "${a}" * 200 + "', ") * 13 + "]",
        "",
        "texts with ${ in them that have more than 10,000 characters in all",
    ),
    "references by aliases": (
        "a: 1\nlosses: [Plain]\nc: &c '" + "${a}" * 200 + "'\nb: [" + "*c," * 13 + "]",
        "",
        "texts with ${ in them that have more than 10,000 characters in all",
    ),
}


@pytest.mark.parametrize(("text", "path", "message"), BEYOND.values(), ids=BEYOND)
def test_what_is_beyond_a_bound_is_refused(text: str, path: str, message: str, parse: Callable[[str], Any]) -> None:
    error = refusal(parse, text)
    assert message in str(error)
    assert [problem.path for problem in error.problems] == [path]


INSIDE = {
    "losses": f"losses: {_terms(MAX_COMPONENTS)}",
    "a chain of cycles": f"losses: [{{loss: Plain, weight: {_chain(MAX_KNOTS // 1_002)}}}]",
    "thresholds": f"losses: [{{loss: Plain, epoch_thresholds: {list(range(1_000))}, weight: {[1] * 1_000}}}]",
    "an epoch": "epoch_thresholds: [-1.0e15, 1.0e15]\nlosses: [{loss: Plain, weight: [-3.0e38, 3.0e38]}]",
    "thresholds close to one another": "epoch_thresholds: [0, 5.0e-324]\nlosses: [{loss: Plain, weight: [0, 1]}]",
}


@pytest.mark.parametrize("text", INSIDE.values(), ids=INSIDE)
def test_what_is_within_the_bounds_is_taken(text: str, parse: Callable[[str], Any]) -> None:
    parse(text)


MANY = {
    "unknown names": ("losses: [" + ", ".join(f"n{i}" for i in range(9_000)) + "]", 9_000),
    "unknown names in lines": ("losses:\n" + "".join(f"  a{i}: Plian{i}\n" for i in range(4_900)), 4_900),
    "unknown keys": ("losses: [Plain]\n" + "".join(f"weihgt{i}: 1\n" for i in range(4_900)), 4_900),
    "unknown parameters": (
        "losses: [{loss: Plain, " + ", ".join(f"vlaue{i}: 1" for i in range(4_900)) + "}]",
        4_900,
    ),
}


@pytest.mark.parametrize(("text", "count"), MANY.values(), ids=MANY)
def test_thousands_of_mistakes_are_all_kept_and_shown_in_little(
    text: str, count: int, parse: Callable[[str], Any]
) -> None:
    error = refusal(parse, text)
    assert len(error.problems) == count
    assert len(str(error)) < 20_000
    assert str(error).endswith(f"and {count - 50:,} more")


NAMES = {
    "a terminal's escape": r"\e]0;title\a\e[2J",
    "a line break": r"a\nb",
    "a tab": r"a\tb",
    "a null": r"a\0b",
    "a control character of 8 bits": r"a\x9b2J",
    "a mark of direction": r"a\u202eb",
    "an isolate": r"a\u2066b",
    "a mark from right to left": r"a\u200fb",
    "no width": r"a\u200bb",
    "a byte order mark": r"\ufeffa",
    "a line separator": r"a\u2028b",
    "a space that does not break": r"a\xa0b",
    "too long": "x" * 101,
    "a slash": "a/b",
    "nothing": "",
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
@pytest.mark.parametrize(
    "place",
    [
        'losses: [{loss: Plain, name: "@"}]',
        'losses: {"@": Plain}',
        'losses: [{name: "@", losses: [Plain]}]',
        'losses: {"@": {losses: [Plain]}}',
        'losses: [{loss: {loss: Plain, name: "@"}}]',
    ],
)
def test_a_name_is_printable_text(place: str, name: str, parse: Callable[[str], Any]) -> None:
    error = refusal(parse, place.replace("@", name))
    assert "expected a name without '/', of at most 100 printable characters" in str(error)
    assert all(char.isprintable() or char == "\n" for char in str(error))


@pytest.mark.parametrize("name", ["größe", "面積", "a b", "a.b", "x" * 100, "$x^{2}$", "%%{init}%%", "<b>&amp;"])
def test_any_other_text_is_a_name(name: str, parse: Callable[[str], Any]) -> None:
    assert parse(f"losses: [{{loss: Plain, name: '{name}'}}]").terms[0].name == name


@pytest.mark.parametrize("name", ["a\nb", "a\x1b[2J", "a\u202eb", "x" * 101])
def test_python_takes_the_same_names(name: str) -> None:
    import torch

    wrapped = LossWrapper(torch.nn.L1Loss(), "l1")
    for make in (
        lambda: LossWrapper(torch.nn.L1Loss(), name),
        lambda: lossreg.MultiLoss([wrapped], [1.0], name=name),
    ):
        with pytest.raises(lossreg.errors.ArgumentError, match="of at most 100 printable characters"):
            make()


def test_an_escaped_reference_is_a_name(parse: Callable[[str], Any]) -> None:
    config = parse(r"losses: [{loss: Plain, name: '\${oc.env:HOME}'}]")
    assert config.terms[0].name == "${oc.env:HOME}"


@pytest.mark.parametrize(
    "text", [r"\\${oc.env:HOME}", r"\${a}${oc.env:HOME}", r"\\\\${oc.env:HOME}", r"${oc.env:\${HOME}}"]
)
def test_a_backslash_hides_no_resolver(text: str, parse: Callable[[str], Any]) -> None:
    error = refusal(parse, f"losses: [{{loss: Plain, name: '{text}'}}]")
    assert "reaches outside the config" in str(error)


# --- schedules ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schedule", "count"),
    [
        (Constant(1.0), 0),
        (Piecewise([0.0, 1.0, 2.0], [0, 1, 2]), 3),
        (Cosine(0.0, 1.0, end_epoch=5), 2),
        (Chain([Cosine(0.0, 1.0, end_epoch=5), 1.0, Piecewise([0.0, 1.0, 2.0], [0, 1, 2])], [5, 9]), 3 + 2 + 3),
        (Chain([Chain([1.0, 2.0], [3]), 1.0], [5]), 2 + 2),
    ],
    ids=str,
)
def test_the_knots_of_a_chain_are_those_of_its_parts_and_its_own(schedule: Schedule, count: int) -> None:
    assert knot_count(schedule) == count


def test_weights_of_all_losses_together_may_have_so_many_knots(parse: Callable[[str], Any]) -> None:
    cycles = "{schedule: cyclic, start: 0, end: 1, end_epoch: 10, cycles: 999}"
    losses = ", ".join(f"a{i}: {{loss: Plain, weight: {cycles}}}" for i in range(MAX_KNOTS // 1_000))
    parse(f"losses: {{{losses}}}")
    two = "epoch_thresholds: [0, 1]"
    error = refusal(parse, f"losses: {{{losses}, one_more: {{loss: Plain, weight: [1, 1], {two}}}}}")
    assert "at most 20,000 times, found 20,002 times, those of a group" in str(error)


def test_preprocesses_and_groups_count_as_losses_do(parse: Callable[[str], Any]) -> None:
    @lossreg.register("Node", kind="preprocess", provides=("gt.x",))
    class Node(lossreg.Preprocess):
        provides = ("gt.x",)

    parse(f"pre_processes: [Node]\nlosses: {_terms(MAX_COMPONENTS - 1)}")
    error = refusal(parse, f"pre_processes: [Node]\nlosses: {_terms(MAX_COMPONENTS)}")
    assert "expected at most 500 losses, groups and preprocesses, found 501 (leave some out)" in str(error)


class Peak(Schedule):
    """A schedule of another package: `top` in the middle of its course, and 1 elsewhere."""

    def __init__(self, top: float) -> None:
        self.top = top

    @property
    def knots(self) -> tuple[float, ...]:
        return (0.0, 10.0)

    def __call__(self, epoch: float) -> float:
        return 1.0 if epoch != 5.0 else self.top if self.top else 1.0 / 0.0


@pytest.mark.parametrize(
    ("top", "message"),
    [
        (
            "1.0e39",
            "expected weights of at most 3.4e+38, those of the groups around multiplied, found 1e+39 (lower it)",
        ),
        ("-1.0e39", "found 1e+39"),
        (".nan", "found nan"),
        ("0.0", "cannot be computed: ZeroDivisionError: float division by zero (use another schedule)"),
    ],
)
def test_a_weight_is_looked_at_between_its_knots_too(parse: Callable[[str], Any], top: str, message: str) -> None:
    lossreg.register("Peak", kind="schedule")(Peak)
    parse("losses: [{loss: Plain, weight: {schedule: Peak, top: 2.0}}]")
    error = refusal(parse, f"losses: [{{loss: Plain, weight: {{schedule: Peak, top: {top}}}}}]")
    assert message in str(error)
    assert [problem.path for problem in error.problems] == ["losses[0].weight"]


def test_a_weight_in_a_group_is_multiplied_by_the_largest_around_it(parse: Callable[[str], Any]) -> None:
    text = "losses: [{name: g, weight: WEIGHT, losses: [{name: h, losses: [{loss: Plain, weight: 1.0e20}]}]}]"
    parse(text.replace("WEIGHT", "[1.0, 1.0e18], epoch_thresholds: [0, 1]"))
    error = refusal(parse, text.replace("WEIGHT", "[1.0, 1.0e19], epoch_thresholds: [0, 1]"))
    assert [problem.path for problem in error.problems] == ["losses[0].losses[0].losses[0].weight"]
