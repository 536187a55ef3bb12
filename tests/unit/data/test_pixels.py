"""Photographs at the network's size: exact resizing, read once, failures kept to their row."""

import numpy as np
import pytest
from PIL import Image

from knowngood.data.loading import load
from knowngood.data.pixels import fit, needs_colour, store_pixels

random = np.random.default_rng(0)


@pytest.mark.parametrize("size", [(224, 224), (64, 128), (300, 300), (17, 400)])
@pytest.mark.parametrize("shape", [(300, 300), (103, 403), (300, 200, 3)])
def test_resizing_equals_pillows(shape, size):
    image = random.integers(0, 256, shape, dtype=np.uint8)
    ours = fit(image, *size, channels=3 if image.ndim == 3 else 1)
    theirs = np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR))
    theirs = theirs[None] if theirs.ndim == 2 else theirs.transpose(2, 0, 1)
    assert np.abs(ours.astype(int) - theirs).max() <= 1


def test_colour_for_a_grey_network_is_luminance():
    image = random.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    ours = fit(image, 20, 30, 1)
    theirs = np.asarray(Image.fromarray(image).convert("L"))
    assert np.abs(ours[0].astype(int) - theirs).max() <= 1


def test_grey_for_a_colour_network_is_repeated():
    image = random.integers(0, 256, (20, 30), dtype=np.uint8)
    assert all(np.array_equal(plane, image) for plane in fit(image, 20, 30, 3))


@pytest.fixture
def folder(tmp_path):
    for label in ("good", "scratch"):
        (tmp_path / "set" / label).mkdir(parents=True)
        for number in range(4):
            Image.fromarray(random.integers(0, 256, (40, 50), dtype=np.uint8)).save(
                tmp_path / "set" / label / f"{number}.png"
            )
    return tmp_path


def test_a_store_is_filled_once(folder):
    records = load(folder / "set")
    first = store_pixels(records, folder / "cache", 32, 32, 1)
    files = {p: p.stat().st_mtime_ns for p in (folder / "cache").iterdir()}
    second = store_pixels(records, folder / "cache", 32, 32, 1)
    assert first.pixels.shape == (8, 1, 32, 32)
    assert np.array_equal(first.pixels, second.pixels)
    assert files == {p: p.stat().st_mtime_ns for p in (folder / "cache").iterdir()}


def test_a_changed_photograph_makes_another_store(folder):
    before = store_pixels(load(folder / "set"), folder / "cache", 32, 32, 1)
    Image.fromarray(np.full((40, 50), 200, np.uint8)).save(folder / "set" / "good" / "0.png")
    after = store_pixels(load(folder / "set"), folder / "cache", 32, 32, 1)
    assert not np.array_equal(before.pixels, after.pixels)
    assert np.array_equal(before.pixels[1:], after.pixels[1:])


def test_a_photograph_that_went_bad_costs_its_row(folder):
    records = load(folder / "set")
    (folder / "set" / "good" / "2.png").write_bytes(b"no picture any more")
    store = store_pixels(records, folder / "cache", 32, 32, 1)
    row = records.frame["image"].to_list().index("good/2.png")
    assert list(store.failed) == [row]
    assert "2.png" in store.failed[row]
    assert store.pixels[row].max() == 0
    assert all(store.pixels[i].max() > 0 for i in range(8) if i != row)


def test_grey_saved_as_rgb_needs_no_colour(tmp_path):
    for label in ("good", "bad"):
        (tmp_path / label).mkdir()
        grey = random.integers(0, 256, (20, 20, 1), dtype=np.uint8)
        Image.fromarray(np.repeat(grey, 3, axis=2)).save(tmp_path / label / "a.png")
    assert not needs_colour(load(tmp_path))
    Image.fromarray(random.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(tmp_path / "bad" / "b.png")
    assert needs_colour(load(tmp_path))
