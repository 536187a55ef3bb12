"""A set on disk: same bytes whatever the workers, readable as a manifest, whole or said not to be."""

from __future__ import annotations

import errno
import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
import polars as pl
import pytest

from knowngood.data.loading import load
from knowngood.errors import ConfigError, StorageError
from knowngood.lookalike import generate as generating
from knowngood.lookalike import generate as writing
from knowngood.lookalike.config import TapeConfig
from knowngood.lookalike.generate import SCHEMA, generate, is_complete
from knowngood.lookalike.units import draw_unit
from knowngood.parameters import checked_parameters

SMALL = TapeConfig(train=40, test=12, seed=6, bad_rate=0.4, label_noise=0.1, abnormal=0.1, twins=True, family="mixed")


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tape") / "set"
    assert generate(out, SMALL, workers=1) == out / "manifest.parquet"
    return out


def test_workers_change_no_byte(made, tmp_path, monkeypatch):
    monkeypatch.setattr(generating, "CHUNK", 9)
    generate(tmp_path / "two", SMALL, workers=2)
    assert digests(tmp_path / "two") == digests(made)


def test_image_k_does_not_depend_on_how_many_are_drawn(made, tmp_path):
    few = SMALL.model_copy(update={"train": 7, "test": 0})
    generate(tmp_path / "few", few, workers=1)
    whole, part = digests(made), digests(tmp_path / "few")
    pictures = [name for name in part if name.endswith(".png")]
    assert len([name for name in pictures if name.startswith("images/")]) == 7
    assert all(whole[name] == part[name] for name in pictures)


def test_our_manifest_source_reads_it(made):
    records = load(made)
    assert records.source == "manifest"
    assert len(records) == 52
    assert records.frame["error"].null_count() == 52
    assert records.frame["split"].value_counts(sort=True).rows() == [("train", 40), ("test", 12)]
    assert not records.frame["lot"].null_count()
    table = pl.read_parquet(made / "manifest.parquet")
    assert dict(table.schema) == SCHEMA
    assert records.counts()["bad"] == (table["label"] == "bad").sum()


def test_rows_say_what_the_files_hold(made):
    table = pl.read_parquet(made / "manifest.parquet")
    seen = 0
    for row in table.iter_rows(named=True):
        image = cv2.imread(str(made / row["image"]), cv2.IMREAD_UNCHANGED)
        parts = cv2.imread(str(made / row["lead_mask"]), cv2.IMREAD_UNCHANGED)
        assert image.shape == parts.shape
        if row["mask"] is None:
            assert row["box"] is None
            continue
        assert row["true_label"] == "bad"
        seen += 1
        mask = cv2.imread(str(made / row["mask"]), cv2.IMREAD_UNCHANGED)
        twin = cv2.imread(str(made / row["twin"]), cv2.IMREAD_UNCHANGED)
        assert set(np.unique(mask)) == {0, 255}
        assert np.array_equal(image[mask == 0], twin[mask == 0])
        boxes = np.array(json.loads(row["box"]))
        ys, xs = np.nonzero(mask)
        assert [xs.min(), ys.min()] == boxes[:, :2].min(axis=0).tolist()
        assert [xs.max() + 1, ys.max() + 1] == boxes[:, 2:].max(axis=0).tolist()
    assert seen > 10


def test_a_defect_is_named_only_where_the_label_says_bad(made):
    table = pl.read_parquet(made / "manifest.parquet")
    assert table.filter(pl.col("label") == "good")["defect"].null_count() == (table["label"] == "good").sum()
    hidden = table.filter((pl.col("label") == "good") & (pl.col("true_label") == "bad"))
    assert hidden.height
    assert not hidden["true_defect"].null_count()


def test_file_names_and_bytes_do_not_tell_the_label(made):
    table = pl.read_parquet(made / "manifest.parquet")
    assert table["image"].to_list()[:2] == ["images/train/00000/00000000.png", "images/train/00000/00000001.png"]
    unit = draw_unit(3, "train", SMALL)
    chunks = (made / "images/train/00000/00000003.png").read_bytes()
    assert b"tEXt" not in chunks
    assert b"tIME" not in chunks
    assert np.array_equal(cv2.imdecode(np.frombuffer(chunks, np.uint8), cv2.IMREAD_UNCHANGED), unit.image)


def test_a_folder_in_use_is_refused_and_force_replaces_only_the_set(tmp_path):
    out = tmp_path / "mine"
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    tiny = TapeConfig(train=2, test=0)
    with pytest.raises(ConfigError, match="--force"):
        generate(out, tiny, workers=1)
    generate(out, tiny.model_copy(update={"train": 3}), workers=1, force=True)
    generate(out, tiny, workers=1, force=True)
    assert (out / "thesis.txt").read_text() == "years of work"
    assert len(list((out / "images").rglob("*.png"))) == 2


@pytest.mark.parametrize(
    "wrong",
    [{"bad_rate": 1.5}, {"bad_rate": -0.1}, {"train": -1}, {"label_noise": 0.9}, {"lots": 0}, {"drift": 2},
     {"family": "qfn"}, {"abnormal": "many"}, {"colour": "red"}],
)  # fmt: skip
def test_impossible_options_name_their_flag(wrong):
    with pytest.raises(ConfigError, match="--" + next(iter(wrong)).replace("_", "-")):
        checked_parameters(TapeConfig, wrong)


def test_nothing_to_draw_and_no_workers(tmp_path):
    with pytest.raises(ConfigError, match="nothing to draw"):
        generate(tmp_path / "a", TapeConfig(train=0, test=0), workers=1)
    with pytest.raises(ConfigError, match="--workers"):
        generate(tmp_path / "a", TapeConfig(train=1), workers=0)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="is a file"):
        generate(tmp_path / "file", TapeConfig(train=1), workers=1)


@pytest.mark.parametrize("stop", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_full_disk_or_ctrl_c_leaves_a_manifest_of_what_is_whole(tmp_path, monkeypatch, stop):
    monkeypatch.setattr(generating, "CHUNK", 5)
    real, count = writing.write_png, 0

    def until_full(path: Path, pixels, options) -> None:
        nonlocal count
        count += 1
        if count > 26:
            raise stop
        real(path, pixels, options)

    monkeypatch.setattr(writing, "write_png", until_full)
    config = TapeConfig(train=30, test=5, seed=1)
    with pytest.raises(StorageError if isinstance(stop, OSError) else KeyboardInterrupt):
        generate(tmp_path / "set", config, workers=1)
    table = pl.read_parquet(tmp_path / "set" / "manifest.parquet")
    assert 5 <= table.height < 26
    for row in table.iter_rows(named=True):
        assert cv2.imread(str(tmp_path / "set" / row["image"])) is not None
        assert cv2.imread(str(tmp_path / "set" / row["lead_mask"])) is not None
    assert not is_complete(tmp_path / "set", config)
    monkeypatch.setattr(writing, "write_png", real)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "set" / "images").rglob("*.png")}
    generate(tmp_path / "set", config, workers=1)  # no --force: it is the same set, and goes on
    assert is_complete(tmp_path / "set", config)
    first = tmp_path / "set" / table["image"][0]
    assert first.stat().st_mtime_ns == before[first]
    generate(tmp_path / "afresh", config, workers=1)
    assert digests(tmp_path / "set") == digests(tmp_path / "afresh")
