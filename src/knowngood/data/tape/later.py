"""What makes a later batch unlike the first beside its lots and machines: tin particles and camera glitches."""

from __future__ import annotations

import cv2
import numpy as np

from knowngood.data.tape.scene import F32, Scene


def tin_particles(scene: Scene, strength: float, rng: np.random.Generator) -> None:
    """Strews small bright flakes over tape, floor and part; good units have them too.

    Args:
        scene: To draw on.
        strength: The drift, 0..1.
        rng: Stream of the layer.
    """
    count = int(rng.poisson(9 * strength))
    for x, y, radius, level, turn in rng.random((count, 5)):
        middle = (int(x * scene.width * 16), int(y * scene.height * 16))
        axes = (int((0.6 + 1.8 * radius) * 16), int((0.5 + 0.9 * radius) * 16))
        flake = np.zeros_like(scene.image)
        cv2.ellipse(flake, middle, axes, turn * 180, 0, 360, 1.0, -1, cv2.LINE_8, 4)
        scene.image += flake * np.float32(40 + 150 * level)


def glitched(exposed: F32, strength: float, rng: np.random.Generator) -> F32:
    """Returns the picture with rows that slipped sideways, or with a band of another brightness.

    Args:
        exposed: (H, W) float32.
        strength: The drift, 0..1.
        rng: Stream of the layer.
    """
    chance, kind, top, size, amount = rng.random(5)
    if chance >= 0.12 * strength:
        return exposed
    height = exposed.shape[0]
    rows = slice(int(top * height * 0.9), int(top * height * 0.9) + max(2, int(size * 0.1 * height)))
    result = exposed.copy()
    if kind < 0.5:
        result[rows] = np.roll(exposed[rows], round((amount - 0.5) * 12), axis=1)
    else:
        result[rows] = exposed[rows] * np.float32(0.75 + 0.5 * amount)
    return result
