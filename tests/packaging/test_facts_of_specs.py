"""What the specs of the core and of the first-party plugins say about their components is complete and well-formed."""

from __future__ import annotations

from typing import Any

import pytest
from matplotlib.mathtext import MathTextParser

from lossreg import LossSpec
from lossreg.registry import catalog
from lossreg.registry.components import Entry

pytestmark = pytest.mark.needs_plugins

TASKS = {
    "audio",
    "classification",
    "depth",
    "detection",
    "distillation",
    "frame field",
    "generation",
    "image quality",
    "image restoration",
    "keypoints",
    "metric learning",
    "multi-label classification",
    "optimal transport",
    "physics-informed",
    "ranking",
    "registration",
    "regression",
    "regularisation",
    "reinforcement learning",
    "segmentation",
    "self-supervised learning",
    "sequence labelling",
    "speech",
}
"""The tasks that a reader can choose; a new one is added here first, so that one task has one name."""

WITHOUT_FORMULA = {"core/Akima", "core/Chain", "core/Pchip"}
"""Cubics of scipy, and a list of other schedules."""


def components() -> list[Entry[Any]]:
    """Return every first-party component with a spec of its own, also of libraries that are not installed."""
    sections = catalog().sections
    entries = [entry for section in sections for entry in (*section, *(absent for absent, _ in section.absent))]
    return [entry for entry in entries if entry.spec.summary and entry.plugin.distribution.startswith("lossreg")]


COMPONENTS = pytest.mark.parametrize("entry", components(), ids=lambda entry: entry.name)


@COMPONENTS
def test_a_formula_is_latex_that_renders(entry: Entry[Any]):
    assert bool(entry.spec.formula) != (entry.name in WITHOUT_FORMULA)
    if entry.spec.formula:
        MathTextParser("path").parse(f"${entry.spec.formula}$")


@COMPONENTS
def test_words_are_given_and_say_more_than_the_name(entry: Entry[Any]):
    words = entry.spec.words
    assert words
    assert len({word.lower() for word in words}) == len(words)
    assert not {word.lower() for word in words} & {entry.spec.name.lower(), *map(str.lower, entry.spec.aliases)}


@COMPONENTS
def test_a_source_names_a_year(entry: Entry[Any]):
    source = entry.spec.source
    assert not source or any(part.rstrip(",").isdigit() and len(part.rstrip(",")) == 4 for part in source.split())


@pytest.mark.parametrize("entry", [e for e in components() if isinstance(e.spec, LossSpec)], ids=lambda e: e.name)
def test_a_loss_says_its_tasks_and_what_it_takes(entry: Entry[Any]):
    assert entry.spec.tasks
    assert set(entry.spec.tasks) <= TASKS
    assert entry.spec.prediction
    assert entry.spec.ground_truth
