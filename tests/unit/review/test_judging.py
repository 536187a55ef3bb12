"""Agreement, drift, requalification, doubt: the figures behind the pages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import cohen_kappa_score

from knowngood.errors import DataError
from knowngood.metrics.thresholds import Thresholds
from knowngood.review.lots import drift
from knowngood.review.requalify import agreements, cohens_kappa, requalify
from knowngood.review.station import review_priority
from knowngood.review.store.record import Record


@pytest.mark.parametrize("seed", range(5))
def test_kappa_is_scikit_learns(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a = rng.random(60) < 0.4
    b = np.where(rng.random(60) < 0.25, ~a, a)
    assert cohens_kappa(a.tolist(), b.tolist()) == pytest.approx(cohen_kappa_score(a, b))


def test_kappa_of_nothing_or_of_one_answer_does_not_exist() -> None:
    assert cohens_kappa([], []) is None
    assert cohens_kappa([True, True], [True, True]) is None


def test_people_are_held_against_labels_recipe_and_each_other() -> None:
    def said(who: str, name: str, verdict: str, decision: str) -> dict[str, Any]:
        return {"who": who, "sha256": name, "verdict": verdict, "decision": decision}

    verdicts = [
        said("ann", "a", "bad", "reject"),
        said("ann", "b", "good", "reject"),
        said("ann", "c", "good", "accept"),
        said("ann", "d", "unsure", "accept"),
        said("bob", "a", "good", "reject"),
        said("bob", "c", "bad", "accept"),
    ]
    found = {(one.who, one.reference): one for one in agreements(verdicts, {"a": 1, "b": 1, "c": 0, "d": 0})}
    ann = found["ann", "the labels"]
    assert (ann.count, ann.miss_rate, ann.false_alarm_rate) == (3, 0.5, 0.0)
    assert ann.effectiveness == pytest.approx(2 / 3)
    assert not ann.acceptable
    assert found["ann", "the recipe"].miss_rate == 0.5
    assert found["bob", "the labels"].false_alarm_rate == 1
    assert (found["ann", "bob"].count, found["ann", "bob"].effectiveness) == (2, 0)


def lots(
    rng: np.random.Generator, count: int, shift: float = 0.0, first: int = 0, light: float = 0.0
) -> list[dict[str, Any]]:
    rows = []
    for lot in range(first, first + count):
        own = rng.normal(0, 0.2)  # sound lots differ too
        for _ in range(int(rng.integers(20, 80))):
            score = float(expit(rng.normal(-3 + own + shift, 1)))
            row = {"lot": f"A{lot:03}", "machine": f"M{lot % 2}", "defect_score": score, "decision": "accept"}
            rows.append(
                row | {"brightness": rng.normal(120 + light, 5), "contrast": 40.0, "sharpness": rng.normal(5, 1)}
            )
    return rows


def test_sound_lots_rarely_alarm_and_a_drifted_batch_does() -> None:
    rng = np.random.default_rng(0)
    facts, limits = drift([*lots(rng, 60), *lots(rng, 10, shift=1.5, first=60)])
    assert set(limits) == {"score", "brightness", "contrast", "sharpness"}
    assert sum("score" in lot.alarms for lot in facts[:60]) <= 2
    assert all("score" in lot.alarms for lot in facts[60:])
    assert not any("contrast" in lot.alarms for lot in facts)
    facts, _ = drift([*lots(rng, 20), *lots(rng, 1, light=12, first=20)])
    assert facts[-1].alarms == ("brightness",)


def test_a_shift_that_no_single_lot_shows_is_found() -> None:
    found, false = 0, 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        facts, _ = drift([*lots(rng, 30), *lots(rng, 12, shift=0.45, first=30)])  # less than two errors of a lot
        found += any("score" in lot.alarms for lot in facts[30:])
        false += any("score" in lot.alarms for lot in facts[15:30])
    assert found >= 16
    assert false <= 3


def test_small_and_nameless_lots_do_not_alarm() -> None:
    rng = np.random.default_rng(0)
    nameless = [row | {"lot": None} for row in lots(rng, 2)]
    assert drift(nameless) == ([], {})
    facts, limits = drift(lots(rng, 1)[:4])
    assert (len(facts), limits, facts[0].alarms) == (1, {}, ())
    bare = [row | dict.fromkeys(("brightness", "contrast", "sharpness")) for row in lots(rng, 8)]  # a run taken over
    facts, limits = drift([*bare, *lots(rng, 1, first=8)])
    assert (len(facts), set(facts[0].means), len(facts[-1].means)) == (9, {"score"}, 4)
    facts, _ = drift([*lots(rng, 10), *lots(rng, 1, shift=9, first=10)[:4]])
    assert facts[-1].alarms == ()
    assert {fact.lot for fact in drift(lots(rng, 6), "machine")[0]} == {"M0", "M1"}


def test_a_new_revision_is_held_against_the_old_one(record: Record, file_some: Callable[..., list[int]]) -> None:
    numbers = file_some(0.1, 0.2, 0.35, 0.4, 0.9, 0.5)
    rows = [record.inspections.one(n) or {} for n in numbers]
    labels = (0, 1, 1, 0, 1, None)
    record.labels.take_over(
        "golden",
        [
            {"image": r["image"], "sha256": r["sha256"], "label": y, "defect": None, "split": "test", "generated": 0}
            for r, y in zip(rows, labels, strict=True)
        ],
    )
    old = record.revisions.everything()[0]["id"]
    first = record.revisions.one(old) or {}
    new = record.revisions.change(first, 0.15, 0.15, "ann", "an escape")
    told = requalify(record, first, new)
    assert told.figures["old"] | {"escape_bound": None} == {
        **{"images": 5, "bads": 3, "escapes": 1, "escape_bound": None, "overkill": 0, "reviews": 2, "wrong": 1},
    }
    assert (told.figures["new"]["escapes"], told.figures["new"]["overkill"]) == (0, 1)
    assert [(r["defect_score"], r["was"], r["is_now"], r["worse"]) for r in told.flipped] == [
        (0.4, "review", "reject", True),
        (0.2, "accept", "reject", False),
        (0.35, "review", "reject", False),
    ]
    with pytest.raises(DataError, match="no labelled image"):
        requalify(record, first, new, "calibration")


def test_labels_that_the_score_contradicts_come_first_then_the_middle_of_the_band() -> None:
    cuts = Thresholds(0.3, 0.7)
    doubts = [
        review_priority(0.05, cuts, 1),
        review_priority(0.95, cuts, 0),
        review_priority(0.5, cuts, 0),
        review_priority(0.35, cuts),
        review_priority(0.71, cuts),
        review_priority(0.99, cuts),
    ]
    values = [value for value, _ in doubts if value is not None]
    assert values == sorted(values, reverse=True)
    assert len(values) == len(doubts)
    assert review_priority(0.1, cuts) == review_priority(0.1, cuts, 0) == review_priority(0.9, cuts, 1) == (None, "")
    assert review_priority(0.5, Thresholds(0.5, 0.5))[1] == "rejected"
