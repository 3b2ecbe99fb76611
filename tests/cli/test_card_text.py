"""What a card says: its formula is the sum that is computed, and each fact comes from the config."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

import lossreg
from lossreg.cli.card_text import (
    Block,
    Formula,
    Heading,
    Link,
    Listing,
    Paragraph,
    Picture,
    Symbol,
    Table,
    Text,
    card_text,
)
from lossreg.config.card import Record, parse_quietly, state_of
from lossreg.config.grammar import CompoundConfig
from lossreg.testing import loss_configs


def blocks_of(text: str) -> list[Block]:
    config = parse_quietly(text)
    return card_text(config, Record.of(config), "folder/of/loss.yaml")


def said(text: Text) -> str:
    return "".join(p.latex if isinstance(p, Symbol) else p.url if isinstance(p, Link) else p for p in text)


def under(blocks: list[Block], heading: str) -> list[Block]:
    """Return the blocks under a heading of level 2."""
    start = blocks.index(Heading(heading)) + 1
    rest = blocks[start:]
    end = next((i for i, block in enumerate(rest) if isinstance(block, Heading) and block.level == 2), len(rest))
    return rest[:end]


def rows(blocks: list[Block], heading: str) -> list[list[str]]:
    (table,) = (block for block in under(blocks, heading) if isinstance(block, Table))
    return [[said(cell) for cell in row] for row in table.rows]


def sentences(blocks: list[Block], heading: str) -> str:
    return " ".join(said(block.text) for block in under(blocks, heading) if isinstance(block, Paragraph))


def formulas(blocks: list[Block], heading: str = "Formula") -> list[str]:
    return [" ".join(block.lines) for block in under(blocks, heading) if isinstance(block, Formula)]


# --- the formula ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("losses: [slope]", [r"L(e) = \frac{L_1}{n_1}"]),
        ("losses: [slope]\nnormalize_losses: false", ["L(e) = L_1"]),
        (
            "losses: [{loss: slope, weight: 2.5, normalize: false}, {loss: slope, name: b, weight: -1.0e-5}]",
            [r"L(e) = 2.5 \, L_1 + (-10^{-5}) \, \frac{L_2}{n_2}"],
        ),
        (
            "losses: [{loss: slope, weight: [0, 1], epoch_thresholds: [0, 3]}]\nweighting: dwa",
            [r"L(e) = w_1(e) \, a_1 \, \frac{L_1}{n_1}"],
        ),
        (
            "losses: [slope, {name: g, weight: 0.5, losses: [{loss: slope, weight: 3}, {loss: slope, name: b, "
            "weight: {schedule: cosine, start: 0, end: 1, end_epoch: 2, unit: step}}], weighting: cov}]",
            [
                r"L(e) = \frac{L_1}{n_1} + 0.5 \, L_2",
                r"L_2 = 3 \, a_{2.1} \, \frac{L_{2.1}}{n_{2.1}} + w_{2.2}(s) \, a_{2.2} \, \frac{L_{2.2}}{n_{2.2}}",
            ],
        ),
        (
            "losses: [{loss: from_dict, terms: {a: 2.0, 'b_*': 1.0}, rest: 0.1}]",
            [
                "L(e) = L_1",
                r"L_1 = 2 \, \frac{L_{1.1}}{n_{1.1}} + \sum_k \frac{L_{1.2,k}}{n_{1.2,k}}"
                r" + 0.1 \, \sum_k \frac{L_{1.3,k}}{n_{1.3,k}}",
            ],
        ),
        (
            f"losses: {{{', '.join(f't{i}: slope' for i in range(13))}}}",
            [r"L(e) = \sum_{i = 1}^{13} w_{i}(e) \, \frac{L_{i}}{n_{i}}"],
        ),
    ],
)
def test_the_formula_is_the_sum(text: str, lines: list[str]) -> None:
    assert formulas(blocks_of(text)) == lines


@given(config=loss_configs("local"))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_term_of_a_random_config_is_in_the_table_and_the_formula(config: dict[str, Any]) -> None:
    import json

    text = json.dumps(config)
    parsed = parse_quietly(text)
    blocks = blocks_of(text)
    table = rows(blocks, "Terms")
    assert [row[1] for row in table if not row[2].startswith("group of")] == [leaf.name for leaf in parsed.leaves()]
    joined = " ".join(formulas(blocks))
    for index, *_ in table:
        letter = f"L_{index}" if len(index) == 1 else f"L_{{{index}}}"
        assert letter in joined


def test_long_sums_are_broken_into_lines() -> None:
    blocks = blocks_of(f"losses: {{{', '.join(f't{i}: slope' for i in range(9))}}}")
    (formula,) = (block for block in under(blocks, "Formula") if isinstance(block, Formula))
    assert formula.is_one
    assert [line.count("frac") for line in formula.lines] == [4, 4, 1]


# --- the rest -------------------------------------------------------------------------------------


def test_the_folder_of_the_file_is_not_told() -> None:
    (first,) = (block for block in blocks_of("losses: [slope]")[1:2] if isinstance(block, Paragraph))
    assert said(first.text).startswith("The loss of loss.yaml: 1 term. Written by lossreg ")


def test_the_parameters_are_those_that_differ() -> None:
    text = """
