"""Where to cut: the highest threshold whose escape rate is proven to stay within a budget.

**Why the guarantee holds although the threshold is picked from the same data.** A threshold t rejects scores
>= t, so its true escape rate is E(t) = P(S < t) for a new bad unit's score S. Sort the n calibration bads,
S(1) <= ... <= S(n), and take t = S(k), with k fixed by n, the budget a and the confidence 1 - d alone:

1. Write every bad's score as S = Q(U), U uniform, Q the quantile function. Q never falls, so S(k) = Q(U(k)),
   and Q(U) < Q(U(k)) implies U < U(k). Hence E(S(k)) = P(Q(U) < Q(U(k))) <= P(U < U(k)) = U(k). Without ties
   the two are equal; ties (discrete scores) only make the bound safer.
2. P(E(S(k)) > a) <= P(U(k) > a) = P(fewer than k of n uniforms are <= a) = P(Binomial(n, a) <= k - 1).
3. So every k with P(Binomial(n, a) <= k - 1) <= d is safe, and we take the largest (Wilks 1941). By the
   definition of Clopper and Pearson that means: the exact upper bound for k - 1 escapes in n is at most a.

No price for "many thresholds tried" is due: k is settled before any score is seen, and only then is S(k)
looked up. It is also the largest t whose count of calibration escapes has a Clopper-Pearson bound within the
budget, since every t > S(k) lets at least k escape. The guarantee is for bads like the calibration bads (same
line, same defects), drawn independently; near-duplicates of one unit count once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import beta, binom

from knowngood.errors import CalibrationError, ConfigError
from knowngood.metrics.curves import Floats, checked, finite
from knowngood.wording import counted

UNKNOWN = "escape rate: unknown - no bad images"
ACCEPT, REVIEW, REJECT = "accept", "review", "reject"
SENSIBLE = 0.1  # an escape rate above it is nothing to promise: the sentence then says what is missing, not a number


@dataclass(frozen=True)
class Thresholds:
    """Accept below `accept_below`, reject from `reject_from`, a person reviews what lies between.

    Equal values mean that nothing goes to review.
    """

    accept_below: float
    reject_from: float

    def __post_init__(self) -> None:
        if not self.accept_below <= self.reject_from:
            raise ConfigError(
                f"accept_below is {self.accept_below} and reject_from is {self.reject_from}.",
                expected="accept_below <= reject_from",
            )


@dataclass(frozen=True)
class Threshold:
    """A threshold, how it was set and what it is proven to do.

    Attributes:
        threshold: Scores below it are accepted.
        reject_from: Scores from it are rejected; equal to `threshold` unless a review band was asked for.
        basis: "escape" or "overkill": which budget `threshold` was set by.
        confidence: Of the certificate.
        certified: Whether the budget is proven at that confidence.
        escape_budget: Highest escape rate asked for, or None.
        certified_escape_rate: Escape rate that is proven not to be exceeded, or None.
        overkill_budget: Highest overkill rate asked for (of `reject_from`), or None.
        certified_overkill_rate: Overkill rate that is proven not to be exceeded, or None.
        escapes: Calibration bads below `threshold`.
        bads: Calibration bads.
        goods: Calibration goods.
        overkill: Share of the calibration goods at or above `threshold`; None without goods.
        sentence: The same in words, for a person.
    """

    threshold: float
    reject_from: float
    basis: str
    confidence: float
    certified: bool
    escape_budget: float | None
    certified_escape_rate: float | None
    overkill_budget: float | None
    certified_overkill_rate: float | None
    escapes: int
    bads: int
    goods: int
    overkill: float | None
    sentence: str

    @property
    def pair(self) -> Thresholds:
        """The two cuts that `decide` takes."""
        return Thresholds(self.threshold, self.reject_from)

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as JSON-ready values."""
        return asdict(self)


def escape_upper_bound(escapes: int, bads: int, confidence: float = 0.95) -> float:
    """Returns the exact one-sided upper bound of the escape rate after `escapes` in `bads`.

    Reference:
        Clopper and Pearson 1934: the (confidence) quantile of Beta(escapes + 1, bads - escapes).
    """
    _valid_rate("confidence", confidence)
    if not 0 <= escapes <= bads:
        raise ConfigError(f"{escapes} escapes in {bads} bads cannot be.", expected="0 <= escapes <= bads")
    return 1.0 if escapes == bads else float(beta.ppf(confidence, escapes + 1, bads - escapes))


def proportion_interval(part: int, whole: int, confidence: float = 0.95) -> tuple[float, float]:
    """Returns the exact two-sided Clopper-Pearson interval of a share `part` / `whole`; (0, 1) of nothing."""
    tail = (1 + confidence) / 2
    high = escape_upper_bound(part, whole, tail)
    return 1 - escape_upper_bound(whole - part, whole, tail), high


