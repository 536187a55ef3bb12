"""What evaluation.json holds, from scored rows: figures, groups, certificate, requirements, sentences."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import polars as pl

from knowngood import wording
from knowngood.data.records import BAD, GOOD
from knowngood.metrics.decisions import (
    CertificateCheck,
    DecisionCounts,
    Kind,
    check_certificate,
    check_requirement,
    share_and_interval,
)
from knowngood.metrics.figures import compute_metrics
from knowngood.metrics.thresholds import ACCEPT, REJECT, REVIEW

UNREADABLE, UNLABELLED, COPY, SEEN = "unreadable", "without a label", "copies of others", "seen in training"
_REASONS = (UNREADABLE, UNLABELLED, "generated", COPY, SEEN)
_GROUPS = ("defect", "lot", "split", "machine", "product")


@dataclass(frozen=True)
class Located:
    """Whether the hottest place of a bad's map lies on its defect.

    Attributes:
        found: Image to whether it does, of those whose map was made.
        marked: Bads with a mask or boxes.
        why_not: Why no map was made, or None.
    """

    found: dict[str, bool] = field(default_factory=dict)
    marked: int = 0
    why_not: str | None = None


def left_out_because(frame: pl.DataFrame) -> pl.Series:
    """Returns why a row of records does not count (N,): unreadable, without a label ...; null where it does."""
    reason = (
        pl.when(pl.col("error").is_not_null())
        .then(pl.lit(UNREADABLE))
        .when(pl.col("label").is_null())
        .then(pl.lit(UNLABELLED))
        .when(pl.col("generated"))
        .then(pl.lit("generated"))
    )
    marked = frame.select("sha256", reason.alias("left_out"))
    first = (pl.col("sha256").is_first_distinct()).over(pl.col("left_out").is_null())
    return marked.select(
        pl.when(pl.col("left_out").is_null() & ~first).then(pl.lit(COPY)).otherwise("left_out").alias("left_out")
    )["left_out"]


def reason_counts(reasons: pl.Series) -> dict[str, int]:
    """Returns how many photographs were left out for which reason, in a fixed order."""
    return {one: number for one in _REASONS if (number := int((reasons == one).sum()))}


def figures_of(
    rows: pl.DataFrame, promise: dict[str, Any], located: Located, confidence: float, *, one_class: bool
) -> dict[str, Any]:
    """Returns the measured part of evaluation.json.

    Args:
        rows: A row a photograph: image, label, defect, split, lot, unit, machine, product, defect_score, decision,
            reason, seen, left_out.
        promise: `Threshold.to_dict()` of what decided.
        located: Of the marked defects.
        confidence: Of the intervals, in (0, 1).
        one_class: Whether scores are distances: then they are no probabilities.
    """
    counted = rows.filter(pl.col("left_out").is_null())
    scored = rows.filter(pl.col("defect_score").is_not_null())
    known = scored["seen"].null_count() < len(scored)
    seen = int(scored["seen"].sum() or 0)
    basis = ("unseen" if seen < len(scored) else "seen") if known else "unknown"
    cut = float(promise["threshold"])
    return {
        "photographs": len(rows),
        "left_out": reason_counts(rows["left_out"]),
        "seen": {"known": known, "count": seen if known else None, "share": seen / len(scored) if known else None},
        "basis": basis,
        "confidence": confidence,
        "decisions": _decided(counted).to_dict(confidence),
        "figures": _metrics(counted, cut, confidence, one_class),
        "with_seen": _decided(scored).to_dict(confidence)
        | {"auroc": _metrics(scored, cut, confidence, one_class)["auroc"]}
        if seen and basis == "unseen"
        else None,
        "reviewed_because": _review_reasons(counted),
        "threshold": promise,
        "certificate": {kind: one.to_dict() for kind, one in _checks(counted, promise).items()},
        "groups": {name: found for name in _GROUPS if (found := _grouped(counted, name, confidence))},
        "units": _by_unit(counted, confidence),
        "localisation": _localisation(counted, located, confidence),
    }


def _decided(rows: pl.DataFrame) -> DecisionCounts:
    return DecisionCounts.of(rows["label"], rows["decision"])


def _metrics(rows: pl.DataFrame, cut: float, confidence: float, one_class: bool) -> dict[str, Any]:
    """Returns `Metrics.to_dict()`; accuracy and what belongs to it are counted at `cut`."""
    labels, scores = rows["label"].to_numpy(), rows["defect_score"].to_numpy()
    document = compute_metrics(labels, scores, threshold=cut, confidence=confidence).to_dict()
    return document | (dict.fromkeys(("ece", "ece_ci", "brier", "brier_ci")) if one_class else {})


def _review_reasons(rows: pl.DataFrame) -> dict[str, int]:
    """Returns how many photographs went to review for which reason; "score" is the band between the thresholds."""
    reviewed = rows.filter(pl.col("decision") == REVIEW)["reason"]
    kinds = ["score" if reason is None else reason.partition(":")[0] for reason in reviewed]
    return {kind: kinds.count(kind) for kind in sorted(set(kinds))}


def _checks(rows: pl.DataFrame, promise: dict[str, Any]) -> dict[str, CertificateCheck]:
    """Holds both certified rates against the photographs that were decided by their score."""
    by_score = rows.filter(pl.col("reason").is_null())
    bad, good = by_score.filter(pl.col("label") == BAD), by_score.filter(pl.col("label") == GOOD)
    confidence = float(promise.get("confidence") or 0.95)
    from_ = promise["threshold" if promise.get("basis") == "overkill" else "reject_from"]
    escapes, rejected = int((bad["decision"] == ACCEPT).sum()), int((good["defect_score"] >= from_).sum())
    return {
        "escape": check_certificate("escape", escapes, len(bad), promise.get("certified_escape_rate"), confidence),
        "overkill": check_certificate(
            "overkill", rejected, len(good), promise.get("certified_overkill_rate"), confidence
        ),
    }


def _grouped(rows: pl.DataFrame, column: str, confidence: float) -> list[dict[str, Any]]:
    """Returns the decisions by the values of a column, most escapes first; nothing where no row has one."""
    named = rows.filter(pl.col(column).is_not_null())
    found = [{"name": name[0], **_decided(part).to_dict(confidence)} for name, part in named.group_by(column)]
    return sorted(found, key=lambda one: (-one["escapes"]["count"], -one["overkill"]["count"], str(one["name"])))


def _by_unit(rows: pl.DataFrame, confidence: float) -> dict[str, Any] | None:
    """Returns the decisions on parts that were photographed several times, the worst decision of each; None without."""
    named = rows.filter(pl.col("unit").is_not_null())
    if not named["unit"].is_duplicated().any():
        return None
    steps = (ACCEPT, REVIEW, REJECT)
    worst = (
        named.with_columns(pl.col("decision").replace_strict(steps, (0, 1, 2)).alias("step"))
        .group_by("unit")
        .agg(pl.col("label").max(), pl.col("step").max())
    )
    decisions = [steps[step] for step in worst["step"]]
    return DecisionCounts.of(worst["label"], decisions).to_dict(confidence)


def _localisation(rows: pl.DataFrame, located: Located, confidence: float) -> dict[str, Any] | None:
    """Returns how often the hottest place of the map lies on the marked defect; None where none is marked."""
    if not located.marked:
        return None
    looked = rows.filter(pl.col("image").is_in(list(located.found)))
    caught = looked.filter(pl.col("decision") != ACCEPT)["image"].to_list()
    return {
        "marked": located.marked,
        "why_not": located.why_not,
        "on_defect": share_and_interval(sum(located.found.values()), len(located.found), confidence),
        "on_defect_of_caught": share_and_interval(sum(located.found[name] for name in caught), len(caught), confidence),
    }


def required(
    document: dict[str, Any], rows: pl.DataFrame, max_escape_rate: float | None, max_overkill_rate: float | None
) -> dict[str, Any] | None:
    """Returns each requirement with its verdict, and what forbids a pass whatever the rates; None without any."""
    if max_escape_rate is None and max_overkill_rate is None:
        return None
    confidence = document["confidence"]
    counts = _decided(rows.filter(pl.col("left_out").is_null()))
    limits: dict[Kind, float | None] = {"escape": max_escape_rate, "overkill": max_overkill_rate}
    checked = [
        check_requirement(kind, limit, counts, confidence) for kind, limit in limits.items() if limit is not None
    ]
    problems = []
    broken = int(((rows["left_out"] == UNREADABLE) & rows["label"].is_not_null()).sum())
    if broken:
        problems.append(f"{wording.counted(broken, 'labelled photograph')} cannot be read, so nobody has inspected it.")
    if document["basis"] == "seen":
        problems.append("The recipe was trained or calibrated on every one of these photographs.")
    passed = not problems and all(one.passed for one in checked)
    return {"passed": passed, "checked": [one.to_dict() for one in checked], "problems": problems}


def sentences(document: dict[str, Any]) -> list[str]:
    """Returns the result in words: what was seen before, the decisions, the certificate, the requirements."""
    return [
        *([seen] if (seen := _seen_sentence(document)) else []),
        decision_sentence(document),
        *(
            one["sentence"]
            for one in document["certificate"].values()
            if one["finding"] != "no promise" or document["threshold"].get("basis") == one["kind"]
        ),
    ]


def _seen_sentence(document: dict[str, Any]) -> str | None:
    seen, basis = document["seen"], document["basis"]
    if basis == "unknown":
        return (
            "Nobody knows which photographs this recipe was trained on: it was saved without that, and is not in the "
            "folder of its run. Where it was trained on some of these, the figures flatter it."
        )
    if not seen["count"]:
        return None
    share = wording.percent(seen["share"])
    if basis == "seen":
        return (
            f"The recipe was trained or calibrated on all {wording.counted(seen['count'], 'photograph')}: the figures "
            "flatter it and promise nothing for new parts."
        )
    return (
        f"The recipe was trained or calibrated on {seen['count']:,} of these photographs ({share}); the figures are "
        "those of the others."
    )


def decision_sentence(document: dict[str, Any]) -> str:
    """Returns the decisions in one sentence: escapes, overkill and reviews, each with its exact interval."""
    found = document["decisions"]
    parts = []
    for key, noun, verb in (("escapes", "bad", "escaped"), ("overkill", "good", "were rejected")):
        one = found[key]
        if one["units"]:
            interval = wording.percent_range(one["interval"])
            parts.append(
                f"{one['count']:,} of {wording.counted(one['units'], noun)} {verb} "
                f"({wording.percent(one['rate'])}, {100 * document['confidence']:g} % interval {interval})"
            )
        else:
            parts.append(f"there is no {noun}")
    reviewed, cut = found["reviewed"]["count"], wording.score(document["threshold"]["threshold"])
    where = {"unseen": " that the recipe has not seen", "seen": " of its training", "unknown": ""}[document["basis"]]
    on = f"At the threshold {cut}, on {wording.counted(found['images'], 'photograph')}{where}"
    return f"{on}: {'; '.join(parts)}; {f'{reviewed:,}' if reviewed else 'none'} went to a person."
