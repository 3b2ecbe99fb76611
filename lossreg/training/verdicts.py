"""What is wrong with a term, judged by a few samples of a run; plain numbers, no tensors."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias, cast

Kind: TypeAlias = Literal[
    "not finite", "dead", "never present", "dominant", "in conflict", "counted twice", "stuck", "exploding norm"
]

DOMINANT: Final = 0.999
"""The share of all gradient lengths from which a term drowns the others."""
OPPOSED: Final = -0.8
"""The cosine below which two terms undo each other."""
SAME: Final = 1 - 1e-4
"""The cosine from which two gradients have one direction."""
STILL: Final = 1e-6
"""The relative change below which a value has not moved."""
FAR: Final = 100.0
"""How many times its norm a value may be, and how many times its first a norm."""
LONGER: Final = 4
"""Samples that a verdict takes which a single odd batch could bring about; others take two."""


@dataclass(frozen=True)
class TermSample:
    """One term at one sampled step, over all ranks.

    Attributes:
        value: its raw value, the mean over ranks.
        is_labelled: whether this batch had anything to learn from, on any rank.
        norm: what the value is divided by; None where it is not normalised.
        weight: the schedule's.
        factor: derivative of the total by the raw value.
        length: of the gradient of the raw value at the predictions.
        reached: whether a prediction that it depends on is on the graph of the network.
        is_constant: whether all predictions that it depends on are one number each, on all ranks.
    """

    value: float
    is_labelled: bool
    norm: float | None
    weight: float
    factor: float
    length: float
    reached: bool
    is_constant: bool

    @property
    def pull(self) -> float:
        """Length of the gradient of what the term adds to the total."""
        return abs(self.factor) * self.length


@dataclass(frozen=True)
class Sample:
    """One sampled step.

    Attributes:
        step: its number.
        terms: those that the batch had.
        means: of the raw values since the sample before, of the terms that had anything to learn from.
        cosines: of the gradients of two terms, by their paths in order.
    """

    step: int
    terms: Mapping[str, TermSample]
    means: Mapping[str, float]
    cosines: Mapping[tuple[str, str], float] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """What is wrong with a term.

    Attributes:
        kind: what is wrong.
        terms: the term, or the two.
        step: at which it was noticed.
        found: what was seen.
        advice: what to do.
    """

    kind: Kind
    terms: tuple[str, ...]
    step: int
    found: str
    advice: str

    def __str__(self) -> str:
        return f"{' and '.join(self.terms)}: {self.kind} (step {self.step}): {self.found}; {self.advice}"


def verdicts(history: Sequence[Sample], paths: Sequence[str]) -> Iterator[Verdict]:
    """Yield what is wrong at the last sample of a history.

    Args:
        history: the samples so far, the first one first.
        paths: of all terms.
    """
    step = history[-1].step
    for path in paths:
        seen = [sample.terms[path] for sample in history if path in sample.terms]
        for kind, judge in _OF_ONE.items():
            answer = judge(path, seen, history)
            if answer is not None:
                yield Verdict(kind, (path,), step, *answer)
    for i, first in enumerate(paths):
        for second in paths[i + 1 :]:
            answer = _same(first, second, history)
            if answer is not None:
                yield Verdict("counted twice", (first, second), step, *answer)
            answer = _opposed(first, second, history)
            if answer is not None:
                yield Verdict("in conflict", (first, second), step, *answer)


Answer: TypeAlias = tuple[str, str] | None


def _not_finite(path: str, seen: Sequence[TermSample], history: Sequence[Sample]) -> Answer:
    mean = history[-1].means.get(path, 0.0)
    if not math.isfinite(mean):
        what = f"its value is {mean}"
    elif seen and path in history[-1].terms and not math.isfinite(seen[-1].length):
        what = "its gradient is not finite"
    else:
        return None
    return what, "look for logits where probabilities are expected, the logarithm of 0, or a division by 0"


def _dead(_path: str, seen: Sequence[TermSample], history: Sequence[Sample]) -> Answer:
    del history
    last = [term for term in seen if term.is_labelled and term.weight != 0][-2:]
    if len(last) < 2:
        return None
    if not any(term.reached for term in last):
        return (
            "no prediction that it reads depends on a parameter",
            "look for a detach, an argmax or parameters with requires_grad=False before it",
        )
    if all(term.is_constant for term in last):
        return (
            "the prediction that it reads is the same number everywhere",
            "look for a head whose last activation is dead (a ReLU below 0, a saturated sigmoid)",
        )
    # a value of 0 has no gradient where all is learnt
    if all(term.length == 0 and term.value != 0 and math.isfinite(term.value) for term in last):
        return (
            "its gradient at the predictions is 0",
            "look for a threshold, a clamp or a saturated activation in it or before it",
        )
    return None


def _never_present(path: str, seen: Sequence[TermSample], history: Sequence[Sample]) -> Answer:
    if len(history) < LONGER - 1:
        return None
    if not any(path in sample.means for sample in history):
        return (
            f"no batch had anything for it to learn from until step {history[-1].step}",
            "look at the keys that it reads, and whether its mask or `ignore_index` leaves anything",
        )
    if len(seen) >= LONGER and all(term.value == 0 and term.length == 0 and term.weight != 0 for term in seen):
        return (
            f"its value and its gradient were 0 at all {len(seen)} sampled steps",
            "look whether its targets leave anything to learn from",
        )
    return None


def _dominant(path: str, seen: Sequence[TermSample], history: Sequence[Sample]) -> Answer:
    if len(history) < 2 or len(seen) < 2:
        return None
    shares = []
    for sample in history[-2:]:
        pulls = {name: term.pull for name, term in sample.terms.items() if term.weight != 0 and term.is_labelled}
        whole = sum(pulls.values())
        # others that have learnt all they can pull no more, which is no fault of this one
        learnt = all(
            term.length <= 0.1 * _first(history, name).length
            for name, term in sample.terms.items()
            if name != path and name in pulls
        )
        if len(pulls) < 2 or path not in pulls or not math.isfinite(whole) or whole == 0 or learnt:
            return None
        shares.append(pulls[path] / whole)
    if min(shares) < DOMINANT:
        return None
    return (
        f"it has {shares[-1]:.2%} of the length of all gradients at the predictions",
        "lower its weight, or calibrate the norms (lossreg.calibrate_norms)",
    )


def _first(history: Sequence[Sample], path: str) -> TermSample:
    return next(sample.terms[path] for sample in history if path in sample.terms)


def _stuck(_path: str, seen: Sequence[TermSample], history: Sequence[Sample]) -> Answer:
    del history
    if len(seen) < LONGER:
        return None
    values = [term.value for term in seen]
    moved = max(values) - min(values) > STILL * max(map(abs, values))
    if moved or not all(t.reached and t.is_labelled and t.pull > 0 for t in seen):
        return None
    return (
        f"its value has been {values[-1]:.4g} since the first step, although it has a gradient",
        "look whether the optimizer has the parameters behind it, and whether its targets change",
    )


def _exploding_norm(_path: str, seen: Sequence[TermSample], history: Sequence[Sample]) -> Answer:
    del history
    known = [term for term in seen if term.norm and term.is_labelled]
    if len(known) < 2:
        return None
    first, last = known[0], known[-1]
    assert first.norm is not None and last.norm is not None  # noqa: PT018
    if abs(last.norm) > FAR * abs(first.norm):
        return (
            f"its norm went from {first.norm:.4g} to {last.norm:.4g}",
            "lower `norm_momentum`, or leave `track_norms` out",
        )
    ratios = [abs(term.value / term.norm) for term in known[:2] if term.norm]
    if all(ratio > FAR for ratio in ratios) or all(0 < ratio < 0.1 / FAR for ratio in ratios):
        return (
            f"its value is {ratios[-1]:.4g} times its norm of {known[1].norm:.4g}, near the start of the run",
            "calibrate the norms on the data of this run (reset_norm, then lossreg.calibrate_norms)",
        )
    return None


_OF_ONE: Mapping[Kind, Callable[[str, Sequence[TermSample], Sequence[Sample]], Answer]] = {
    "not finite": _not_finite,
    "dead": _dead,
    "never present": _never_present,
    "dominant": _dominant,
    "stuck": _stuck,
    "exploding norm": _exploding_norm,
}


def _together(first: str, second: str, history: Sequence[Sample], samples: int) -> list[tuple[float, float]]:
    """Return the cosine and the ratio of lengths of two terms at the last samples; nothing where one is not there.

    The cosine is that of what they add to the total, which a negative weight turns round.
    """
    found = []
    for sample in history[-samples:]:
        pair = [sample.terms.get(path) for path in (first, second)]
        cosine = sample.cosines.get((first, second))
        if cosine is None or not all(t is not None and t.factor != 0 and t.is_labelled for t in pair):
            return []
        one, other = cast("list[TermSample]", pair)
        found.append(
            (
                cosine * math.copysign(1, one.factor * other.factor),
                one.length / other.length if other.length else math.inf,
            )
        )
    return found if len(found) == samples else []


def _same(first: str, second: str, history: Sequence[Sample]) -> Answer:
    found = _together(first, second, history, LONGER - 1)
    ratios = [ratio for _, ratio in found]
    if not found or min(cosine for cosine, _ in found) < SAME or max(ratios) > min(ratios) * (2 - SAME):
        return None
    return "their gradients at the predictions are the same", "leave one of them out, or give it another key"


def _opposed(first: str, second: str, history: Sequence[Sample]) -> Answer:
    found = _together(first, second, history, LONGER - 1)
    if not found or max(cosine for cosine, _ in found) > OPPOSED:
        return None
    return (
        f"the cosine between their gradients at the predictions is {found[-1][0]:.2f}",
        "look whether a target or a sign of one is the wrong way round; else start one later, by a schedule",
    )
