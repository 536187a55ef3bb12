"""Annotation formats become the same rows: labels, defects, boxes, masks and splits."""

from __future__ import annotations

import base64
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from knowngood.data.health import check
from knowngood.data.images import decode
from knowngood.data.loading import load
from knowngood.data.sources import SOURCES
from knowngood.data.sources.coco import CocoSource, coco_runs
from knowngood.data.sources.label_studio import studio_bits
from knowngood.data.sources.marks import fill, runs_of
from knowngood.errors import DataError, StorageError


def _formats() -> ModuleType:
    spec = importlib.util.spec_from_file_location("formats", Path(__file__).with_name("formats.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["formats"] = module
    spec.loader.exec_module(module)
    return module


formats = _formats()


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KNOWNGOOD_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.mark.parametrize("kind", formats.WRITERS)
def test_every_format_gives_the_same_rows(kind: str, tmp_path: Path) -> None:
    source, write, keeps_outline = formats.WRITERS[kind]
    photos = formats.photographs(tmp_path / "made")
    root = tmp_path / "set"
    root.mkdir()
    write(photos, root)
    health = check(root)
    records = health.records
    assert records.source == source
    assert records.frame["error"].null_count() == len(records)
    rows = {Path(row["image"]).name: row for row in records.frame.iter_rows(named=True)}
    assert sorted(rows) == sorted(photo.name for photo in photos)
    for photo in photos:
        row = rows[photo.name]
        if not photo.defects:
            assert (row["label"], row["defect"], row["box"], row["mask"]) == (0, None, None, None)
            continue
        assert row["label"] == 1
        if kind == "labelme in class folders":
            assert row["defect"] == photo.defects[0][0]  # the folder
        else:
            areas = {name: formats.inside(photo, outline).sum() for name, outline in photo.defects}
            assert row["defect"] == max(areas, key=areas.get)
        boxes = [formats.box_of(outline) for _, outline in photo.defects]
        np.testing.assert_allclose(row["box"], boxes, atol=1e-3)
        if not keeps_outline:
            assert row["mask"] is None
            continue
        mask = decode(row["mask"])
        assert mask.dtype == np.uint8
        assert set(np.unique(mask).tolist()) == {0, 255}
        want = np.any([formats.inside(photo, outline) for _, outline in photo.defects], axis=0)
        np.testing.assert_array_equal(mask == 255, want)
    codes = {finding.code for finding in health.findings}
    assert codes.isdisjoint({"unreadable-masks", "mask-size", "mask-on-good"})


def rows(root: Path, *columns: str, source: str | None = None) -> dict[str, tuple[object, ...]]:
    frame = load(root, source).frame
    return {Path(row[0]).name: row[1:] for row in frame.select("image", *columns).iter_rows()}


def put(root: Path, *names: str, size: tuple[int, int] = (40, 30), **options: object) -> Path:
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 255, size[::-1], np.uint8)
        Image.fromarray(pixels).save(path, **options)
    return root


def notes(root: Path, source: str | None = None) -> str:
    return " ".join(load(root, source).notes)


def coco_file(
    path: Path, images: list[dict], annotations: list[dict], names: tuple[str, ...] = ("scratch", "ok")
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    categories = [{"id": number, "name": name} for number, name in enumerate(names)]
    numbered = [{"id": number, **one} for number, one in enumerate(images)]
    path.write_text(json.dumps({"images": numbered, "annotations": annotations, "categories": categories}))
    return path


def test_coco_odd_annotations_are_counted(tmp_path: Path) -> None:
    put(tmp_path, *(f"images/{letter}.png" for letter in "abcdefghi"), "images/stray.png")
    boxes = {
        0: (0, [-5, -5, 15, 15]),  # clipped
        1: (0, [50, 50, 9, 9]),  # outside
        2: (0, [3, 3, 0, 4]),  # empty
        3: (7, [1, 1, 4, 4]),  # no such class
        4: (1, [1, 1, 4, 4]),  # the class is called ok
        5: (0, [1, 1, "x", None]),
        6: (0, [9, 9, -4, -4]),  # the other corner first
        99: (0, [1, 1, 2, 2]),  # no such image
    }
    annotations = [{"image_id": i, "category_id": c, "bbox": b} for i, (c, b) in boxes.items()]
    annotations.append({"image_id": 7, "category_id": 0, "bbox": [1, 1, 2, 2], "ignore": 1})
    crowd = {"counts": [0, 60, 1140], "size": [30, 40]}
    annotations.append({"image_id": 8, "category_id": 0, "segmentation": crowd, "iscrowd": 1})
    images = [{"file_name": f"{letter}.png", "width": 40, "height": 30} for letter in "abcdefghi"]
    coco_file(tmp_path / "annotations.json", [*images, {"file_name": "gone.png"}], annotations)
    got = rows(tmp_path, "label", "defect", "box")
    assert got["a.png"] == (1, "scratch", [[0, 0, 10, 10]])
    assert got["b.png"] == (1, "scratch", None)
    assert got["c.png"] == (1, "scratch", None)
    assert got["d.png"] == (1, "category 7", [[1, 1, 5, 5]])
    assert got["e.png"] == (0, None, None)
    assert got["f.png"] == (1, "scratch", None)
    assert got["g.png"] == (1, "scratch", [[5, 5, 9, 9]])
    assert got["h.png"] == (None, None, None)  # whether it is good nobody says
    assert got["i.png"] == (1, "scratch", [[0, 0, 2, 30]])
    assert got["gone.png"] == (0, None, None)
    said = notes(tmp_path)
    for words in (
        "1 annotation reached over the edge",
        "2 annotations cover no pixel",
        "1 annotation has a class that is not in the list",
        "1 annotation belongs to no image",
        "1 annotation has coordinates that mean nothing",
        "1 annotation is flagged to be ignored",
        "1 annotated image is not on the disk (first: gone.png)",
        "1 image on the disk is not in the annotations and was left out (first: images/stray.png)",
    ):
        assert words in said
    errors = dict(load(tmp_path).frame.select("image", "error").iter_rows())
    assert [name for name, error in errors.items() if error] == ["gone.png"]


def test_coco_splits_by_file_and_folder(tmp_path: Path) -> None:
    put(tmp_path / "one", "images/train2017/a.png", "images/val2017/a.png", "images/test2017/c.png")
    annotations = [{"image_id": 0, "category_id": 0, "bbox": [1, 1, 4, 4]}]
    for split in ("train", "val"):
        coco_file(tmp_path / f"one/annotations/instances_{split}2017.json", [{"file_name": "a.png"}], annotations)
    (tmp_path / "one/annotations/captions_train2017.json").write_text(
        '{"images": [{"file_name": 1}], "annotations": []}'
    )
    frame = load(tmp_path / "one").frame
    assert frame.select("image", "split", "label").rows() == [
        ("images/train2017/a.png", "train", 1),
        ("images/val2017/a.png", "val", 1),
    ]
    for split in ("train", "valid", "test"):  # as Roboflow exports it
        put(tmp_path / "two", f"{split}/{split}_jpg.rf.1.jpg")
        images = [{"file_name": f"{split}_jpg.rf.1.jpg"}]
        coco_file(tmp_path / "two" / split / "_annotations.coco.json", images, annotations if split == "train" else [])
    frame = load(tmp_path / "two").frame
    assert frame.select("split", "label").rows() == [("test", 0), ("train", 1), ("val", 0)]


def test_an_image_in_two_splits_stays_out_of_the_test(tmp_path: Path) -> None:
    put(tmp_path, "images/a.png", "images/b.png")
    for split in ("test", "train"):
        images = [{"file_name": "a.png"}, {"file_name": f"{'b' if split == 'test' else 'a'}.png"}]
        coco_file(tmp_path / f"annotations/{split}.json", images[: 1 + (split == "test")], [])
    assert rows(tmp_path, "split") == {"a.png": ("train",), "b.png": ("test",)}
    assert "1 image is listed in two splits" in notes(tmp_path)


def test_names_of_other_machines_and_of_several_folders(tmp_path: Path) -> None:
    put(tmp_path, "lot1/a.png", "lot2/a.png", "lot1/b c.png", "lot3/D.PNG", "lot4/0badcafe-e.png")
    names = [r"C:\data\lot1\a.png", r"lot2\a.png", "lot1/b%20c.png", "/home/x/d.png", "a.png", "e.png"]
    names[5] = "0badcafe-e.png"
    coco_file(tmp_path / "labels.json", [{"file_name": name} for name in names], [])
    frame = load(tmp_path).frame
    assert sorted(frame["image"]) == [
        "a.png",
        "lot1/a.png",
        "lot1/b c.png",
        "lot2/a.png",
        "lot3/D.PNG",
        "lot4/0badcafe-e.png",
    ]
    assert dict(frame.select("image", "error").iter_rows())["a.png"] is not None  # two could be meant: none is taken
    assert "1 image name fits several files" in notes(tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"images": [{"id": 1, "file_name": "a.png"}], "annotations": [', "cannot be read as JSON"),
        ('{"images": [{"id": 1, "file_name": "a.png"}], "annotation": []}', "'annotations' is missing"),
        ('{"images": {"file_name": 3}, "categories": []}', "'images' is missing"),
        ('{"images": [{"id": 1, "file_name": "a.png"}, {"id": 2}], "annotations": []}', "number 1 of its images"),
        ('{"images": [{"id": 1, "file_name": "a"}, {"id": 1, "file_name": "b"}], "annotations": []}', "have the id 1"),
        ('{"images": [], "annotations": [], "categories": []}', "lists no images"),
        ('{"images": [{"id": 1, "file_name": "b.png"}], "annotations": []}', "none of the 1 images"),
    ],
)
def test_damaged_coco_names_file_and_expectation(tmp_path: Path, text: str, words: str) -> None:
    put(tmp_path, "a.png")
    (tmp_path / "set.json").write_text(text)
    with pytest.raises(DataError) as caught:
        CocoSource().read(tmp_path / "set.json")
    assert words in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert "Expected" in str(caught.value)


@pytest.mark.parametrize(
    "counts", ["", "~~~", [1, 2], [-1, 1201], [0, 10**30], "0" * 50, [1200.5], None, "abc\u1234", ["a"]]
)
def test_damaged_run_lengths_are_counted(tmp_path: Path, counts: object) -> None:
    put(tmp_path, "a.png")
    one = {"image_id": 0, "category_id": 0, "segmentation": {"counts": counts, "size": [30, 40]}}
    coco_file(tmp_path / "set.json", [{"file_name": "a.png", "width": 40, "height": 30}], [one])
    assert rows(tmp_path, "label", "box", "mask") == {"a.png": (1, None, None)}
    assert "coordinates that mean nothing" in notes(tmp_path)


def test_run_lengths_are_cocos(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    for _ in range(50):
        bits = rng.random((rng.integers(1, 9), rng.integers(1, 9))) < rng.random()
        counts = formats.columns(bits)
        for form in (counts, formats.compressed(counts)):
            runs = coco_runs({"counts": form, "size": list(bits.shape)})
            assert runs is not None
            np.testing.assert_array_equal(runs.pixels(), bits)
        np.testing.assert_array_equal(runs_of(bits).pixels(), bits)
        np.testing.assert_array_equal(studio_bits(formats.brush(bits), bits.shape[1], bits.shape[0]), bits)
    assert coco_runs({"counts": "PPYo2", "size": [10, 10]}) is None


def test_other_sizes_and_turned_photographs(tmp_path: Path) -> None:
    put(tmp_path, "half.png", size=(40, 30))
    put(tmp_path, "other.png", size=(30, 30))
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn to the right
    put(tmp_path, "turned.jpg", size=(40, 30), exif=exif)
    put(tmp_path, "upright.jpg", size=(40, 30), exif=exif)
    square = [[8, 4, 16, 4, 16, 8, 8, 8]]
    images = [("half.png", 80, 60), ("other.png", 40, 30), ("turned.jpg", 40, 30), ("upright.jpg", 30, 40)]
    listed = [{"file_name": name, "width": width, "height": height} for name, width, height in images]
    annotations = [{"image_id": n, "category_id": 0, "segmentation": square} for n in range(4)]
    coco_file(tmp_path / "set.json", listed, annotations)
    got = rows(tmp_path, "box", "mask", "width")
    assert got["half.png"][0] == [[4, 2, 8, 4]]
    assert got["other.png"] == (None, None, 30)
    assert got["turned.jpg"][0] == [[22, 8, 26, 16]]  # x to the right becomes downwards
    assert got["upright.jpg"][0] == [[8, 4, 16, 8]]
    for name in ("half.png", "turned.jpg", "upright.jpg"):
        x0, y0, x1, y1 = (int(side) for side in got[name][0][0])
        mask = decode(got[name][1])
        assert mask.shape == ((30, 40) if name == "half.png" else (40, 30))
        assert mask[y0:y1, x0:x1].all()
        assert int((mask > 0).sum()) == (x1 - x0) * (y1 - y0)
    said = notes(tmp_path)
    assert "1 photograph has another size than was annotated" in said
    assert "1 photograph has another shape" in said


def test_a_mask_shows_boxes_and_thin_lines_too(tmp_path: Path) -> None:
    put(tmp_path, "a.png")
    segments = [[[2, 2, 6, 2, 6, 6, 2, 6]], [], [[20, 5, 30, 5, 30, 5.2, 20, 5.2]]]
    annotations = [{"image_id": 0, "category_id": 0, "segmentation": one} for one in segments]
    annotations[1]["bbox"] = [10, 10, 5, 4]
    coco_file(tmp_path / "set.json", [{"file_name": "a.png"}], annotations)
    mask = decode(rows(tmp_path, "mask")["a.png"][0]) > 0
    assert mask[2:6, 2:6].all()
    assert mask[10:14, 10:15].all()
    assert mask[5, 20:30].all()
    assert mask.sum() in range(16 + 20 + 10, 16 + 20 + 13)


def test_masks_are_made_once(tmp_path: Path) -> None:
    put(tmp_path, "a.png")
    one = {"image_id": 0, "category_id": 0, "segmentation": [[2, 2, 6, 2, 6, 6, 2, 6]]}
    file = coco_file(tmp_path / "set.json", [{"file_name": "a.png"}], [one])
    mask = Path(rows(tmp_path, "mask")["a.png"][0])
    before = mask.stat().st_mtime_ns
    assert rows(tmp_path, "mask")["a.png"][0] == str(mask)
    assert mask.stat().st_mtime_ns == before
    one["segmentation"] = [[2, 2, 6, 2, 6, 7, 2, 6]]
    coco_file(file, [{"file_name": "a.png"}], [one])
    assert rows(tmp_path, "mask")["a.png"][0] != str(mask)
    assert len(list(mask.parents[1].rglob("*.png"))) == 2


def test_yolo_yaml_with_splits_and_segments(tmp_path: Path) -> None:
    put(tmp_path, *(f"{split}/images/{n}.png" for split in ("train", "valid", "test") for n in "ab"))
    for split in ("train", "valid"):
        (tmp_path / split / "labels").mkdir()
        (tmp_path / split / "labels" / "a.txt").write_text("1 0.5 0.5 0.25 0.2\n0 0.1 0.1 0.3 0.1 0.3 0.3\n")
    (tmp_path / "data.yaml").write_text(
        "train: ../train/images\nval: ../valid/images\ntest: ../test/images\nnc: 2\nnames: ['ok', 'chip']\n"
    )
    frame = load(tmp_path).frame
    got = {row[0]: row[1:] for row in frame.select("image", "label", "defect", "split", "box").iter_rows()}
    assert got["train/images/a.png"] == (1, "chip", "train", [[15, 12, 25, 18]])
    assert got["valid/images/b.png"] == (0, None, "val", None)
    assert got["test/images/a.png"] == (None, None, "test", None)  # without labels nobody says that it is good
    assert load(tmp_path / "data.yaml").frame.equals(frame)


@pytest.mark.parametrize(
    "names", ["names:\n  0: chip\n  1: dent\n", "names: [chip, dent]\n", "names:\n- chip\n- dent\n"]
)
def test_yolo_lists_and_layout_of_ultralytics(tmp_path: Path, names: str) -> None:
    put(tmp_path, "images/train/a.png", "images/val/b.png", "images/val/stray.png")
    for name, line in (("train/a", "1 0.5 0.5 0.5 0.5 0.9"), ("val/b", "5 0.5 0.5 2.5 0.5")):
        (tmp_path / "labels" / name).parent.mkdir(parents=True)
        (tmp_path / "labels" / f"{name}.txt").write_text(line)
    (tmp_path / "labels" / "gone.txt").write_text("0 0.5 0.5 0.1 0.1")
    (tmp_path / "val.txt").write_text("./images/val/b.png\n")
    (tmp_path / "set.yaml").write_text(f"path: /datasets/elsewhere\ntrain: [images/train]\nval: val.txt\n{names}")
    assert rows(tmp_path, "label", "defect", "split", "box") == {
        "a.png": (1, "dent", "train", [[10, 7.5, 30, 22.5]]),
        "b.png": (1, "class 5", "val", [[0, 7.5, 40, 22.5]]),
    }
    said = notes(tmp_path)
    assert "1 annotation belongs to no image (first: gone.txt)" in said
    assert "1 annotation has a class that is not" in said
    assert "1 annotation reached over" in said
    assert "1 image on the disk is not in the annotations" in said


def test_darknet_layout_of_cvat(tmp_path: Path) -> None:
    put(tmp_path, "obj_train_data/a.png", "obj_train_data/b.png")
    (tmp_path / "obj.names").write_text("chip\ndent\n")
    (tmp_path / "obj.data").write_text("classes = 2\ntrain = data/train.txt\n")
    (tmp_path / "train.txt").write_text("data/obj_train_data/a.png\ndata/obj_train_data/b.png\n")
    (tmp_path / "obj_train_data/a.txt").write_text("1 0.5 0.5 0.5 0.5\n")
    (tmp_path / "obj_train_data/b.txt").write_text("")
    assert rows(tmp_path, "label", "defect", "split") == {"a.png": (1, "dent", "train"), "b.png": (0, None, "train")}


@pytest.mark.parametrize("line", ["chip 0.5 0.5 0.1 0.1", "0 0.5 0.5", "0 nan 0.5 0.1 0.1", "1.5 0.1 0.1 0.1 0.1"])
def test_damaged_yolo_names_file_and_line(tmp_path: Path, line: str) -> None:
    put(tmp_path, "images/a.png")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/a.txt").write_text(f"0 0.5 0.5 0.1 0.1\n{line}\n")
    with pytest.raises(DataError, match=r"a\.txt.*line 2"):
        load(tmp_path)


VOC = "<annotation><filename>{}</filename><size><width>40</width><height>30</height></size>{}</annotation>"
OBJECT = "<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"


def test_voc_sets_and_splits(tmp_path: Path) -> None:
    put(tmp_path, *(f"JPEGImages/{name}.jpg" for name in ("a", "b c", "d", "e")))
    for name, text in (("a", OBJECT.format("chip", 1, 1, 10, 10)), ("b c", ""), ("gone", "")):
        (tmp_path / "Annotations").mkdir(exist_ok=True)
        (tmp_path / f"Annotations/{name}.xml").write_text(VOC.format("renamed.jpg", text))
    sets = {"train": "a\n", "val": "b c\n", "test": "d\n", "trainval": "a\nb c\n", "chip_train": "a  1\n"}
    for name, text in sets.items():
        (tmp_path / "ImageSets/Main").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"ImageSets/Main/{name}.txt").write_text(text)
    got = rows(tmp_path, "label", "split", "box")
    assert got["a.jpg"] == (1, "train", [[0, 0, 10, 10]])
    assert got["b c.jpg"] == (0, "val", None)
    assert got["d.jpg"] == (0, "test", None)
    assert "e.jpg" not in got
    said = notes(tmp_path)
    assert "1 annotated image is not on the disk" in said
    assert "1 image on the disk is not in the annotations" in said


def test_voc_counted_from_zero_beside_the_images(tmp_path: Path) -> None:
    put(tmp_path, "train/a.png", "test/b.png")
    (tmp_path / "train/a.xml").write_text(VOC.format("a.png", OBJECT.format("dent", 12, 9, 0, 0)))
    turned = "<robndbox><cx>20</cx><cy>10</cy><w>10</w><h>4</h><angle>1.5707963</angle></robndbox>"
    (tmp_path / "test/b.xml").write_text(VOC.format("b.png", f"<object><name>dent</name>{turned}</object>"))
    got = rows(tmp_path, "split", "box")
    assert got["a.png"] == ("train", [[0, 0, 12, 9]])
    assert got["b.png"][0] == "test"
    np.testing.assert_allclose(got["b.png"][1], [[18, 5, 22, 15]], atol=1e-4)


LAUGHS = '<!DOCTYPE annotation [<!ENTITY a "ha">{}]><annotation><filename>&j;</filename></annotation>'
ENTITIES = "".join(f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefghi", "bcdefghij", strict=True))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (LAUGHS.format(ENTITIES), "document type"),
        ('<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotation></annotation>', "document type"),
        ("<annotation><object>", "cannot be read as XML"),
        ("<annotation>" + "<a>" * 5000, "nested"),
        ("<annotation><object><label>x</label></object></annotation>", "has no name"),
        ('<?xml version="1.0" encoding="gb18030-x"?><annotation></annotation>', "cannot be read as XML"),
    ],
)
def test_damaged_xml_names_file_and_expectation(tmp_path: Path, text: str, words: str) -> None:
    put(tmp_path, "a.png")
    (tmp_path / "a.xml").write_text(text)
    with pytest.raises(DataError) as caught:
        load(tmp_path, "voc")
    assert words in str(caught.value)
    assert "a.xml" in str(caught.value)


def test_cvat_shapes_of_all_kinds(tmp_path: Path) -> None:
    names = ["box", "turned", "ellipse", "line", "points", "tag", "ok", "cuboid", "ignored", "bad"]
    put(tmp_path, *(f"images/{name}.png" for name in names))
    shapes = {
        "box": '<box label="chip" xtl="30" ytl="2" xbr="20" ybr="8"><attribute name="x">y</attribute></box>',
        "turned": '<box label="chip" xtl="10" ytl="10" xbr="30" ybr="14" rotation="90"/>',
        "ellipse": '<ellipse label="chip" cx="20" cy="15" rx="10" ry="5" rotation="90"/>',
        "line": '<polyline label="chip" points="5,5;25,5"/>',
        "points": '<points label="chip" points="5,5;25,5"/>',
        "tag": '<tag label="chip" source="manual"/>',
        "ok": '<tag label="OK"/><box label="background" xtl="0" ytl="0" xbr="9" ybr="9"/>',
        "cuboid": '<cuboid label="chip" xtl1="2" ytl1="3" xbl1="2" ybl1="9" xtr1="8" ytr1="3" xbr1="8" ybr1="9" '
        'xtl2="4" ytl2="1" xbl2="4" ybl2="7" xtr2="10" ytr2="1" xbr2="10" ybr2="7"/>',
        "ignored": '<box label="chip" xtl="0" ytl="0" xbr="9" ybr="9"><attribute name="ignore">true</attribute></box>',
        "bad": '<polygon label="chip" points="1,2;nonsense"/>',
    }
    text = "".join(f'<image id="1" name="{n}.png" width="40" height="30">{s}</image>' for n, s in shapes.items())
    (tmp_path / "annotations.xml").write_text(f"<annotations><version>1.1</version>{text}</annotations>")
    got = rows(tmp_path, "label", "box", "mask")
    assert got["box.png"] == (1, [[20, 2, 30, 8]], None)
    np.testing.assert_allclose(got["turned.png"][1], [[18, 2, 22, 22]], atol=1e-4)
    np.testing.assert_allclose(got["ellipse.png"][1], [[15, 5, 25, 25]], atol=1e-4)
    assert (decode(got["ellipse.png"][2]) > 0).sum() == pytest.approx(np.pi * 50, abs=6)
    assert decode(got["line.png"][2])[5, 5:25].all()
    points = decode(got["points.png"][2])
    assert points[5, 5]
    assert points[5, 25]
    assert not points[5, 15]
    assert got["tag.png"] == (1, None, None)
    assert got["ok.png"] == (0, None, None)
    assert got["cuboid.png"] == (1, [[2, 1, 10, 9]], None)
    assert got["ignored.png"][1] is None
    assert got["bad.png"] == (1, None, None)


def test_cvat_of_videos_is_refused(tmp_path: Path) -> None:
    put(tmp_path, "a.png")
    (tmp_path / "a.xml").write_text('<annotations><version>1.1</version><track id="0" label="x"></track></annotations>')
    with pytest.raises(DataError, match="tracks of a video"):
        load(tmp_path)


def labelme_file(path: Path, *shapes: dict, **more: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {"version": "5", "flags": {}, "shapes": list(shapes), "imagePath": f"{path.stem}.png"} | more
    path.write_text(json.dumps(document))


def shape(kind: str, *points: list[float], label: str = "chip", **more: object) -> dict:
    return {"label": label, "shape_type": kind, "points": list(points), "flags": {}} | more


def test_labelme_shapes_of_all_kinds(tmp_path: Path) -> None:
    put(tmp_path, *(f"{name}.png" for name in ("circle", "line", "two", "flag", "none", "ok", "point", "turned")))
    labelme_file(tmp_path / "circle.json", shape("circle", [20, 15], [20, 25]))
    labelme_file(tmp_path / "line.json", shape("linestrip", [5, 5], [25, 5], [25, 20]))
    labelme_file(
        tmp_path / "two.json", shape("rectangle", [30, 20], [10, 5]), shape("rectangle", [1, 1], [2, 2], label="x")
    )
    labelme_file(tmp_path / "flag.json", flags={"NG": True, "reviewed": True})
    labelme_file(tmp_path / "ok.json", shape("polygon", [0, 0], [9, 0], [9, 9], label="good"))
    labelme_file(tmp_path / "point.json", shape("point", [7, 7]))
    labelme_file(tmp_path / "turned.json", shape("rotation", [10, 5], [20, 10], [15, 20], [5, 15], direction=0.4))
    got = rows(tmp_path, "label", "defect", "box", "mask")
    assert (decode(got["circle.png"][3]) > 0).sum() == pytest.approx(np.pi * 100, abs=8)
    assert decode(got["line.png"][3])[5, 5:25].all()
    assert got["two.png"] == (1, "chip", [[10, 5, 30, 20], [1, 1, 2, 2]], None)
    assert got["flag.png"] == (1, "bad", None, None)
    assert got["none.png"] == (0, None, None, None)
    assert got["ok.png"] == (0, None, None, None)
    assert decode(got["point.png"][3])[7, 7]
    assert got["turned.png"][2] == [[5, 5, 20, 20]]
    assert "1 image has no annotation file" in notes(tmp_path)


def test_labelme_in_class_folders_adds_places_to_the_folders_labels(tmp_path: Path) -> None:
    put(tmp_path, "good/a.png", "good/b.png", "dent/c.png", "dent/d.png", "masks/dent/d.png")
    labelme_file(tmp_path / "good/b.json", shape("polygon", [0, 0], [9, 0], [9, 9]))
    for name in ("c", "d"):
        labelme_file(tmp_path / f"dent/{name}.json", shape("polygon", [2, 2], [9, 2], [9, 9], label="other"))
    records = load(tmp_path)
    assert records.source == "labelme"
    got = rows(tmp_path, "label", "defect", "box")
    assert got == {
        "a.png": (0, None, None),
        "b.png": (0, None, None),  # the folder is believed, and a remark says so
        "c.png": (1, "dent", [[2, 2, 9, 9]]),
        "d.png": (1, "dent", [[2, 2, 9, 9]]),
    }
    masks = dict(records.frame.select("image", "mask").iter_rows())
    assert masks["dent/d.png"] == str(tmp_path / "masks/dent/d.png")  # a mask that is there stays
    assert "cache" in masks["dent/c.png"]
    assert "1 photograph in a good folder has annotated defects" in " ".join(records.notes)


def test_labelme_elsewhere_and_with_the_photograph_inside(tmp_path: Path) -> None:
    put(tmp_path, "images/a.png", "b.png")
    labelme_file(tmp_path / "labels/a.json", shape("rectangle", [1, 1], [5, 5]), imagePath="..\\images\\a.png")
    data = base64.b64encode((tmp_path / "b.png").read_bytes()).decode()
    labelme_file(
        tmp_path / "labels/lost.json", shape("rectangle", [1, 1], [5, 5]), imagePath="lost.png", imageData=data
    )
    records = load(tmp_path)
    got = dict(records.frame.select("image", "label").iter_rows())
    assert got == {"images/a.png": 1, "labels/lost.png": 1, "b.png": 0}
    assert records.frame["error"].null_count() == 3
    assert "1 photograph was taken out of its annotation file" in " ".join(records.notes)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"version": "5", "imagePath": "b.png", "shape": []}', "'shapes' is missing"),
        ('{"shapes": [', "cannot be read as JSON"),
        ('{"shapes": [{"points": [[1, 2]]}]}', "has no label"),
        ("[" * 100_000, "cannot be read as JSON"),
    ],
)
def test_damaged_labelme_names_file_and_expectation(tmp_path: Path, text: str, words: str) -> None:
    put(tmp_path, "a.png", "b.png")
    labelme_file(tmp_path / "a.json", shape("rectangle", [1, 1], [5, 5]))
    (tmp_path / "b.json").write_text(text)
    with pytest.raises(DataError) as caught:
        load(tmp_path)
    assert words in str(caught.value)
    assert "b.json" in str(caught.value)


