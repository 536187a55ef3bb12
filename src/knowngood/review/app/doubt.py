"""How much a person's look at a photograph is worth."""

from __future__ import annotations

from knowngood.decide.threshold import ACCEPT, REJECT, REVIEW, Thresholds, decide


def doubt_of(
    score: float, cuts: Thresholds, label: int | None = None, reason: str | None = None
) -> tuple[float | None, str]:
    """Returns how much a person's look is worth and why; None where none is needed.

    A label that the score contradicts comes first (above 2), then the review band (1 to 2, the middle highest),
    then what was rejected, nearest to the threshold first (0 to 1), since that is where good parts are thrown away.

    Args:
        score: In 0..1.
        cuts: Of the recipe.
        label: What a data set says, if it does.
        reason: Why a person must look whatever the score, such as "not this product: ..."; it counts as 2.
    """
    if reason is not None:
        return 2.0, reason.partition(":")[0]
    low, high = cuts.accept_below, cuts.reject_from
    decision = str(decide([score], cuts)[0])
    if label is not None and label != (decision != ACCEPT) and decision != REVIEW:
        return 2 + abs(label - score), "suspected label: bad?" if label == 0 else "suspected label: good?"
    if decision == REVIEW:
        return 2 - abs(score - (low + high) / 2) / max((high - low) / 2, 1e-12), "review band"
    if decision == REJECT and label is None:
        return 1 - (score - high) / max(1 - high, 1e-12), "rejected"
    return None, ""
