"""The table of a comparison: networks and conventional classifiers, and the tests of every pair of rows."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from sklearn.metrics import roc_curve

from knowngood.data.records import Records
from knowngood.experiments.classical import Classical, classical
from knowngood.experiments.configs import CompareConfig
from knowngood.experiments.effects import auroc_over_seeds, pair
from knowngood.experiments.runner import Outcome
from knowngood.metrics.comparisons import (
    AccuracyComparison,
    AucComparison,
    OverSeeds,
    compare_accuracy,
    compare_auroc,
    holm,
    over_seeds,
)
from knowngood.training.config import CLASSIFIERS, ClassicalConfig
from knowngood.workflows.train import CLASS_THRESHOLD


@dataclass(frozen=True)
class Row:
    """One line of the table: one way to train, with every seed.

    Attributes:
        key: Unique among the rows; fit for a file name.
        kind: A network, or a conventional classifier on features.
        model: Its name.
        training_set: Name of what it was trained on.
        weights: Origin of the initial weights, or "random weights".
        outcomes: One for each seed, seeds ascending, with scores in [0, 1]. Their facts are train_accuracy (of the
            training split as fitted, or None), test (the figures of the test split, as in metrics.json), minutes,
            history (one entry for each epoch), changes (of the training set, in sentences) and folder (of the run).
        pretrained: Whether the initial weights are pretrained.
        freeze: Which layers are not trained.
        balance: How class imbalance is handled.
        parameters: Number of trained parameters; None for a conventional classifier.
        multiply_adds: For one image.
        images_per_second: In prediction.
        input_shape: Channels, height and width in pixels of its input.
    """

    key: str
    kind: Literal["network", "conventional"]
    model: str
    training_set: str
    weights: str
    outcomes: tuple[Outcome, ...]
    pretrained: bool = True
    freeze: str = "none"
    balance: str = "sampling"
    parameters: int | None = None
    multiply_adds: int | None = None
    images_per_second: float | None = None
    input_shape: tuple[int, int, int] | None = None


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
    auroc: OverSeeds
    accuracy: OverSeeds
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
    """Returns the pairs of one row, with it as the first."""
    return [p if p.first == best else p.turned() for p in pairs if best in (p.first, p.second)]


def sentence(pair: Pair, names: dict[str, str], level: float) -> str:
    """Returns what a pair shows, in one sentence.

    Args:
        pair: The better row first.
        names: Key of a row to its name.
        level: p-values below it count as significant.
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
    label, first, second = pair(one, two)
    decided = [(score >= CLASS_THRESHOLD).astype(np.uint8) for score in (first, second)]
    return one.seed, compare_auroc(label, first, second, confidence=confidence), compare_accuracy(label, *decided)


def _negative(value: OverSeeds) -> OverSeeds:
    low, high = value.interval
    return OverSeeds(-value.mean, value.error, (-high, -low), value.p_value, value.seeds)


def _as_dict(value: OverSeeds, p_value: float) -> dict[str, Any]:
    return {
        "difference": value.mean,
        "ci": list(value.interval),
        "p_value": value.p_value,
        "p_value_corrected": p_value,
    }


FOLDER = "conventional"


def check_conventional(config: CompareConfig) -> None:
    """Raises UnknownNameError for a classifier that is not registered, before anything is read."""
    for name in config.classifiers:
        CLASSIFIERS.get(name)


def conventional_rows(sets: Mapping[int, Records], config: CompareConfig, folder: Path) -> list[Row]:
    """Returns one row for each classifier, on the features of the pretrained network `config.feature_model`.

    Args:
        sets: Seed to the set with splits that the networks of that seed were trained on.
        config: Of the comparison.
        folder: Of the comparison; each seed writes its own page there.
    """
    if not config.classifiers:
        return []
    done = {seed: _fitted(divided, config, seed, folder) for seed, divided in sorted(sets.items())}
    rows = []
    for name in config.classifiers:
        made = [(seed, one, next(r for r in one.rows if r["model"] == name)) for seed, one in done.items()]
        rows.append(
            Row(
                key=name,
                kind="conventional",
                model=name,
                training_set=f"{config.feature_model} features",
                weights=made[0][1].features.origin,
                outcomes=tuple(
                    Outcome(
                        seed,
                        one.scores.filter(pl.col("model") == name).select("image", "label", "score"),
                        {
                            "train_accuracy": row["train_accuracy"],
                            "test": row["test"],
                            "minutes": row["seconds"] / 60,
                            "history": [],
                            "changes": ["features of a pretrained network that is not changed"],
                            "folder": str(one.folder),
                        },
                    )
                    for seed, one, row in made
                ),
                images_per_second=made[0][2]["images_per_second"],
            )
        )
    return rows


