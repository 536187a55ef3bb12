"""Maps as colours over their photograph (one perceptually even scale), strips of pictures, and thumbnails."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import polars as pl
import simplejpeg
from PIL import Image, ImageDraw, ImageFont

from knowngood import wording
from knowngood.cam.regions import Region
from knowngood.data.images import decoding
from knowngood.errors import ImageError
from knowngood.recipe.maps import HeatMap, Map, at_size
from knowngood.report.page import Picture

_REACH = 3.0  # the scale ends at most this many times as far from its beginning as the level, or the usual peak, is
_COVER = 0.7  # of the photograph, where the map is hottest
_RISE = 0.35  # weak heat has to be seen too
_GROUND = 120  # grey under the colours of a legend
_STOPS = 9  # colours of the legend's gradient

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Scale:
    """What the colours mean.

    Attributes:
        low: Value of a place that shows the photograph alone; all below it do too.
        high: Value of the brightest colour; all above it have it too.
        level: Boxes are drawn from here on; None where each map has its own rule.
        capped: Whether some maps go beyond `high`.
    """

    low: float
    high: float
    level: float | None = None
    capped: bool = False

    @property
    def ends(self) -> tuple[str, str]:
        """The numbers at its ends, as a legend shows them."""
        low, high = ("0" if value == 0 else f"{value:.3g}" for value in (self.low, self.high))
        return low, f"{high} and more" if self.capped else high

    def share(self, values: Map) -> npt.NDArray[np.float32]:
        """Returns where values lie between `low` and `high`, in 0..1."""
        return np.asarray(np.clip((values - self.low) / max(self.high - self.low, 1e-12), 0, 1), np.float32)

    def over(self, photograph: Pixels, values: Map) -> Pixels:
        """Returns a photograph, in grey, under the colours of viridis.

        Args:
            photograph: (H, W) or (H, W, 3) uint8.
            values: (H, W).

        Returns:
            RGB (H, W, 3) uint8. The hotter a place, the more colour covers it.
        """
        share = self.share(values)
        painted = cv2.applyColorMap(np.rint(255 * share).astype(np.uint8), cv2.COLORMAP_VIRIDIS)[..., ::-1]
        cover = _COVER * share[..., None] ** _RISE
        ground = as_grey(photograph).astype(np.float32)[..., None]
        return np.asarray(np.rint(cover * painted + (1 - cover) * ground), np.uint8)

    def ramp(self, count: int = _STOPS) -> Pixels:
        """Returns the colours (count, 3) from `low` to `high`, as they are over a grey place."""
        values = np.linspace(self.low, self.high, count, dtype=np.float32)[None]
        return np.asarray(self.over(np.full(values.shape, _GROUND, np.uint8), values)[0], np.uint8)


def scale_of(maps: Sequence[Map], level: float | None = None) -> Scale:
    """Returns one scale for several maps.

    Args:
        maps: Raw.
        level: Of a recipe from good images alone. Without it the scale begins at 0 (no contribution to the raw score)
            and ends at the highest peak, or at three times the median one: beyond that a single empty pocket would
            leave all others without colour.
    """
    peaks = [float(one.max()) for one in maps]
    low, top = 0.0, max(peaks, default=0.0)
    if level is not None:
        low = min((float(np.quantile(one, 0.05)) for one in maps), default=0.0)
        high = min(max(top, level), low + _REACH * max(level - low, 1e-6))
    else:
        high = min(top, _REACH * float(np.median([p for p in peaks if p > 0] or [0.0])))
    high = max(high, low + 1e-9)
    return Scale(low, high, level, top > high)


def as_grey(photograph: Pixels) -> Pixels:
    """Returns (H, W) uint8: luminance, so that colour means heat and nothing else."""
    return photograph if photograph.ndim == 2 else np.asarray(cv2.cvtColor(photograph, cv2.COLOR_RGB2GRAY), np.uint8)


def as_colour(photograph: Pixels) -> Pixels:
    """Returns (H, W, 3) uint8."""
    return np.repeat(photograph[..., None], 3, axis=2) if photograph.ndim == 2 else photograph


def sized(photograph: Pixels, factor: float) -> Pixels:
    """Returns a photograph `factor` times as large."""
    height, width = (max(1, round(side * factor)) for side in photograph.shape[:2])
    way = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(photograph, (width, height), interpolation=way), np.uint8)


def boxed(picture: Pixels, regions: Sequence[Region], factor: float) -> Pixels:
    """Returns the picture with boxes in white on black, which shows on every ground.

    Args:
        picture: RGB (H, W, 3) uint8, `factor` times as large as the photograph.
        regions: In pixels of the photograph; the first, largest, has a thicker line.
        factor: Of the size.
    """
    drawn = np.ascontiguousarray(picture).copy()
    thin = max(1, round(max(drawn.shape[:2]) / 300))
    for place, region in reversed(list(enumerate(regions))):
        x0, y0, x1, y1 = (round(factor * side) for side in region.box)
        line = 2 * thin if place == 0 else thin
        for colour, thickness in (((0, 0, 0), line + 2), ((255, 255, 255), line)):
            cv2.rectangle(drawn, (x0, y0), (max(x0, x1 - 1), max(y0, y1 - 1)), colour, thickness)
    return drawn


def pair_of(photograph: Pixels, one: HeatMap, scale: Scale, factor: float) -> tuple[Pixels, Pixels]:
    """Returns the photograph and its overlay with the boxes, both RGB (H, W, 3), `factor` times as large."""
    shown = as_colour(sized(photograph, factor))
    painted = scale.over(shown, at_size(one.values, *shown.shape[:2]))
    return shown, boxed(painted, one.regions, factor)


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


def legend(scale: Scale, width: int, caption: str = "", size: int = 13) -> Pixels:
    """Returns the colours of a scale with the numbers at its ends and a caption, RGB (H, width, 3)."""
    bar = cv2.resize(scale.ramp(64)[None], (width, 12), interpolation=cv2.INTER_LINEAR)
    low, high = scale.ends
    ends = words(low, width, size).copy()
    right = round(_font(size).getlength(high)) + 1
    if right < width:
        ends[:, width - right :] = words(high, right, size)[: len(ends)]
    parts = [np.asarray(bar, np.uint8), ends]
    return under([*parts, words(caption, width, size)] if caption else parts, 2)


def _lasts(pictures: Sequence[Pixels]) -> list[tuple[Pixels, bool]]:
    return [(one, place == len(pictures) - 1) for place, one in enumerate(pictures)]


def _padded(picture: Pixels, below: int, right: int) -> Pixels:
    return np.pad(picture, ((0, below), (0, right), (0, 0)), constant_values=_PAPER)


SIDE = 160  # pixels of the longer side
_QUALITY = 80


@dataclass(frozen=True)
class Thumbnail:
    """One small picture.

    Attributes:
        uri: `data:` URI, or None when the image cannot be read.
        trouble: Why not.
    """

    uri: str | None
    trouble: str = ""


@lru_cache(maxsize=1024)
def thumbnail(path: str, side: int = SIDE) -> Thumbnail:
    """Returns the picture at `path` fitted into a square of `side` pixels; small ones are not enlarged."""
    try:
        with decoding(path) as decoded:
            small = _fitted(decoded.pixels, side)
    except ImageError as error:
        return Thumbnail(None, error.what)
    return Thumbnail(data_uri(small))


def small_picture(pixels: Pixels, side: int = SIDE) -> bytes:
    """Returns a picture (H, W) or (H, W, 3) uint8 as a small JPEG that fits into a square of `side` pixels."""
    return _jpeg(_fitted(pixels, side))


def data_uri(pixels: Pixels) -> str:
    """Returns a picture (H, W) or (H, W, 3) uint8 as a `data:` URI."""
    return "data:image/jpeg;base64," + base64.b64encode(_jpeg(pixels)).decode("ascii")


def _fitted(pixels: Pixels, side: int) -> Pixels:
    height, width = pixels.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return pixels
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _jpeg(pixels: Pixels) -> bytes:
    grey = pixels.ndim == 2
    block = np.ascontiguousarray(pixels[..., None] if grey else pixels)
    colours = "GRAY" if grey else "RGB"
    subsampling = "Gray" if grey else "420"
    return bytes(simplejpeg.encode_jpeg(block, _QUALITY, colours, subsampling))


def row_pictures(rows: pl.DataFrame) -> list[Picture]:
    """Returns one picture a row of a score table (path, image, label, defect, score), in order.

    A file that cannot be read becomes a placeholder that says why.
    """
    made = []
    for row in rows.iter_rows(named=True):
        small = thumbnail(row["path"] or "")
        bad = row["label"] == 1
        made.append(
            Picture(
                uri=small.uri,
                name=row["image"],
                score=wording.score(row["score"]),
                tag=(row["defect"] or "bad") if bad else "good",
                bad=bad,
                trouble=small.trouble,
            )
        )
    return made
