"""Photographs at the network's size: exact resizing, read once, failures kept to their row."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from knowngood.data.images import decode
from knowngood.data.loading import load
from knowngood.data.pixels import blank_reason, fit, fitted, luminance, needs_colour, store_pixels
from knowngood.errors import ImageError
from knowngood.lookalike.config import TapeConfig
from knowngood.lookalike.generate import generate

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


def test_thin_and_tiny_photographs_are_refused_before_resizing():
    for shape, reason in (
        ((10**7, 1), "extreme"),
        ((8, 401), "extreme"),
        ((5, 5), "too small"),
        ((100, 7), "too small"),
    ):
        with pytest.raises(ImageError, match=reason):
            fit(np.zeros(shape, np.uint8), 224, 224, 1)
    assert fit(np.zeros((8, 400), np.uint8), 224, 224, 3).shape == (3, 224, 224)


def test_luminance_is_the_same_in_stripes():
    image = random.integers(0, 256, (1500, 1000, 3), dtype=np.uint8)
    want = np.rint(image.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32))
    assert np.abs(luminance(image) - want).max() <= 1
    np.testing.assert_array_equal(luminance(image)[1200:1300], luminance(image[1200:1300]))


BLANK = {
    "black": (np.zeros((224, 224), np.uint8), "black"),
    "closed shutter": ((random.random((224, 224)) < 0.002).astype(np.uint8), "black"),
    "dark noise": (np.clip(random.normal(2, 1.5, (480, 640)), 0, 255).astype(np.uint8), "black"),
    "white": (np.full((100, 130, 3), 255, np.uint8), "white"),
    "one colour": (np.full((100, 130, 3), (200, 10, 30), np.uint8), "at one level (200/10/30)"),
    "fog": (np.clip(random.normal(120, 2, (480, 640)), 0, 255).astype(np.uint8), "at one level (120)"),
}


@pytest.mark.parametrize("kind", BLANK)
def test_blank_photographs_have_a_reason(kind):
    image, word = BLANK[kind]
    assert word in blank_reason(image)


def test_burnt_out_and_dark_photographs_with_a_part_in_them():
    white, black = np.full((400, 500), 255, np.uint8), np.zeros((400, 500), np.uint8)
    white[:40, :40] = 120  # 0.8 %
    assert "white (level 255): burnt out" in blank_reason(white)
    white[:60, :60] = black[100:160, 100:160] = 120  # 1.8 %
    assert blank_reason(white) is None
    assert blank_reason(black) is None
    assert blank_reason(random.integers(0, 256, (224, 224), dtype=np.uint8)) is None


def test_real_and_drawn_photographs_are_not_blank(tmp_path):
    places = [Path("/work/shared/data/magnetic-tile/good"), Path("/work/shared/data/magnetic-tile/bad")]
    generate(tmp_path / "tape", TapeConfig(train=30, test=10, seed=2))
    paths = [p for place in (*places, tmp_path / "tape") if place.is_dir() for p in sorted(place.rglob("*"))[:60]]
    images = [decode(p) for p in paths if p.suffix in (".png", ".jpg") and "mask" not in str(p)]
    assert len(images) >= 10
    assert [blank_reason(image) for image in images] == [None] * len(images)


def test_a_store_remembers_blank_photographs_depth_and_what_failed(folder):
    Image.fromarray(np.zeros((40, 50), np.uint8)).save(folder / "set" / "good" / "0.png")
    records = load(folder / "set")
    (folder / "set" / "good" / "1.png").write_bytes(b"no picture any more")
    for store in (store_pixels(records, folder / "cache", 32, 32, 1) for _ in range(2)):
        names = records.frame["image"].to_list()
        assert {names[row] for row in store.blank} == {"good/0.png"}
        assert store.bit_depth == 8
        failed, blank = store.warnings(records)
        assert "1 image cannot be decoded" in failed
        assert "1.png" in failed
        assert "1 image shows nothing and is" in blank
        assert "good/0.png (all of it is black" in blank


def test_right_aligned_depth_is_told_of_the_set(folder):
    for number in range(4):
        deep = random.integers(0, 4096, (40, 50)).astype(np.uint16)
        for label in ("good", "scratch"):
            Image.fromarray(deep).save(folder / "set" / label / f"{number}.png")
    records = load(folder / "set")
    store = store_pixels(records, folder / "cache", 32, 32, 1)
    assert store.bit_depth == 12
    assert any("12 bits" in line and "multiplied by 16" in line for line in store.warnings(records))


def test_memory_that_runs_out_for_one_costs_its_row(folder):
    class Hungry:
        cache_key = ("hungry",)

        def apply(self, image):
            if image.shape == (40, 50):
                raise MemoryError
            return image

    Image.fromarray(random.integers(0, 256, (30, 30), dtype=np.uint8)).save(folder / "set" / "good" / "0.png")
    paths = [str(folder / "set" / "good" / f"{n}.png") for n in range(4)]
    got = list(fitted(paths, 16, 16, 1, Hungry()))
    assert [isinstance(one, ImageError) for one in got] == [False, True, True, True]
    assert "MemoryError" in str(got[1])
