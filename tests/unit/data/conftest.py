"""Look-alike parts with a texture of their own, and photographs of them."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest


@pytest.fixture(scope="session")
def textured() -> Callable[[int], np.ndarray]:
    """Draws a part: textured(seed)."""
    return part


@pytest.fixture(scope="session")
def seen() -> Callable[..., np.ndarray]:
    """Photographs it: seen(part, seed, shift=0, turn=0, gain=1), pixels, degrees and factor."""
    return photograph


def part(seed: int, side: int = 96) -> np.ndarray:
    """A look-alike: every part has the same outline, and a texture of its own."""
    rng = np.random.default_rng(seed)
    texture = cv2.GaussianBlur(rng.normal(0, 60, (side, side)).astype(np.float32), (0, 0), 1.2)
    picture = np.full((side, side), 60, np.float32)
    picture[16:80, 20:76] = 140 + texture[16:80, 20:76]
    picture[30:34, 30:66] += 60
    return picture


def photograph(picture: np.ndarray, seed: int, shift: float = 0, turn: float = 0, gain: float = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    height, width = picture.shape
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), turn, 1)
    matrix[:, 2] += shift
    moved = cv2.warpAffine(picture.astype(np.float32), matrix, (width, height), borderMode=cv2.BORDER_REFLECT)
    return np.clip(moved * gain + rng.normal(0, 2, picture.shape), 0, 255).astype(np.uint8)
