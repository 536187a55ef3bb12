"""A camera's folder: bursts, files that are still being written, empty ones, names that nobody expects."""

from __future__ import annotations

import io
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the review station comes with the extra review")

from PIL import Image
from starlette.testclient import TestClient

from knowngood.review.inbox import Watcher
from knowngood.review.station import Station
from knowngood.review.web.factory import make_app


@pytest.fixture
def camera(tmp_path: Path) -> Path:
    """The folder."""
    folder = tmp_path / "camera"
    folder.mkdir()
    return folder


def looks(watcher: Watcher, count: int = 12) -> int:
    """Looks so often; returns how many photographs were inspected."""
    return sum(watcher.scan() for _ in range(count))


def photographs(parts: Path) -> Iterator[bytes]:
    for path in sorted(parts.rglob("*.png")):
        yield path.read_bytes()


def encoded(form: str) -> bytes:
    pixels = np.random.default_rng(7).integers(0, 256, (80, 90), np.uint8)
    made = io.BytesIO()
    Image.fromarray(pixels).save(made, form)
    return made.getvalue()


def test_a_burst_of_500_half_written_files_is_500_units_once_each(station: Station, parts: Path, camera: Path) -> None:
    data = next(photographs(parts))
    watcher = Watcher(station, camera)
    for n in range(500):
        lot = camera / f"lot{n % 5}"
        lot.mkdir(exist_ok=True)
        (lot / f"{n // 5:04}.png").write_bytes(data if n % 2 else data[: len(data) // 2])
    assert looks(watcher, 3) == 250
    for n in range(0, 500, 2):
        (camera / f"lot{n % 5}" / f"{n // 5:04}.png").write_bytes(data)
    assert looks(watcher, 3) == 250
    assert looks(watcher) == 0
    rows = station.record.inspections.search(most=1000)
    assert len(rows) == 500
    assert {row["error"] for row in rows} == {None}
    assert len({(row["lot"], row["unit"]) for row in rows}) == 500
    assert sorted(row["unit"] for row in station.record.inspections.of_lot("lot3")) == [f"{n:04}" for n in range(100)]
    assert len(station.record.inspections.by_lot()) == 500
    again = Watcher(station, camera)  # the station was started anew
    assert looks(again, 3) == 0


@pytest.mark.parametrize("form", ["PNG", "JPEG", "BMP", "TIFF", "WEBP"])
def test_a_slow_camera_leaves_one_record_and_no_truncated_one(station: Station, camera: Path, form: str) -> None:
    data = encoded(form)
    watcher = Watcher(station, camera)
    path = camera / f"part.{form.lower()}"
    with path.open("wb") as handle:
        for start in range(0, len(data), len(data) // 4 + 1):  # it stands still after each piece
            handle.write(data[start : start + len(data) // 4 + 1])
            handle.flush()
            if start + len(data) // 4 + 1 < len(data):
                assert looks(watcher, 8) == 0
    assert looks(watcher, 8) == 1
    rows = station.record.inspections.search()
    assert [(row["unit"], row["error"]) for row in rows] == [("part", None)]


def test_what_never_gets_its_end_is_filed_once_after_the_patience(station: Station, parts: Path, camera: Path) -> None:
    whole = next(photographs(parts))
    (camera / "empty.png").touch()
    (camera / "half.png").write_bytes(whole[: len(whole) // 2])
    (camera / "text.png").write_text("no photograph")
    patient, hasty = Watcher(station, camera, patience=3600), Watcher(station, camera, patience=0)
    assert looks(patient) == 0
    assert looks(hasty) == 3
    assert looks(hasty) == 0
    errors = {row["unit"]: row["error"] for row in station.record.inspections.search()}
    assert "0 bytes" in errors["empty"]
    assert "truncated" in errors["half"]
    assert errors["text"]
    assert str(camera) not in str(errors)
    assert looks(Watcher(station, camera, patience=0)) == 0  # nor anew after a start
    (camera / "empty.png").write_bytes(whole)
    (camera / "half.png").write_bytes(whole)
    assert looks(hasty) == 2
    assert {row["error"] for row in station.record.inspections.story("empty")} == {errors["empty"], None}


def test_equal_bytes_of_two_lots_are_two_units(station: Station, parts: Path, camera: Path) -> None:
    data = next(photographs(parts))
    for lot in ("lotA", "lotB"):
        (camera / lot).mkdir()
        (camera / lot / "0001.png").write_bytes(data)
    assert looks(Watcher(station, camera), 3) == 2
    inspections = station.record.inspections
    assert inspections.lots_of("0001") == ["lotA", "lotB"]
    assert [len(inspections.story("0001", lot)) for lot in ("lotA", "lotB", None)] == [1, 1, 0]
    assert len(inspections.story("0001")) == 2


def test_names_that_are_no_text_and_folders_that_cannot_be_listed_cost_nobody_else(
    station: Station, parts: Path, camera: Path
) -> None:
    data = next(photographs(parts))
    with open(os.fsencode(camera) + b"/caf\xe9.png", "wb") as handle:
        handle.write(data)
    (camera / "a=b'\"%s#?.PNG").write_bytes(data)
    os.symlink(camera, camera / "again")  # in a circle
    os.symlink(camera / "nowhere.png", camera / "gone.png")
    assert looks(Watcher(station, camera), 3) == 2
    assert {row["unit"] for row in station.record.inspections.search()} == {"caf\\xe9", "a=b'\"%s#?"}


def test_a_photograph_that_is_too_large_is_told_so(make_large: Path, station: Station) -> None:
    assert looks(Watcher(station, make_large), 3) == 1
    assert "at most 32 MB" in station.record.inspections.search()[0]["error"]


@pytest.fixture
def make_large(camera: Path) -> Path:
    """The folder with a file of 40 MB, which takes no room on the disk."""
    with (camera / "large.png").open("wb") as handle:
        handle.truncate(40_000_000)
    return camera


class Breaking(Watcher):
    """A watcher whose scans end in something that nobody foresaw."""

    raises: BaseException | None = None

    def scan(self) -> int:
        if self.raises is not None:
            raise self.raises
        return super().scan()


def until(true: Callable[[], bool]) -> None:
    while not true():
        time.sleep(0.01)


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(3), MemoryError(), KeyboardInterrupt()])
def test_a_watcher_survives_whatever_is_raised_and_the_station_is_not_ready_meanwhile(
    station: Station, parts: Path, camera: Path, error: BaseException
) -> None:
    watcher = Breaking(station, camera, every=0.01)
    station.workers.append(watcher)
    shutil.copy(next((parts / "chip").iterdir()), camera / "a.png")
    with TestClient(make_app(station), base_url="http://localhost") as client:
        assert client.get("/health/ready").status_code == 200
        watcher.raises = error
        watcher.start()
        until(lambda: watcher.failed is not None)
        for path in ("/health/ready", "/v2/health/ready", "/v2/models/trained/ready"):
            answer = client.get(path)
            assert (answer.status_code, "watched folder" in answer.text) == (503, True)
        assert client.get("/health/live").status_code == 200
        watcher.raises = None
        until(lambda: bool(station.record.inspections.search()))
        until(lambda: watcher.working)
        assert client.get("/health/ready").status_code == 200
    watcher.stop()


def test_a_watcher_that_has_died_is_started_anew(station: Station, parts: Path, camera: Path) -> None:
    watcher = Watcher(station, camera, every=0.01)
    station.workers.append(watcher)
    watcher.start()
    watcher.done.set()  # its thread ends ...
    assert watcher._thread is not None
    watcher._thread.join()
    watcher.done.clear()  # ... although nobody has stopped it
    assert not watcher.working
    shutil.copy(next((parts / "chip").iterdir()), camera / "a.png")
    with TestClient(make_app(station), base_url="http://localhost") as client:
        until(lambda: bool(station.record.inspections.search()))
        until(lambda: client.get("/health/ready").status_code == 200)
    watcher.stop()
