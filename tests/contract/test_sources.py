"""What every registered data source promises; a new one is covered without new test code.

A source for which `SAMPLES` knows how to lay out a small set is read from it; any other only has to keep the
protocol and to leave foreign folders alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from PIL import Image

from knowngood.data.loading import load
from knowngood.data.records import SCHEMA, Records
from knowngood.data.sources import SOURCES, Listing
from knowngood.errors import DataError


@pytest.fixture(autouse=True, scope="module")
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KNOWNGOOD_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def put(root: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (9, 7), 10 * number).save(path)
    return root


def manifest(root: Path) -> Path:
    put(root, "a.png", "b.png")
    (root / "manifest.csv").write_text("image,label\na.png,good\nb.png,bad\n")
    return root


def elpv(root: Path) -> Path:
    if find_spec("elpv_dataset") is None:
        pytest.skip("the package elpv-dataset is not installed")
    return Path("elpv")


def coco(root: Path) -> Path:
    put(root, "a.png", "b.png")
    images = [{"id": n, "file_name": f"{name}.png", "width": 9, "height": 7} for n, name in enumerate("ab")]
    outline = {"image_id": 1, "category_id": 1, "segmentation": [[1, 1, 5, 1, 5, 5]]}
    document = {"images": images, "annotations": [outline], "categories": [{"id": 1, "name": "chip"}]}
    (root / "coco.json").write_text(json.dumps(document))
    return root


def yolo(root: Path) -> Path:
    put(root, "images/a.png", "images/b.png", "labels/c.png")
    (root / "labels" / "b.txt").write_text("0 0.1 0.1 0.5 0.1 0.5 0.5")
    (root / "classes.txt").write_text("chip")
    return root


def voc(root: Path) -> Path:
    put(root, "JPEGImages/a.png", "JPEGImages/b.png")
    (root / "Annotations").mkdir()
    box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>4</xmax><ymax>5</ymax></bndbox>"
    for name, text in (("a", ""), ("b", f"<object><name>chip</name>{box}</object>")):
        (root / "Annotations" / f"{name}.xml").write_text(f"<annotation>{text}</annotation>")
    return root


def labelme(root: Path) -> Path:
    put(root, "a.png", "b.png")
    shape = {"label": "chip", "shape_type": "polygon", "points": [[1, 1], [5, 1], [5, 5]]}
    (root / "b.json").write_text(json.dumps({"shapes": [shape], "imagePath": "b.png"}))
    return root


def label_studio(root: Path) -> Path:
    put(root, "a.png", "b.png")
    value = {"x": 10, "y": 10, "width": 20, "height": 20, "rotation": 45, "rectanglelabels": ["chip"]}
    region = {"type": "rectanglelabels", "value": value, "original_width": 9, "original_height": 7}
    results = {"a": [], "b": [region]}
    tasks = [{"data": {"image": f"{name}.png"}, "annotations": [{"result": r}]} for name, r in results.items()]
    (root / "export.json").write_text(json.dumps(tasks))
    return root


def cvat(root: Path) -> Path:
    put(root, "images/a.png", "images/b.png")
    shape = '<polygon label="chip" points="1,1;5,1;5,5"/>'
    images = f'<image name="a.png"/><image name="b.png">{shape}</image>'
    (root / "annotations.xml").write_text(f"<annotations><version>1.1</version>{images}</annotations>")
    return root


SAMPLES: dict[str, Callable[[Path], Path]] = {
    "elpv": elpv,
    "manifest": manifest,
    "contest": lambda r: put(r, "train/good_0/a.png", "train/bad_1/b.png", "test/all_tests/c.png"),
    "mvtec": lambda r: put(r, "train/good/a.png", "test/good/b.png", "test/cut/c.png", "ground_truth/cut/c_mask.png"),
    "coco": coco,
    "yolo": yolo,
    "voc": voc,
    "labelme": labelme,
    "label-studio": label_studio,
    "cvat": cvat,
    "folder": lambda r: put(r, "good/a.png", "cut/b.png", "masks/cut/b.png"),
}


@pytest.fixture(scope="module")
def sample(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, Records]:
    name = request.param
    if name not in SAMPLES:
        pytest.skip(f"no sample is known for the source {name}: only its protocol is tested")
    path = SAMPLES[name](tmp_path_factory.mktemp(name))
    return name, path, load(path)


@pytest.mark.parametrize("name", SOURCES.names())
def test_protocol(name: str, tmp_path: Path) -> None:
    source = SOURCES.get(name)()
    assert source.summary
    assert "\n" not in source.summary
    assert len(source.summary) < 130
    (tmp_path / "readme.txt").write_text("nothing here")
    assert source.recognises(tmp_path) is False
    assert source.recognises(tmp_path / "readme.txt") is False
    assert source.recognises(tmp_path / "not there") is False
    with pytest.raises(DataError) as caught:
        load(tmp_path / "not there", name)
    assert "not there" in str(caught.value)
    with pytest.raises(DataError):
        load(tmp_path, name)


@pytest.mark.parametrize("sample", SOURCES.names(), indirect=True)
def test_sample_is_recognised_and_read(sample: tuple[str, Path, Records]) -> None:
    name, path, records = sample
    assert SOURCES.get(name)().recognises(path) is True
    assert records.source == name
    assert len(records) >= 2
    assert records.frame["error"].null_count() == len(records), "every image of the sample can be used"
    for column in ("sha256", "width", "height", "mode"):
        assert not records.frame[column].null_count()
    counts = records.counts()
    assert counts["good"]
    assert counts["bad"]
    assert records.root.exists()


@pytest.mark.parametrize("sample", SOURCES.names(), indirect=True)
def test_listing_opens_no_file_and_repeats_itself(sample: tuple[str, Path, Records]) -> None:
    name, path, records = sample
    first, second = (SOURCES.get(name)().read(path) for _ in range(2))
    assert isinstance(first, Listing)
    assert dict(first.frame.schema) == SCHEMA
    assert first.frame.equals(second.frame)
    for column in ("sha256", "width", "height", "mode", "error"):
        assert first.frame[column].null_count() == len(records)


@pytest.mark.parametrize("sample", SOURCES.names(), indirect=True)
def test_names_and_paths(sample: tuple[str, Path, Records]) -> None:
    _, _, records = sample
    for image, path, mask in records.frame.select("image", "path", "mask").iter_rows():
        assert "\\" not in image
        assert not image.startswith(("/", "./"))
        assert Path(path).is_absolute()
        assert Path(path).is_file()
        assert mask is None or (Path(mask).is_absolute() and Path(mask).is_file())
    good = records.frame.filter(records.frame["label"] == 0)
    assert good["defect"].null_count() == good.height
