"""Folders and files as they come, on the command line: what they are taken for, what is passed over."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from PIL import Image

Run = Callable[..., Any]


@pytest.fixture
def data(parts: Path, tmp_path: Path) -> Path:
    """A set with names of its own, masks among the photographs, and files of all kinds."""
    root = tmp_path / "photos"
    shutil.copytree(parts, root)
    (root / "good").rename(root / "ok_front")
    (root / "chip").rename(root / "def_front")
    for file in list((root / "scratch").iterdir()):
        mask = Image.new("L", Image.open(file).size)
        mask.paste(255, (3, 3, 9, 9))
        mask.save(file.with_name(f"{file.stem}_GT.png"))
    (root / "unlabeled").mkdir()
    first = sorted((root / "ok_front").iterdir())[0]
    shutil.move(first, root / "unlabeled" / "IMG_7")
    (root / "scratch" / "sensor.raw").write_bytes(bytes(range(256)))
    (root / "notes.txt").write_text("hello")
    (root / ".DS_Store").write_bytes(b"\0\5")
    return root


def folders(document: dict[str, Any]) -> dict[str, tuple[str, int, int]]:
    return {one["name"]: (one["label"], one["images"], one["masks"]) for one in document["folders"]}


def test_check_and_train_say_what_folders_hold(
    data: Path, parts: Path, run_cli: Run, tmp_path: Path, small: tuple[str, ...]
) -> None:
    chips, scratches = (len(list((parts / name).iterdir())) for name in ("chip", "scratch"))
    goods = len(list((parts / "good").iterdir())) - 1
    wanted = {
        "def_front": ("bad: bad", chips, 0),
        "ok_front": ("good", goods, 0),
        "scratch": ("bad: scratch", scratches, scratches),
        "unlabeled": ("unlabelled", 1, 0),
    }
    document = run_cli("check", data, "--json").json
    assert folders(document) == wanted
    assert document["passed_over"] == {
        "the ending .raw, which is not read (save it as PNG, TIFF or JPEG)": 1,
        "the ending .txt, which photographs do not have": 1,
    }
    assert document["counts"] == {"good": goods, "bad": chips + scratches, "unlabelled": 1}
    shown = run_cli("check", data).out
    for words in ("guessed: the word 'ok'", "def_front", "bad: scratch", "sensor.raw", "look like masks"):
        assert words in shown
    answer = run_cli("train", data, "--out", tmp_path / "run", *small, "--json")
    assert answer.code == 0, answer.err
    assert folders(answer.json) == wanted
    assert answer.json["passed_over"] == document["passed_over"]
    assert "ok_front/ is taken as good, which is guessed" in answer.err
    again = run_cli("train", data, "--out", tmp_path / "run", *small)
    assert "guessed: the word 'def'" in again.out


def test_predict_has_a_row_for_every_photograph(data: Path, run_cli: Run, trained_run: Path, tmp_path: Path) -> None:
    strange = os.fsencode(data / "ok_front") + b"/part-\xff\x82.png"
    shutil.copy(sorted((data / "ok_front").iterdir())[0], os.fsdecode(strange))
    (data / "masks").mkdir()
    Image.new("L", (8, 8)).save(data / "masks" / "1.png")
    images = [file for file in data.rglob("*") if file.is_file() and file.parent.name not in ("masks", "photos")]
    masks = [file for file in images if file.stem.endswith("_GT")]
    answer = run_cli("predict", trained_run, data, "--out", tmp_path / "p.csv", "--json")
    document = answer.json
    rows = {row["image"]: row for row in document["rows"]}
    assert len(rows) == len(images) - len(masks)
    raw = rows[str(data / "scratch" / "sensor.raw")]
    assert answer.code == 1  # all rows are written, one is an error
    assert raw["decision"] == "error"
    assert raw["defect_score"] is None
    assert "has the ending .raw, which is not read" in raw["error"]
    assert rows[str(data / "unlabeled" / "IMG_7")]["decision"] in ("accept", "review", "reject")
    assert rows[f"{data}/ok_front/part-\\xff\\x82.png"]["decision"] in ("accept", "review", "reject")
    assert document["passed_over"] == {
        "masks, which are not scored": len(masks) + 1,
        "the ending .txt, which photographs do not have": 1,
    }
    assert "no ending, but it is a PNG by its first bytes: 1" in answer.err
    explained = run_cli("explain", trained_run, data / "scratch", "--out", tmp_path / "maps", "--json").json
    assert explained["passed_over"] == {"masks, which are not scored": len(masks)}
    assert sum(one["error"] is not None for one in explained["images"]) == 1


@pytest.mark.parametrize(
    "verb",
    [
        ("train",), ("study",), ("compare",), ("classical",), ("audit",), ("augment",), ("synthesize", "train"),
        ("synthesize", "transplant"), ("features",),
    ],
    ids=" ".join,
)  # fmt: skip
@pytest.mark.parametrize("place", ["", "run1", "good/run1"])
def test_no_verb_writes_into_the_data(
    verb: tuple[str, ...], place: str, make_set: Run, run_cli: Run, tmp_path: Path
) -> None:
    root = make_set(tmp_path / "photos", good=2, bad=1)
    before = sorted(root.rglob("*"))
    # A table beside the class folders is no photograph, so `features` may write one there but nowhere below.
    out = root / (place or "bad") / "table.parquet" if verb == ("features",) else root / place
    answer = run_cli(*verb, root, "--out", out)
    assert answer.code == 2
    assert "the data folder" in answer.err
    assert "photos-results" in answer.err
    assert sorted(root.rglob("*")) == before


def test_no_results_among_photographs(make_set: Run, run_cli: Run, trained_run: Path, tmp_path: Path) -> None:
    root = make_set(tmp_path / "photos", good=2, bad=1)
    before = sorted(root.rglob("*"))
    for verb in (
        ("explain", trained_run, root / "good", "--out", root / "maps"),
        ("explain", trained_run, root, "--out", root / "maps"),
        ("predict", trained_run, root, "--out", root / "good" / "p.csv"),
        ("predict", trained_run, root / "good", "--out", root / "good" / "p.parquet"),
        ("tape", root / "tape"),
        ("tape", root),
    ):
        answer = run_cli(*verb)
        assert answer.code == 2, verb
        assert "the data folder" in answer.err
    assert sorted(root.rglob("*")) == before


def test_names_of_ones_own(make_set: Run, run_cli: Run, tmp_path: Path, small: tuple[str, ...]) -> None:
    root = make_set(tmp_path / "castings", good=24, bad=16)
    (root / "good").rename(root / "Frontal")
    for name in ("chip", "scratch"):
        (root / name).rename(root / f"{name}-ok?")
    answer = run_cli("train", root, "--out", tmp_path / "run", *small)
    assert answer.code == 2
    assert "--good 'Frontal'" in answer.err
    names = ("--good", "frontal", "--bad", "chip-ok?,scratch-OK?")
    answer = run_cli("train", root, *names, "--out", tmp_path / "run", *small, "--json")
    assert answer.code == 0, answer.err
    assert folders(answer.json)["chip-ok?"][0].startswith("bad")
    assert "--good frontal --bad 'chip-ok?,scratch-OK?'" in (tmp_path / "run" / "report.html").read_text().replace(
        "&#39;", "'"
    )
    assert run_cli("check", root, "--good", "Frontal", "--bad", "chip-ok?", "--bad", "scratch-ok?").code in (0, 1)


def test_wrong_input_to_check(make_set: Run, run_cli: Run, tmp_path: Path) -> None:
    make_set(tmp_path / "a" / "b" / "set", good=4, bad=4)
    Image.new("L", (8, 8)).save(tmp_path / "one.png")
    for name in ("empty", "only/masks", "unsorted/unlabeled"):
        (tmp_path / name).mkdir(parents=True)
    shutil.copy(tmp_path / "one.png", tmp_path / "only" / "masks" / "1.png")
    shutil.copy(tmp_path / "one.png", tmp_path / "unsorted" / "unlabeled" / "1.png")
    (tmp_path / "empty" / ".DS_Store").touch()
    (tmp_path / "set.xlsx").write_bytes(b"PK")
    for name, words in (
        ("a", f"Give the set below it: {tmp_path / 'a' / 'b' / 'set'}"),
        ("one.png", "is a single image"),
        ("empty", "is an empty folder"),
        ("only", "No folder of good units"),
        ("unsorted", "No folder of good units"),
        ("set.xlsx", "CSV UTF-8"),
    ):
        answer = run_cli("check", tmp_path / name)
        assert answer.code == 2, name
        assert words in answer.err
        assert "Traceback" not in answer.err


def test_formulas_in_what_is_written(
    trained_run: Path, parts: Path, run_cli: Run, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(sorted((parts / "good").iterdir())[0], tmp_path / "=1+1.png")
    for _ in range(2):  # the second run takes the row over
        answer = run_cli("predict", trained_run, "=1+1.png", "--out", "p.csv")
        assert answer.code == 0, answer.err
    assert "1 of 1 photographs were scored before" in answer.err
    assert pl.read_csv("p.csv")["image"].to_list() == ["'=1+1.png"]
