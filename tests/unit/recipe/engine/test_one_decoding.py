"""One photograph, one set of pixels: whatever door it comes in by, the networks see the same, to the last bit."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from knowngood import Recipe
from knowngood.data.images import decode
from knowngood.data.pixels import fitted
from knowngood.data.preprocessing import Preprocessing
from knowngood.recipe.engine import Preparing, Profile
from knowngood.recipe.inputs import Item
from knowngood.recipe.session import open_session

rng = np.random.default_rng(3)


def scene(side: int, colour: bool = False) -> np.ndarray:
    small = rng.normal(120, 50, (20, 24, 3) if colour else (20, 24)).astype(np.float32)
    large = cv2.resize(small, (side, side), interpolation=cv2.INTER_CUBIC)
    return np.clip(large + rng.normal(0, 8, large.shape), 0, 255).astype(np.uint8)


def file_of(kind: str) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    made = {
        "png": lambda: (scene(130), "PNG", {}),
        "png colour": lambda: (scene(130, colour=True), "PNG", {}),
        "png 16 bits": lambda: (scene(130).astype(np.uint16) * 257, "PNG", {}),
        "small jpeg": lambda: (scene(100), "JPEG", {"quality": 90}),
        "large jpeg": lambda: (scene(1120), "JPEG", {"quality": 90}),
        "large colour jpeg": lambda: (scene(1120, colour=True), "JPEG", {"quality": 90}),
        "grey in a colour jpeg": lambda: (np.repeat(scene(600)[..., None], 3, 2), "JPEG", {"quality": 90}),
        "turned jpeg": lambda: (scene(700, colour=True)[:400], "JPEG", {"exif": exif}),
        "tiff": lambda: (scene(200, colour=True), "TIFF", {"compression": "tiff_lzw"}),
    }[kind]()
    stream = io.BytesIO()
    Image.fromarray(made[0]).save(stream, made[1], **made[2])
    return stream.getvalue()


KINDS = ["png", "png colour", "png 16 bits", "small jpeg", "large jpeg", "large colour jpeg", "grey in a colour jpeg"]


@pytest.fixture(scope="module")
def recipe(trained_run: Path) -> Recipe:
    return Recipe.load(trained_run)


@pytest.mark.parametrize("region", [False, True])
@pytest.mark.parametrize("kind", [*KINDS, "turned jpeg", "tiff"])
def test_all_doors_give_the_networks_the_same_pixels(recipe: Recipe, tmp_path: Path, kind: str, region: bool) -> None:
    preprocessing = Preprocessing(roi=((0.1, 0.1, 0.8, 0.9),)) if region else Preprocessing()
    recipe = Recipe(recipe.manifest.model_copy(update={"preprocessing": preprocessing}), recipe.inspector)
    data = file_of(kind)
    path = tmp_path / "photograph"
    path.write_bytes(data)
    channels, height, width = recipe.input_shape
    (training,) = fitted([str(path)], height, width, channels, preprocessing)
    array = decode(path)
    assert isinstance(training, np.ndarray)
    for other in (
        recipe.fitted(array),
        recipe.fitted(decode(data)),
        recipe.fitted(decode(np.ascontiguousarray(array))),
        recipe.fitted(np.repeat(array[..., None], 3, 2)) if array.ndim == 2 and channels == 1 else training,
        Preparing(recipe, Profile())(Item("x", lambda: data)).pixels,
    ):
        np.testing.assert_array_equal(other, training)
    read_only = array.copy()
    read_only.flags.writeable = False
    np.testing.assert_array_equal(recipe.fitted(read_only), training)


def test_equal_pixels_get_equal_scores_in_any_batch(recipe: Recipe) -> None:
    data = [file_of("png") for _ in range(11)]
    twice = [*data, *data[::-1]]
    items = [Item(str(n), lambda one=one: one) for n, one in enumerate(twice)]
    scores = []
    for batch in (1, 3, 8, 32):
        got = [one.prediction.defect_score for one in open_session(recipe, "torch").stream(items, batch=batch)]
        assert got[:11] == got[:10:-1]
        scores.append(got)
    assert scores == [scores[0]] * 4
