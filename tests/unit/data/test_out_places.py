"""Results never go where they would be read as photographs, or as a class, the next time."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from knowngood.data.loading import loaded, refuse_in_data
from knowngood.errors import ConfigError


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for name in ("photos/good/1.png", "photos/cut/2.png", "new/3.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 7).save(tmp_path / name)
    return tmp_path


@pytest.mark.parametrize(
    "out", ["photos", "photos/run1", "photos/deep/run1", "photos/good", "photos/good/run1", "photos/p.csv/x"]
)
def test_no_folder_in_the_data(data: Path, out: str) -> None:
    with pytest.raises(ConfigError, match=r"the data folder(.|\n)*--out .*photos-results"):
        loaded(data / "photos", out=data / out)
    with pytest.raises(ConfigError, match="the data folder"):
        loaded(loaded(data / "photos"), out=data / out)


@pytest.mark.parametrize("out", ["run1", "runs/first", "photos2", "photos-results/run", "new2/run"])
def test_other_places_are_free(data: Path, out: str) -> None:
    assert len(loaded(data / "photos", out=data / out)) == 2


def test_a_folder_that_has_classes_is_refused_whoever_owns_it(data: Path) -> None:
    for out in ("photos", "photos/run1"):
        with pytest.raises(ConfigError, match="the data folder"):
            refuse_in_data(data / out)
    refuse_in_data(data / "new" / "run")  # nobody said that these are photographs
    with pytest.raises(ConfigError, match="the data folder"):
        refuse_in_data(data / "new" / "run", [data / "new"])


@pytest.mark.parametrize(
    ("out", "given", "free"),
    [
        ("photos/good/p.csv", "photos", False),
        ("photos/good/p.csv", "new", False),
        ("new/p.csv", "new", False),
        ("photos/p.csv", "photos", True),
        ("p.csv", "photos", True),
        ("p.csv", ".", True),
        ("new/p.csv", ".", False),
    ],
)
def test_files(data: Path, out: str, given: str, free: bool) -> None:
    if free:
        refuse_in_data(data / out, [data / given])
    else:
        with pytest.raises(ConfigError, match="the data folder"):
            refuse_in_data(data / out, [data / given])


def test_names_given_by_a_person_make_a_set_too(data: Path) -> None:
    (data / "photos" / "good").rename(data / "photos" / "front")
    with pytest.raises(ConfigError, match="the data folder"):
        loaded(data / "photos", good=["front"], out=data / "photos" / "run1")


def test_links_do_not_hide_the_place(data: Path) -> None:
    (data / "link").symlink_to(data / "photos")
    with pytest.raises(ConfigError, match="the data folder"):
        loaded(data / "photos", out=data / "link" / "run")


def test_a_table_beside_its_images_leaves_its_own_folder_free(data: Path) -> None:
    (data / "set.csv").write_text("image,label\nphotos/good/1.png,good\nnew/3.png,bad\n")
    assert len(loaded(data / "set.csv", out=data / "run")) == 2
    for out in ("new/run", "photos/good/run"):
        with pytest.raises(ConfigError, match="the data folder"):
            loaded(data / "set.csv", out=data / out)
