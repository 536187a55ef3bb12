"""Which differences between rows are real: paired tests on the same test images, corrected for their number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from knowngood.decide.compare import AccuracyComparison, AucComparison, compare_accuracy, compare_auroc
from knowngood.decide.over_seeds import Combined, holm, over_seeds
from knowngood.errors import DataError
from knowngood.study.comparison.rows import Outcome, Row
from knowngood.study.training import CLASS_THRESHOLD


@dataclass(frozen=True)
class Pair:
    """Two rows, the first minus the second.

    Attributes:
        first: Key of a row.
        second: Key of another.
        auroc: Difference of AUC over the seeds.
        accuracy: Difference of accuracy over the seeds.
        auroc_p: p value of the first after Holm's correction.
        accuracy_p: p value of the second after Holm's correction.
        by_seed: DeLong's and McNemar's test of each seed.
    """

    first: str
    second: str
    auroc: Combined
    accuracy: Combined
    auroc_p: float
    accuracy_p: float
    by_seed: tuple[tuple[int, AucComparison, AccuracyComparison], ...]

    def to_dict(self) -> dict[str, Any]:
        """Returns JSON-ready values."""
        return {
            "first": self.first,
            "second": self.second,
            "auroc": _as_dict(self.auroc, self.auroc_p),
            "accuracy": _as_dict(self.accuracy, self.accuracy_p),
            "seeds": [
                {
                    "seed": seed,
                    "delong": {"difference": auc.difference, "ci": list(auc.interval), "p_value": auc.p_value},
                    "mcnemar": {
                        "only_first_right": right.only_a_right,
                        "only_second_right": right.only_b_right,
                        "p_value": right.p_value,
                    },
                }
                for seed, auc, right in self.by_seed
            ],
        }

    def turned(self) -> Pair:
        """Returns the second minus the first."""
        return Pair(
            self.second,
            self.first,
            _negative(self.auroc),
            _negative(self.accuracy),
            self.auroc_p,
            self.accuracy_p,
            self.by_seed,
        )


def compare_rows(rows: Sequence[Row], confidence: float) -> list[Pair]:
    """Tests every pair of rows on the test images that both scored.

    With one seed these are DeLong's test and McNemar's exact test. With several, the differences of the seeds are
    combined by `over_seeds`, which counts the error of the images and the spread between trainings.

    Args:
        rows: With the same seeds.
        confidence: Of the intervals.

    Raises:
        DataError: Two rows were not tested on the same images.
    """
    found = []
    for one, two in combinations(rows, 2):
        tests = [_one_seed(a, b, confidence) for a, b in zip(one.outcomes, two.outcomes, strict=True)]
        auroc = over_seeds([t[1].difference for t in tests], [t[1].error for t in tests], confidence=confidence)
        accuracy = over_seeds([t[2].difference for t in tests], [t[2].error for t in tests], confidence=confidence)
        p_value = tests[0][2].p_value if len(tests) == 1 else accuracy.p_value  # exact where it can be
        found.append(Pair(one.key, two.key, auroc, accuracy, auroc.p_value, p_value, tuple(tests)))
    of_auroc, of_accuracy = holm([p.auroc_p for p in found]), holm([p.accuracy_p for p in found])
    return [
        Pair(p.first, p.second, p.auroc, p.accuracy, float(a), float(b), p.by_seed)
        for p, a, b in zip(found, of_auroc, of_accuracy, strict=True)
    ]


def against(best: str, pairs: Sequence[Pair]) -> list[Pair]:
    """Returns the pairs of one row, it first."""
    return [p if p.first == best else p.turned() for p in pairs if best in (p.first, p.second)]


def sentence(pair: Pair, names: dict[str, str], level: float) -> str:
    """Says in words what a pair shows.

    Args:
        pair: The better row first.
        names: Key of a row to what it is called.
        level: p values below it are called real.
    """
    first, second = names[pair.first], names[pair.second]
    low, high = max(pair.auroc.interval[0], -1.0), min(pair.auroc.interval[1], 1.0)
    figures = f"{pair.auroc.mean:.4f} ({low:.4f} to {high:.4f}), p {p_words(pair.auroc_p)}"
    auroc = (
        f"{first} separates better than {second}: AUC higher by {figures}"
        if pair.auroc_p < level
        else f"No difference in AUC is shown between {first} and {second}: {figures}"
    )
    more = f"{round(100 * pair.accuracy.mean, 1) + 0.0:+} points, p {p_words(pair.accuracy_p)}"
    real = pair.accuracy_p < level
    accuracy = f"accuracy differs ({more})" if real else f"accuracy shows no difference ({more})"
    return f"{auroc}; {accuracy}."


def p_words(p_value: float) -> str:
    """Returns "= 0.012" or "< 0.001"."""
    return "< 0.001" if p_value < 0.001 else f"= {p_value:.2g}"


def _one_seed(one: Outcome, two: Outcome, confidence: float) -> tuple[int, AucComparison, AccuracyComparison]:
    both = one.scores.join(two.scores, on="image", suffix="_two").sort("image")
    if both.height != one.scores.height or one.scores.height != two.scores.height:
        raise DataError(
            f"Two rows were tested on different images with seed {one.seed}: {one.scores.height} and "
            f"{two.scores.height}, of which {both.height} are the same.",
            expected="the same test images for every row",
        )
    label, first, second = (both[name].to_numpy() for name in ("label", "score", "score_two"))
    decided = [(score >= CLASS_THRESHOLD).astype(np.uint8) for score in (first, second)]
    return one.seed, compare_auroc(label, first, second, confidence=confidence), compare_accuracy(label, *decided)


def _negative(value: Combined) -> Combined:
    low, high = value.interval
    return Combined(-value.mean, value.error, (-high, -low), value.p_value, value.seeds)


def _as_dict(value: Combined, p_value: float) -> dict[str, Any]:
    return {
        "difference": value.mean,
        "ci": list(value.interval),
        "p_value": value.p_value,
        "p_value_corrected": p_value,
    }
