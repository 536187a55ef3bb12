"""Decisions on units whose class is known: counts, the certificate held against them, required rates."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from scipy.stats import binomtest

from knowngood.errors import ConfigError
from knowngood.metrics.thresholds import (
    ACCEPT,
    REJECT,
    REVIEW,
    SENSIBLE,
    bads_needed,
    escape_upper_bound,
    proportion_interval,
)
from knowngood.wording import counted, percent, percent_range

Kind = Literal["escape", "overkill"]
Finding = Literal["contradicted", "confirmed", "compatible", "too few", "no units", "no promise"]

# Of each kind: its units, what went wrong with some of them, and the name of the rate.
_WORDS = {"escape": ("bad", "escaped", "escape rate"), "overkill": ("good", "were rejected", "overkill")}


@dataclass(frozen=True)
class DecisionCounts:
    """How many units of each class were accepted, sent to review and rejected.

    An escape is a bad that is accepted, overkill a good that is rejected; what is reviewed is neither.

    Attributes:
        good: "accept", "review" and "reject" to the number of goods.
        bad: The same of bads.
    """

    good: dict[str, int]
    bad: dict[str, int]

    @classmethod
    def of(cls, labels: Iterable[int], decisions: Iterable[str]) -> DecisionCounts:
        """Returns the counts of labels (N,), 0 good and 1 bad, and decisions (N,)."""
        counts = [dict.fromkeys((ACCEPT, REVIEW, REJECT), 0) for _ in range(2)]
        for label, decision in zip(labels, decisions, strict=True):
            counts[int(label)][decision] += 1
        return cls(*counts)

    @property
    def goods(self) -> int:
        """Number of goods."""
        return sum(self.good.values())

    @property
    def bads(self) -> int:
        """Number of bads."""
        return sum(self.bad.values())

    @property
    def escapes(self) -> int:
        """Bads that were accepted."""
        return self.bad[ACCEPT]

    @property
    def overkill(self) -> int:
        """Goods that were rejected."""
        return self.good[REJECT]

    @property
    def reviews(self) -> int:
        """Units of both classes that were sent to review."""
        return self.good[REVIEW] + self.bad[REVIEW]

    @property
    def wrong(self) -> int:
        """Escapes and overkill together."""
        return self.escapes + self.overkill

    def to_dict(self, confidence: float = 0.95) -> dict[str, Any]:
        """Returns counts, rates (0..1) and their exact two-sided intervals as JSON types; None where there is no unit.

        `escape_bound` is the one-sided upper bound of the escape rate at `confidence`.
        """
        return {
            "images": self.goods + self.bads,
            "goods": self.goods,
            "bads": self.bads,
            "confusion": {"good": dict(self.good), "bad": dict(self.bad)},
            "escapes": share_and_interval(self.escapes, self.bads, confidence),
            "escape_bound": escape_upper_bound(self.escapes, self.bads, confidence) if self.bads else None,
            "overkill": share_and_interval(self.overkill, self.goods, confidence),
            "reviewed": share_and_interval(self.reviews, self.goods + self.bads, confidence),
        }


@dataclass(frozen=True)
class CertificateCheck:
    """A rate that was certified, held against units that it was not certified on.

    Attributes:
        kind: "escape" or "overkill".
        finding: "contradicted": so many are too many by the exact binomial test; "confirmed": these units alone prove
            the rate; "compatible": they neither contradict nor prove it; "too few": not even without a mistake could
            so few prove it; "no units"; "no promise": no rate was certified, or one above 10 %.
        promised: The certified rate in 0..1; None without one.
        confidence: Of the certificate, of the test (level 1 - confidence) and of `upper_bound`.
        count: Mistakes.
        units: Units of the class.
        p_value: P(at least `count` of `units`) if the rate is `promised`; None without units or promise.
        upper_bound: Highest rate that these units do not rule out, one-sided; None without units.
        needed: How many units without a mistake would prove the rate; None without a promise.
        sentence: The finding in words.
    """

    kind: Kind
    finding: Finding
    promised: float | None
    confidence: float
    count: int
    units: int
    p_value: float | None
    upper_bound: float | None
    needed: int | None
    sentence: str

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as JSON types."""
        return asdict(self)


def check_certificate(
    kind: Kind, count: int, units: int, promised: float | None, confidence: float = 0.95
) -> CertificateCheck:
    """Returns whether mistakes on new units are compatible with the rate that a threshold was certified for.

    Args:
        kind: "escape" (units are bads) or "overkill" (units are goods).
        count: Mistakes among `units`.
        units: Units that were decided by their score.
        promised: The certified rate in 0..1, or None.
        confidence: Of the certificate.

    Reference:
        Exact one-sided binomial test of H0: rate <= promised; upper bound of Clopper and Pearson 1934.
    """
    upper = escape_upper_bound(count, units, confidence) if units else None
    if promised is not None and not 0 < promised < 1:
        promised = None
    p_value = needed = None
    if promised is None or promised > SENSIBLE:
        finding: Finding = "no promise"
    else:
        needed = bads_needed(promised, confidence)
        if upper is None:
            finding = "no units"
        else:
            p_value = float(binomtest(count, units, promised, alternative="greater").pvalue)
            if p_value < 1 - confidence:
                finding = "contradicted"
            elif upper <= promised:
                finding = "confirmed"
            else:
                finding = "too few" if units < needed else "compatible"
    found = CertificateCheck(kind, finding, promised, confidence, count, units, p_value, upper, needed, "")
    return replace(found, sentence=_in_words(found))


