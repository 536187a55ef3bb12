"""Folders of photographs as people have them: what each was taken for, which masks fit, what is passed over."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from knowngood.data.loading import load
from knowngood.data.records import Records
from knowngood.errors import ConfigError, DataError

SIZE = (40, 32)


def photo(path: Path, seed: int = 0, size: tuple[int, int] = SIZE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0]), np.uint8)
    Image.fromarray(pixels).save(path, "PNG" if path.suffix.lower() not in (".jpg", ".bmp", ".tif") else None)


def mask(path: Path, size: tuple[int, int] = SIZE, white: bool = True) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((size[1], size[0]), np.uint8)
    pixels[4:9, 5:12] = 255 * white
    Image.fromarray(pixels).save(path)


def photos(root: Path, *names: str) -> None:
    for number, name in enumerate(names):
        photo(root / name, number)


def taken(records: Records) -> dict[str, tuple[str, int, int]]:
    return {one.name: (one.label, one.images, one.masks) for one in records.folders}


def labels(records: Records) -> dict[str, int | None]:
    return dict(records.frame.select("image", "label").rows())


def masks_of(records: Records, root: Path) -> dict[str, str]:
    rows = records.frame.filter(records.frame["mask"].is_not_null()).select("image", "mask").rows()
    return {image: Path(name).relative_to(root).as_posix() for image, name in rows}


def test_the_castings(tmp_path: Path) -> None:
    photos(tmp_path, "Train/ok_front/1.png", "Train/def_front/2.png", "TEST/ok_front/3.png", "TEST/def_front/4.png")
    records = load(tmp_path)
    assert labels(records) == {
        "TEST/def_front/4.png": 1, "TEST/ok_front/3.png": 0, "Train/def_front/2.png": 1, "Train/ok_front/1.png": 0,
    }  # fmt: skip
    assert set(records.frame["defect"].drop_nulls()) == {"bad"}
    assert records.frame["split"].to_list() == ["test", "test", "train", "train"]
    assert all(one.decided.startswith("guessed: the word '") for one in records.folders)
    assert "Train/ok_front/ is taken as good, which is guessed (the word 'ok')" in " ".join(records.notes)


def test_unlabelled_results_and_negations(tmp_path: Path) -> None:
    photos(tmp_path, "good/1.png", "no defect found/2.png", "not ok/3.png", "Unlabeled/4.png", "not sure/5.png")
    photos(tmp_path, "heatmaps/6.png", "run1/overlays/7.png", "old/overlays/8.png", "scratch/9.png")
    (tmp_path / "old" / "explained.json").write_text("{}")
    records = load(tmp_path)
    assert labels(records) == {
        "good/1.png": 0, "no defect found/2.png": 0, "not ok/3.png": 1, "Unlabeled/4.png": None, "not sure/5.png": None,
        "scratch/9.png": 1,
    }  # fmt: skip
    assert taken(records)["old"] == ("passed over", 0, 0)
    assert records.passed_over.counts == {"results, not photographs of parts": 3}


@pytest.mark.parametrize("name", ["ok_ng", "pass_fail", "good with scratch", "false rejects", "output_pin_bent"])
def test_what_is_doubtful_is_asked_about(tmp_path: Path, name: str) -> None:
    photos(tmp_path, "good/1.png", f"{name}/2.png", "chip/3.png")
    with pytest.raises(DataError, match=rf"doubtful(.|\n)*'{name}'(.|\n)*--good '{name}' or --bad '{name}'"):
        load(tmp_path)
    assert labels(load(tmp_path, bad=[name]))[f"{name}/2.png"] == 1
    assert labels(load(tmp_path, good=name.upper()))[f"{name}/2.png"] == 0


def test_names_of_ones_own(tmp_path: Path) -> None:
    photos(tmp_path, "MT_Free/1.png", "Frei, neu/2.png", "MT_Crack/3.png", "labels/4.png")
    with pytest.raises(
        DataError, match=r"No folder of good units is recognised(.|\n)*'MT_Crack' \(1 images\)(.|\n)*--good"
    ):
        load(tmp_path)
    records = load(tmp_path, good=["mt_free"], bad=["labels"])
    assert labels(records) == {"Frei, neu/2.png": 1, "MT_Crack/3.png": 1, "MT_Free/1.png": 0, "labels/4.png": 1}
    assert {one.name: one.decided for one in records.folders}["MT_Free"] == "--good"
    with pytest.raises(DataError, match=r"is called 'fre'(.|\n)*'MT_Free'"):
        load(tmp_path, good=["mt_free", "fre"], bad=["labels"])
    with pytest.raises(ConfigError, match="labels of its own"):
        load("elpv", good=["x"])


def test_names_override_a_layout_with_labels_of_its_own(tmp_path: Path) -> None:
    photos(tmp_path, "train/good/1.png", "test/good/2.png", "test/faint/3.png", "test/cut/4.png")
    mask(tmp_path / "ground_truth/cut/4_mask.png")
    assert load(tmp_path).source == "mvtec"
    records = load(tmp_path, good=["faint"])
    assert records.source == "folder"
    assert labels(records)["test/faint/3.png"] == 0
    assert masks_of(records, tmp_path) == {"test/cut/4.png": "ground_truth/cut/4_mask.png"}


def test_an_unknown_split_is_asked_about(tmp_path: Path) -> None:
    photos(tmp_path, "train/good/1.png", "train/cut/2.png", "later/good/3.png", "later/cut/4.png")
    with pytest.raises(
        DataError, match=r"'later' \(it holds good/(.|\n)*Rename 'later' to train, val, calibration or test"
    ):
        load(tmp_path)


def test_folders_that_only_hold_the_others(tmp_path: Path) -> None:
    root = tmp_path / "above" / "set"
    photos(root, "images/Train/good/1.png", "images/Train/cut/2.png", "images/test/good/3.png")
    mask(root / "masks/Train/cut/2.png")
    records = load(root)
    assert labels(records) == {"images/Train/cut/2.png": 1, "images/Train/good/1.png": 0, "images/test/good/3.png": 0}
    assert masks_of(records, root) == {"images/Train/cut/2.png": "masks/Train/cut/2.png"}
    with pytest.raises(DataError, match=r"Give the set below it: .*above/set"):
        load(tmp_path)


@pytest.mark.parametrize(
    "place",
    [
        "cut/7_GT.png", "cut/7-mask.png", "cut/7 label.png",
        "cut/7_seg.png", "cut/7_segmentation.PNG", "cut/mask_7.png",
        "cut/gt_7.png", "cut/7Mask.png", "cut/7.bmp", "cut/masks/7.png", "masks/cut/7_gt.png", "masks/7.png",
        "gt/cut/7.png",
        "ground truth/7_GT.png", "Labels/cut/7_label.png",
        "annotations/7_mask_1.png", "cut_gt/7.png", "cut extra/7.png",
        "seg/cut/7.png", "defect_masks/7.png", "masks/other name/7.png",
    ],
)  # fmt: skip
def test_masks_wherever_they_lie(tmp_path: Path, place: str) -> None:
    photos(tmp_path, "good/1.png", "cut/7.png", "dent/8.png")
    mask(tmp_path / place)
    records = load(tmp_path)
    assert labels(records) == {"cut/7.png": 1, "dent/8.png": 1, "good/1.png": 0}
    assert masks_of(records, tmp_path) == {"cut/7.png": place}
    assert not records.passed_over


def test_jpeg_photographs_with_png_masks_of_the_same_name(tmp_path: Path) -> None:
    for number in range(3):
        photo(tmp_path / f"MT_Cut/Imgs/{number}.jpg", number)
        mask(tmp_path / f"MT_Cut/Imgs/{number}.png")
        photo(tmp_path / f"MT_Free/Imgs/{number + 5}.jpg", number + 5)
        mask(tmp_path / f"MT_Free/Imgs/{number + 5}.png", white=False)
    records = load(tmp_path, good="MT_Free")
    assert records.counts() == {"good": 3, "bad": 3, "unlabelled": 0}
    assert len(masks_of(records, tmp_path)) == 3
    assert records.passed_over.counts == {"masks of good images, which have no defect": 3}
    assert any("look like masks" in note for note in records.notes)


def test_masks_that_help_nobody_are_counted(tmp_path: Path) -> None:
    photos(tmp_path, "good/1.png", "cut/1.png", "cut/2.png", "dent/2.png")
    mask(tmp_path / "masks/cut/9.png")
    mask(tmp_path / "masks/2.png")
    mask(tmp_path / "cut/8_GT.png")
    mask(tmp_path / "cut/1_GT.png", (20, 20))
    mask(tmp_path / "masks/dent/1.png")  # the image of that name is a cut
    records = load(tmp_path)
    assert len(records) == 4
    assert records.frame["mask"].null_count() == 4
    assert records.passed_over.counts == {
        "masks of another size than their image": 1,
        "masks that fit no image": 3,
        "masks that fit several images": 1,
    }
    assert records.passed_over.examples["masks of another size than their image"] == ["cut/1_GT.png"]


def test_photographs_with_the_name_of_a_mask_stay(tmp_path: Path) -> None:
    photos(tmp_path, "good/1.png", "label_missing/1_label.png", "label_missing/2.png", "solder_mask/3.png", "cut/1.png")
    mask(tmp_path / "good/2.png")  # a closed shutter, and the same number as another's
    records = load(tmp_path)
    assert labels(records) == {
        "good/1.png": 0, "good/2.png": 0, "label_missing/1_label.png": 1, "label_missing/2.png": 1,
        "solder_mask/3.png": 1, "cut/1.png": 1,
    }  # fmt: skip
    photos(tmp_path, "labels/4.png")
    with pytest.raises(
        DataError, match=r"'labels' \(the word 'labels' means masks, and its images look like photographs"
    ):
        load(tmp_path)


def test_files_of_the_system_never_count(tmp_path: Path) -> None:
    photos(tmp_path, "good/1.png", "cut/2.png")
    for name in (
        ".DS_Store",
        "good/Thumbs.db",
        "good/desktop.ini",
        "good/._1.png",
        "__MACOSX/good/._1.png",
        ".git/x.png",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"\0\5\x16\7")
    photos(tmp_path, "__MACOSX/good/9.png")
    records = load(tmp_path)
    assert len(records) == 2
    assert not records.passed_over
    assert list(taken(records)) == ["cut", "good"]
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / ".DS_Store").touch()
    (hidden / "__MACOSX").mkdir()
    with pytest.raises(DataError, match="is an empty folder"):
        load(hidden)


def test_endings_that_are_not_known(tmp_path: Path) -> None:
    photos(tmp_path, "good/1.png", "good/IMG_7", "cut/2.png")
    photo(tmp_path / "cut" / "IMG_8.HEIC")
    (tmp_path / "cut" / "real.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(60))
    (tmp_path / "cut" / "sensor.raw").write_bytes(bytes(range(256)) * 4)
    (tmp_path / "cut" / "half.png.part").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "cut" / "README").write_text("made in May\n")
    (tmp_path / "cut" / "list.txt").write_text("1\n")
    photos(tmp_path, "loose.png")
    records = load(tmp_path)
    assert set(labels(records)) == {"good/1.png", "good/IMG_7", "cut/2.png", "cut/IMG_8.HEIC"}
    assert records.frame["error"].null_count() == 4
    assert records.passed_over.counts == {
        "the ending .part of a file that is still being written": 1,
        "text without an ending": 1,
        "the ending .heic: HEIC is not read (save it as PNG or JPEG)": 1,
        "the ending .raw, which is not read (save it as PNG, TIFF or JPEG)": 1,
        "the ending .txt, which photographs do not have": 1,
        "photographs beside the class folders: no folder says what they are": 1,
    }
    assert "no ending, but it is a PNG by its first bytes: 1 (such as good/IMG_7)" in " ".join(records.notes)


def test_names_that_are_not_utf8_are_read(tmp_path: Path) -> None:
    photos(tmp_path, "good/1.png")
    strange = os.path.join(os.fsencode(tmp_path / "good"), b"part-\xff\x82.png")
    try:
        with open(strange, "wb") as handle:
            handle.write((tmp_path / "good" / "1.png").read_bytes())
    except OSError:
        pytest.skip("this file system has no such names")
    records = load(tmp_path)
    assert labels(records) == {"good/1.png": 0, "good/part-\\xff\\x82.png": 0}
    assert records.frame["error"].null_count() == 2


def test_a_layout_that_is_nearly_mvtec(tmp_path: Path) -> None:
    photos(tmp_path, "train/good/1.png", "test/cut/2.png")
    records = load(tmp_path)
    assert records.source == "folder"
    assert "missing: ground_truth/ (so there are no masks), test/good/" in " ".join(records.notes)


def test_mvtec_in_other_letters_with_what_it_does_not_have(tmp_path: Path) -> None:
    photos(tmp_path, "Train/Good/1.png", "Test/good/2.png", "Test/cut/3.png", "validation/good/4.png", "extra/5.png")
    mask(tmp_path / "GT/cut/3.png")
    mask(tmp_path / "GT/cut/9.png")
    records = load(tmp_path)
    assert records.source == "mvtec"
    assert dict(records.frame.select("image", "split").rows())["validation/good/4.png"] == "val"
    assert masks_of(records, tmp_path) == {"Test/cut/3.png": "GT/cut/3.png"}
    assert taken(records)["Test/cut"] == ("bad: cut", 1, 1)
    assert sorted(records.passed_over.counts.values()) == [1, 1]


def test_only_masks_or_only_unlabelled(tmp_path: Path) -> None:
    mask(tmp_path / "a/masks/1.png")
    photos(tmp_path, "b/unlabeled/1.png", "c/scratch/1.png")
    for name in ("a", "b", "c"):
        with pytest.raises(DataError, match="No folder of good units is recognised"):
            load(tmp_path / name)