def smallest_certifiable(bads: int, confidence: float = 0.95) -> float:
    """Returns the smallest escape rate that `bads` bads without one escape can certify."""
    return escape_upper_bound(0, bads, confidence)


def bads_needed(escape_budget: float, confidence: float = 0.95) -> int:
    """Returns how many bads without one escape certify the budget, e.g. 299 for 1 % at 95 %."""
    _valid_rate("escape_budget", escape_budget)
    _valid_rate("confidence", confidence)
    return math.ceil(math.log1p(-confidence) / math.log1p(-escape_budget) - 1e-9)


def safe_rank(count: int, budget: float, confidence: float) -> int:
    """Returns the largest k with P(Binomial(count, budget) <= k - 1) <= 1 - confidence; 0 if none.

    The k-th of `count` sorted scores then bounds the budget; see the module's argument.
    """
    _valid_rate("budget", budget)
    _valid_rate("confidence", confidence)
    if count == 0:
        return 0
    tails = binom.cdf(np.arange(count), count, budget)
    return int(np.searchsorted(tails, 1 - confidence, side="right"))


def choose_threshold(
    labels: npt.ArrayLike,
    scores: npt.ArrayLike,
    *,
    escape_budget: float = 0.01,
    overkill_budget: float | None = None,
    confidence: float = 0.95,
) -> Threshold:
    """Returns the largest threshold whose escape rate is at most the budget with the given confidence.

    When there are too few bads to certify the budget, `certified` is False and the threshold goes below every
    calibration bad: half way between the lowest bad and the highest good beneath it (or 0), a margin that
    costs no overkill on the calibration goods. The proof for the lowest bad then still certifies
    `smallest_certifiable(bads)`.

    Args:
        labels: (N,) of the calibration split, 0 good, 1 bad.
        scores: (N,) defect scores of the calibration split.
        escape_budget: Highest escape rate allowed, in (0, 1).
        overkill_budget: When given, units are rejected only from the score at which the overkill is certified
            to be at most this; between `threshold` and that score a person reviews.
        confidence: Of the certificate, in (0, 1).

    Raises:
        CalibrationError: There is no bad among the labels.
    """
    label, score = checked(labels, scores)
    bad, good = np.sort(score[label]), score[~label]
    if bad.size == 0:
        raise CalibrationError(
            f"An escape budget needs bad images, and none of the {good.size} calibration images is bad.",
            expected="at least one bad calibration image",
            fix="Add bad images, or learn from good images alone with --one-class.",
        )
    rank = safe_rank(bad.size, escape_budget, confidence)
    cut = float(bad[rank - 1]) if rank else _below_all(bad, good)
    proven = escape_upper_bound(max(rank, 1) - 1, bad.size, confidence)
    upper, upper_proven = cut, None
    if overkill_budget is not None and good.size:
        band = threshold_at_overkill(good, overkill=overkill_budget, confidence=confidence)
        upper, upper_proven = max(cut, band.threshold), band.certified_overkill_rate
    return Threshold(
        threshold=cut,
        reject_from=upper,
        basis="escape",
        confidence=confidence,
        certified=rank > 0,
        escape_budget=escape_budget,
        certified_escape_rate=proven,
        overkill_budget=overkill_budget,
        certified_overkill_rate=upper_proven,
        escapes=int((bad < cut).sum()),
        bads=int(bad.size),
        goods=int(good.size),
        overkill=float((good >= cut).mean()) if good.size else None,
        sentence=_escape_sentence(rank, int((bad < cut).sum()), bad.size, proven, escape_budget, confidence),
    )


def threshold_at_overkill(good_scores: npt.ArrayLike, *, overkill: float = 0.01, confidence: float = 0.95) -> Threshold:
    """Returns the smallest threshold whose overkill is at most the budget, from good images alone.

    The mirror image of `choose_threshold`: just above the k-th highest good. With too few goods `certified`
    is False and the threshold lies just above the highest good.

    Args:
        good_scores: (N,) defect scores of good calibration images.
        overkill: Highest share of goods that may be rejected, in (0, 1).
        confidence: Of the certificate, in (0, 1).

    Raises:
        CalibrationError: There is no score.
    """
    good = np.sort(finite(good_scores))
    if good.size == 0:
        raise CalibrationError(
            "An overkill budget needs good images, and there is none.",
            expected="at least one good calibration image",
            fix="Put good images into the calibration split.",
        )
    rank = safe_rank(good.size, overkill, confidence)
    cut = float(np.nextafter(good[good.size - max(rank, 1)], np.inf))
    proven = escape_upper_bound(max(rank, 1) - 1, good.size, confidence)
    above = int((good >= cut).sum())
    sentence = (
        f"{above} of {counted(good.size, 'good calibration image')} rejected: an overkill of at most "
        f"{_percent(proven)} at {100 * confidence:g} % confidence; {UNKNOWN} to calibrate on."
    )
    if not rank:
        needed = bads_needed(overkill, confidence)
        sentence += f" {_percent(overkill)} was asked for: that takes {counted(needed, 'good image')}."
    return Threshold(
        threshold=cut,
        reject_from=cut,
        basis="overkill",
        confidence=confidence,
        certified=rank > 0,
        escape_budget=None,
        certified_escape_rate=None,
        overkill_budget=overkill,
        certified_overkill_rate=proven,
        escapes=0,
        bads=0,
        goods=int(good.size),
        overkill=above / good.size,
        sentence=sentence,
    )