on_nonfinite: raise
weighting: {strategy: dwa, temperature: 3.0}
pre_processes: [Slopes]
losses:
  - {loss: height, scale: 2.0, mask: gt.valid}
  - {loss: slope, normalize: false, optional: true}
  - name: g
    on_nonfinite: ignore
    losses: [{loss: height, name: h, scale: 1.0, args: {weight: [1, 2]}, deep_supervision: {outputs: aux.*}}]
"""
    assert rows(blocks_of(text), "Parameters that differ from their defaults") == [
        ["all terms", "on_nonfinite", '"raise"', '"ignore"'],
        ["g", "on_nonfinite", '"ignore"', '"raise"'],
        ["height", "scale", "2.0", "required"],
        ["height", "mask", '"gt.valid"', "null"],
        ["slope", "normalize", "false", "true"],
        ["slope", "optional", "true", "false"],
        ["g/h", "scale", "1.0", "required"],
        ["g/h", "weight", "[1, 2]", "null"],
        ["g/h", "deep_supervision.outputs", '"aux.*"', "required"],
        ["core/DWA", "temperature", "3.0", "2.0"],
    ]


def test_weights_over_the_epochs_are_those_of_plot(good: Path) -> None:
    config = good.read_text()
    blocks = blocks_of(config)
    part = under(blocks, "Weights over the epochs")
    (table,) = (block for block in part if isinstance(block, Table))
    assert table.columns == ("Term", ">epoch 0", ">epoch 5", ">epoch 10", ">epoch 20")
    assert [[said(cell) for cell in row] for row in table.rows] == [
        ["slope", "0", "0", "1", "1"],
        ["aux/small", "0.5", "0.4268", "0.25", "0"],
    ]
    (picture,) = (block for block in part if isinstance(block, Picture))
    assert [curve.name for curve in picture.curves] == ["slope", "aux/small"]
    text = sentences(blocks, "Weights over the epochs")
    assert "w_2(e): core/Piecewise(values = [0, 0, 1], epoch_thresholds = [0, 5, 10])" in text
    assert "w_{3.1}(e): core/Cosine(start = 1, end = 0, end_epoch = 20)" in text
    assert "t goes from 0 at start_epoch, by default 0, to 1 at end_epoch" in text


def test_constant_weights_have_no_picture() -> None:
    assert not any(isinstance(block, Picture) for block in blocks_of("losses: [slope]"))


def test_sources_are_numbered_once_each() -> None:
    text = """
losses:
  - {loss: slope, weight: {schedule: sigmoid, start: 0, end: 1, end_epoch: 5}}
  - {loss: slope, name: b, weight: {schedule: sigmoid, start: 0, end: 1, end_epoch: 6}}
weighting: uncertainty
"""
    blocks = blocks_of(text)
    sources = [said(block.text) for block in under(blocks, "Sources") if isinstance(block, Paragraph)]
    assert [source[:3] for source in sources] == ["[1]", "[2]"]
    assert "Kendall" in sources[0]
    assert sources[1].endswith("https://arxiv.org/abs/1610.02242.")
    assert sentences(blocks, "Weights over the epochs").count("[2]") == 2
    (formula,) = formulas(blocks, "Weighting")
    assert formula.startswith(r"L = \sum_i k_i e^{-s_i} L_i + \frac{1}{2} s_i")


def test_norms_are_those_of_the_criterion(good: Path) -> None:
    config = parse_quietly(good.read_text())
    criterion = lossreg.load_loss(good)
    criterion.loss_funcs[0].norm.fill_(0.1)
    state = state_of(criterion, criterion.state_dict())
    blocks = card_text(config, Record.of(config, state), "loss.yaml", criterion)
    assert rows(blocks, "Norms")[:2] == [["height", "0.100000001"], ["slope", "not normalised"]]
    assert "is not calibrated" in sentences(blocks, "Norms")


def test_the_versions_and_the_config_are_told(write: Callable[[str], Path]) -> None:
    blocks = blocks_of("losses: [slope] # a remark")
    assert re.search(r"Python 3\.\d+\.\S+, lossreg \S+, torch \d\S+\.$", sentences(blocks, "Versions"))
    assert [block.text for block in blocks if isinstance(block, Listing)] == ["losses: [slope]\n"]
    assert re.search(r"sha256:[0-9a-f]{64}$", sentences(blocks, "Configuration"))


@pytest.mark.parametrize(
    ("symbol", "latex"),
    [(Symbol("w", "4.1", "e"), "w_{4.1}(e)"), (Symbol("L", "3"), "L_3"), (Symbol("n"), "n")],
)
def test_symbols_in_latex(symbol: Symbol, latex: str) -> None:
    assert symbol.latex == latex


def test_a_config_without_anything_to_say_says_none() -> None:
    config = parse_quietly("losses: [slope]")
    assert isinstance(config, CompoundConfig)
    assert sentences(blocks_of("losses: [slope]"), "Parameters that differ from their defaults") == "None."
