"""Abnormal pictures: what a line's archive holds beside photographs of parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np

from knowngood.lookalike.scene import F32, Scene
from knowngood.lookalike.surface import grain

Change = Callable[[Scene, np.random.Generator], F32]


def burnt_out(scene: Scene, rng: np.random.Generator) -> F32:
    """A lid or a label fills the pocket and throws all the light back."""
    u, v = scene.pocket.grid
    half_u, half_v = 0.36 * scene.width * rng.uniform(0.9, 1.1), 0.41 * scene.height * rng.uniform(0.9, 1.05)
    edge = np.maximum(np.abs(u) - np.float32(half_u), np.abs(v) - np.float32(half_v))
    edge = edge + grain(rng, scene.height, scene.width, 3) * np.float32(0.8)
    return np.asarray(scene.under_part + np.clip(np.float32(0.5) - edge, 0, 1) * np.float32(330), np.float32)


def empty_frame(scene: Scene, rng: np.random.Generator) -> F32:
    """The camera fired between two pockets: bare tape, out of the light."""
    flat = np.float32(rng.uniform(26, 40)) + grain(rng, scene.height, scene.width, 2) * np.float32(1.2)
    _, v = scene.pocket.grid
    return flat + np.clip(np.abs(v) - np.float32(0.36 * scene.height), 0, 1) * np.float32(10)


def unchanged(scene: Scene, _: np.random.Generator) -> F32:
    """The scene as it is: what is wrong is where it lies, or the focus."""
    return scene.image


# In the picture itself; where a part lies and how it is focused is decided before and after.
ABNORMAL: dict[str, Change] = {
    "burnt_out": burnt_out,
    "wrong_cell": unchanged,
    "empty_frame": empty_frame,
    "blurred": unchanged,
}
UNUSABLE = frozenset({"burnt_out", "wrong_cell", "empty_frame"})  # nobody can call such a unit good


def displaced(scene: Scene, rng: np.random.Generator) -> Scene:
    """Puts the part into the wrong cell: pocket and part lie far to one side."""
    side = float(rng.choice([-1, 1]) * rng.uniform(0.2, 0.34) * scene.width)
    pocket = replace(scene.pocket, x=scene.pocket.x + side)
    part = replace(scene.part, x=scene.part.x + side * 0.9, y=scene.part.y + float(rng.normal(0, 6)))
    return replace(scene, pocket=pocket, part=replace(part, angle=part.angle + float(rng.normal(0, 0.12))))


def out_of_focus(rng: np.random.Generator) -> float:
    """Returns how many times softer than usual the picture is."""
    return float(rng.uniform(4, 8))


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
