"""Short, seeded attacks; `benchmarks/attack.py` runs the long ones by hand, its table is committed."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import polars as pl
import pytest

from knowngood.errors import DataError
from knowngood.tables import read_parquet

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory and time are read from /proc")
HERE = Path(__file__).parent


@pytest.fixture
def part(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Imports one of the modules beside this one: part("fuzz_tables")."""
    monkeypatch.syspath_prepend(HERE)
    return importlib.import_module


@pytest.fixture
def attack(part: Any) -> ModuleType:
    sys.path.append(str(HERE.parents[1] / "benchmarks"))
    try:
        return importlib.import_module("attack")
    finally:
        sys.path.remove(str(HERE.parents[1] / "benchmarks"))


@pytest.fixture
def data(trained_run: Path, parts: Path, tmp_path: Path) -> Path:
    """A folder as `attack.prepared` makes it."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "run").symlink_to(trained_run)
    (tmp_path / "data" / "parts").symlink_to(parts)
    return tmp_path / "data"


def failures(rows: list[dict[str, Any]]) -> list[str]:
    return [f"{row['kind']}: {why}" for row in rows for why in row.get("why", [])]


@pytest.mark.parametrize(("kind", "count"), [("tables", 600), ("recipes", 250), ("requests", 160), ("races", 24)])
def test_hostile_inputs_are_taken_right_or_refused(
    attack: ModuleType, data: Path, tmp_path: Path, kind: str, count: int
) -> None:
    if kind in ("requests", "races"):
        pytest.importorskip("fastapi", reason="the review station comes with the extra review")
    address = f"sqlite:///{tmp_path / 'record.db'}"
    rows = attack.stream(kind, count, 1, data, tmp_path / "log", address)
    assert failures(rows) == [], (tmp_path / "log").read_text("utf-8", "replace")[-3000:]
    assert sum(row["tried"] for row in rows) == count
    assert sum(row["failed"] for row in rows) == 0
    assert 0 < sum(row["accepted"] for row in rows) <= count


def test_a_killed_prediction_and_a_killed_station_lose_nothing(attack: ModuleType, data: Path, tmp_path: Path) -> None:
    pytest.importorskip("fastapi", reason="the review station comes with the extra review")
    (tmp_path / "kills").mkdir()
    rows = attack.kills(4, 1, data, tmp_path / "kills", [f"sqlite:///{tmp_path / 'record.db'}"], ("predict", "serve"))
    assert [row["kind"] for row in rows] == ["kill predict", "kill serve"]
    assert failures(rows) == []
    assert rows[1]["acknowledged"] > 0


def test_the_watch_sees_a_hang_and_a_crash_and_goes_on(
    attack: ModuleType, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "attack_hangs.py"
    script.write_text(
        "import os, sys\nimport attack\n"
        "class Bad:\n"
        "    def attack(self, number):\n"
        "        while number == 1: pass\n"
        "        os._exit(1) if number == 2 else None\n"
        "        if number == 3: raise KeyError('x')\n"
        "        return 'kind', 'accepted'\n"
        "attack.attacker = lambda *_: Bad()\n"
        "attack.main()\n"
    )
    monkeypatch.setattr(attack, "__file__", str(script))
    monkeypatch.setattr(attack, "SECONDS", 1.0)
    monkeypatch.setenv("PYTHONPATH", f"{HERE.parents[1] / 'benchmarks'}:{':'.join(sys.path)}")
    rows = attack.stream("tables", 5, 0, data, tmp_path / "log")
    assert {row["kind"]: (row["tried"], row["failed"]) for row in rows} == {
        "tables: ?": (3, 3),
        "tables: kind": (2, 0),
    }
    assert [why.split(",")[0] for row in rows for why in row["why"]][:2] == ["1: failed: hang", "2: failed: crash"]


def test_the_page_on_security_shows_the_committed_table(attack: ModuleType) -> None:
    found = json.loads(attack.RESULT.read_text())
    assert {"images", "tables", "recipes", "requests", "kills", "races"} <= set(found["parts"])
    assert attack.table(found) in (HERE.parents[1] / "SECURITY.md").read_text()


# --- what the long runs found ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", ["[" * 100_000, '{"a":' * 5000, f"[[0,0,{'9' * 400},1]]", "x" * 100_000])
def test_cells_that_are_deep_or_long_or_large_are_refused_in_few_words(tmp_path: Path, cell: str) -> None:
    from knowngood.data.sources.manifest import ManifestSource

    text = cell.replace('"', '""')
    (tmp_path / "manifest.csv").write_text(f'image,label,box\na.png,bad,"{text}"\n')
    with pytest.raises(DataError, match="row 2") as caught:
        ManifestSource().read(tmp_path)
    assert len(str(caught.value)) < 10_000
    (tmp_path / "manifest.csv").write_text("image,label\na.png,bad\n")
    (tmp_path / "about.json").write_text("[" * 100_000)
    assert ManifestSource().read(tmp_path).licence is None


def test_a_column_that_has_no_text_is_left_out(tmp_path: Path) -> None:
    from knowngood.data.sources.manifest import ManifestSource

    frame = pl.DataFrame({"image": ["a.png"], "label": ["bad"], "exposure": pl.Series([5], dtype=pl.Duration("ms"))})
    frame.write_parquet(tmp_path / "manifest.parquet")
    assert ManifestSource().read(tmp_path).frame["label"].to_list() == [1]


@pytest.mark.parametrize(
    ("name", "values"), [("image", [1.0]), ("outlier", ["yes"]), ("suspect", [1]), ("suspect_score", ["high"])]
)
def test_an_audit_whose_columns_are_of_other_types_is_none(tmp_path: Path, name: str, values: list[object]) -> None:
    from knowngood.data.labels import read_audit

    sound: dict[str, list[object]] = {"image": ["a"], "outlier": [True], "suspect": [None], "suspect_score": [0.5]}
    pl.DataFrame(sound).write_parquet(tmp_path / "audit.parquet")
    assert read_audit(tmp_path / "audit.parquet", list(sound)).height == 1
    pl.DataFrame(sound | {name: values}).write_parquet(tmp_path / "audit.parquet")
    with pytest.raises(DataError, match=name):
        read_audit(tmp_path / "audit.parquet", list(sound))


def test_a_parquet_file_that_claims_too_much_is_refused_before_it_is_read(tmp_path: Path) -> None:
    file = tmp_path / "x.parquet"
    frame = pl.DataFrame({"a": [f"part {n % 7}" for n in range(5000)], "b": [[1.0, 2.0]] * 5000, "c": [None] * 5000})
    frame.write_parquet(file, row_group_size=1000, data_page_size=500)
    sound = file.read_bytes()
    assert read_parquet(file).equals(frame)
    refused = 0
    for at in range(4, len(sound), len(sound) // 150):  # a page header, sooner or later
        file.write_bytes(sound[:at] + b"\xff" + sound[at + 1 :])
        try:
            read_parquet(file)
        except pl.exceptions.PolarsError:
            refused += 1
    assert refused > 10
    for data in (b"", b"PAR1", b"PAR1PAR1PAR1", sound[:-5], sound[:-8] + b"\xff\xff\xff\x7fPAR1"):
        file.write_bytes(data)
        with pytest.raises(pl.exceptions.PolarsError, match="damaged"):
            read_parquet(file)


@pytest.mark.parametrize("categories", [0.5, "x", {"id": 1}])
def test_annotations_whose_categories_are_no_list(tmp_path: Path, categories: object) -> None:
    from knowngood.data.sources.coco import CocoSource

    document = {"images": [{"id": 1, "file_name": "a.png"}], "annotations": [], "categories": categories}
    (tmp_path / "instances.json").write_text(json.dumps(document))
    with pytest.raises(DataError, match="categories"):
        CocoSource().read(tmp_path)


def test_half_a_character_in_a_name_of_an_annotation(tmp_path: Path) -> None:
    from knowngood.data.sources.coco import CocoSource

    images = '{"id": 1, "file_name": "\\ud800.png"}'
    document = '{"images": [%s], "annotations": [], "categories": []}'
    (tmp_path / "instances.json").write_text(document % images)
    with pytest.raises(DataError, match=r"ud800") as caught:
        CocoSource().read(tmp_path)
    str(caught.value).encode()  # a terminal can show it
    (tmp_path / "a.png").write_bytes(b"x")
    (tmp_path / "instances.json").write_text(document % (images + ', {"id": 2, "file_name": "a.png"}'))
    with pytest.raises(DataError, match="no Unicode"):
        CocoSource().read(tmp_path)
