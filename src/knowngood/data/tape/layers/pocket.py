"""The pocket: walls as mottled bright strips with brighter rims, elbows, glints and the floor's outlines."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from knowngood.data.tape.layers.strokes import Stroke, draw_strokes
from knowngood.data.tape.scene import F32, Scene
from knowngood.data.tape.texture import field, grain

Points = tuple[tuple[float, float], ...]


def wall(points: Points, width: float, level: float, rim: float) -> list[Stroke]:
    """Returns the strokes of a wall: a halo in two steps, a rim and a slightly darker middle."""
    return [
        Stroke(points, width * 2.4, level * 0.09),
        Stroke(points, width * 1.6, level * 0.22),
        Stroke(points, width + 0.5, level * 0.72),
        Stroke(points, max(0.5, width - 1.0), level + rim),
        Stroke(points, max(0.5, width - 4.0), level + rim * 0.5),
    ]


def mirrored(points: Points) -> Points:
    """Returns the same curve on the other side of the pocket."""
    return tuple((-x, y) for x, y in points)


def draw_pocket(
    scene: Scene, strokes: Sequence[Stroke], reach: float, rng: np.random.Generator, mottle: float = 0.13
) -> None:
    """Adds bright curves, with a level that wanders from place to place.

    Args:
        scene: To draw on.
        strokes: In the pocket's frame.
        reach: Half height of the pocket, pixels: light fades towards its ends.
        rng: Stream of the layer.
        mottle: Strength of the wandering.
    """
    light = draw_strokes(scene.pocket, strokes, 0.12, rng)
    height, width = scene.height, scene.width
    rows = rng.standard_normal((height, 1), dtype=np.float32) * np.float32(0.4)
    light *= 1 + np.float32(mottle) * (grain(rng, height, width, 1.3) + rows)
    light *= np.clip(1 + np.float32(0.34) * field(rng, height, width, 11, 8), 0.25, 1.5)
    light *= _ends(scene, reach)
    scene.image += light
    scene.tape |= light > 60


def _ends(scene: Scene, reach: float) -> F32:
    _, v = scene.pocket.grid
    return np.asarray(
        np.clip((np.float32(reach) - np.abs(v)) / np.float32(0.35 * reach), 0, 1) * np.float32(0.4) + np.float32(0.6),
        np.float32,
    )


def shade_floor(scene: Scene, half: float, strength: float, rng: np.random.Generator) -> None:
    """Shades the floor across the pocket: light that creeps in from the walls, shadow beside the part.

    Args:
        scene: To draw on.
        half: Half width of the pocket, pixels.
        strength: Grey levels of the shadow.
        rng: Stream of the layer.
    """
    u, v = scene.pocket.grid
    side = np.abs(u) / np.float32(half)
    shadow = np.exp(-np.square((side - np.float32(0.78)) / np.float32(0.11)))
    creep = np.clip((side - np.float32(0.84)) * np.float32(6), 0, 1)
    lines = field(rng, 1, scene.width, 1, scene.width // 3) * np.float32(0.7)
    inside = np.clip((np.float32(half) * np.float32(0.8) - np.abs(v)) / 12, 0, 1)
    amount = np.float32(strength * float(rng.uniform(0.6, 1.3)))
    scene.image += inside * ((creep * np.float32(1.5) - shadow) * amount + lines)


def debris(scene: Scene, rng: np.random.Generator, mean: float) -> None:
    """Adds the fine bright dust points that every floor shows."""
    count = int(rng.poisson(mean))
    x, y, level = rng.random((3, count), dtype=np.float32)
    rows, columns = (y * (scene.height - 1)).astype(np.intp), (x * (scene.width - 1)).astype(np.intp)
    np.add.at(scene.image, (rows, columns), 8 + 22 * level**2 + 80 * (level > 0.985))
