"""Is a new revision as good as the old one on images whose truth is agreed? The golden set decides, paired."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from knowngood.decide.compare import compare_accuracy
from knowngood.decide.threshold import ACCEPT, Thresholds, decide, escape_upper_bound
from knowngood.errors import DataError
from knowngood.review.store.inspections import Row
from knowngood.review.store.record import Record


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
        split: Golden set; None for everything that is labelled or judged.

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
    return Requalified({n: _figures(labels, decisions[n]) for n in decisions}, test.p_value, flipped)


def _figures(labels: list[int], decisions: list[str]) -> dict[str, Any]:
    pairs = list(zip(labels, decisions, strict=True))
    bads = sum(labels)
    escapes = sum(label == 1 and decision == ACCEPT for label, decision in pairs)
    overkill = sum(label == 0 and decision == "reject" for label, decision in pairs)
    return {
        "images": len(pairs),
        "bads": bads,
        "escapes": escapes,
        "escape_bound": escape_upper_bound(escapes, bads) if bads else None,
        "overkill": overkill,
        "reviews": sum(decision == "review" for _, decision in pairs),
        "wrong": escapes + overkill,
    }
