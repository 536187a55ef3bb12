"""What is done to a photograph before a network sees it: a region of interest, and leads merged into the part."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, field_validator

from knowngood.errors import ConfigError

Pixels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Box = tuple[float, float, float, float]
_FORM = "x0,y0,x1,y1, several boxes joined with ;"
_REACH, _FADE = 0.03, 0.05  # the fill follows the rim of the region so far (share of the shorter side), then fades


class Preprocessing(BaseModel):
    """Saved with a recipe, so that whatever is scored later is treated as the training images were."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    roi: tuple[Box, ...] = Field(
        (),
        max_length=1000,
        description="Boxes (x0, y0, x1, y1) as fractions of width and height; nothing outside all of them counts.",
    )
    mask_leads: bool = Field(False, description="Leads are found and filled in from what surrounds them.")

    @field_validator("roi")
    @classmethod
    def _boxes_in_the_picture(cls, boxes: tuple[Box, ...]) -> tuple[Box, ...]:
        for box in boxes:
            _check(box, 1.0, 1.0)
        return boxes

    @property
    def cache_key(self) -> list[object]:
        """What the key of a cache gets: nothing where nothing is done, so that older caches stay good."""
        return [self.model_dump(mode="json")] if self.roi or self.mask_leads else []

    def inside(self, height: int, width: int) -> Mask | None:
        """Returns what counts of a photograph, (height, width) bool, with at least one pixel; None where all does."""
        if not self.roi:
            return None
        counts = np.zeros((height, width), bool)
        for x0, y0, x1, y1 in self.roi:
            left, top = min(round(x0 * width), width - 1), min(round(y0 * height), height - 1)
            right, bottom = max(left + 1, round(x1 * width)), max(top + 1, round(y1 * height))
            counts[top:bottom, left:right] = True
        return None if counts.all() else counts

    def cropped(self, fitted: Pixels) -> Pixels:
        """Returns the part (C, h, w) of a photograph (C, H, W) uint8 that just holds the region of interest."""
        counts = self.inside(*fitted.shape[1:])
        if counts is None:
            return fitted
        rows, columns = np.flatnonzero(counts.any(axis=1)), np.flatnonzero(counts.any(axis=0))
        return np.asarray(fitted[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])

    def apply(self, image: Pixels) -> Pixels:
        """Returns the photograph as a network may see it; no pixel outside the region of interest has any say.

        Args:
            image: (H, W) or (H, W, 3) uint8, at its own size; not changed.
        """
        counts = self.inside(*image.shape[:2])
        made = image if counts is None else filled(image, counts)
        if self.mask_leads:
            made = without_leads(made)  # after the region: a bright thing outside must not move the levels
            made = made if counts is None else filled(made, counts)
        return made


def filled(image: Pixels, inside: Mask) -> Pixels:
    """Returns a photograph whose outside is painted over: the mean of the inside, without an edge towards it.

    A step along the border of the region would look like a chipped edge. So the fill begins with the average of
    the pixels just inside and fades to the mean of the whole inside.

    Args:
        image: (H, W) or (H, W, 3) uint8; not changed.
        inside: (H, W) bool with at least one pixel; these stay as they are.

    Reference:
        Knutsson and Westin 1993, normalised convolution (two box filters), with a weight for the mean added.
    """
    weight = inside.astype(np.float32)
    mean = image[inside].mean(axis=0, dtype=np.float64).astype(np.float32)
    known = np.where(inside if image.ndim == 2 else inside[..., None], image, 0).astype(np.float32)
    size = max(3, round(2 * _REACH * min(inside.shape)) | 1)
    for _ in range(2):
        weight = cv2.blur(weight, (size, size), borderType=cv2.BORDER_CONSTANT)
        known = cv2.blur(known, (size, size), borderType=cv2.BORDER_CONSTANT)
    near = weight if image.ndim == 2 else weight[..., None]
    fill = np.rint((known + _FADE * mean) / (near + _FADE))
    made = np.clip(fill, 0, 255).astype(np.uint8)
    made[inside] = image[inside]
    return np.asarray(made, np.uint8)


def parse_roi(text: str) -> tuple[Box, ...]:
    """Returns the boxes that `--roi` names, as they were written.

    Args:
        text: "x0,y0,x1,y1", several joined with ";".

    Raises:
        ValueError: These are no boxes, or one is empty or begins outside the picture.
    """
    boxes: list[Box] = []
    for part in filter(None, (p.strip() for p in text.split(";"))):
        try:
            numbers = [float(n) for n in part.split(",")]
        except ValueError:
            raise ValueError(f"{part!r} are not numbers; it takes {_FORM}") from None
        if len(numbers) != 4:
            raise ValueError(f"{part!r} are {len(numbers)} numbers and not four; it takes {_FORM}")
        boxes.append((numbers[0], numbers[1], numbers[2], numbers[3]))
    if not boxes:
        raise ValueError(f"it names no box; it takes {_FORM}")
    for box in boxes:
        _check(box, math.inf if in_pixels(boxes) else 1.0, math.inf if in_pixels(boxes) else 1.0)
    return tuple(boxes)


def in_pixels(boxes: Sequence[Box]) -> bool:
    """Returns whether boxes are in pixels: as soon as one number is above 1."""
    return any(number > 1 for box in boxes for number in box)