def studio_task(number: int, image: str, *results: dict | None, **more: object) -> dict:
    done = [{"id": n, "result": [one] if one else []} for n, one in enumerate(results)]
    return {"id": number, "data": {"image": image}, "annotations": done} | more


def studio_result(kind: str, value: dict, label: str = "chip") -> dict:
    named = {"choices": [label]} if kind == "choices" else {kind: [label]}
    return {"type": kind, "value": value | named, "original_width": 40, "original_height": 30}


def test_label_studio_tasks(tmp_path: Path) -> None:
    names = ["t.png", "e f.png", "g.png", "skipped.png", "none.png", "c.png", "twice.png", "k.png"]
    put(tmp_path, *(f"media/{name}" for name in names))
    turned = {"x": 50, "y": 50, "width": 25, "height": 20, "rotation": 90}
    oval = {"x": 50, "y": 50, "radiusX": 25, "radiusY": 20, "rotation": 0}
    box = {"x": 10, "y": 10, "width": 10, "height": 10, "rotation": 0}
    tasks = [
        studio_task(1, "/data/upload/1/1a2b3c4d-t.png", studio_result("rectanglelabels", turned)),
        studio_task(2, "/data/local-files/?d=media%2Fe%20f.png", studio_result("ellipselabels", oval)),
        studio_task(3, "http://localhost:8080/data/upload/1/00000000-g.png", None),
        studio_task(4, "s3://bucket/media/skipped.png", annotations=[{"was_cancelled": True, "result": []}]),
        studio_task(5, "none.png"),
        studio_task(6, "c.png", studio_result("choices", {}, "OK")),
        studio_task(7, "twice.png", studio_result("rectanglelabels", box, "x"), studio_result("rectanglelabels", box)),
        studio_task(8, "k.png", studio_result("keypointlabels", {"x": 50, "y": 50, "width": 1})),
    ]
    apart = [
        {"type": "rectangle", "id": "r", "value": box},
        {"type": "labels", "id": "r", "value": {"labels": ["dent"]}},
    ]
    tasks[7]["annotations"][0]["result"] += [one | {"original_width": 40, "original_height": 30} for one in apart]
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    got = rows(tmp_path, "label", "defect", "box")
    np.testing.assert_allclose(got["t.png"][2], [[14, 15, 20, 25]], atol=1e-4)  # about its corner
    np.testing.assert_allclose(got["e f.png"][2], [[10, 9, 30, 21]], atol=1e-4)
    assert got["g.png"] == (0, None, None)
    assert got["skipped.png"] == (None, None, None)
    assert got["none.png"] == (None, None, None)
    assert got["c.png"] == (0, None, None)
    assert got["twice.png"] == (1, "chip", [[4, 3, 8, 6]])
    assert got["k.png"][:2] == (1, "dent")
    assert "1 image was annotated more than once" in notes(tmp_path)


