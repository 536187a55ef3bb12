"""Do people agree with the truth, with the recipe and with each other? Attribute agreement as in AIAG's MSA."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from knowngood.errors import DataError
from knowngood.metrics.comparisons import compare_accuracy
from knowngood.metrics.decisions import DecisionCounts
from knowngood.metrics.thresholds import ACCEPT, Thresholds, decide, escape_upper_bound
from knowngood.review.store.database import BAD, GOOD
from knowngood.review.store.inspections import Row
from knowngood.review.store.record import Record

# AIAG MSA, "acceptable"
EFFECTIVENESS, MISS, FALSE_ALARM = 0.90, 0.02, 0.05


@dataclass(frozen=True)
class Agreement:
    """Somebody's calls against a reference.

    Attributes:
        who: Made the calls.
        reference: "the labels", "the recipe" or a name.
        count: Images that both have called.
        effectiveness: Share of equal calls.
        kappa: Cohen's; None where it does not exist.
        miss_rate: Bad by the reference, called good; None without bads.
        false_alarm_rate: Good by the reference, called bad; None without goods.
    """

    who: str
    reference: str
    count: int
    effectiveness: float
    kappa: float | None
    miss_rate: float | None
    false_alarm_rate: float | None

    @property
    def acceptable(self) -> bool:
        """Whether AIAG's three limits are kept."""
        misses, alarms = self.miss_rate or 0.0, self.false_alarm_rate or 0.0
        return self.effectiveness >= EFFECTIVENESS and misses <= MISS and alarms <= FALSE_ALARM


def cohens_kappa(first: Sequence[bool], second: Sequence[bool]) -> float | None:
    """Returns how much two agree beyond chance; None where chance alone agrees always.

    Reference:
        Cohen 1960.
    """
    count = len(first)
    if not count:
        return None
    seen = sum(a == b for a, b in zip(first, second, strict=True)) / count
    a, b = sum(first) / count, sum(second) / count
    chance = a * b + (1 - a) * (1 - b)
    return None if chance == 1 else (seen - chance) / (1 - chance)


def against(who: str, reference: str, calls: Mapping[str, bool], truth: Mapping[str, bool]) -> Agreement | None:
    """Returns the agreement of calls (image to whether it is bad) with a reference; None without common images."""
    common = [name for name in calls if name in truth]
    if not common:
        return None
    own, true = [calls[name] for name in common], [truth[name] for name in common]
    bads, goods = sum(true), len(true) - sum(true)
    missed = sum(t and not s for s, t in zip(own, true, strict=True))
    alarms = sum(s and not t for s, t in zip(own, true, strict=True))
    return Agreement(
        who,
        reference,
        len(common),
        1 - (missed + alarms) / len(common),
        cohens_kappa(own, true),
        missed / bads if bads else None,
        alarms / goods if goods else None,
    )


def agreements(verdicts: Iterable[Mapping[str, Any]], labels: Mapping[str, int]) -> list[Agreement]:
    """Returns everybody against the labels, against the recipe, and against each other.

    Args:
        verdicts: Standing ones with who, verdict, sha256 and decision (the recipe's); the last of each person counts,
            good and bad only.
        labels: sha256 to 0 or 1 as the data set has it.
    """
    calls: dict[str, dict[str, bool]] = {}
    recipe: dict[str, bool] = {}
    for row in verdicts:
        if row["verdict"] in (GOOD, BAD):
            calls.setdefault(row["who"], {})[row["sha256"]] = row["verdict"] == BAD
            if row["decision"] is not None:
                recipe[row["sha256"]] = row["decision"] != ACCEPT
    truth = {name: bool(label) for name, label in labels.items()}
    found = []
    names = sorted(calls)
    for place, who in enumerate(names):
        found.append(against(who, "the labels", calls[who], truth))
        found.append(against(who, "the recipe", calls[who], recipe))
        found += [against(who, other, calls[who], calls[other]) for other in names[place + 1 :]]
    return [one for one in found if one is not None]


@dataclass(frozen=True)
class Requalified:
    """A new revision beside an old one, on the images that both have scored.

    Attributes:
        figures: "old" and "new" to images, bads, escapes, escape_bound (95 %), overkill, reviews and wrong.
        p_value: McNemar's exact test of equal accuracy.
        flipped: Images whose decision differs, those that became wrong first.
    """

    figures: dict[str, dict[str, Any]]
    p_value: float
    flipped: list[Row]


def requalify(record: Record, old: Row, new: Row, split: str | None = "test") -> Requalified:
    """Compares two revisions on the labelled images of a split.

    Args:
        record: With the scores of both; revisions that differ in their cuts only share them.
        old: Revision.
        new: Revision.
        split: Golden set; None for everything that is labelled or has a verdict.

    Raises:
        DataError: There is no image that both have scored.
    """
    rows = {
        name: {r["sha256"]: r for r in record.labels.scored(one["scoring"]) if split in (None, r["split"])}
        for name, one in (("old", old), ("new", new))
    }
    common = [digest for digest in rows["old"] if digest in rows["new"]]
    if not common:
        raise DataError(
            "There is no labelled image that both revisions have scored.",
            fix="Serve each recipe once with --data GOLDEN on this record.",
        )
    labels = [int(rows["old"][digest]["label"]) for digest in common]
    decisions = {
        name: decide(
            [rows[name][digest]["defect_score"] for digest in common],
            Thresholds(one["accept_below"], one["reject_from"]),
            [rows[name][digest]["input_reason"] for digest in common],
        ).tolist()
        for name, one in (("old", old), ("new", new))
    }
    called = {name: [int(d != ACCEPT) for d in decisions[name]] for name in decisions}
    test = compare_accuracy(labels, called["old"], called["new"])
    flipped = [
        rows["new"][digest] | {"was": was, "is_now": now, "worse": (now != ACCEPT) != bool(label)}
        for digest, label, was, now in zip(common, labels, decisions["old"], decisions["new"], strict=True)
        if was != now
    ]
    flipped.sort(key=lambda row: (not row["worse"], not row["label"]))
    return Requalified(
        {n: _figures(DecisionCounts.of(labels, made)) for n, made in decisions.items()}, test.p_value, flipped
    )


def _figures(counts: DecisionCounts) -> dict[str, Any]:
    return {
        "images": counts.goods + counts.bads,
        "bads": counts.bads,
        "escapes": counts.escapes,
        "escape_bound": escape_upper_bound(counts.escapes, counts.bads) if counts.bads else None,
        "overkill": counts.overkill,
        "reviews": counts.reviews,
        "wrong": counts.wrong,
    }
