"""Square pictures of photographs that are not, and back."""

from __future__ import annotations

import numpy as np
import pytest

from knowngood.data.pixels import fit
from knowngood.synthesis.stylegan.losses import Square


def bars(height: int, width: int, channels: int = 0) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    grey = (127 + 60 * np.sin(y / 9) + 60 * np.sin(x / 11)).astype(np.uint8)
    return np.repeat(grey[..., None], channels, axis=2) if channels else grey


@pytest.mark.parametrize("channels", [0, 3])
@pytest.mark.parametrize(("height", "width"), [(103, 403), (275, 267), (64, 64), (90, 31)])
@pytest.mark.parametrize("rule", ["pad", "stretch"])
def test_there_and_back(rule: str, height: int, width: int, channels: int) -> None:
    image, square = bars(height, width, channels), Square(rule=rule)
    made = square.apply(image)
    assert rule == "stretch" or made.shape[0] == made.shape[1] == max(height, width)
    small = fit(made, 128, 128, 3 if channels else 1)
    picture = small.transpose(1, 2, 0) if channels else small[0]
    back = square.back(picture, height, width)
    assert back.shape == image.shape
    assert np.abs(back.astype(int) - image).mean() < 8


def test_cropping_takes_the_centre() -> None:
    image, square = bars(50, 120), Square(rule="crop")
    assert np.array_equal(square.apply(image), image[:, 35:85])
    assert square.back(np.zeros((32, 32), np.uint8), 50, 120).shape == (50, 50)