def _fitted(divided: Records, config: CompareConfig, seed: int, folder: Path) -> Classical:
    placed = divided.with_frame(divided.frame.filter(pl.col("split").is_not_null()))
    options = ClassicalConfig(
        model=config.feature_model,
        classifiers=",".join(config.classifiers),
        seed=seed,
        test=config.test,
        val=config.val,
        calibration=config.calibration,
    )
    return classical(placed, folder / FOLDER / f"seed-{seed}", options)


_FACTS = ("train_accuracy", "test", "minutes", "changes", "folder", "history")  # of a training, in compare.json
_CURVE_FROM = 0.8  # TPR from which the ROC curve is kept, for the figure
_NAMED = 3  # rows that the verdict names at most
ONE_SEED = "bootstrap over the test images"
SEEDS = "DeLong over the test images, and the spread over seeds"


def describe(rows: Sequence[Row], pairs: Sequence[Pair], confidence: float) -> dict[str, Any]:
    """Returns the document of a comparison: rows with the highest AUC first, all pairs, sentences on the best row.

    Args:
        rows: With the same seeds.
        pairs: All of them, from `compare_rows`.
        confidence: Of intervals; differences are significant where p is below 1 - confidence.
    """
    ranked = sorted((_row(row, confidence) for row in rows), key=lambda row: -row["auroc"])
    level = 1 - confidence
    names = names_of(rows)
    by_second = {pair.second: pair for pair in against(ranked[0]["key"], pairs)}
    sentences = []
    for row in ranked[1:]:
        pair = by_second[row["key"]]
        row["auroc_p_against_best"], row["accuracy_p_against_best"] = pair.auroc_p, pair.accuracy_p
        sentences.append(sentence(pair, names, level))
    for row in ranked:
        row["name"] = names[row["key"]]
    return {
        "best": ranked[0]["key"],
        "verdict": _verdict(ranked, names, level),
        "sentences": sentences,
        "rows": ranked,
        "pairs": {
            "test_of_auroc": "DeLong's test, paired by image",
            "test_of_accuracy": "McNemar's test, paired by image; units count as bad from score 0.5",
            "over_seeds": "mean difference, with the error of the images (as if shared by all seeds) and the spread",
            "correction": f"Holm over {len(pairs)} pairs, AUC and accuracy apart",
            "level": round(level, 6),
            "all": [pair.to_dict() for pair in pairs],
        },
    }


def names_of(rows: Sequence[Row]) -> dict[str, str]:
    """Returns key to name: the model, and in brackets what differs between the rows."""
    networks = [row for row in rows if row.kind == "network"]
    parts = {row.key: (row.training_set, _freezing(row.freeze), f"balance {row.balance}") for row in networks}
    differs = [len({given[place] for given in parts.values()}) > 1 for place in range(3)]
    names = {row.key: f"{row.model} on {row.training_set}" for row in rows if row.kind == "conventional"}
    for row in networks:
        own = [part for part, wanted in zip(parts[row.key], differs, strict=True) if wanted]
        names[row.key] = f"{row.model} ({', '.join(own)})" if own else row.model
    return names


def as_table(document: dict[str, Any]) -> pl.DataFrame:
    """Returns the table with one row for each row of the comparison, the highest AUC first."""
    lines = []
    for row in document["rows"]:
        line = {
            name: row[name]
            for name in ("key", "kind", "model", "training_set", "freeze", "balance", "weights", "pretrained")
        }
        line |= {"seeds": len(row["seeds"]), "train_accuracy": row["train_accuracy"], "test_accuracy": row["accuracy"]}
        line |= {"auroc": row["auroc"], "auroc_low": row["auroc_ci"][0], "auroc_high": row["auroc_ci"][1]}
        line |= {f"fpr_at_tpr_{tpr}": fpr for tpr, fpr in row["fpr_at_tpr"].items()}
        line |= {
            "parameters_m": _divided(row["parameters"], 1e6),
            "gflops": _divided(row["flops"], 1e9),
            "images_per_second": row["images_per_second"],
            "minutes": row["minutes"],
            "auroc_p_against_best": row.get("auroc_p_against_best"),
            "accuracy_p_against_best": row.get("accuracy_p_against_best"),
        }
        lines.append(line)
    return pl.DataFrame(lines, infer_schema_length=None)


