"""Filling the record: from a run, from data, from a folder into which a camera drops photographs."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="the review station comes with the extra review")

from starlette.testclient import TestClient

from knowngood.data.labels import read_verdicts, with_verdicts
from knowngood.data.loading import load
from knowngood.errors import DataError, UnsignedError
from knowngood.recipe.bundle import Recipe
from knowngood.review.inbox import Watcher
from knowngood.review.serving import approval_notes, inspect_data, open_station, take_over_run
from knowngood.review.station import Station
from knowngood.review.store.verdicts import NewVerdict
from knowngood.review.verdict_files import queue_audit
from knowngood.review.web.factory import make_app


def test_a_run_is_taken_over_with_its_splits_and_scores(station: Station, trained_run: Path) -> None:
    scores = pl.read_parquet(trained_run / "scores.parquet").drop_nulls("score")
    assert take_over_run(station, trained_run) == scores.height
    rows = station.record.labels.scored(station.scoring)
    assert {(r["image"], r["split"], round(r["defect_score"], 9)) for r in rows} == {
        (image, split, round(score, 9))
        for image, split, score in scores.select("image", "split", "out_of_fold_score").iter_rows()
    }
    held = next(row for row in rows if row["split"] == "test")
    row = station.record.inspections.one(held["id"])
    assert row is not None
    assert station.replay(row)["agrees"] is True


def test_data_are_inspected_once_and_corrections_go_back_into_training(
    station: Station, parts: Path, tmp_path: Path
) -> None:
    records = load(parts)
    assert inspect_data(station, parts) == len(records)
    assert inspect_data(station, parts) == 0
    row = next(r for r in station.record.labels.scored(station.scoring) if r["image"] == "good/good_003.png")
    station.record.verdicts.add(NewVerdict(row["id"], "bad", "ann", defect="crack"))
    other = next(r for r in station.record.labels.scored(station.scoring) if r["image"] == "chip/chip_001.png")
    station.record.verdicts.add(NewVerdict(other["id"], "drop", "ann"))
    with TestClient(make_app(station), base_url="http://localhost") as client:
        assert "good/good_003.png" in client.get("/data").text
        (tmp_path / "verdicts.csv").write_bytes(client.get("/data/verdicts.csv").content)
        (tmp_path / "manifest.csv").write_bytes(client.get("/data/manifest.csv").content)
    changed = with_verdicts(records, read_verdicts(tmp_path / "verdicts.csv")).frame
    assert changed.filter(pl.col("image") == "good/good_003.png").select("label", "defect").row(0) == (1, "crack")
    assert not changed.filter(pl.col("image") == "chip/chip_001.png").height
    again = load(tmp_path / "manifest.csv")
    assert len(again) == len(records) - 1
    assert again.counts()["bad"] == records.counts()["bad"]


@pytest.mark.parametrize("conflict", ["conflicting_duplicate", "opposing"])  # "opposing" in audits of version 0.1
def test_findings_of_an_audit_come_first(station: Station, trained_run: Path, tmp_path: Path, conflict: str) -> None:
    take_over_run(station, trained_run)
    names = ["good/good_001.png", "chip/chip_002.png", "good/good_003.png", "good/good_004.png"]
    columns: dict[str, list[object]] = {
        "image": list(names),
        "outlier": [True, False, False, False],
        "suspect": [False, True, None, False],
        "suspect_score": [0.2, 0.9, 0.1, None],
        conflict: [None, None, None, "good/good_001.png"],
    }
    pl.DataFrame(columns).write_parquet(tmp_path / "audit.parquet")
    assert queue_audit(station.record, tmp_path / "audit.parquet", station.scoring) == 3
    assert queue_audit(station.record, tmp_path / "audit.parquet", station.scoring) == 0
    rows = station.record.queue.take("tab", 3)
    assert [(row["image"], row["reason"]) for row in rows] == [
        (names[1], "audit: suspected label"),
        (names[3], "audit: a copy with the other label"),
        (names[0], "audit: outlier"),
    ]
    station.record.verdicts.add(NewVerdict(rows[0]["id"], "good", "ann"), "tab")
    assert queue_audit(station.record, tmp_path / "audit.parquet", station.scoring) == 0  # what is judged stays so
    pl.DataFrame({"image": ["x"]}).write_parquet(tmp_path / "none.parquet")
    with pytest.raises(DataError, match="columns"):
        queue_audit(station.record, tmp_path / "none.parquet", station.scoring)
    pl.DataFrame(columns | {"image": list("abcd")}).write_parquet(tmp_path / "other.parquet")
    with pytest.raises(DataError, match="None of the images"):
        queue_audit(station.record, tmp_path / "other.parquet", station.scoring)


def test_a_watched_folder(station: Station, parts: Path, tmp_path: Path) -> None:
    folder = tmp_path / "camera"
    (folder / "lot7").mkdir(parents=True)
    watcher = Watcher(station, folder)
    source = next((parts / "chip").iterdir())
    whole = source.read_bytes()
    (folder / "lot7" / "part.png").write_bytes(whole[:100])
    assert watcher.scan() == 0  # it has just come
    (folder / "lot7" / "part.png").write_bytes(whole)
    assert watcher.scan() == 0  # it has grown
    assert watcher.scan() == 1
    assert watcher.scan() == 0
    row = station.record.inspections.search()[0]
    assert (row["unit"], row["lot"], row["source"], row["error"]) == ("part", "lot7", "watch", None)
    assert (folder / "lot7" / "part.png").read_bytes() == whole
    again = Watcher(station, folder)  # the station was started anew
    assert [again.scan(), again.scan()] == [0, 0]
    shutil.copy(next((parts / "good").iterdir()), folder / "other.png")
    assert [again.scan(), again.scan()] == [0, 1]


def approve(station: Station, row: dict[str, Any], *, agrees: bool = True) -> None:
    old = station.last["id"]
    station.record.revisions.sign(old, row["id"], agrees=agrees, result={}, who="eve", why="")
    station.refresh_revision()


def test_a_revision_is_served_when_it_is_approved_and_still_is_after_a_start(trained_run: Path, tmp_path: Path) -> None:
    first = open_station(trained_run, tmp_path / "r.db", user="ann")
    moved = first.move_threshold(0.1, 0.9, "ann", "a band")
    assert first.revision["id"] != moved["id"]
    assert "waits for a sign-off" in approval_notes(first)[0]
    approve(first, moved)
    assert first.revision == moved
    assert approval_notes(first) == []
    first.record.close()
    second = open_station(trained_run, tmp_path / "r.db", user="bob")
    assert second.revision["hash"] == moved["hash"]
    second.record.close()


def test_unsigned_serves_the_newest_and_says_so(trained_run: Path, tmp_path: Path) -> None:
    station = open_station(trained_run, tmp_path / "r.db", user="ann", allow_unapproved=True)
    moved = station.move_threshold(0.1, 0.9, "ann", "a band")
    assert station.revision == moved
    assert "nobody has approved" in approval_notes(station)[0]
    station.record.close()


def test_another_training_is_refused_until_somebody_has_approved_it(trained_run: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    recipe = Recipe.load(trained_run)
    for tensor in recipe.inspector.state_dict().values():
        if tensor.is_floating_point() and tensor.ndim == 1:
            tensor.add_(1e-3)
            break
    recipe.save(other)
    open_station(trained_run, tmp_path / "r.db", user="ann").record.close()
    with pytest.raises(UnsignedError, match="Nobody has approved"):
        open_station(other, tmp_path / "r.db", user="ann")
    trial = open_station(other, tmp_path / "r.db", user="ann", allow_unapproved=True)
    approve(trial, trial.revision)
    trial.record.close()
    signed = open_station(other, tmp_path / "r.db", user="ann")
    assert signed.revision["scoring"] == signed.scoring
    signed.record.close()


def test_a_station_whose_revision_is_refused_answers_that_and_keeps_its_pages(station: Station, parts: Path) -> None:
    with TestClient(make_app(station), base_url="http://localhost") as client:
        data = next((parts / "chip").iterdir()).read_bytes()
        assert client.post("/v1/inspect", files={"images": ("a.png", data)}).status_code == 200
        approve(station, station.revision, agrees=False)
        answer = client.post("/v1/inspect", files={"images": ("a.png", data)})
        assert (answer.status_code, "retry-after" in answer.headers) == (503, True)
        assert client.get("/health/ready").status_code == 503
        assert "Nothing is served" in client.get("/recipes").text
        assert client.get("/threshold").status_code == 200
        approve(station, station.last)
        assert client.get("/health/ready").status_code == 200
        assert client.get("/v1/recipe").json()["signed"] is True


def test_what_a_camera_drops_while_nothing_is_served_is_inspected_later(
    station: Station, parts: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "camera"
    folder.mkdir()
    shutil.copy(next((parts / "chip").iterdir()), folder / "a.png")
    watcher = Watcher(station, folder)
    watcher.scan()
    approve(station, station.revision, agrees=False)
    with pytest.raises(UnsignedError):
        watcher.scan()
    approve(station, station.last)
    assert watcher.scan() == 1
    assert watcher.scan() == 0


def test_pages_of_a_tiff_file_are_units_of_their_own(station: Station, parts: Path, tmp_path: Path) -> None:
    frames = [Image.open(file) for file in sorted((parts / "chip").iterdir())[:3]]
    for folder in ("data/good", "drop/L1"):
        (tmp_path / folder).mkdir(parents=True)
        frames[0].save(tmp_path / folder / "s.tif", save_all=True, append_images=frames[1:])
    assert inspect_data(station, tmp_path / "data") == 3
    rows = station.record.labels.scored(station.scoring)
    assert sorted(row["unit"] for row in rows) == [f"good/s#page={number}" for number in (1, 2, 3)]
    row = station.record.inspections.one(rows[0]["id"])
    assert row is not None
    assert station.replay(row)["agrees"] is True  # its bytes are found again
    frames[0].save(
        tmp_path / "drop/L1/other.tif", save_all=True, append_images=[frames[1].rotate(180), frames[2].rotate(180)]
    )
    watcher = Watcher(station, tmp_path / "drop")
    assert sum(watcher.scan() for _ in range(8)) == 6
    of_lot = station.record.inspections.of_lot("L1")
    assert sorted(row["unit"] for row in of_lot) == [f"{name}#page={n}" for name in ("other", "s") for n in (1, 2, 3)]
    assert {row["error"] for row in station.record.inspections.search(most=100)} == {None}
