"""Stroke letters of our own: each glyph is a few polylines in a box 4 wide and 6 high, `~` marks curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
import numpy.typing as npt

from knowngood.lookalike.scene import F32, Scene, window
from knowngood.lookalike.shapes import smooth
from knowngood.lookalike.surface import field, grain

WIDTH, HEIGHT = 4.0, 6.0

_GLYPHS = {
    "A": "0,6 2,0 4,6; 0.7,4 3.3,4",
    "B": "0,0 0,6; ~0,0 2.6,0 3.7,0.3 3.7,2.6 2.6,2.9 0,2.9; ~0,2.9 2.8,2.9 4,3.2 4,5.7 2.8,6 0,6",
    "C": "~4,1.2 3.6,0 0.9,-0.2 0,1.4 0,4.6 0.9,6.2 3.6,6 4,4.8",
    "D": "0,0 0,6; ~0,0 2.4,0 4,0.6 4,5.4 2.4,6 0,6",
    "E": "4,0 0,0 0,6 4,6; 0,2.9 3.2,2.9",
    "F": "4,0 0,0 0,6; 0,2.9 3.2,2.9",
    "G": "~4,1.2 3.6,0 0.9,-0.2 0,1.4 0,4.6 0.9,6.2 3.4,6.1 4,5; 4,5 4,3.3 2.4,3.3",
    "H": "0,0 0,6; 4,0 4,6; 0,3 4,3",
    "I": "2,0 2,6",
    "J": "3.4,0 3.4,4; ~3.4,4 3.4,5.8 2.4,6.1 1,6 0.4,4.6",
    "K": "0,0 0,6; 4,0 0,3.5; 1.2,2.5 4,6",
    "L": "0,0 0,6 4,6",
    "M": "0,6 0,0 2,4 4,0 4,6",
    "N": "0,6 0,0 4,6 4,0",
    "O": "~2,0 3.8,0 4,2 4,4 3.8,6 2,6 0.2,6 0,4 0,2 0.2,0 2,0",
    "P": "0,0 0,6; ~0,0 2.8,0 4,0.3 4,3 2.8,3.3 0,3.3",
    "Q": "~2,0 3.8,0 4,2 4,4 3.8,6 2,6 0.2,6 0,4 0,2 0.2,0 2,0; 2.5,4.5 4,6.3",
    "R": "0,0 0,6; ~0,0 2.8,0 4,0.3 4,2.9 2.8,3.2 0,3.2; 1.8,3.2 4,6",
    "S": "~3.9,1.1 3.4,0 0.6,-0.2 0,1.4 0.2,2.6 3.8,3.3 4,4.8 3.4,6.2 0.6,6.1 0,4.9",
    "T": "0,0 4,0; 2,0 2,6",
    "U": "0,0 0,4; ~0,4 0.1,6 2,6.1 3.9,6 4,4; 4,4 4,0",
    "V": "0,0 2,6 4,0",
    "W": "0,0 1,6 2,0.6 3,6 4,0",
    "X": "0,0 4,6; 4,0 0,6",
    "Y": "0,0 2,3 4,0; 2,3 2,6",
    "Z": "0,0 4,0 0,6 4,6",
    "0": "~2,0 3.7,0 3.9,2 3.9,4 3.7,6 2,6 0.3,6 0.1,4 0.1,2 0.3,0 2,0",
    "1": "1,1.2 2.3,0 2.3,6",
    "2": "~0.1,1.4 0.4,0 3.5,-0.2 3.9,1.6 3.4,2.9 0,6; 0,6 4,6",
    "3": "~0.2,1 0.7,-0.1 3.5,-0.1 3.8,1.7 3.2,2.8 1.5,2.9; ~1.5,2.9 3.6,3 4,4.5 3.5,6.2 0.6,6.1 0,4.9",
    "4": "3,6 3,0 0,4.2 4,4.2",
    "5": "3.7,0 0.5,0 0.3,2.7; ~0.3,2.7 1.8,2.1 3.8,2.6 4,4.4 3.4,6.2 0.8,6.1 0,5.1",
    "6": "~3.6,0.5 2.6,-0.2 0.5,0.2 0,2.6 0,4.6 0.5,6.1 3.4,6.1 4,4.6 3.6,2.9 1.4,2.5 0.1,3.9",
    "7": "0,0 4,0 1.4,6",
    "8": "~2,2.8 0.3,2.6 0.2,0.2 2,0 3.8,0.2 3.7,2.6 2,2.8 0,3.2 0,5.8 2,6 4,5.8 4,3.2 2,2.8",
    "9": "~0.4,5.5 1.4,6.2 3.5,5.8 4,3.4 4,1.4 3.5,-0.1 0.6,-0.1 0,1.4 0.4,3.1 2.6,3.5 3.9,2.1",
}


@cache
def glyph(character: str) -> tuple[npt.NDArray[np.float64], ...]:
    """Returns the strokes of one character; an unknown one is a box.

    Args:
        character: One of A-Z and 0-9.

    Returns:
        (N, 2) arrays in a box 4 wide and 6 high, y downwards.
    """
    text = _GLYPHS.get(character, "0,0 4,0 4,6 0,6 0,0")
    strokes = []
    for part in text.split(";"):
        curved = part.strip().startswith("~")
        points = np.array([[float(n) for n in pair.split(",")] for pair in part.strip().lstrip("~").split()])
        strokes.append(smooth(points, 3) if curved else points)
    return tuple(strokes)


def characters() -> str:
    """Returns every character that has a glyph."""
    return "".join(_GLYPHS)


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