def _in_words(check: CertificateCheck) -> str:
    """Returns the finding in one or two sentences."""
    noun, happened, rate = _WORDS[check.kind]
    sure, most = f"{100 * check.confidence:g} % confidence", percent(check.promised)
    found = f"{check.count or 'none'} of {counted(check.units, noun)} {happened}"
    bound = f"an {rate} of at most {percent(check.upper_bound)} ({sure})"
    if check.finding == "no promise":
        if check.promised is None:
            return f"No {rate} is certified for this threshold."
        here = f"; the {counted(check.units, noun)} here alone would prove {bound}" if check.units else ""
        return (
            f"The calibration had too few {noun}s to certify anything sensible (an {rate} of up to {most}), so there "
            f"is nothing to hold the decisions against{here}."
        )
    if check.finding == "no units":
        return f"There is no {noun} here to hold the certified {rate} of at most {most} against."
    assert check.needed is not None
    test = "" if check.p_value is None else f"exact binomial test, p {_p(check.p_value)}"
    if check.finding == "contradicted":
        return (
            f"The certificate does not hold here: {found}, and at most {most} was certified at {sure} ({test}). These "
            f"{noun}s are unlike those of the calibration, or some labels are wrong: look at them first, then "
            "calibrate on such photographs."
        )
    if check.finding == "confirmed":
        return f"The certificate holds: {found}, which alone proves {bound}; {most} was certified."
    if check.finding == "too few":
        return (
            f"Too few {noun}s to tell: {found}, which fits the certified {most}, but also any {rate} up to "
            f"{percent(check.upper_bound)} ({sure}). To confirm it takes {counted(check.needed, noun)} without a "
            f"mistake, {check.needed - check.units} more."
        )
    return (
        f"Nothing here speaks against the certificate: {found}, and at most {most} was certified ({test}). These "
        f"{noun}s alone prove {bound}."
    )


@dataclass(frozen=True)
class Requirement:
    """A highest rate that is required, and whether it is met.

    Attributes:
        name: "max_escape_rate" or "max_overkill_rate".
        limit: The highest rate, in 0..1.
        count: Mistakes.
        units: Units of the class.
        rate: Share of mistakes; None without units.
        passed: Whether there are units and `rate` is at most `limit`.
        proven: Whether the one-sided upper bound is at most `limit` too.
        sentence: The same in words.
    """

    name: str
    limit: float
    count: int
    units: int
    rate: float | None
    passed: bool
    proven: bool
    sentence: str

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as JSON types."""
        return asdict(self)


def check_limit(kind: Kind, limit: float | None) -> None:
    """Raises ConfigError where a required rate is no share."""
    if limit is not None and not 0 <= limit <= 1:
        flag = f"--max-{kind}-rate"
        raise ConfigError(f"{flag} is {limit:g}.", expected="a share from 0 to 1", fix=f"1 % is {flag} 0.01")


def check_requirement(kind: Kind, limit: float, counts: DecisionCounts, confidence: float = 0.95) -> Requirement:
    """Returns whether decisions keep a required rate; without a unit of the class they do not.

    Args:
        kind: "escape" or "overkill".
        limit: The highest rate, in [0, 1].
        counts: Of the decisions.
        confidence: Of the bound that decides on `proven`.

    Raises:
        ConfigError: The limit is no share.
    """
    check_limit(kind, limit)
    noun, _, rate = _WORDS[kind]
    count, units = (counts.escapes, counts.bads) if kind == "escape" else (counts.overkill, counts.goods)
    most = f"at most {percent(limit)} is required"
    if not units:
        sentence = f"The {rate} is unknown, because there is no {noun}; {most}."
        return Requirement(f"max_{kind}_rate", limit, count, units, None, False, False, sentence)
    share, upper = count / units, escape_upper_bound(count, units, confidence)
    passed, proven = share <= limit, upper <= limit
    interval = percent_range(proportion_interval(count, units, confidence))
    found = f"{rate[0].upper()}{rate[1:]} {percent(share)} ({count} of {counted(units, noun)}, {interval}); {most}"
    if passed and not proven:
        needed = bads_needed(limit, confidence) if limit > 0 else None
        few = needed is not None and units < needed
        found += f" ({needed:,} {noun}s without a mistake would prove it)" if few else " (met, but not proven)"
    return Requirement(f"max_{kind}_rate", limit, count, units, share, passed, proven, f"{found}.")


def share_and_interval(part: int, whole: int, confidence: float = 0.95) -> dict[str, Any]:
    """Returns a share with its exact interval as JSON types; None where `whole` is 0."""
    interval = list(proportion_interval(part, whole, confidence)) if whole else None
    return {"count": part, "units": whole, "rate": part / whole if whole else None, "interval": interval}


def _p(value: float) -> str:
    return "< 0.0001" if value < 0.0001 else f"= {value:.2g}"
