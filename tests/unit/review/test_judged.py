"""Made images that a judgement would drop reach the queue, and what is said of them goes back to their set."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="the review station comes with the extra review")

from starlette.testclient import TestClient

from knowngood.data.labels import read_verdicts
from knowngood.errors import DataError
from knowngood.experiments.synthesis import judge
from knowngood.files import write_json
from knowngood.review.serving import inspect_data
from knowngood.review.station import Station
from knowngood.review.store.verdicts import NewVerdict
from knowngood.review.verdict_files import queue_generated
from knowngood.review.web.factory import make_app


def test_what_a_judgement_drops_is_queued_once(station: Station, parts: Path, tmp_path: Path) -> None:
    made = tmp_path / "made"
    made.mkdir()
    for number, source in enumerate(sorted((parts / "chip").iterdir())[:12]):  # copies of real ones: to be dropped
        Image.open(source).point(lambda level: min(255, level + 1)).save(made / f"made_{number}.png")
    listed = "".join(f"made_{number}.png,bad,chip\n" for number in range(12))
    (made / "manifest.csv").write_text("image,label,defect\n" + listed)
    out = tmp_path / "judged"
    done = judge(made / "manifest.csv", parts, out, model="efficientnet_lite0", image_size=64)
    wanted = set(done.table.filter(pl.col("drop").is_not_null())["image"].to_list())
    assert wanted
    inspect_data(station, parts)
    assert queue_generated(station, out) == len(wanted)
    assert queue_generated(station, out) == 0
    rows = station.record.queue.take("tab", 50)
    assert {row["reason"] for row in rows[: len(wanted)]} <= {
        "generated: copy",
        "generated: repeat",
        "generated: broken",
    }
    station.record.verdicts.add(NewVerdict(rows[0]["id"], "drop", "ann"), "tab")
    waiting = station.record.queue.counts()["waiting"]
    assert queue_generated(station, out) == 0
    assert station.record.queue.counts()["waiting"] == waiting
    good = next(row for row in station.record.labels.scored(station.scoring) if row["image"].startswith("good"))
    station.record.verdicts.add(NewVerdict(good["id"], "good", "ann"))
    with TestClient(make_app(station), base_url="http://localhost") as client:
        (tmp_path / "v.csv").write_bytes(
            client.get("/data/verdicts.csv", params={"of": str(made / "manifest.csv")}).content
        )
        assert str(made) in client.get("/data").text
    assert set(read_verdicts(tmp_path / "v.csv")["image"].to_list()) <= wanted
    assert len(read_verdicts(tmp_path / "v.csv")) == 1


@pytest.mark.parametrize("what", ["nothing", "columns"])
def test_what_is_no_judgement_is_told_so(station: Station, tmp_path: Path, what: str) -> None:
    if what == "columns":
        pl.DataFrame({"image": ["x"]}).write_parquet(tmp_path / "judge.parquet")
        write_json(tmp_path / "judge.json", {"generated": "x"})
    with pytest.raises(DataError, match="judge"):
        queue_generated(station, tmp_path)
