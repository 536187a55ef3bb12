"""Each layout becomes the right rows: labels, defects, splits, masks and boxes."""

from __future__ import annotations

import os
from pathlib import Path

import polars as pl
import pytest
from PIL import Image

from knowngood.data.loading import load
from knowngood.errors import DataError, UnknownNameError


def put(root: Path, *names: str) -> None:
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 6), number % 256).save(path)


def rows(path: Path, *columns: str, source: str | None = None) -> dict[str, tuple[object, ...]]:
    frame = load(path, source).frame
    return {row[0]: row[1:] for row in frame.select("image", *columns).iter_rows()}


def test_folder_with_defects_nesting_and_odd_names(tmp_path: Path) -> None:
    names = [
        "OK/a b.png",
        'OK/deep/er/it\'s "q".png',
        "scratch/new\nline.png",
        "Bruch Ä/部品.png",
        "NG/x.png",
    ]
    put(tmp_path, *names)
    (tmp_path / "OK" / "Thumbs.db").touch()
    (tmp_path / "OK" / ".hidden.png").touch()
    (tmp_path / "OK" / "notes.txt").touch()
    put(tmp_path, "loose.png")
    assert rows(tmp_path, "label", "defect", "split") == {
        names[0]: (0, None, None),
        names[1]: (0, None, None),
        names[2]: (1, "scratch", None),
        names[3]: (1, "Bruch Ä", None),
        names[4]: (1, "bad", None),
    }
    notes = " ".join(load(tmp_path).notes)
    assert "hidden" not in notes
    assert "the ending .txt, which photographs do not have: 1 (such as OK/notes.txt)" in notes
    assert "photographs beside the class folders: no folder says what they are: 1" in notes
    assert load(tmp_path).frame["error"].null_count() == 5


def test_folder_with_splits_and_unlabelled_test(tmp_path: Path) -> None:
    put(tmp_path, "train/good/1.png", "train/chip/1.png", "Validation/good/2.png", "test/3.png")
    assert rows(tmp_path, "label", "split") == {
        "train/good/1.png": (0, "train"),
        "train/chip/1.png": (1, "train"),
        "Validation/good/2.png": (0, "val"),
        "test/3.png": (None, "test"),
    }


def test_folder_masks(tmp_path: Path) -> None:
    put(tmp_path, "good/1.png", "chip/1.png", "chip/2.png", "chip/3.png", "scratch/3.png")
    put(tmp_path, "masks/chip/1_mask.png", "masks/2.png", "masks/3.png")
    masks = {name: mask and Path(mask).name for name, (mask,) in rows(tmp_path, "mask").items()}
    assert masks == {
        "good/1.png": None,
        "chip/1.png": "1_mask.png",
        "chip/2.png": "2.png",
        "chip/3.png": None,  # two images could mean masks/3.png
        "scratch/3.png": None,
    }


def test_good_only_folder_is_allowed(tmp_path: Path) -> None:
    put(tmp_path, "good/1.png")
    assert load(tmp_path).counts() == {"good": 1, "bad": 0, "unlabelled": 0}


def test_links_in_circles_end(tmp_path: Path) -> None:
    put(tmp_path, "good/1.png")
    (tmp_path / "good" / "again").symlink_to(tmp_path / "good", target_is_directory=True)
    assert len(load(tmp_path)) == 1


def test_names_that_are_not_utf8_have_a_row(tmp_path: Path) -> None:
    put(tmp_path, "good/1.png")
    try:
        with open(os.fsencode(tmp_path / "good") + b"/\xff.png", "wb") as handle:
            handle.write(b"x")
    except OSError:
        pytest.skip("this file system has no such names")
    frame = load(tmp_path).frame
    assert frame["image"].to_list() == ["good/1.png", "good/\\xff.png"]
    assert "is not an image" in str(frame["error"][1])


def test_contest(tmp_path: Path) -> None:
    put(tmp_path, "train/good_0/a.png", "train/bad_1/b.png", "test/all_tests/c.png")
    assert rows(tmp_path, "label", "split") == {
        "train/good_0/a.png": (0, "train"),
        "train/bad_1/b.png": (1, "train"),
        "test/all_tests/c.png": (None, "test"),
    }
    assert load(tmp_path).source == "contest"


