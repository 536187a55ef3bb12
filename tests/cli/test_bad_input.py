"""Wrong input of every kind: one clear message, the right exit code, no traceback, nothing written or lost."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image

Run = Callable[..., Any]


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def bomb() -> bytes:
    """A PNG of a few hundred bytes whose header promises 3.6 billion pixels."""
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 0, 0, 0, 0)
    body = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def refused(answer: Any, *words: str) -> None:
    assert answer.code == 2, answer.err
    assert "Traceback" not in answer.err
    told = " ".join(answer.err.split())
    for word in words:
        assert word in told
    assert answer.out == ""


@pytest.fixture
def bad_folder(tmp_path: Path, make_set: Run) -> Callable[[str], Path]:
    def make(kind: str) -> Path:
        root = tmp_path / "data"
        if kind == "three images":
            return make_set(root, good=2, bad=1)
        if kind == "one class":
            (make_set(root, good=8, bad=0) / "chip").rmdir()
            (root / "scratch").rmdir()
            return root
        if kind == "no such path":
            return root
        root.mkdir()
        if kind == "empty class":
            (root / "good").mkdir()
        if kind == "nothing readable":
            for name in ("good", "chip"):
                (root / name).mkdir()
                (root / name / "a.png").write_text("hello")
        return root

    return make


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("empty", ("is an empty folder", "folder named good")),
        ("empty class", ("holds no images", "Copy the photographs")),
        ("no such path", ("There is no such path", "you are in")),
        ("one class", ("There is no bad image among the 8", "knowngood check")),
        ("three images", ("3 images are too few (2 good, 1 bad)", "at least 4")),
        ("nothing readable", ("None of the 2 images can be read", "is not an image")),
    ],
)
def test_sets_that_cannot_be_trained_on(
    bad_folder: Callable[[str], Path], run_cli: Run, tmp_path: Path, small: tuple[str, ...], kind: str, words: list[str]
) -> None:
    data = bad_folder(kind)
    refused(run_cli("train", data, "--out", tmp_path / "run", *small), *words)
    assert not (tmp_path / "run").exists()
    assert run_cli("check", data).code in ((0,) if kind == "one class" else (1, 2))  # --one-class can use it
    document = run_cli("check", data, "--json").json
    assert document.get("spoils_training", True) is (kind != "one class")


def test_a_single_image_and_a_stray_file_are_no_data_set(run_cli: Run, parts: Path, tmp_path: Path) -> None:
    refused(run_cli("check", parts / "good" / "good_000.png"), "is a single image", "holds good/")
    (tmp_path / "notes.txt").write_text("hello")
    refused(run_cli("check", tmp_path / "notes.txt"), "no layout that is known", "manifest:")


@pytest.fixture
def odd_set(tmp_path: Path, make_set: Run, photograph: Run) -> Path:
    root = make_set(tmp_path / "odd", good=24, bad=16)
    good, rng = root / "good", np.random.default_rng(5)

    def grey() -> Image.Image:
        return photograph(rng, False)

    jpeg = io.BytesIO()
    grey().save(jpeg, "JPEG")
    (good / "cut.jpg").write_bytes(jpeg.getvalue()[: len(jpeg.getvalue()) // 2])
    (good / "text.png").write_text("hello\n")
    (good / "empty.png").touch()
    (good / "bomb.png").write_bytes(bomb())
    os.symlink("nowhere", good / "dangling.png")
    os.mkfifo(good / "pipe.png")
    Image.fromarray(np.asarray(grey()).astype(np.uint16) * 256).save(good / "deep.png")
    grey().convert("RGBA").save(good / "rgba.png")
    grey().convert("P").save(good / "palette.png")
    grey().convert("CMYK").save(good / "cmyk.jpg")
    turned = Image.Exif()
    turned[0x112] = 6
    grey().save(good / "turned.jpg", exif=turned)
    grey().save(good / "moving.gif", save_all=True, append_images=[grey(), grey()])
    Image.new("L", (1, 1), 90).save(good / "one pixel.png")
    for name in ("new\nline.png", 'it\'s "quoted" [red]x[red].png', "Bruch Ä 部品.png", "-x.png"):
        grey().save(good / name)
    return root


BROKEN = {"cut.jpg", "text.png", "empty.png", "bomb.png", "dangling.png", "pipe.png"}
REFUSED = BROKEN | {"one pixel.png"}  # it can be read, but nothing can be inspected in it


def test_odd_files_cost_their_own_row_and_nothing_else(
    odd_set: Path, run_cli: Run, trained_run: Path, tmp_path: Path
) -> None:
    before = {p: p.read_bytes() for p in odd_set.rglob("*.png") if p.is_file()}
    out = tmp_path / "scores.csv"
    answer = run_cli("predict", trained_run, odd_set, "--out", out)
    assert answer.code == 0, answer.err
    assert f"{len(REFUSED)} unreadable" in answer.out
    frame = pl.read_csv(out)
    names = [Path(name).name for name in frame["image"]]
    assert len(frame) == 40 + len(list((odd_set / "good").iterdir())) - 24
    wrong = {name for name, error in zip(names, frame["error"], strict=True) if error is not None}
    assert wrong == REFUSED
    assert set(frame.filter(pl.col("error").is_null())["decision"]) <= {"accept", "review", "reject"}
    assert all("\n" not in error for error in frame["error"].drop_nulls())
    assert "new\nline.png" in names
    document = run_cli("predict", trained_run, odd_set, "--json").json
    assert document["unreadable"] == len(REFUSED)
    assert {p: p.read_bytes() for p in before} == before


def test_odd_files_are_told_of_and_left_out_of_a_training(
    odd_set: Path, run_cli: Run, tmp_path: Path, small: tuple[str, ...]
) -> None:
    checked = run_cli("check", odd_set)
    assert checked.code == 0, checked.out
    assert "truncated" in checked.out
    codes = {f["code"] for f in run_cli("check", odd_set, "--json").json["findings"]}
    assert {"empty", "truncated", "too-large", "unreadable", "odd-modes", "tiny"} <= codes
    answer = run_cli("train", odd_set, "--out", tmp_path / "run", *small, "--json")
    assert answer.code == 0, answer.err
    assert f"{len(BROKEN)} images cannot be read and are left out" in answer.err
    assert answer.json["data"]["unreadable"] == len(BROKEN)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_costs_its_row(make_set: Run, run_cli: Run, trained_run: Path, tmp_path: Path) -> None:
    root = make_set(tmp_path / "data", good=2, bad=1)
    (root / "good" / "good_000.png").chmod(0)
    document = run_cli("predict", trained_run, root, "--json").json
    assert document["unreadable"] == 1
    assert "permission" in next(row["error"] for row in document["rows"] if row["error"])


def test_names_that_are_not_text(run_cli: Run, parts: Path, trained_run: Path, tmp_path: Path) -> None:
    place = os.fsencode(tmp_path) + b"/latin\xe4.png"
    with open(place, "wb") as handle:
        handle.write((parts / "good" / "good_000.png").read_bytes())
    answer = run_cli("predict", trained_run, os.fsdecode(place), "--json")
    assert answer.code == 0
    assert answer.json["rows"][0]["image"].endswith("latin\\xe4.png")


def test_good_only_training_says_how_to_divide_anew(
    parts: Path, run_cli: Run, tmp_path: Path, small: tuple[str, ...]
) -> None:
    root = tmp_path / "mvtec"
    for old, new in {"good": "train/good", "chip": "test/chip", "scratch": "test/scratch"}.items():
        (root / new).parent.mkdir(parents=True, exist_ok=True)
        (root / new).symlink_to(parts / old)
    (root / "ground_truth").mkdir()
    refused(run_cli("train", root, "--out", tmp_path / "run", *small), "There are no bad images", "--resplit")
    answer = run_cli("train", root, "--out", tmp_path / "run", *small, "--resplit", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["data"]["source"] == "mvtec"
