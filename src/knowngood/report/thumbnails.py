"""Photographs as small JPEGs inside the page; one that cannot be read leaves a placeholder."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import simplejpeg

from knowngood.data.decoders import Pixels
from knowngood.data.images import decoding
from knowngood.errors import ImageError

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


def small_jpeg(data: bytes, side: int = SIDE) -> bytes:
    """Returns an encoded photograph as a small JPEG that fits into a square of `side` pixels.

    Raises:
        ImageError: It cannot be read.
    """
    with decoding(data) as decoded:  # one after the other, where they are large
        return small_picture(decoded.pixels, side)


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
