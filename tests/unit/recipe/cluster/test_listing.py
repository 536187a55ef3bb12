"""Photographs that are to be scored: listed in parts from any source, read again from the list."""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path

import fsspec
import polars as pl
import pytest

from knowngood.errors import DataError
from knowngood.recipe.cluster import items_of, listed
from knowngood.recipe.inputs import stream
from knowngood.scale.parts import Job
from knowngood.scale.parts import prepared as prepared_parts


def prepared(out: Path, images: object, made_by: str, part_size: int) -> Job:
    return prepared_parts(out, made_by, part_size, lambda: listed(images, part_size))  # type: ignore[arg-type]


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
