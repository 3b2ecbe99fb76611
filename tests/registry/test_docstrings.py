"""Descriptions in the docstrings of libraries become plain words."""

from __future__ import annotations

import re

import pytest

from lossreg.registry import catalog
from lossreg.registry.docstrings import plain_words
from lossreg.registry.params import parameters_of
from lossreg.registry.source import Sources


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("When :attr:`size_average` is ``True``", "When `size_average` is `True`"),
        ("in :class:`~torch.nn.CrossEntropyLoss` and :func:`torch.exp`", "in `CrossEntropyLoss` and `torch.exp`"),
        ("a :ref:`common shape <broadcasting-semantics>`", "a common shape"),
        (
            "see `Going\n  deeper <https://example.org/a>`__, `A Note`_.",
            "see Going deeper (https://example.org/a), A Note.",
        ),
        ("``'none'`` | ``\"mean\"``", "'none' | \"mean\""),
        (r"a factor :math:`\alpha \in [0, 1]`", "a factor alpha in [0, 1]"),
        (r":math:`\exp(\text{input}) - \hat{y} * \frac{a}{b}`", "exp(input) - y * (a) / (b)"),
        (r"shape :math:`(num\_of\_classes,)`, :math:`x \leq 1 \times 2`", "shape (num_of_classes,), x <= 1 x 2"),
        (r"the term .. math:: \text{target} * \log(x)", "the term target * log(x)"),
        (".. note:: **never** negative", "Note: never negative"),
        ("a plain `code`, 2 * 3, a_b_ and {x: 1}", "a plain `code`, 2 * 3, a_b_ and {x: 1}"),
    ],
)
def test_markup_becomes_plain(text: str, plain: str) -> None:
    assert plain_words(text) == plain


@pytest.mark.parametrize(
    "default",
    [
        "Default: ``False``", "Default: :math:`1e-6`.", "Defaults to ``\"mean\"``.", "Defaults to 1e-5.",
        "Default: `None`.", "Default :math:`0`.", "Has a default value of `1`.", "Default: ``()``.",
    ],
)  # fmt: skip
def test_a_sentence_that_only_tells_the_default_is_left_out(default: str) -> None:
    assert plain_words(default) == ""
    assert plain_words(f"a margin. {default}") == "a margin."
    assert plain_words(f"a margin. {default} Values above are cut.") == "a margin. Values above are cut."


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("the number of bins, defaults to 64.", "the number of bins."),
        ("the number of bins, by default 64", "the number of bins"),
        ("margin of the hinge (default: ``1.0``).", "margin of the hinge."),
    ],
)
def test_a_default_at_the_end_of_a_sentence_is_left_out(text: str, plain: str) -> None:
    assert plain_words(text) == plain


@pytest.mark.parametrize(
    "text",
    [
        "If `margin` is missing, the default value is 0.",
        "Defaults to False, a value is computed for each item.",
        "the noise; by default it is drawn at each call.",
        "a size; by default 1/1000 of the largest target.",
    ],
)
def test_a_sentence_that_tells_more_stays(text: str) -> None:
    assert plain_words(text) == text


@pytest.mark.needs_plugins
def test_no_parameter_of_any_loss_is_described_in_markup() -> None:
    sources = Sources()
    signatures = [(entry, sources.of(entry)) for entry in catalog().losses]
    docs = {
        f"{entry.name}({parameter.name})": parameter.doc
        for entry, signature in signatures
        if signature is not None
        for parameter in parameters_of(entry.spec, signature)
    }
    assert len(docs) > 300
    markup = re.compile(r":\w+:`|``|\\[A-Za-z]|\.\. \w+::|`_|\*\*\w")
    assert {name: doc for name, doc in docs.items() if markup.search(doc)} == {}
