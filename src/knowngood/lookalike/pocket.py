"""The carrier tape: dark bands above and below the pocket, bright edges between, and the grain of the plastic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import cv2
import numpy as np

from knowngood.lookalike.scene import F32, Scene
from knowngood.lookalike.shapes import Stroke, draw_strokes
from knowngood.lookalike.surface import field, grain, profile, streaks

Stops = tuple[tuple[float, float], ...]


def draw_tape(scene: Scene, stops: Stops, bow: float, reach: float, rng: np.random.Generator) -> None:
    """Fills the picture with the tape's levels along its width, bowed, with plastic's grain.

    Args:
        scene: To draw on.
        stops: (v in the pocket's frame, grey level), rising.
        bow: Share by which the edges draw near at 100 pixels from the middle.
        reach: How far up and down the stops are looked up.
        rng: Stream of the layer.
    """
    u, v = scene.pocket.grid
    waver = field(rng, 1, scene.width, 1, 7) * np.float32(0.3)
    position = v * (1 + np.float32(bow) * np.square(u / np.float32(100))) + waver
    scene.image = profile(position, stops, (-reach, reach))
    shine = field(rng, 1, scene.width, 1, 22) * np.float32(0.13)
    scene.image += np.maximum(scene.image - np.float32(46), 0) * shine
    scene.image += plastic(scene, rng)


def plastic(scene: Scene, rng: np.random.Generator) -> F32:
    """Returns the fine grain of the moulded plastic: clouds, scan lines and grains, (H, W) float32."""
    height, width = scene.height, scene.width
    result = field(rng, height, width, 6, 6) * np.float32(1.5)
    result += grain(rng, height, width, 2.2) * np.float32(1.1)
    result += rng.standard_normal((height, 1), dtype=np.float32) * np.float32(0.4)
    result += streaks(rng, height, width, 22) * np.float32(0.9 * scene.scan)
    return result


def draw_crackle(scene: Scene, strength: float, rng: np.random.Generator) -> None:
    """Draws the dark scales that some floors show: the borders of a jittered lattice of cells.

    Args:
        scene: To draw on.
        strength: Grey levels that a crack is darker.
        rng: Stream of the layer.
    """
    u, v = scene.pocket.grid
    pitch = np.float32(rng.uniform(13, 19))
    warp = grain(rng, scene.height, scene.width, 9) * np.float32(3.2)
    row = (v + warp) / (pitch * np.float32(0.9))
    index = np.floor(row)
    jitter = np.mod(np.sin(index * np.float32(12.9898)) * np.float32(437.585), 1)
    column = (u - warp) / (pitch * np.float32(1.7)) + jitter * np.float32(3)
    horizontal = np.abs(row - index - np.float32(0.5))
    vertical = np.abs(column - np.floor(column) - np.float32(0.5))
    crack = np.clip((horizontal - np.float32(0.44)) * np.float32(16), 0, 1)
    crack = np.maximum(crack, np.clip((vertical - np.float32(0.465)) * np.float32(28), 0, 1))
    patchy = np.clip(field(rng, scene.height, scene.width, 12, 12) + np.float32(0.7), 0, 1.2)
    scene.image -= crack * patchy * np.float32(strength)


_BRIGHTEST = np.float32(168)  # grey levels that a wall adds at most: only metal saturates the camera
Points = tuple[tuple[float, float], ...]


def wall(points: Points, width: float, level: float, rim: float) -> list[Stroke]:
    """Returns the strokes of a wall: a faint foot, a rim and a slightly darker middle."""
    return [
        Stroke(points, width * 1.5, level * 0.2),
        Stroke(points, width + 0.5, level * 0.72),
        Stroke(points, max(0.5, width - 1.0), level + rim),
        Stroke(points, max(0.5, width - 4.0), level + rim * 0.5),
    ]


def mirrored(points: Points) -> Points:
    """Returns the same curve on the other side of the pocket."""
    return tuple((-x, y) for x, y in points)


def scattered(strokes: Sequence[Stroke], rng: np.random.Generator) -> list[Stroke]:
    """Returns glints and arcs as light makes them: each a little elsewhere, brighter or dimmer, in a soft shine.

    Args:
        strokes: In the pocket's frame.
        rng: Stream of the layer.

    Returns:
        Twice as many strokes: the soft ones below the fine ones.
    """
    moves = rng.normal(0, 0.9, (len(strokes), 2))
    gains = np.exp(rng.normal(-0.05, 0.35, len(strokes)))
    fine = [
        replace(s, level=s.level * gain, moved=(dx, 2 * dy))
        for s, (dx, dy), gain in zip(strokes, moves.tolist(), gains.tolist(), strict=True)
    ]
    return [replace(s, width=s.width + 2.6, level=s.level * 0.28) for s in fine] + fine


def draw_pocket(
    scene: Scene, strokes: Sequence[Stroke], reach: float, rng: np.random.Generator, mottle: float = 0.15
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
    light += _glow(light)
    ripple = streaks(rng, height, width, 6) + rng.standard_normal((height, 1), dtype=np.float32) * np.float32(0.4)
    ripple *= np.float32(mottle * scene.scan)
    ripple += grain(rng, height, width, 1.5) * np.float32(mottle) + 1
    patches = field(rng, height, width, 17, 12)
    patches *= np.where(light > 70, np.float32(0.22), np.float32(0.5))
    light *= ripple
    light *= np.clip(1 + patches, 0.15, 1.7)
    light *= _ends(scene, reach)
    scene.image += np.minimum(light, _BRIGHTEST)
    scene.tape |= light > 60


def _glow(light: F32) -> F32:
    """Light that bright walls throw on the floor beside them."""
    small = cv2.resize(light, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    soft = cv2.GaussianBlur(small, (0, 0), 1.7)
    return np.asarray(
        cv2.resize(soft, light.shape[::-1], interpolation=cv2.INTER_LINEAR) * np.float32(0.24), np.float32
    )


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
    lines = field(rng, 1, scene.width, 1, scene.width // 3) * np.float32(0.7)
    inside = np.clip((np.float32(half) * np.float32(0.8) - np.abs(v)) / 12, 0, 1)
    amount = np.float32(strength * float(rng.uniform(0.6, 1.3)))
    shade = profile(np.abs(u), _across(half), (0.0, 1.4 * half))
    scene.image += inside * (shade * amount + lines)


@lru_cache(maxsize=8)
def _across(half: float) -> Points:
    """(distance from the middle, shade): a shadow beside the part, then the light that creeps in from the wall."""
    sides = [n / 40 for n in range(57)]
    return tuple(
        (side * half, 1.5 * min(max((side - 0.84) * 6, 0), 1) - math.exp(-(((side - 0.78) / 0.11) ** 2)))
        for side in sides
    )


def debris(scene: Scene, rng: np.random.Generator, mean: float) -> None:
    """Adds the fine bright dust points that every floor shows."""
    count = int(rng.poisson(mean))
    x, y, level = rng.random((3, count), dtype=np.float32)
    rows, columns = (y * (scene.height - 1)).astype(np.intp), (x * (scene.width - 1)).astype(np.intp)
    np.add.at(scene.image, (rows, columns), 8 + 22 * level**2 + 80 * (level > 0.985))
