"""Pictures put together: beside and under each other, with words and legends in a font that comes along."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from knowngood.report.heat import Pixels, Scale

_PAPER, _INK = 255, (33, 37, 41)
GAP = 6  # pixels between pictures


@cache
def _font(size: int) -> Any:
    return ImageFont.load_default(size)


def words(text: str, width: int, size: int = 14) -> Pixels:
    """Returns text in black on white, RGB (H, width, 3), broken into as many lines as it takes."""
    font, lines = _font(size), [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    lines = [_cut(line, width, font) for line in lines]
    page = Image.new("RGB", (width, round(1.3 * size) * len(lines) + 2), (_PAPER,) * 3)
    drawing = ImageDraw.Draw(page)
    for number, line in enumerate(lines):
        drawing.text((0, number * round(1.3 * size)), line, font=font, fill=_INK)
    return np.asarray(page, np.uint8)


def _cut(line: str, width: int, font: Any) -> str:
    """Takes out the middle of a line that is too long: beginnings and endings tell file names apart."""
    if font.getlength(line) <= width:
        return line
    for keep in range(len(line) - 1, 1, -1):
        shorter = f"{line[: keep // 2]}...{line[len(line) - (keep - keep // 2) :]}"
        if font.getlength(shorter) <= width:
            return shorter
    return line[:1]


def beside(pictures: Sequence[Pixels], gap: int = GAP) -> Pixels:
    """Returns RGB pictures in a row, their tops at one height."""
    tall = max(len(one) for one in pictures)
    filled = [_padded(one, tall - len(one), 0 if last else gap) for one, last in _lasts(pictures)]
    return np.concatenate(filled, axis=1)


def under(pictures: Sequence[Pixels], gap: int = GAP) -> Pixels:
    """Returns RGB pictures in a column, their left sides in one line."""
    wide = max(one.shape[1] for one in pictures)
    filled = [_padded(one, 0 if last else gap, wide - one.shape[1]) for one, last in _lasts(pictures)]
    return np.concatenate(filled, axis=0)


def framed(picture: Pixels, margin: int = 10) -> Pixels:
    """Returns a picture with white around it."""
    return np.pad(picture, ((margin, margin), (margin, margin), (0, 0)), constant_values=_PAPER)


def legend(scale: Scale, width: int, said: str = "", size: int = 13) -> Pixels:
    """Returns the colours of a scale with the numbers at its ends, and what is said of it, RGB (H, width, 3)."""
    bar = cv2.resize(scale.ramp(64)[None], (width, 12), interpolation=cv2.INTER_LINEAR)
    low, high = scale.ends
    ends = words(low, width, size).copy()
    right = round(_font(size).getlength(high)) + 1
    if right < width:
        ends[:, width - right :] = words(high, right, size)[: len(ends)]
    parts = [np.asarray(bar, np.uint8), ends]
    return under([*parts, words(said, width, size)] if said else parts, 2)


def _lasts(pictures: Sequence[Pixels]) -> list[tuple[Pixels, bool]]:
    return [(one, place == len(pictures) - 1) for place, one in enumerate(pictures)]


def _padded(picture: Pixels, below: int, right: int) -> Pixels:
    return np.pad(picture, ((0, below), (0, right), (0, 0)), constant_values=_PAPER)
