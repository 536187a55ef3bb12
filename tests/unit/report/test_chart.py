"""Charts: marks land where the axes say, labels are escaped, and odd ranges do not break them."""

from __future__ import annotations

import itertools
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knowngood.report.chart import Chart, linear, log_counts, logit


def test_points_land_between_the_axes() -> None:
    chart = Chart(linear("x", 0, 10), linear("y", 0, 1))
    assert chart.px(5) == pytest.approx((chart.px(0) + chart.px(10)) / 2)
    assert chart.py(1) < chart.py(0)  # SVG counts downwards
    assert chart.px(99) == chart.px(10)  # clipped to the axis
    root = ElementTree.fromstring(chart.dots([(5, 0.5)], "mark").svg("a <chart>"))
    assert root.attrib["aria-label"] == "a <chart>"
    circle = root.find("circle")
    assert circle is not None
    assert float(circle.attrib["cx"]) == pytest.approx(chart.px(5), abs=0.1)


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
@settings(max_examples=60, deadline=None)
def test_linear_ticks_are_few_rising_and_inside(low: float, span: float) -> None:
    axis = linear("x", low, low + span)
    ticks = [value for value, _ in axis.shown_ticks()]
    assert 1 <= len(ticks) <= 8
    assert ticks == sorted(set(ticks))
    assert all(0 <= axis.share(value) <= 1 for value in ticks)


def test_whole_ticks_are_whole() -> None:
    assert all(value == int(value) for value, _ in linear("epoch", 0, 7, whole=True).shown_ticks())
    assert linear("epoch", 3, 3, whole=True).share(3) == 0.5


def test_score_axis_is_stretched_at_both_ends() -> None:
    axis = logit("score", 0.0, 1.0)
    assert axis.share(0.5) == pytest.approx(0.5)
    assert axis.share(0.01) - axis.share(0.001) > axis.share(0.51) - axis.share(0.501)


def test_a_single_image_is_visible_on_a_log_axis() -> None:
    axis = log_counts("images", 5000)
    assert axis.share(1) > 0.03
    assert [label for _, label in axis.shown_ticks()] == ["1", "10", "100", "1,000"]


def test_tick_labels_neither_collide_nor_leave_the_picture() -> None:
    chart = Chart(logit("score", 0.0, 1.0), linear("y", 0, 1))
    texts = [t for t in ElementTree.fromstring(chart.svg("c")).iter("text") if t.get("y") == str(chart.height - 29)]
    spans = [(float(t.attrib["x"]), 7.5 * len(t.text or "")) for t in texts]
    assert len(spans) >= 4
    assert all(x + w / 2 <= chart.width for x, w in spans)
    assert all(a + wa / 2 < b - wb / 2 for (a, wa), (b, wb) in itertools.pairwise(spans))


def test_labels_are_escaped() -> None:
    chart = Chart(linear("<x>", 0, 1), linear("y", 0, 1)).vertical(0.4, "<b>&").note(0.1, 0.1, "<i>")
    svg = chart.svg("c")
    ElementTree.fromstring(svg)
    assert not re.search("<(b|i|x)>", svg)