def preprocessing_for(roi: str | None, mask_leads: bool, sizes: Sequence[tuple[int, int]]) -> Preprocessing:
    """Returns what to do to photographs of these sizes.

    Args:
        roi: As `--roi` takes it, or None.
        mask_leads: Whether leads are merged with their surroundings.
        sizes: (height, width) of each photograph, pixels.

    Raises:
        ConfigError: The region is in pixels and the photographs differ in size, or it reaches out of them.
    """
    boxes = parse_roi(roi) if roi is not None else ()
    if in_pixels(boxes) and sizes:
        known = sorted(set(sizes))
        if len(known) > 1:
            (h0, w0), (h1, w1) = known[0], known[-1]
            raise ConfigError(
                f"--roi {roi!r} is in pixels, and there are {len(known)} sizes of photographs, {w0}x{h0} to {w1}x{h1}.",
                expected="photographs of one size, or fractions of width and height between 0 and 1",
                fix="Give fractions, such as --roi 0.1,0.1,0.9,0.9.",
            )
        height, width = known[0]
        try:
            for box in boxes:
                _check(box, width, height)
        except ValueError as error:
            raise ConfigError(
                f"--roi {roi!r}: {error}.",
                expected=f"pixels within {width}x{height}, or fractions between 0 and 1",
                fix="Correct the box: x to the right, y downwards, the second corner outside.",
            ) from error
        boxes = tuple((x0 / width, y0 / height, x1 / width, y1 / height) for x0, y0, x1, y1 in boxes)
    return Preprocessing(roi=boxes, mask_leads=mask_leads)


def _check(box: Box, width: float, height: float) -> None:
    """Raises ValueError unless a box has an area and lies within 0..width, 0..height."""
    x0, y0, x1, y1 = box
    shown = ",".join(f"{n:g}" for n in box)
    if not all(map(math.isfinite, box)):
        raise ValueError(f"the box {shown} has a number that is not finite")
    if x1 <= x0 or y1 <= y0:
        raise ValueError(f"the box {shown} is empty: x1 must be above x0 and y1 above y0")
    if min(x0, y0) < 0 or x1 > width or y1 > height:
        raise ValueError(f"the box {shown} reaches out of the picture")


_DIM, _GLARING = 150, 225  # a lot's metal shines at a level between these; nothing else does
_LEAST, _MOST = 0.0012, 0.09  # area of a lead as shares of the picture


def find_leads(image: Pixels) -> npt.NDArray[np.bool_]:
    """Returns where the leads are.

    Saturated knees are seeds; what is bright around them, over the dark groove to the foot, belongs to the lead.
    Thin bright things (laser marks, cathode lines) are opened away first; walls of the pocket are not saturated or
    reach the edge.

    Args:
        image: (H, W) or (H, W, 3) uint8.

    Returns:
        (H, W) bool; empty where there is no such metal, as in an empty pocket.
    """
    grey = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    side = min(grey.shape)
    smooth = cv2.GaussianBlur(grey, (0, 0), max(0.8, side / 224))
    floor = float(np.median(smooth))
    thick = cv2.morphologyEx(smooth, cv2.MORPH_OPEN, _disc(side, 0.022))
    metal = float(np.clip(0.85 * np.quantile(smooth, 0.995), _DIM, _GLARING))
    seeds = thick >= metal
    bright = (thick > floor + 0.3 * (metal - floor)).astype(np.uint8)
    joined = cv2.morphologyEx(bright, cv2.MORPH_CLOSE, _tall(side))
    count, places, facts, _ = cv2.connectedComponentsWithStats(joined, connectivity=8)
    lit = np.bincount(places[seeds], minlength=count)
    found = np.zeros(grey.shape, bool)
    for number in range(1, count):
        if lit[number] >= 0.0005 * grey.size and _is_compact(facts[number], grey.shape):
            found |= _box_of(places == number)
    return np.asarray(cv2.dilate(found.astype(np.uint8), _disc(side, 0.009)), bool)


def without_leads(image: Pixels) -> Pixels:
    """Returns the photograph with its leads merged into their surroundings: filled in from the rim of each.

    Args:
        image: (H, W) or (H, W, 3) uint8; not changed.

    Reference:
        Telea 2004, as in OpenCV; that leads mislead a network is the study's suspicion.
    """
    leads = find_leads(image)
    if not leads.any():
        return image
    return np.asarray(cv2.inpaint(np.ascontiguousarray(image), leads.astype(np.uint8), 3, cv2.INPAINT_TELEA), np.uint8)


def _box_of(piece: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Returns the smallest turned rectangle around a piece: a lead is one, and its groove belongs to it."""
    corners = cv2.boxPoints(cv2.minAreaRect(np.argwhere(piece)[:, ::-1].astype(np.float32)))
    drawn = np.zeros(piece.shape, np.uint8)
    return np.asarray(cv2.fillPoly(drawn, [np.rint(corners).astype(np.int32)], 1), bool)


def _is_compact(facts: npt.NDArray[Any], shape: tuple[int, ...]) -> bool:
    x, y, width, height, area = (int(n) for n in facts)
    inside = x > 0 and y > 0 and x + width < shape[1] and y + height < shape[0]
    share = area / (shape[0] * shape[1])
    return (
        inside
        and _LEAST <= share <= _MOST
        and area >= 0.45 * width * height
        and max(width, height) < 5 * min(width, height)
    )


def _disc(side: int, share: float) -> npt.NDArray[np.uint8]:
    size = max(3, round(side * share) | 1)
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)), np.uint8)


def _tall(side: int) -> npt.NDArray[np.uint8]:
    """Closes the groove of a lead, whichever way the lead points, and not the gap between two leads."""
    size = max(3, round(side * 0.08) | 1)
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_CROSS, (size, size)), np.uint8)
