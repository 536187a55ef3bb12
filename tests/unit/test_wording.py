"""Numbers in words: never rounded to a 0 or 100 % that they are not."""

from __future__ import annotations

import pytest

from knowngood import wording
from knowngood.report.page import exact_rate


@pytest.mark.parametrize(
    ("rate", "said"),
    [
        (None, "–"),
        (0.0, "0 %"),
        (1.0, "100 %"),
        (0.123456, "12.3 %"),
        (0.00451, "0.45 %"),
        (0.9951, "99.51 %"),
    ],
)
def test_percent(rate: float | None, said: str) -> None:
    assert wording.percent(rate) == said


@pytest.mark.parametrize("rate", [1e-7, 0.99999, 1 - 1e-9])
def test_what_is_not_all_or_nothing_is_not_called_so(rate: float) -> None:
    assert wording.percent(rate) not in ("0 %", "0.00 %", "100 %", "100.00 %")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0.5, "0.500"),
        (0.00123, "0.0012"),
        (0.99987, "0.9999"),
        (0.995, "0.995"),
        (0.9999999, ">0.9999"),
        (1.0, "1"),
        (0.0, "0"),
        (None, "–"),
    ],
)
def test_score(value: float | None, said: str) -> None:
    assert wording.score(value) == said


@pytest.mark.parametrize(
    ("seconds", "said"), [(1.234, "1.2 s"), (61, "61 s"), (119.7, "2 min 0 s"), (7500, "2 h 5 min")]
)
def test_duration(seconds: float, said: str) -> None:
    assert wording.duration(seconds) == said


def test_figures_near_one_are_not_called_one() -> None:
    assert wording.decimal(0.99997) == ">0.9999"
    assert wording.decimal_range((0.9991, 1.0)) == "0.9991 to 1.0000"


def test_counts_and_rates() -> None:
    assert wording.counted(1, "image") == "1 image"
    assert wording.counted(2000, "escape") == "2,000 escapes"
    assert exact_rate(0, 0) == "–"
    assert exact_rate(0, 300).startswith("0 % (0 to 1.2")


def test_an_interval_never_repeats_its_end() -> None:
    assert wording.percent_range((0.8621, 0.86214)) == "86.210 to 86.214 %"
    assert wording.percent_range((0.862, 0.862)) == "86.2 %"
    assert wording.decimal_range((0.9, 0.9)) == "0.9000"