def _row(row: Row, confidence: float) -> dict[str, Any]:
    outcomes = row.outcomes
    learned = [o.facts["train_accuracy"] for o in outcomes if o.facts["train_accuracy"] is not None]
    return {
        "key": row.key,
        "kind": row.kind,
        "model": row.model,
        "training_set": row.training_set,
        "freeze": row.freeze,
        "balance": row.balance,
        "weights": row.weights,
        "pretrained": row.pretrained,
        "input": row.input_shape,
        "train_accuracy": statistics.fmean(learned) if learned else None,
        "accuracy": statistics.fmean(o.facts["test"]["accuracy"] for o in outcomes),
        **_auroc(outcomes, confidence),
        "fpr_at_tpr": {
            tpr: statistics.fmean(o.facts["test"]["fpr_at_tpr"][tpr] for o in outcomes)
            for tpr in outcomes[0].facts["test"]["fpr_at_tpr"]
        },
        "parameters": row.parameters,
        "multiply_adds": row.multiply_adds,
        "flops": None if row.multiply_adds is None else 2 * row.multiply_adds,
        "images_per_second": row.images_per_second,
        "minutes": statistics.fmean(o.facts["minutes"] for o in outcomes),
        "changes": outcomes[0].facts["changes"],
        "roc": _curve(outcomes[0]),
        "seeds": [{"seed": o.seed} | {name: o.facts[name] for name in _FACTS} for o in outcomes],
    }


def _auroc(outcomes: Sequence[Outcome], confidence: float) -> dict[str, Any]:
    """Returns AUC and interval: of the bootstrap with one seed, else combined over the seeds."""
    if len(outcomes) == 1:
        test = outcomes[0].facts["test"]
        return {"auroc": test["auroc"], "auroc_ci": test["auroc_ci"], "auroc_ci_from": ONE_SEED}
    combined = auroc_over_seeds(outcomes, confidence)
    low, high = combined.interval
    return {"auroc": combined.mean, "auroc_ci": [max(low, 0.0), min(high, 1.0)], "auroc_ci_from": SEEDS}


def _curve(outcome: Outcome) -> list[list[float]]:
    """Returns the corners of the ROC curve of one seed near a TPR of 1, as (FPR, TPR)."""
    labels, scores = outcome.scores["label"].to_numpy(), outcome.scores["score"].to_numpy()
    fpr, tpr, _ = roc_curve(labels, scores, drop_intermediate=False)
    near = max(int(np.searchsorted(tpr, _CURVE_FROM)) - 1, 0)
    points = list(zip(fpr[near:].tolist(), tpr[near:].tolist(), strict=True))
    corners = [
        at
        for before, at, after in zip(points, points[1:], points[2:], strict=False)
        if not (before[0] == at[0] == after[0] or before[1] == at[1] == after[1])
    ]
    return [[round(x, 6), round(y, 6)] for x, y in [points[0], *corners, points[-1]]]


def _verdict(ranked: Sequence[dict[str, Any]], names: dict[str, str], level: float) -> str:
    """Returns the result in one sentence."""
    best = ranked[0]
    first = f"{names[best['key']]} has the highest AUC, {best['auroc']:.4f}"
    if len(ranked) == 1:
        return f"{first}; there is nothing to compare it with."
    even = [names[row["key"]] for row in ranked[1:] if row["auroc_p_against_best"] >= level]
    if not even:
        return f"{first}; the rest is really behind it."
    if len(even) == len(ranked) - 1:
        return f"{first}, but no difference to any other row is shown."
    some = [*even[:_NAMED], f"{len(even) - _NAMED} more"] if len(even) > _NAMED + 1 else even
    return f"{first}; no difference is shown to {', '.join(some)}; the rest is really behind it."


def _freezing(freeze: str) -> str:
    return {"none": "nothing frozen", "stem": "stem frozen", "all-but-head": "all but head frozen"}.get(freeze, freeze)


def _divided(value: float | None, unit: float) -> float | None:
    return None if value is None else value / unit
