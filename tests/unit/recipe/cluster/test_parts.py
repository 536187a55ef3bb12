"""Work on disk: listed in parts from any source, refused when it belongs to something else, counted when it kills."""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path

import fsspec
import polars as pl
import pytest

from knowngood.errors import ConfigError, DataError
from knowngood.recipe.cluster.parts import TRIES, begun, items_of, missing, prepared, rows_file, swept
from knowngood.recipe.engine.items import stream
from knowngood.recipe.predicting import write_table


def everything(out: Path, parts: int) -> list[tuple[str, bytes]]:
    return [(item.name, item.read()) for number in range(parts) for item in items_of(out, number)]


@pytest.fixture
def places(parts: Path, tmp_path: Path) -> list[str | Path]:
    """A folder, an archive, a table with a URL, and a file whose name is no text; some named twice."""
    folder, chips = tmp_path / "folder", sorted((parts / "chip").iterdir())
    shutil.copytree(parts / "scratch", folder)
    no_text = os.fsencode(tmp_path) + b"/\xff.png"
    shutil.copy(chips[0], no_text)
    with zipfile.ZipFile(tmp_path / "some.zip", "w") as archive:
        for file in chips[:7]:
            archive.write(file, file.name)
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.write(chips[8], chips[2].name)
    fsspec.filesystem("memory").pipe("/cells/one.png", chips[9].read_bytes())
    rows = [os.path.relpath(chips[10], tmp_path), "memory://cells/one.png", os.path.relpath(chips[10], tmp_path)]
    pl.DataFrame({"image": rows}).write_csv(tmp_path / "table.csv")
    return [folder, tmp_path / "some.zip", tmp_path / "table.csv", chips[11], os.fsdecode(no_text), chips[11]]


@pytest.mark.parametrize("size", [1, 4, 1000])
def test_parts_are_the_stream_cut(places: list[str | Path], tmp_path: Path, size: int) -> None:
    wanted = [(item.name, item.read()) for item in stream(places).items]
    job = prepared(tmp_path / "out", places, "r1", size)
    assert job.images == len(wanted) == len(dict(wanted)) == 15 + 7 + 2 + 1 + 1
    assert everything(tmp_path / "out", job.parts) == wanted
    assert sum(job.size(number) for number in range(job.parts)) == job.images
    assert prepared(tmp_path / "out", places, "r1", size) == job  # goes on


def test_what_is_whole_is_not_missing(parts: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    job = prepared(out, parts / "chip", "r1", 4)
    assert missing(out, job) == [0, 1, 2, 3]
    write_table(pl.DataFrame({"a": [1]}), rows_file(out, 2))
    rows_file(out, 1).with_name(".0000001.parquet.abcd.tmp").write_text("half")
    swept(out)
    assert [path.name for path in (out / "rows").iterdir()] == ["0000002.parquet"]
    assert missing(out, job) == [0, 1, 3]
    assert missing(out, prepared(out, parts / "chip", "r2", 4, fresh=True)) == [0, 1, 2, 3]


def test_parts_of_something_else_are_refused_and_left_alone(parts: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepared(out, parts / "chip", "r1", 4)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    for given, told in (
        ((parts / "chip", "r2", 4), "recipe r1, this is r2"),
        ((parts / "chip", "r1", 5), "--part-size is 5"),
        ((parts / "scratch", "r1", 4), "another list"),
    ):
        with pytest.raises(ConfigError, match=told) as error:
            prepared(out, *given)
        assert "--fresh" in str(error.value)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    (out / "job.json").write_text("{}")
    with pytest.raises(ConfigError, match="not what knowngood wrote"):
        prepared(out, parts / "chip", "r1", 4, fresh=True)
    with pytest.raises(ConfigError, match="is not empty"):
        prepared(parts, parts / "chip", "r1", 4, fresh=True)


def test_a_list_that_was_not_finished_is_made_again(parts: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    job = prepared(out, parts / "chip", "r1", 4)
    (out / "job.json").unlink()
    (out / "list" / "0000000.parquet").unlink()
    assert prepared(out, parts / "chip", "r1", 4) == job
    assert len(everything(out, job.parts)) == 15


def test_lists_and_archives_that_are_gone(parts: Path, tmp_path: Path) -> None:
    out, archive = tmp_path / "out", tmp_path / "some.zip"
    for count in (6, 2):
        with zipfile.ZipFile(archive, "w") as handle:
            for file in sorted((parts / "chip").iterdir())[:count]:
                handle.write(file, file.name)
        if count == 6:
            prepared(out, archive, "r1", 4)
    with pytest.raises(DataError, match="fewer photographs"):
        list(items_of(out, 0))
    with pytest.raises(DataError, match="cannot be read"):
        list(items_of(out, 7))


def test_a_part_that_kills_its_workers_comes_to_an_end(parts: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepared(out, parts / "chip", "r1", 4)
    for _ in range(TRIES):
        begun(out, 1)
    with pytest.raises(DataError, match="Part 1 has cost 6 workers"):
        begun(out, 1)
    begun(out, 0)
    swept(out)
    begun(out, 1)