def decide(
    scores: npt.ArrayLike, thresholds: Thresholds, reasons: Sequence[str | None] | None = None
) -> npt.NDArray[np.str_]:
    """Returns "accept", "review" or "reject" for each score, (N,): the only way from scores to decisions.

    Comparison is in float64: comparing float32 scores with a Python float would round the threshold.

    Args:
        scores: (N,) defect scores.
        thresholds: The two cuts.
        reasons: (N,) why a person must look whatever the score ("review"), or None for each; None for no reasons.
    """
    score = finite(scores)
    names = np.array([ACCEPT, REVIEW, REJECT])
    step = (score >= thresholds.accept_below).astype(np.int64) + (score >= thresholds.reject_from)
    decisions: npt.NDArray[np.str_] = names[step]
    if reasons is not None:
        decisions[np.array([reason is not None for reason in reasons], bool)] = REVIEW
    return decisions


def _below_all(bad: Floats, good: Floats) -> float:
    lowest = float(bad[0])
    beneath = good[good < lowest]
    middle = (float(beneath.max() if beneath.size else min(0.0, lowest)) + lowest) / 2
    return middle if not beneath.size or middle > beneath.max() else lowest


def _escape_sentence(rank: int, escapes: int, bads: int, proven: float, budget: float, confidence: float) -> str:
    """Words the certificate; see `SENSIBLE` for when there is none worth the name."""
    sure, needed = f"{100 * confidence:g} % confidence", bads_needed(budget, confidence)
    found = f"{counted(escapes, 'escape')} in {counted(bads, 'bad calibration image')}"
    if rank:
        return f"{found}: an escape rate of at most {_percent(proven)} at {sure}; {_percent(budget)} was asked for."
    more = counted(max(needed - bads, 1), "more bad image")
    if proven > SENSIBLE:
        return (
            f"Too few bad images to promise anything: {found} fits an escape rate of up to {_percent(proven)} "
            f"({sure}). To prove {_percent(budget)} takes {needed} in the calibration split, {more}. Until then use "
            "the scores to sort, most suspicious first, and let a person check the parts that are accepted."
        )
    return (
        f"{found}: an escape rate of at most {_percent(proven)} at {sure}, not the {_percent(budget)} that was asked "
        f"for. Ask for --escape-budget {_rounded_up(proven):g} or calibrate on {needed} bad images ({more})."
    )


def _rounded_up(rate: float) -> float:
    """Three significant digits, upwards: what is printed must still be certified when it is typed back."""
    place = 2 - math.floor(math.log10(rate))
    return min(1.0, math.ceil(rate * 10.0**place - 1e-9) / 10.0**place)


def _percent(rate: float) -> str:
    return f"{100 * _rounded_up(rate):.3g} %"


def _valid_rate(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise ConfigError(f"{name} is {value}.", expected="a share between 0 and 1, both excluded")


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
            fix="Lower accept_below (--accept-below), or raise reject_from (--reject-from).",
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
            f"Of the {counted(bad.size, 'bad')} of the calibration set {escapes} would be let through "
            f"(escape rate at most {_percent_by_hand(escape_rate)} {at})."
        )
    else:
        parts.append(f"{UNKNOWN[0].upper()}{UNKNOWN[1:]} to calibrate on.")
    if good.size:
        parts.append(
            f"Of the {counted(good.size, 'good')} {rejected} would be rejected (overkill at most "
            f"{_percent_by_hand(overkill_rate)} {at})."
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
        fix="Scores below accept_below (--accept-below) are accepted, from reject_from (--reject-from) rejected.",
    )


def _percent_by_hand(rate: float | None) -> str:
    """Returns `_percent`, also of nothing."""
    return _percent(rate) if rate else "0 %"
