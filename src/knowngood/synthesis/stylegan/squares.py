"""Photographs of any shape for a network of square pictures, and its pictures back at the photographs' shape."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

Pixels = npt.NDArray[np.uint8]
Rule = Literal["pad", "crop", "stretch"]


class Square(BaseModel):
    """How a photograph becomes square before it is resized; kept with a generator."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rule: Rule = Field(
        "pad",
        description="Photographs that are not square: pad repeats their edges, crop takes the centre, stretch neither.",
    )

    @property
    def made_by(self) -> list[object]:
        """What the key of a cache gets."""
        return [["square", self.rule]]

    def apply(self, image: Pixels) -> Pixels:
        """Returns a photograph (H, W) or (H, W, 3) as a square one, or as it is where it will be stretched."""
        height, width = image.shape[:2]
        if self.rule == "stretch" or height == width:
            return image
        if self.rule == "crop":
            top, left, side = (height - (m := min(height, width))) // 2, (width - m) // 2, m
            return image[top : top + side, left : left + side]
        side = max(height, width)
        top, left = (side - height) // 2, (side - width) // 2
        around = [(top, side - height - top), (left, side - width - left)]
        return np.pad(image, [*around, *[(0, 0)] * (image.ndim - 2)], mode="edge")

    def back(self, picture: Pixels, height: int, width: int) -> Pixels:
        """Returns a square picture at a photograph's size: padding is cut off; a cropped one stays square.

        Args:
            picture: (R, R) or (R, R, 3) uint8.
            height: Of the photographs, pixels.
            width: The same.

        Returns:
            (height, width) or (height, width, 3); with the rule crop both are the smaller of the two.
        """
        if self.rule == "crop":
            height = width = min(height, width)
        if self.rule == "pad" and height != width:
            side = max(height, width)
            whole = _resized(picture, side, side)
            top, left = (side - height) // 2, (side - width) // 2
            return np.ascontiguousarray(whole[top : top + height, left : left + width])
        return _resized(picture, height, width)


def _resized(picture: Pixels, height: int, width: int) -> Pixels:
    if picture.shape[:2] == (height, width):
        return picture
    shrinks = height * width < picture.shape[0] * picture.shape[1]
    made = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    return np.asarray(made, np.uint8)