def test_other_exports_of_label_studio_are_told_apart(tmp_path: Path) -> None:
    put(tmp_path, "a.png")
    region = {"x": 1, "y": 1, "width": 2, "height": 2, "rectanglelabels": ["chip"]}
    task = {"image": "a.png", "id": 1, "label": [region], "annotator": 1, "annotation_id": 1}
    (tmp_path / "min.json").write_text(json.dumps([task]))
    with pytest.raises(DataError, match='export "JSON"'):
        load(tmp_path)
    data = f"data:image/png;base64,{base64.b64encode((tmp_path / 'a.png').read_bytes()).decode()}"
    (tmp_path / "min.json").write_text(json.dumps([studio_task(7, data, None), studio_task(8, "a.png", None)]))
    assert rows(tmp_path, "label", "error") == {"task 7.png": (0, None), "a.png": (0, None)}


def test_label_studio_without_any_empty_annotation(tmp_path: Path) -> None:
    put(tmp_path, "a.png", "b.png", "c.png")
    box = {"x": 10, "y": 10, "width": 10, "height": 10}
    skipped = studio_task(3, "c.png", annotations=[{"was_cancelled": True, "result": []}])
    tasks = [studio_task(1, "a.png", studio_result("rectanglelabels", box)), studio_task(2, "b.png"), skipped]
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    assert rows(tmp_path, "label") == {"a.png": (1,), "b.png": (0,), "c.png": (None,)}
    assert "1 task has no annotation and counts as good" in notes(tmp_path)


