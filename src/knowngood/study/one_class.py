"""What differs when an inspector learned from good images alone: scores, threshold, what is said of escapes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from knowngood import wording
from knowngood.data.records import GOOD
from knowngood.decide.calibration import Calibration
from knowngood.decide.threshold import UNKNOWN, Threshold, proportion_interval, threshold_at_overkill
from knowngood.models.training.config import TrainConfig

ORDINARY = 0.1  # score of the median held-out good unit; the highest that the budget lets pass has 0.5


def calibrated(
    labels: npt.NDArray[np.uint8], margins: npt.NDArray[np.float64], config: TrainConfig
) -> tuple[Calibration, Threshold]:
    """Returns what turns margins into scores, and the threshold, from held-out good images alone.

    score = sigmoid((margin - q) / t): q is the margin just above which the overkill budget lets units be rejected,
    and t puts the median good unit at `ORDINARY`. The guarantee rests on ranks alone, which no rising map changes.

    Args:
        labels: (N,) of the calibration split; bad rows are passed over.
        margins: (N,) distances, higher is more abnormal.
        config: Budgets and confidence.
    """
    good = margins[labels == GOOD]

    def chosen(values: npt.NDArray[np.float64], budget: float) -> Threshold:
        return threshold_at_overkill(values, overkill=budget, confidence=config.confidence)

    middle, cut = float(np.median(good)), chosen(good, config.overkill_budget).threshold
    spread = max(cut - middle, 1e-3 * abs(cut), 1e-6)  # copies of one image have no spread
    temperature = spread / float(np.log(1 / ORDINARY - 1))
    calibration = Calibration(temperature=temperature, bias=-cut / temperature, note=_note(len(good)))
    scores = calibration.apply(good)
    threshold = chosen(scores, config.overkill_budget)
    if config.review_overkill is None:
        return calibration, threshold
    upper = chosen(scores, config.review_overkill)
    sentence = (
        f"{threshold.sentence} Between the two cuts a person looks; of the goods at most "
        f"{wording.percent(upper.certified_overkill_rate)} are rejected unseen."
    )
    reject = max(threshold.threshold, upper.threshold)
    return calibration, replace(threshold, reject_from=reject, sentence=sentence)


def escapes(test: dict[str, Any] | None) -> str:
    """Returns what can honestly be said of the escape rate: measured on the test split, or unknown."""
    if test is None or not test["n_bad"]:
        return UNKNOWN
    missed, bads = test["confusion"]["fn"], test["n_bad"]
    interval = wording.percent_range(proportion_interval(missed, bads))
    return (
        f"escape rate: {missed} of {wording.counted(bads, 'bad test image')} escaped, {wording.percent(missed / bads)} "
        f"(exact 95 % interval {interval}); measured on these defects only, and not certified"
    )


def _note(goods: int) -> str:
    return (
        f"From {wording.counted(goods, 'held-out good image')}: a score of {ORDINARY:g} is an ordinary good unit, 0.5 "
        "is where the overkill budget cuts. Scores order units; they are no probabilities."
    )
