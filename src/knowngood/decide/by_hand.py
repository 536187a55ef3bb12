"""Two cuts that a person sets: what they let through and reject on the calibration scores, with exact bounds."""

from __future__ import annotations

import math
from numbers import Real

import numpy.typing as npt

from knowngood.decide.tally import checked
from knowngood.decide.threshold import UNKNOWN, Threshold, Thresholds, escape_upper_bound
from knowngood.errors import ConfigError

BY_HAND = "set by hand"
_HIGHEST = 1 + 1e-9  # just above the highest score: everything is accepted


def checked_cuts(accept_below: float, reject_from: float) -> Thresholds:
    """Returns two cuts as thresholds.

    Raises:
        ConfigError: One is no number in [0, 1], or they are in the wrong order.
    """
    accept_below, reject_from = _number("accept_below", accept_below), _number("reject_from", reject_from)
    if accept_below > reject_from:
        raise ConfigError(
            f"accept_below is {accept_below:g}, above reject_from, which is {reject_from:g}.",
            expected="accept_below <= reject_from; what lies between is reviewed",
            fix="Lower accept_below (--threshold), or raise reject_from (--reject-from).",
        )
    return Thresholds(accept_below, reject_from)


def moved(before: Thresholds, accept_below: float | None, reject_from: float | None) -> Thresholds:
    """Returns the cuts after one or both are moved.

    Where there was no review band, `accept_below` alone moves both cuts; otherwise a cut that is not named stays.

    Raises:
        ConfigError: None is named, one is no number in [0, 1], or they would be in the wrong order.
    """
    if accept_below is None and reject_from is None:
        raise ConfigError("No cut is named.", expected="accept_below, reject_from or both")
    if accept_below is None:
        accept_below = before.accept_below
    if reject_from is None:
        reject_from = accept_below if before.accept_below == before.reject_from else before.reject_from
    return checked_cuts(accept_below, reject_from)


def threshold_by_hand(
    labels: npt.ArrayLike,
    scores: npt.ArrayLike,
    cuts: Thresholds,
    *,
    confidence: float = 0.95,
    escape_budget: float | None = None,
    overkill_budget: float | None = None,
) -> Threshold:
    """Returns given cuts with what is proven of them.

    The escape rate below `cuts.accept_below` and the overkill rate from `cuts.reject_from` have exact one-sided upper
    bounds (Clopper and Pearson). They hold for cuts that were not chosen by looking at these very scores.

    Args:
        labels: (N,) of the calibration split, 0 good, 1 bad.
        scores: (N,) defect scores of the calibration split.
        cuts: From `checked_cuts` or `moved`.
        confidence: Of the bounds, in (0, 1).
        escape_budget: Highest escape rate asked for; with it `certified` says whether it is proven.
        overkill_budget: Highest overkill rate asked for; decides `certified` where there is no escape budget.
    """
    label, score = checked(labels, scores)
    bad, good = score[label], score[~label]
    escapes, reviewed = int((bad < cuts.accept_below).sum()), (score >= cuts.accept_below) & (score < cuts.reject_from)
    rejected = int((good >= cuts.reject_from).sum())
    escape_rate = escape_upper_bound(escapes, bad.size, confidence) if bad.size else None
    overkill_rate = escape_upper_bound(rejected, good.size, confidence) if good.size else None
    proven, budget = (escape_rate, escape_budget) if escape_budget is not None else (overkill_rate, overkill_budget)
    at = f"at {100 * confidence:g} % confidence"
    parts = [f"Accepts below {cuts.accept_below:g}, rejects from {cuts.reject_from:g}."]
    if bad.size:
        parts.append(
            f"Of the {_counted(bad.size, 'bad')} of the calibration set {escapes} would be let through "
            f"(escape rate at most {_percent(escape_rate)} {at})."
        )
    else:
        parts.append(f"{UNKNOWN[0].upper()}{UNKNOWN[1:]} to calibrate on.")
    if good.size:
        parts.append(
            f"Of the {_counted(good.size, 'good')} {rejected} would be rejected (overkill at most "
            f"{_percent(overkill_rate)} {at})."
        )
    if cuts.accept_below < cuts.reject_from:
        parts.append(
            f"{int((reviewed & label).sum())} of the bads and {int((reviewed & ~label).sum())} of the goods would go "
            "to review."
        )
    return Threshold(
        threshold=cuts.accept_below,
        reject_from=cuts.reject_from,
        basis=BY_HAND,
        confidence=confidence,
        certified=proven is not None and budget is not None and proven <= budget,
        escape_budget=escape_budget,
        certified_escape_rate=escape_rate,
        overkill_budget=overkill_budget,
        certified_overkill_rate=overkill_rate,
        escapes=escapes,
        bads=int(bad.size),
        goods=int(good.size),
        overkill=float((good >= cuts.accept_below).mean()) if good.size else None,
        sentence=" ".join(parts),
    )


def _number(name: str, value: object) -> float:
    if not isinstance(value, bool) and isinstance(value, Real) and 0 <= (number := float(value)) <= _HIGHEST:
        return number
    raise ConfigError(
        f"{name} is {value!r}.",
        expected="a defect score between 0 and 1",
        fix="Scores below accept_below (--threshold) are accepted, from reject_from (--reject-from) rejected.",
    )


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _percent(rate: float | None) -> str:
    """Three significant digits, upwards: the rate that is printed is still proven."""
    if not rate:
        return "0 %"
    place = 2 - math.floor(math.log10(rate))
    return f"{100 * min(1.0, math.ceil(rate * 10.0**place - 1e-9) / 10.0**place):.3g} %"