def test_a_plain_folder_set_stays_one(tmp_path: Path) -> None:
    put(tmp_path, "good/a.png", "dent/b.png")
    coco_file(tmp_path / "results.json", [{"file_name": "a.png"}], [])
    (tmp_path / "metrics.json").write_text('{"auc": 1}')
    (tmp_path / "good/notes.txt").write_text("0 0.5 0.5 0.1 0.1")
    (tmp_path / "export.xml").write_text("<annotations><image/></annotations>")
    (tmp_path / "config.yaml").write_text("names: [a]\ntrain: x\n")
    (tmp_path / "dent/b.json").write_text('{"exposure": 3}')
    assert load(tmp_path).source == "folder"
    assert load(tmp_path / "results.json").source == "coco"


def test_yolo_yaml_beside_the_folder_of_images(tmp_path: Path) -> None:
    put(tmp_path, "images/train/a.png")
    (tmp_path / "labels/train").mkdir(parents=True)
    (tmp_path / "labels/train/a.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    there = f"{tmp_path}/images/train"
    for place, entry in (("cfg", "../images/train"), ("cfg2", there), ("cfg3", there)):
        (tmp_path / place).mkdir()
        path = f"path: {tmp_path}\n" if place == "cfg2" else ""
        (tmp_path / place / "x.yml").write_text(f"{path}train: {entry}\nnames: [chip]\n")
        got = rows(tmp_path / place / "x.yml", "label", "split", "defect")
        assert got == {"a.png": (1, "train", "chip")}


@pytest.mark.parametrize("name", ["cvat", "coco", "label-studio", "labelme", "voc", "yolo"])
def test_strange_files_are_not_recognised(name: str, tmp_path: Path) -> None:
    source = SOURCES.get(name)()
    put(tmp_path, "a.png", "b.png")
    texts = {
        "package.json": '{"name": "x", "images": 3}',
        "list.json": "[1, 2, 3]",
        "empty.json": "",
        "b.json": '{"exposure": 3, "gain": 2}',
        "page.xml": "<html><body/></html>",
        "b.txt": "0.1 0.2",
        "readme.txt": "0 1 2 3 4",
        "compose.yaml": "services: {}\nname: x",
    }
    for file, text in texts.items():
        (tmp_path / file).write_text(text)
    (tmp_path / "binary.json").write_bytes(bytes(range(256)) * 10)
    assert not source.recognises(tmp_path)
    for file in tmp_path.iterdir():
        assert not source.recognises(file)


def test_pages_of_a_tiff_and_annotations(tmp_path: Path) -> None:
    frames = [Image.new("L", (40, 30), value) for value in (1, 99)]
    frames[0].save(tmp_path / "s.tif", save_all=True, append_images=frames[1:])
    one = {"image_id": 1, "category_id": 0, "segmentation": [[2, 2, 6, 2, 6, 6, 2, 6]]}
    coco_file(tmp_path / "set.json", [{"file_name": "s.tif"}, {"file_name": "s.tif#page=2"}], [one])
    got = rows(tmp_path, "label", "error")
    assert got == {"s.tif#page=1": (0, None), "s.tif#page=2": (1, None)}


def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "a.png")
    one = {"image_id": 0, "category_id": 0, "segmentation": [[2, 2, 6, 2, 6, 6, 2, 6]]}
    coco_file(tmp_path / "set.json", [{"file_name": "a.png"}], [one])
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("KNOWNGOOD_CACHE", str(tmp_path / "file"))
    with pytest.raises(StorageError, match="KNOWNGOOD_CACHE"):
        load(tmp_path)


def test_filling_is_by_pixel_centres() -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        outline = rng.uniform(-5, 25, (rng.integers(3, 9), 2))
        mask = np.zeros((20, 18), np.uint8)
        fill(mask, outline)
        x, y = np.meshgrid(np.arange(18) + 0.5, np.arange(20) + 0.5)
        odd = np.zeros(mask.shape, int)
        for (ax, ay), (bx, by) in zip(outline, np.roll(outline, -1, axis=0), strict=True):
            odd += ((ay <= y) != (by <= y)) & (ax + (y - ay) * (bx - ax) / (by - ay) <= x)
        np.testing.assert_array_equal(mask > 0, odd % 2 == 1)
