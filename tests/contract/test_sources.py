"""What every registered data source promises; a new one is covered without new test code.

A source for which `SAMPLES` knows how to lay out a small set is read from it; any other only has to keep the
protocol and to leave foreign folders alone.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
from PIL import Image

from knowngood.data.loading import load
from knowngood.data.records import SCHEMA, Records
from knowngood.data.sources import SOURCES, Listing
from knowngood.errors import DataError


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


SAMPLES: dict[str, Callable[[Path], Path]] = {
    "elpv": elpv,
    "manifest": manifest,
    "contest": lambda r: put(r, "train/good_0/a.png", "train/bad_1/b.png", "test/all_tests/c.png"),
    "mvtec": lambda r: put(r, "train/good/a.png", "test/good/b.png", "test/cut/c.png", "ground_truth/cut/c_mask.png"),
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
