"""The gate: an exported graph may be used when it decides as its recipe does, within a stated tolerance."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from knowngood.decide.by_hand import BY_HAND, threshold_by_hand
from knowngood.decide.metrics import auroc
from knowngood.decide.threshold import Threshold, Thresholds, choose_threshold, threshold_at_overkill
from knowngood.recipe.manifest import RecipeManifest
from knowngood.recipe.tolerance import Tolerance

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.uint8]


def certified(manifest: RecipeManifest, labels: Labels, scores: Floats) -> Threshold:
    """Returns the threshold that the recipe's own budgets give on the calibration scores of another graph.

    Cuts that were set by hand stay where they are, with what these scores prove of them.

    Args:
        manifest: Of the recipe: which budget its threshold was set by, and at which confidence.
        labels: (N,) of the calibration split.
        scores: (N,) of the exported graph.

    Raises:
        CalibrationError: The class that the budget is about is missing.
    """
    was = manifest.threshold
    if was["basis"] == BY_HAND:
        return threshold_by_hand(
            labels,
            scores,
            Thresholds(was["threshold"], was["reject_from"]),
            confidence=was.get("confidence", 0.95),
            escape_budget=was.get("escape_budget"),
            overkill_budget=was.get("overkill_budget"),
        )
    if was["basis"] == "escape":
        return choose_threshold(
            labels,
            scores,
            escape_budget=was["escape_budget"],
            overkill_budget=was["overkill_budget"],
            confidence=was["confidence"],
        )
    good = scores[labels == 0]
    made = threshold_at_overkill(good, overkill=was["overkill_budget"], confidence=was["confidence"])
    review = manifest.config.get("review_overkill")
    if review is None:
        return made
    upper = threshold_at_overkill(good, overkill=review, confidence=was["confidence"]).threshold
    return replace(made, reject_from=max(made.threshold, upper))


def compared(
    manifest: RecipeManifest, threshold: Threshold, labels: Labels, before: Floats, after: Floats
) -> dict[str, Any]:
    """Returns what changed between the recipe's scores and the graph's.

    Args:
        manifest: Of the recipe.
        threshold: Certified on the graph's scores.
        labels: (N,) of images that the recipe has not learned from.
        before: (N,) scores of the recipe.
        after: (N,) scores of the graph.
    """
    bad, cut, new = labels == 1, manifest.threshold["threshold"], threshold.threshold
    apart = np.abs(after - before)

    def at(scores: Floats, value: float) -> dict[str, Any]:
        over = None if bad.all() else float((scores[~bad] >= value).mean())
        return {"threshold": value, "escapes": int((scores[bad] < value).sum()), "overkill": over}

    both = bool(bad.any() and not bad.all())
    return {
        "images": len(labels),
        "goods": int((~bad).sum()),
        "bads": int(bad.sum()),
        "score_difference": {"mean": float(apart.mean()), "max": float(apart.max())},
        "auc": {"before": auroc(labels, before), "after": auroc(labels, after)} if both else None,
        "recipe_at_its_threshold": at(before, cut),
        "graph_at_the_recipes_threshold": at(after, cut),
        "graph_at_its_own_threshold": at(after, new),
        "changed_decisions": int(((before >= cut) != (after >= new)).sum()),
    }


def likeness(before: npt.NDArray[np.float32], after: npt.NDArray[np.float32]) -> float | None:
    """Returns the mean correlation of maps (N, h, w), photograph by photograph; None where all are even.

    The same of margins (1, N): noise that lets them correlate by c with what they were moves goods and bads nearer
    together by that factor, in units of their spread, whatever happened to fall into order among these images. 0.995 at
    an AUC of 0.95 (normal scores) costs 0.001; what 200 images say of so small a change of AUC is mostly chance. Among
    goods alone it says nothing of that: their own spread is small beside their distance from bads.
    """
    one = before.reshape(len(before), -1).astype(np.float64)
    other = after.reshape(len(after), -1).astype(np.float64)
    one, other = one - one.mean(1, keepdims=True), other - other.mean(1, keepdims=True)
    size = np.sqrt((one**2).sum(1) * (other**2).sum(1))
    told = size > 0
    return float(((one * other).sum(1)[told] / size[told]).mean()) if told.any() else None


def complaints(report: dict[str, Any], tolerance: Tolerance) -> list[str]:
    """Returns in words what lies beyond the tolerance; nothing when the graph may be used."""
    found = []
    mean = report["score_difference"]["mean"]
    if mean > tolerance.max_score:
        found.append(f"scores differ by {mean:.4f} on average, {tolerance.max_score:g} is allowed")
    if report["auc"] is not None:
        before, after = report["auc"]["before"], report["auc"]["after"]
        if before - after > tolerance.max_auc_loss + 1 / (report["goods"] * report["bads"]):
            found.append(f"AUC falls from {before:.4f} to {after:.4f}, {tolerance.max_auc_loss:g} is allowed")
    ranked = report.get("margin_correlation")
    if report["auc"] is not None and ranked is not None and ranked < tolerance.min_correlation:
        found.append(f"margins correlate by {ranked:.4f}, {tolerance.min_correlation:g} is asked for")
    was = report["recipe_at_its_threshold"]["overkill"]
    now = report["graph_at_its_own_threshold"]["overkill"]
    if was is not None and now is not None and now - was > tolerance.max_overkill + 1 / report["goods"]:
        found.append(f"overkill rises from {was:.4f} to {now:.4f}, {tolerance.max_overkill:g} is allowed")
    alike = report.get("map_likeness")
    if alike is not None and alike < tolerance.min_likeness:
        found.append(f"maps correlate by {alike:.3f}, {tolerance.min_likeness:g} is asked for")
    return found
