"""Pairs and the document: real differences are called real, others are not, and rows of any kind may stand there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from knowngood.errors import DataError
from knowngood.experiments.comparison_table import (
    Row,
    against,
    as_table,
    compare_rows,
    describe,
    names_of,
    sentence,
)
from knowngood.experiments.runner import Outcome
from knowngood.metrics.figures import compute_metrics
from knowngood.report.comparison import comparison_page


def outcome(skill: float, seed: int = 0, noise: int = 0, count: int = 400) -> Outcome:
    """Scores of a classifier of some skill; equal seeds have equal images."""
    images, own = np.random.default_rng(seed), np.random.default_rng([seed, noise])
    label = (np.arange(count) % 4 == 0).astype(np.uint8)
    hardness = images.normal(0, 1, count)
    score = 1 / (1 + np.exp(-(skill * (2.0 * label - 1) + hardness + own.normal(0, 0.4, count))))
    facts = {
        "train_accuracy": 0.99,
        "test": compute_metrics(label, score, threshold=0.5, resamples=50).to_dict(),
        "minutes": 1.5,
        "history": [{"epoch": 0.0, "val_auroc": 0.5}, {"epoch": 1.0, "val_auroc": 0.8, "seconds": 90.0}],
        "changes": [],
        "folder": None,
    }
    scores = pl.DataFrame({"image": [f"{i}" for i in range(count)], "label": label, "score": score})
    return Outcome(seed, scores, facts)


def row(key: str, skill: float, noise: int, seeds: int = 1, **fields: object) -> Row:
    outcomes = tuple(outcome(skill, seed, noise) for seed in range(seeds))
    usual = {"kind": "network", "model": key, "training_set": "as-is", "weights": "random weights", "pretrained": False}
    usual |= {"parameters": 11_000_000, "multiply_adds": 10**9, "images_per_second": 50.0 * noise}
    return Row(key=key, outcomes=outcomes, **(usual | fields))  # type: ignore[arg-type]


@pytest.mark.parametrize("seeds", [1, 3])
def test_a_real_difference_is_told_from_noise(seeds: int) -> None:
    rows = [row("good", 2.0, 1, seeds), row("equal", 2.0, 2, seeds), row("poor", 0.7, 3, seeds)]
    document = describe(rows, compare_rows(rows, 0.95), 0.95)
    assert document["rows"][2]["key"] == "poor"
    assert document["rows"][2]["auroc_p_against_best"] < 0.001
    assert document["rows"][1]["auroc_p_against_best"] > 0.05
    assert "separates better than poor" in document["sentences"][1]
    assert document["sentences"][0].startswith("No difference in AUC is shown")
    assert "the rest is really behind" in document["verdict"]
    assert len(document["pairs"]["all"]) == 3


def test_one_seed_is_delong_and_mcnemar() -> None:
    rows = [row("a", 2.0, 1), row("b", 1.2, 2)]
    pair = compare_rows(rows, 0.95)[0]
    label, a, b = (
        rows[0].outcomes[0].scores["label"].to_numpy(),
        *(r.outcomes[0].scores["score"].to_numpy() for r in rows),
    )
    assert pair.auroc.mean == pytest.approx(roc_auc_score(label, a) - roc_auc_score(label, b))
    right = [(s >= 0.5) == (label == 1) for s in (a, b)]
    only = int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())
    assert pair.accuracy_p == pytest.approx(binomtest(only[0], sum(only)).pvalue)
    assert pair.accuracy.mean == pytest.approx(right[0].mean() - right[1].mean())


def test_turned_round_it_says_the_same() -> None:
    pair = compare_rows([row("a", 2.0, 1), row("b", 1.2, 2)], 0.95)[0]
    turned = against("b", [pair])[0]
    assert (turned.first, turned.second) == ("b", "a")
    assert turned.auroc.mean == -pair.auroc.mean
    assert turned.auroc.interval == (-pair.auroc.interval[1], -pair.auroc.interval[0])
    assert "a separates better than b" in sentence(pair, {"a": "a", "b": "b"}, 0.05)


def test_different_images_are_refused() -> None:
    one, two = row("a", 2.0, 1), row("b", 2.0, 2)
    shorter = replace(two.outcomes[0], scores=two.outcomes[0].scores.head(399))
    with pytest.raises(DataError, match="different images"):
        compare_rows([one, Row(**{**vars(two), "outcomes": (shorter,)})], 0.95)


def test_a_conventional_classifier_stands_in_the_same_table() -> None:
    forest = row("forest", 1.5, 2, kind="conventional", parameters=None, multiply_adds=None, images_per_second=None)
    bare = replace(forest.outcomes[0], facts=forest.outcomes[0].facts | {"history": [], "train_accuracy": None})
    rows = [row("net", 1.5, 1), Row(**{**vars(forest), "outcomes": (bare,)})]
    document = describe(rows, compare_rows(rows, 0.95), 0.95)
    table = as_table(document)
    assert set(table["kind"]) == {"network", "conventional"}
    assert table.filter(pl.col("model") == "forest")["gflops"].to_list() == [None]
    assert table.filter(pl.col("model") == "net")["gflops"].to_list() == [2.0]
    facts = {"created": "now", "data": {"good": 3, "bad": 1, "source": "s", "root": "r", "licence": None}}
    facts |= {"notes": [], "left_out": {"x": "why", "y": "why"}, "config": {}, "versions": {}, "command": "c"}
    page = comparison_page(document | facts | {"machine": {"gpu": None, "threads": 2}})
    assert "forest" in page
    assert "x, y: why" in page


def test_names_say_only_what_differs() -> None:
    rows = [row("a", 1, 1, model="net"), row("b", 1, 2, model="net", training_set="transforms")]
    assert names_of(rows) == {"a": "net (as-is)", "b": "net (transforms)"}
    assert names_of(rows[:1]) == {"a": "net"}
    frozen = row("c", 1, 3, model="net", freeze="stem", balance="none")
    assert names_of([rows[0], frozen])["c"] == "net (stem frozen, balance none)"
