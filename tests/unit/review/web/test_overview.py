"""The overview beside the work: features taken off the scoring, neighbours, and what is told when there are none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient

from knowngood.data.images import decode
from knowngood.review.inspector import DeepFeatures
from knowngood.review.overview import Overview
from knowngood.review.serving import take_over_run
from knowngood.review.station import Job, Station
from knowngood.review.store.verdicts import NewVerdict


def test_features_are_those_of_the_head_and_scoring_is_not_changed_by_taking_them(
    station: Station, parts: Path
) -> None:
    paths = sorted(parts.rglob("*.png"))[:5]
    inspector = station.inspector
    prepared = [inspector.prepare(path.read_bytes(), path.name, 10**7) for path in paths]
    scores, rows = inspector.score_and_embed(prepared)
    plain = inspector.recipe.predict(paths)
    assert scores == [one.defect_score for one in plain]
    assert rows.shape[0] == 5
    assert rows is not None
    assert np.allclose(rows, inspector.embed(prepared), atol=1e-4)
    assert not inspector.embedder._head._forward_pre_hooks
    assert np.linalg.norm(rows[0] - rows[1]) > 0
    assert prepared[0].fitted.shape == inspector.recipe.fitted(decode(paths[0].read_bytes())).shape


def test_features_are_kept_and_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KNOWNGOOD_CACHE", str(tmp_path))
    digests = [f"{n:064x}" for n in range(4)]
    rows = np.arange(12, dtype=np.float32).reshape(4, 3)
    rows[3, 0] = np.nan
    first = DeepFeatures(["x"])
    first.add(digests, rows)
    first.flush()
    again = DeepFeatures(["x"])
    assert again.of(digests)[0] == []
    assert again.lacking(digests) == [digests[3]]  # what is not a number is not kept
    places, found = again.of(digests[1:])
    assert places == [0, 1]
    assert found.tolist() == rows[1:3].tolist()
    assert DeepFeatures(["y"]).lacking(digests) == digests


def test_a_run_that_was_taken_over_has_neighbours_and_what_is_doubted_is_none(
    station: Station, trained_run: Path
) -> None:
    take_over_run(station, trained_run)
    overview = Overview(station)
    asked = station.record.queue.take("tab", 1)[0] if station.record.queue.counts()["waiting"] else None
    any_row = asked or station.record.inspections.search(most=1)[0]
    found, why = overview.neighbours(any_row)
    assert found == {0: None, 1: None}
    assert why
    overview.update()
    found, why = overview.neighbours(any_row)
    assert why == ""
    for label in (0, 1):
        one = found[label]
        assert one is not None
        assert (one["label"], one["unit"] != any_row["unit"]) == (label, True)
        assert one["sha256"] not in station.record.queue.waiting()
    seen = overview.view
    overview.update()
    assert overview.view is seen  # nothing has changed
    station.record.verdicts.add(NewVerdict(any_row["id"], "good", "ann"), "tab" if asked else None)
    overview.update()
    assert overview.view is not seen


def test_a_station_without_labels_says_why_there_is_nothing_to_compare_with(
    client: TestClient, station: Station, parts: Path
) -> None:
    data = next((parts / "chip").iterdir()).read_bytes()
    number = station.inspect([Job(data, "x.png")])[0].number
    overview: Overview = client.app.state.overview  # type: ignore[attr-defined]
    overview.update()
    told = client.get(f"/queue/near/{number}").json()
    assert (told["good"], told["bad"]) == (None, None)
    assert "--data" in told["why"]
    assert client.get("/queue/near/0").status_code == 404
    assert client.get("/queue/near/..%2f1").status_code in (404, 422)


def test_photographs_that_are_gone_are_asked_for_once(
    make_station: Callable[..., Station], trained_run: Path, parts: Path
) -> None:
    station = make_station(keep="doubtful")
    data = next((parts / "good").iterdir()).read_bytes()
    number = station.inspect([Job(data, "x.png", lot="A")])[0].number
    row = station.record.inspections.one(number)
    assert row is not None
    other = Overview(station)
    fresh = DeepFeatures(["another network"])
    station.features = fresh
    for path in station.shelf.folder.rglob("*"):
        if path.is_file():
            path.unlink()
    other.update()
    assert other._broken == {row["sha256"]}
    other.update()
    assert fresh.of([row["sha256"]])[0] == []