def test_mvtec(tmp_path: Path) -> None:
    put(tmp_path, "train/good/0.png", "test/good/0.png", "test/crack/0.png", "ground_truth/crack/0_mask.png")
    assert load(tmp_path).source == "mvtec"
    got = rows(tmp_path, "label", "defect", "split", "mask")
    assert got["test/crack/0.png"] == (1, "crack", "test", str(tmp_path / "ground_truth/crack/0_mask.png"))
    assert got["test/good/0.png"] == (0, None, "test", None)
    assert len(got) == 3


MANIFEST = """\ufeffImage;Label;defect;split;lot;box;comment
"a;b.png";NG;chip;validation;7;"1,2,3,4";x
sub/c.png;Good;;train;8;;
./d.png;1;;;;[[0,0,2,2],[3,3,4,5.5]];
"""


def test_manifest_csv(tmp_path: Path) -> None:
    put(tmp_path, "a;b.png", "sub/c.png")
    (tmp_path / "set.csv").write_text(MANIFEST, encoding="utf-8")
    got = rows(tmp_path / "set.csv", "label", "defect", "split", "lot", "box", "error")
    assert got["a;b.png"] == (1, "chip", "val", "7", [[1, 2, 3, 4]], None)
    assert got["sub/c.png"] == (0, None, "train", "8", None, None)
    assert got["d.png"][:5] == (1, None, None, None, [[0, 0, 2, 2], [3, 3, 4, 5.5]])
    assert "no file" in str(got["d.png"][5])


def test_manifest_parquet(tmp_path: Path) -> None:
    put(tmp_path, "a.png", "b.png")
    frame = pl.DataFrame(
        {
            "image": ["a.png", "b.png"],
            "label": [0, 1],
            "box": [None, [[0.0, 0, 1, 1]]],
            "generated": [False, True],
            "probability": [None, 0.75],
        }
    )
    frame.write_parquet(tmp_path / "manifest.parquet")
    got = rows(tmp_path, "label", "box", "generated", "probability")
    assert got == {"a.png": (0, None, False, None), "b.png": (1, [[0, 0, 1, 1]], True, 0.75)}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("image,labels\na.png,good\n", "no column label"),
        ("image,label\na.png,good\nb.png,perhaps\n", "'label' of row 3.*perhaps"),
        ("image,label\n,good\n", "'image' of row 2.*empty"),
        ("image,label,split\na.png,good,later\n", "'split' of row 2"),
        ("image,label,defect\na.png,good,chip\n", "'defect' of row 2"),
        ('image,label,box\na.png,bad,"3,2,1,4"\n', "'box' of row 2"),
        ('image,label,box\na.png,bad,"[[1,2]"\n', "'box' of row 2"),
        ("image,label,probability\na.png,bad,1.5\n", "'probability' of row 2"),
        ("image,label\na.png,good\n./a.png,bad\n", "listed 2 times"),
        ("image,label\n", "no rows"),
        ("image,label,Label\na.png,good,bad\n", "two columns"),
        ("", "cannot be read"),
    ],
)
def test_manifest_complaints(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "manifest.csv").write_text(text)
    with pytest.raises(DataError, match=words):
        load(tmp_path)


def test_manifest_that_is_no_table(tmp_path: Path) -> None:
    (tmp_path / "m.parquet").write_text("no parquet")
    (tmp_path / "z.csv").write_bytes(bytes(range(256)) * 8)
    for name in ("m.parquet", "z.csv"):
        with pytest.raises(DataError, match=r"cannot be read as a table|has no column image"):
            load(tmp_path / name)


def test_what_cannot_be_loaded(tmp_path: Path) -> None:
    put(tmp_path, "single.png", "scratch/1.png")
    (tmp_path / "hollow" / "good").mkdir(parents=True)
    for path, words in (
        (tmp_path / "gone", "no such path"),
        (tmp_path / "single.png", "single image"),
        (tmp_path, "holds the folders hollow, scratch and 1 files"),
        (tmp_path / "hollow", "holds no images"),
    ):
        with pytest.raises(DataError, match=words):
            load(path)
    with pytest.raises(UnknownNameError, match="mvtec"):
        load(tmp_path, "mvtek")
    with pytest.raises(DataError, match="does not have the layout contest"):
        load(tmp_path, "contest")
