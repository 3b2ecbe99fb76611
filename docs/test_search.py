"""The search of the built pages finds a right page first, for questions in the words of users."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

BUILT = os.environ.get("BUILT_PAGES", "")  # tox's `docs` builds the pages first
QUESTIONS = {
    "install": ["install"],
    "cpu build of pytorch": ["install"],
    "quickstart": ["quickstart"],
    "my loss does not go down": ["faq"],
    "loss is nan": ["faq", "training", "composing"],
    "class imbalance": ["faq", "segmentation", "choosing"],
    "multi-task learning weights": ["faq", "choosing", "weightings"],
    "which loss for segmentation": ["choosing", "segmentation"],
    "which weighting": ["choosing", "weightings", "results"],
    "missing labels": ["missing_labels"],
    "ignore index": ["segmentation", "missing_labels"],
    "gradient accumulation": ["faq", "counts"],
    "micro-batches": ["counts"],
    "distributed training": ["distributed", "counts", "faq"],
    "ddp": ["distributed", "faq"],
    "mixed precision": ["faq", "training"],
    "tensorboard": ["faq", "watching"],
    "weights & biases": ["watching", "faq"],
    "mlflow": ["watching", "faq"],
    "hugging face": ["huggingface"],
    "lightning": ["lightning"],
    "hydra": ["hydra"],
    "resume checkpoint": ["faq", "training"],
    "torch.compile": ["faq", "composing"],
    "warm up a loss": ["schedules", "adversarial", "faq"],
    "change weight during training": ["faq", "composing"],
    "uncertainty weighting": ["weightings", "results"],
    "gradnorm": ["weightings", "results"],
    "pcgrad": ["gradient_conflict"],
    "physics-informed network": ["physics"],
    "metric learning": ["metric_learning"],
    "gan": ["adversarial"],
    "write my own loss": ["writing_a_plugin", "faq"],
    "auxiliary loss": ["composing", "losses_from_a_model"],
    "deep supervision": ["composing"],
    "normalize losses": ["distributed", "concepts"],
    "yaml schema": ["yaml_reference", "command_line"],
    "dead term": ["watching"],
    "loss table for a paper": ["card"],
    "untrusted config": ["security"],
}
STUBS = """
var window = globalThis, location = {search: ""};
class URLSearchParams { constructor(text) { this.text = text; } get() { return this.text; } }
var SPHINX_HIGHLIGHT_ENABLED = false;
var document = {getElementById: () => null, addEventListener: () => {}, readyState: "loading"};
"""


@pytest.fixture(scope="module")
def engine() -> Any:
    if not BUILT:
        pytest.skip("set BUILT_PAGES to the folder of built pages")
    context = pytest.importorskip("py_mini_racer").MiniRacer()
    static = Path(BUILT) / "_static"
    context.eval(STUBS)
    for script in ("language_data.js", "doctools.js", "searchtools.js"):
        context.eval((static / script).read_text(encoding="utf-8"))
    context.eval((Path(BUILT) / "searchindex.js").read_text(encoding="utf-8"))
    return context


def found(engine: Any, words: str) -> list[str]:
    """Return the pages that the search of the built pages shows for some words, best first."""
    engine.eval(f"window.location.search = {json.dumps(words)}")  # what the search page has behind `?q=`
    results = json.loads(
        engine.eval(f"JSON.stringify(Search._performSearch(...Search._parseQuery({json.dumps(words)})))")
    )
    return list(dict.fromkeys(result[0] for result in results[::-1]))


@pytest.mark.parametrize("words", QUESTIONS)
def test_a_right_page_is_found_first(engine: Any, words: str):
    pages = found(engine, words)
    assert pages, f"nothing found for {words!r}"
    assert pages[0] in QUESTIONS[words], pages[:5]
