"""Neighbours, map, copies and strangeness: what the overview of all photographs is made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.decomposition import PCA

from knowngood.files import sha256_of
from knowngood.review.lots import base_of, drift
from knowngood.review.neighbours import Known, copies_of, strangeness


def row(number: int, label: int, **more: Any) -> dict[str, Any]:
    return {"id": number, "unit": f"u{number}", "sha256": f"{number:064x}", "label": label, "generated": 0} | more


def test_the_nearest_of_each_label_is_the_nearest_by_hand_and_of_another_unit() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(60, 12)).astype(np.float32)
    rows = [row(n, n % 2) for n in range(60)]
    rows[5] |= {"generated": 1}
    rows[8]["unit"] = "u4"
    doubted = frozenset({rows[10]["sha256"], rows[11]["sha256"]})
    known = Known(rows, features, doubted)
    assert known.counts() == {0: 29, 1: 28}
    far = cdist(features, features)
    for asked in (4, 5, 10, 33):
        found = known.nearest(features[asked], rows[asked]["unit"], rows[asked]["sha256"])
        for label in (0, 1):
            able = [
                n
                for n in range(60)
                if n % 2 == label and n not in {5, 10, 11} and rows[n]["unit"] != rows[asked]["unit"]
            ]
            best = min(able, key=lambda n: far[asked, n])
            one = found[label]
            assert one is not None
            assert (one["id"], one["distance"]) == (best, pytest.approx(far[asked, best], rel=1e-4))


def test_nothing_known_is_nothing_near() -> None:
    known = Known([row(0, 0)], np.zeros((1, 3), np.float32))
    assert known.nearest(np.zeros(3, np.float32), "u0", "x") == {0: None, 1: None}
    assert known.plane is None
    assert Known([], np.empty((0, 0), np.float32)).counts() == {0: 0, 1: 0}


def test_the_map_is_scikit_learns() -> None:
    rng = np.random.default_rng(1)
    features = (rng.normal(size=(80, 6)) * [9, 4, 1, 1, 1, 1]).astype(np.float32)
    plane = Known([row(n, n % 2) for n in range(80)], features).plane
    assert plane is not None
    reference = PCA(2).fit(features)
    assert plane.explained == pytest.approx(reference.explained_variance_ratio_, rel=1e-3)
    assert np.abs(plane.points) == pytest.approx(np.abs(reference.transform(features)), abs=0.02)


def test_copies_that_do_harm_come_first(tmp_path: Path, parts: Path) -> None:
    sources = sorted(parts.rglob("*.png"))[:8]
    rows = []
    for number, (source, label, split) in enumerate(
        [
            *((path, 0, "train") for path in sources[:6]),
            (sources[6], 0, "train"),
            (sources[6], 0, "test"),
            (sources[7], 0, "train"),
            (sources[7], 1, "train"),
        ]
    ):
        path = tmp_path / f"{number}.png"
        path.write_bytes(source.read_bytes())
        facts = {"data": "set", "image": path.name, "place": str(path), "split": split}
        rows.append(row(number, label, **facts) | {"sha256": sha256_of(path)})
    rows.append(row(99, 0, data="set", image="gone", place=str(tmp_path / "gone.png"), split="train"))
    found = copies_of(rows)
    assert [[one["id"] for one in group.rows] for group in found] == [[8, 9], [6, 7]]
    assert [(g.exact, g.contradict, g.across) for g in found] == [(True, True, False), (True, False, True)]
    assert copies_of(rows[:1]) == []


def shot(rng: np.random.Generator, lots: int, shift: float, first: int = 0) -> list[tuple[dict[str, Any], Any]]:
    found = []
    for lot in range(first, first + lots):
        own = rng.normal(0, 0.3, 24)  # sound lots differ
        for _ in range(int(rng.integers(15, 40))):
            facts = {"lot": f"A{lot:03}", "machine": f"M{lot % 3}", "decision": "accept", "defect_score": 0.1}
            found.append((facts, rng.normal(0, 1, 24) + own + shift))
    return found


def test_a_batch_that_looks_strange_to_the_network_alarms_and_sound_lots_rarely_do() -> None:
    hits, false, later = 0, 0, 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        both = [*shot(rng, 30, 0.0), *shot(rng, 5, 0.8, first=30)]
        rows = [facts | {"id": n} for n, (facts, _) in enumerate(both)]
        features = np.array([seen for _, seen in both], np.float32)
        distances = strangeness(rows, features, "lot")
        facts, limits = drift([one | {"features": distances.get(one["id"])} for one in rows])
        assert "features" in limits
        false += sum("features" in lot.alarms for lot in facts[:30])
        later += 30
        hits += sum("features" in lot.alarms for lot in facts[30:])
    assert hits >= 48
    assert false / later <= 0.05


def test_strangeness_is_the_distance_to_another_lot_of_the_first_ones() -> None:
    rng = np.random.default_rng(3)
    rows = [{"id": n, "lot": f"L{n // 6}", "machine": None} for n in range(36)]
    features = rng.normal(size=(36, 5)).astype(np.float32)
    assert base_of([one["lot"] for one in rows]) == ["L0", "L1", "L2"]
    found = strangeness(rows, features, "lot")
    far = cdist(features, features)
    for n in range(36):
        others = [m for m in range(18) if m // 6 != n // 6]
        assert found[n] == pytest.approx(far[n, others].min(), rel=1e-5)
    assert strangeness(rows[:6], features[:6], "lot") == {}
    assert strangeness(rows, features, "machine") == {}
