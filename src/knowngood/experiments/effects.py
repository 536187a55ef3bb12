"""The one statistic of every experiment: paired differences on the same test images, combined over the seeds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from knowngood.errors import DataError
from knowngood.experiments.runner import Outcome
from knowngood.metrics.comparisons import (
    CANNOT_TELL,
    AucComparison,
    OverkillComparison,
    OverSeeds,
    auroc_covariance,
    compare_auroc,
    compare_overkill,
    over_seeds,
)
from knowngood.metrics.figures import auroc, fpr_at_tpr

TPR = 0.995  # at which the overkill of an experiment is measured
LEAST = 2  # images of each class in the test: DeLong's test needs them
FIGURES = {"auroc": True, "overkill": False}  # and whether a higher value is better

Scores = npt.NDArray[np.float64]
Labels = npt.NDArray[np.uint8]


def pair(one: Outcome, two: Outcome) -> tuple[Labels, Scores, Scores]:
    """Returns labels (T,), scores of the first (T,) and of the second (T,) on the same test images.

    Raises:
        DataError: The two were not tested on the same images.
    """
    both = one.scores.join(two.scores, on="image", suffix="_two").sort("image")
    if both.height != one.scores.height or one.scores.height != two.scores.height:
        raise DataError(
            f"Two arms were tested on different images with seed {one.seed}: {one.scores.height} and "
            f"{two.scores.height}, of which {both.height} are the same.",
            expected="the same test images for every arm",
        )
    return both["label"].to_numpy(), both["score"].to_numpy(), both["score_two"].to_numpy()


def table_of(outcomes: Mapping[str, Sequence[Outcome]]) -> list[dict[str, Any]]:
    """Returns one row for each arm and seed: seed, arm, auroc and overkill in [0, 1], good, bad, and the facts."""
    return [
        {
            "seed": one.seed,
            "arm": arm,
            "auroc": auroc(one.scores["label"], one.scores["score"]),
            "overkill": fpr_at_tpr(one.scores["label"], one.scores["score"], TPR),
            "good": int((one.scores["label"] == 0).sum()),
            "bad": int((one.scores["label"] == 1).sum()),
            **one.facts,
        }
        for arm, found in outcomes.items()
        for one in found
    ]


def auroc_over_seeds(outcomes: Sequence[Outcome], confidence: float = 0.95) -> OverSeeds:
    """Returns the AUC of one arm over its seeds, with DeLong's error of the images and the spread over the seeds."""
    found = [auroc_covariance(one.scores["label"], one.scores["score"]) for one in outcomes]
    errors = [float(np.sqrt(max(covariance[0, 0], 0.0))) for _, covariance in found]
    return over_seeds([float(areas[0]) for areas, _ in found], errors, confidence=confidence)


def mean_of(arm: str, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Returns arm, seeds, auroc with its 95 % interval auroc_ci, overkill, and the mean of every numeric fact."""
    rows = table_of({arm: outcomes})
    facts = {name for name, value in outcomes[0].facts.items() if isinstance(value, (int, float))}
    means = {name: float(np.mean([row[name] for row in rows])) for name in (*FIGURES, *sorted(facts))}
    low, high = auroc_over_seeds(outcomes).interval
    return {"arm": arm, "seeds": len(rows), **means, "auroc_ci": [max(low, 0.0), min(high, 1.0)]}


def effect_of(changed: Sequence[Outcome], base: Sequence[Outcome]) -> dict[str, Any]:
    """Returns what a change did to AUC and overkill, paired by seed and by test image.

    Args:
        changed: Outcomes of the arm with the change.
        base: Outcomes of the arm without it, of the same seeds in the same order.

    Returns:
        JSON types: `seeds`; for `auroc` and `overkill` the mean difference (changed - base), its 95 % interval, its
        p-value and its outcome ("helped", "hurt" or "cannot tell"); and `outcome` of both together: that of one figure
        where the mean of the other does not point the other way, else "cannot tell".

    Raises:
        DataError: The seeds or the test images are not the same.
        KnownGoodError: Fewer than two test images of a class.
    """
    if [one.seed for one in changed] != [one.seed for one in base]:
        raise DataError("Two arms were not trained with the same seeds.")
    pairs = [pair(with_change, without) for with_change, without in zip(changed, base, strict=True)]
    tests: dict[str, Sequence[AucComparison | OverkillComparison]] = {
        "auroc": [compare_auroc(*one) for one in pairs],
        "overkill": [compare_overkill(*one, tpr=TPR) for one in pairs],
    }
    found = {
        name: over_seeds([test.difference for test in each], [test.error for test in each])
        for name, each in tests.items()
    }
    effect: dict[str, Any] = {"seeds": len(pairs)}
    for name, better in FIGURES.items():
        one = found[name]
        effect[name] = {
            "difference": one.mean,
            "interval": list(one.interval),
            "p_value": one.p_value,
            "outcome": one.outcome(higher_is_better=better),
        }
    return effect | {"outcome": _together(effect)}


def _together(effect: Mapping[str, Any]) -> str:
    shown = {effect[name]["outcome"] for name in FIGURES} - {CANNOT_TELL}
    means = [effect[name]["difference"] * (1 if better else -1) for name, better in FIGURES.items()]
    directions = {"helped" if mean > 0 else "hurt" for mean in means if mean}
    return next(iter(shown)) if len(shown) == 1 and directions <= shown else CANNOT_TELL


def clauses(effect: Mapping[str, Any]) -> str:
    """Returns both figures of an effect in words, each with its interval and its outcome."""
    return "; ".join(
        (
            _clause("AUC", effect["auroc"], "{:+.4f}", 1, ""),
            _clause(f"overkill at TPR {100 * TPR:g} %", effect["overkill"], "{:+.1f}", 100, " points"),
        )
    )


def _clause(name: str, figure: Mapping[str, Any], form: str, scale: float, unit: str) -> str:
    low, high = (form.format(scale * end) for end in figure["interval"])
    return f"{name} {form.format(scale * figure['difference'])}{unit} ({low} to {high}): {figure['outcome']}"


def notes_on(outcomes: Mapping[str, Sequence[Outcome]]) -> Iterator[str]:
    """Yields what a reader has to know of the test images."""
    bads = min(int((one.scores["label"] == 1).sum()) for found in outcomes.values() for one in found)
    if bads * (1 - TPR) < 1:
        yield f"With {bads} bad test images a TPR of {100 * TPR:g} % means that none may escape: one image decides."


def relabelled(outcome: Outcome, labels: Mapping[str, int]) -> Outcome:
    """Returns the outcome with other labels of the test images; images without one are left out."""
    label = pl.Series("label", [labels.get(image) for image in outcome.scores["image"]], dtype=pl.UInt8)
    return Outcome(
        outcome.seed, outcome.scores.with_columns(label).filter(pl.col("label").is_not_null()), outcome.facts
    )
