"""Laser marking: strokes whose profile is looked up in the distance from their middle line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from knowngood.data.tape.layers.glyphs import HEIGHT, WIDTH, glyph
from knowngood.data.tape.scene import F32, Scene, window
from knowngood.data.tape.texture import field, grain

_SCALE = 3


@dataclass(frozen=True)
class Word:
    """Characters in a row.

    Attributes:
        text: The characters.
        x: Middle of the row in the part's frame, pixels.
        y: The same, downwards.
        size: Width and height of one character, pixels.
        pitch: From character to character, pixels.
        turn: Quarter turns of the whole row, clockwise; 2 is upside down.
        weight: Level against the lot's, 1 = the same.
    """

    text: str
    x: float
    y: float
    size: tuple[float, float]
    pitch: float
    turn: int
    weight: float = 1.0


@dataclass(frozen=True)
class Font:
    """How a laser writes.

    Attributes:
        width: Of the stroke, pixels.
        hollow: Share of the level that the middle of a stroke loses: outline-like when near 1.
        beads: How uneven the stroke is.
        slant: Lean of the characters.
    """

    width: float
    hollow: float
    beads: float
    slant: float


FONTS = (
    Font(3.4, 0.0, 0.14, 0.0),
    Font(4.2, 0.75, 0.12, 0.0),
    Font(2.4, 0.0, 0.12, 0.06),
    Font(3.8, 0.25, 0.34, 0.0),
)


def marking_layer(
    scene: Scene, words: Sequence[Word], font: Font, rng: np.random.Generator
) -> tuple[tuple[slice, slice], F32]:
    """Returns where the characters lie in the image and what they add.

    Args:
        scene: Gives the part's frame and the lot's level.
        words: What is written.
        font: How.
        rng: Stream of the layer.

    Returns:
        Rows and columns, and grey levels to add there, float32.
    """
    lines = [(scene.part.to_image(points), word.weight) for word in words for points in _strokes(word, font)]
    every = np.concatenate([points for points, _ in lines])
    box = (*every.min(axis=0), *every.max(axis=0))
    at = window(box, scene.width, scene.height, font.width + 2)
    height, width = at[0].stop - at[0].start, at[1].stop - at[1].start
    ground = np.full((height * _SCALE, width * _SCALE), 255, np.uint8)
    origin = np.array([at[1].start, at[0].start])
    for points, _ in lines:
        cv2.polylines(ground, [((points - origin) * _SCALE * 16).astype(np.int32)], False, 0, 1, cv2.LINE_8, 4)
    distance = cv2.distanceTransform(ground, cv2.DIST_L2, 3) / np.float32(_SCALE)
    distance += cv2.resize(
        _roughness(rng, height, width) * np.float32(1 - 0.5 * font.hollow),
        distance.shape[::-1],
        interpolation=cv2.INTER_LINEAR,
    )
    half = np.float32(font.width / 2 * float(np.exp(rng.normal(0, 0.06))))
    solid = np.clip((half - distance) * np.float32(1.2) + np.float32(0.5), 0, 1)
    core = np.clip((half * np.float32(0.62) - distance) * np.float32(1.2) + np.float32(0.5), 0, 1)
    alpha = cv2.resize(solid - core * np.float32(font.hollow), (width, height), interpolation=cv2.INTER_AREA)
    beads = 1 + np.float32(font.beads + 0.08) * grain(rng, height, width, 1.5)
    wear = 1 + np.float32(0.14) * field(rng, height, width, max(3, height // 7), max(5, width // 7))
    return at, alpha * np.clip(beads * wear, 0.25, 1.8) * np.float32(scene.lot.line_level)


def _roughness(rng: np.random.Generator, height: int, width: int) -> F32:
    """A laser burns spot by spot: how much nearer or farther a stroke's edge lies, pixels, (height, width) float32."""
    return grain(rng, height, width, 1.4) * np.float32(0.30) + field(
        rng, height, width, max(2, height // 3), max(2, width // 5)
    ) * np.float32(0.24)


def _strokes(word: Word, font: Font) -> list[npt.NDArray[np.float64]]:
    across, down = word.size[0] / WIDTH, word.size[1] / HEIGHT
    first = -word.pitch * (len(word.text) - 1) / 2
    quarter = word.turn % 4
    c, s = ((1, 0), (0, 1), (-1, 0), (0, -1))[quarter]
    result = []
    for number, character in enumerate(word.text):
        for points in glyph(character):
            x = (points[:, 0] - WIDTH / 2) * across + first + number * word.pitch
            y = (points[:, 1] - HEIGHT / 2) * down
            x = x - font.slant * y
            result.append(np.stack([word.x + x * c - y * s, word.y + x * s + y * c], axis=-1))
    return result
