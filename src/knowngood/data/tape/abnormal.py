"""Abnormal pictures: what a line's archive holds beside photographs of parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from knowngood.data.tape.scene import F32, Scene
from knowngood.data.tape.texture import grain

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
