"""Numbers as a person reads them: as many digits as the data carry, intervals beside them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

NONE = "–"


def percent(rate: float | None) -> str:
    """Returns a share as per cent: 12.3 %, 0.45 %, <0.01 %; 0 % and 100 % only where it is exactly that."""
    if rate is None:
        return NONE
    value = 100 * rate
    if value in (0, 100):
        return f"{value:.0f} %"
    if not 0.01 <= value <= 99.99:
        return "<0.01 %" if value < 0.01 else ">99.99 %"
    return f"{value:.2f} %" if value < 1 or value > 99.5 else f"{value:.1f} %"


def decimal(value: float | None) -> str:
    """Returns a figure between 0 and 1 with four places."""
    if value is None:
        return NONE
    return ">0.9999" if 0.99995 <= value < 1 else f"{value:.4f}"


def score(value: float | None) -> str:
    """Returns a defect score, more exact near 0 and 1."""
    if value is None:
        return NONE
    if 0.01 <= value <= 0.99:
        return f"{value:.3f}"
    if 0.9999 < value < 1:
        return ">0.9999"
    return f"{value:.2g}" if value < 0.01 else f"{value:.4f}".rstrip("0").rstrip(".")


def several(values: Sequence[float | None], word: Callable[[float | None], str]) -> str:
    """Returns one figure as `word` formats it, or the mean of several with their standard deviation."""
    known = [value for value in values if value is not None]
    if len(known) < 2:
        return word(known[0] if known else None)
    return f"{word(statistics.fmean(known))} ± {word(statistics.stdev(known))}"


def percent_range(interval: Sequence[float] | None) -> str:
    """Returns an interval of shares: 1.2 to 3.4 %."""
    if interval is None:
        return ""
    low, high = (percent(end).removesuffix(" %") for end in interval)
    if low == high and interval[0] != interval[1]:
        low, high = (f"{100 * end:.3f}" for end in interval)  # a narrow interval: more digits, not "86.2 to 86.2"
    return f"{low} %" if low == high else f"{low} to {high} %"


def decimal_range(interval: Sequence[float] | None) -> str:
    """Returns an interval of figures: 0.9123 to 0.9514."""
    if interval is None:
        return ""
    low, high = decimal(interval[0]), decimal(interval[1])
    return low if low == high else f"{low} to {high}"


def counted(number: int, one: str, many: str | None = None) -> str:
    """Returns "1 image" or "2,000 images"."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def duration(seconds: float) -> str:
    """Returns 45 s, 3 min 20 s, 2 h 5 min."""
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
