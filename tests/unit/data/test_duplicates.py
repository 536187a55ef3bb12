"""Copies are found although they were saved again, brightened or resized; look-alikes are left alone."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from knowngood.data.duplicates import exact_clusters, near_clusters, thumbnails
from knowngood.data.loading import load


def part(seed: int) -> np.ndarray:
    """A photograph of one part: all alike, but for small marks, noise and a pixel or two of position."""
    rng = np.random.default_rng(seed)
    image = np.full((120, 140), 40.0)
    dx, dy = rng.integers(-2, 3, 2)
    image[30 + dy : 90 + dy, 40 + dx : 100 + dx] = 150 + rng.normal(0, 8)
    for _ in range(12):
        y, x = rng.integers(10, 100, 2)
        image[y : y + rng.integers(3, 12), x : x + rng.integers(3, 12)] += rng.normal(0, 25)
    return np.clip(image + rng.normal(0, 3, image.shape), 0, 255).astype(np.uint8)


def write(path: Path, image: np.ndarray, *options: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    ok, data = cv2.imencode(path.suffix, image, options)
    assert ok
    path.write_bytes(data.tobytes())


@pytest.mark.parametrize("count", [12, 150])
def test_copies_are_found_and_look_alikes_are_not(tmp_path: Path, count: int) -> None:
    for i in range(count):
        write(tmp_path / "good" / f"{i:04}.png", part(i))
    first = part(0)
    write(tmp_path / "bad" / "again.jpg", first, cv2.IMWRITE_JPEG_QUALITY, 60)
    write(tmp_path / "bad" / "brighter.png", np.clip(first * 1.1 + 5, 0, 255).astype(np.uint8))
    write(
        tmp_path / "bad" / "larger.png",
        cv2.resize(first, None, fx=1.5, fy=1.5, interpolation=cv2.INTER_CUBIC),
    )
    write(tmp_path / "bad" / "same.png", first)
    records = load(tmp_path)
    ids = dict(zip(records.frame["image"], near_clusters(records), strict=True))
    copies = {name for name, number in ids.items() if number == ids["good/0000.png"]}
    assert copies == {"good/0000.png", "bad/again.jpg", "bad/brighter.png", "bad/larger.png", "bad/same.png"}
    others = [number for name, number in ids.items() if name not in copies]
    assert len(set(others)) == len(others) == count - 1
    exact = dict(zip(records.frame["image"], exact_clusters(records), strict=True))
    assert exact["bad/same.png"] == exact["good/0000.png"]
    assert len(set(exact.values())) == count + 3


def test_flat_and_broken_images_are_alone(tmp_path: Path) -> None:
    for i, level in enumerate((10, 10, 90)):
        write(tmp_path / "good" / f"{i}.png", np.full((40, 40 + i), level, np.uint8))
    for i in range(2):
        (tmp_path / "good" / f"text{i}.png").write_text(f"no image {i}")
    records = load(tmp_path)
    assert len(set(near_clusters(records))) == 5
    assert [bool(e) for e in thumbnails(records).errors] == [False, False, False, True, True]


def test_order_of_rows_does_not_matter(tmp_path: Path) -> None:
    for i in range(60):
        write(tmp_path / "good" / f"{i:02}.png", part(i % 57))
    records = load(tmp_path)
    back = records.with_frame(records.frame.sort("image", descending=True))
    forward, backward = near_clusters(records), near_clusters(back)[::-1]
    np.testing.assert_array_equal(forward[:, None] == forward, backward[:, None] == backward)
    assert len(set(forward)) == 57
