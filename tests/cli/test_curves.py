"""The curves of weights: what is drawn, and where."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossreg.cli.curves import Curve, curves_of, draw_text, last_epoch
from lossreg.composition.schedules import Cyclic, Piecewise, Step
from lossreg.config.build import build
from lossreg.config.parsing import Permissions, parse_file

STEPS = """\
losses:
  a: {loss: slope, weight: {schedule: cosine, start: 0, end: 1, end_epoch: 10}}
  b: {loss: slope, weight: {schedule: cosine, start: 0, end: 1, end_epoch: 500, unit: step}}
"""
numbers = st.floats(-1e6, 1e6).map(lambda x: round(x, 3))


def test_curves_are_the_effective_weights(good):
    config = parse_file(good, None, Permissions())
    loss = build(config)
    curves = curves_of(config)
    for epoch in (-1.0, 0.0, 4.0, 7.5, 10.0, 13.0, 99.0):
        assert {c.name: c.weight(epoch) for c in curves} == pytest.approx(loss.effective_weights(epoch))
    assert curves[2].knots == (0.0, 20.0)
    assert [c.moves for c in curves] == [False, True, True, False]


def test_steps_are_drawn_over_epochs(write):
    curves = curves_of(parse_file(write(STEPS), None, Permissions()), steps_per_epoch=100)
    assert curves[1].weight(2.5) == pytest.approx(0.5)
    assert curves[1].knots == (0.0, 5.0)


@given(
    st.lists(st.lists(numbers, min_size=2, max_size=5), min_size=1, max_size=4),
    st.floats(0.1, 1e5),
    st.integers(10, 200),
    st.booleans(),
)
def test_any_weights_are_drawn_within_the_width(rows, reach, width, ascii_only):
    curves = [
        Curve(f"term{i}", Piecewise(row, range(len(row))), tuple(map(float, range(len(row)))))
        for i, row in enumerate(rows)
    ]
    lines = draw_text(curves, reach, width=width, ascii_only=ascii_only).splitlines()
    above = width < len("term0") + 2 + 30  # then each name has a line of its own
    assert len(lines) == (4 if above else 3) * len(rows) + 1
    assert [line.split()[0] for line in lines if line.startswith("term")] == [curve.name for curve in curves]
    assert max(map(len, lines)) <= max(width, len("epoch") + 2 + 20)
    assert all(line.isascii() for line in lines) or not ascii_only


@pytest.mark.parametrize(
    ("schedule", "reach"),
    [(Piecewise([0, 1], [0, 50]), 55), (Step([1, 2], [0, 3]), 4), (Cyclic(0, 1, end_epoch=400), 440)],
)
def test_a_picture_reaches_a_little_beyond_the_last_threshold(schedule, reach):
    assert last_epoch([Curve("a", schedule, schedule.knots)]) == reach
    assert last_epoch([Curve("a", lambda _: 1.0)]) == 10
