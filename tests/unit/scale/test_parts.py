"""Work on disk: refused when it belongs to something else, taken up when it does not, counted when it kills."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from knowngood.errors import ConfigError, DataError
from knowngood.scale.parts import (
    TRIES,
    Job,
    emptied,
    list_of,
    missing,
    note_attempt,
    prepared,
    remove_partial,
    rows_file,
)
from knowngood.tables import write_table


def job(out: Path, count: int = 15, made_by: str = "recipe r1", size: int = 4, **more: bool) -> Job:
    def listed() -> Iterator[tuple[pl.DataFrame, int]]:
        for start in range(0, count, size):
            names = [str(one) for one in range(start, min(start + size, count))]
            yield pl.DataFrame({"image": names}), len(names)

    return prepared(out, made_by, size, listed, **more)


def files(out: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_what_is_whole_is_not_missing(tmp_path: Path) -> None:
    out = tmp_path / "out"
    work = job(out)
    assert missing(out, work) == [0, 1, 2, 3]
    write_table(pl.DataFrame({"a": [1]}), rows_file(out, 2))
    rows_file(out, 1).with_name(".0000001.parquet.abcd.tmp").write_text("half")
    remove_partial(out)
    assert [path.name for path in (out / "rows").iterdir()] == ["0000002.parquet"]
    assert missing(out, work) == [0, 1, 3]
    assert job(out) == work  # goes on
    assert missing(out, job(out, made_by="recipe r2", fresh=True)) == [0, 1, 2, 3]


def test_parts_of_something_else_are_refused_and_left_alone(tmp_path: Path) -> None:
    out = tmp_path / "out"
    job(out)
    before = files(out)
    for given, told in (
        ({"made_by": "recipe r2"}, "made by recipe r1, this is recipe r2"),
        ({"size": 5}, "--part-size is 5"),
        ({"count": 14}, "another list"),
    ):
        with pytest.raises(ConfigError, match=told) as error:
            job(out, **given)  # type: ignore[arg-type]
        assert "--fresh" in str(error.value)
    assert files(out) == before
    (out / "job.json").write_text("{}")
    with pytest.raises(ConfigError, match="not what knowngood wrote"):
        job(out, fresh=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match=r"is not empty: it has thesis\.txt"):
        job(tmp_path / "mine", fresh=True, replace=True)


def test_parts_of_something_else_are_replaced_where_that_is_asked_for(tmp_path: Path) -> None:
    out = tmp_path / "out"
    job(out)
    write_table(pl.DataFrame({"a": [1]}), rows_file(out, 0))
    assert missing(out, job(out, replace=True)) == [1, 2, 3]  # the same work: nothing is lost
    assert missing(out, job(out, count=9, replace=True)) == [0, 1, 2]
    assert list_of(out, 2)["image"].to_list() == ["8"]
    emptied(out)
    assert list(out.iterdir()) == []


def test_a_list_that_was_not_finished_is_made_again(tmp_path: Path) -> None:
    out = tmp_path / "out"
    work = job(out)
    (out / "job.json").unlink()
    (out / "list" / "0000000.parquet").unlink()
    assert job(out) == work
    assert len(list_of(out, 0)) == 4
    with pytest.raises(DataError, match="cannot be read"):
        list_of(out, 7)


def test_a_part_that_kills_its_workers_comes_to_an_end(tmp_path: Path) -> None:
    out = tmp_path / "out"
    job(out)
    for _ in range(TRIES):
        note_attempt(out, 1)
    with pytest.raises(DataError, match="Part 1 has cost 6 workers"):
        note_attempt(out, 1)
    note_attempt(out, 0)
    remove_partial(out)
    note_attempt(out, 1)
