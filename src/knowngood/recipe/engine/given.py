"""What a program gives to `Recipe.predict`, as items of the engine: paths, patterns, bytes, arrays, PIL images."""

from __future__ import annotations

import glob
import io
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from knowngood.data.budget import max_pixels
from knowngood.data.images import decode
from knowngood.data.sources.walking import text_of
from knowngood.data.tabular import is_table
from knowngood.errors import ConfigError, DataError, ImageError
from knowngood.recipe.engine.archives import is_archive
from knowngood.recipe.engine.items import Item, item_at, stream
from knowngood.recipe.engine.remote import is_url

_PNG = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")  # modes that PNG holds without loss


def items_from(images: Any, names: Sequence[str] | None = None) -> Iterator[Item]:
    """Yields an item a photograph, in order, each listed when it is taken.

    Args:
        images: As in `Recipe.predict`.
        names: What to call them; by default the path, or "image 0", "image 1" ...

    Raises:
        ConfigError: `names` are not as many as `images`.
        DataError: A folder, archive or table has no photograph in it, or cannot be read.
    """
    one = isinstance(images, (str, os.PathLike, bytes, bytearray, memoryview, Image.Image))
    if one or not isinstance(images, Iterable) or (isinstance(images, np.ndarray) and images.ndim in (2, 3)):
        images = [images]
    if names is None:
        for number, image in enumerate(images):
            yield from _items_of(image, number)
        return
    images = list(images)
    if len(images) != len(names):
        raise ConfigError(f"There are {len(names)} names for {len(images)} photographs.", expected="one name for each")
    for image, name in zip(images, names, strict=True):
        yield item_at(name, _place(image)) if isinstance(image, (str, os.PathLike)) else _in_memory(image, name)


def _items_of(image: Any, number: int) -> Iterator[Item]:
    if not isinstance(image, (str, os.PathLike)):
        yield _in_memory(image, f"image {number}")
        return
    if isinstance(image, str) and is_url(image):
        try:
            found_there = stream([image]).items
        except DataError as error:  # one address among many costs its row
            yield Item(image, _refusing(ImageError(error.what, expected=error.expected, fix=error.fix)), image)
            return
        yield from found_there
        return
    place, path = _place(image), Path(image)
    if not path.exists():
        found = sorted(glob.glob(os.fspath(image), recursive=True)) if glob.has_magic(os.fspath(image)) else []
        for match in found:
            yield from _items_of(match, number)
        if not found:  # a name that is no file gets its row, with the reason
            yield item_at(text_of(image), place)
    elif path.is_dir() or is_archive(path) or is_table(path):
        yield from stream([path]).items
    else:
        yield item_at(text_of(image), place)


def _place(image: str | os.PathLike[str]) -> str | Path:
    return image if isinstance(image, str) else Path(image)


def _in_memory(image: Any, name: str) -> Item:
    if isinstance(image, (bytes, bytearray, memoryview)):
        data = bytes(image)
        return Item(name, (lambda: data) if data else _refusing(ImageError(f"{name!r} is empty (0 bytes).")))
    try:
        if isinstance(image, Image.Image):
            return _in_memory(file_bytes(image, name), name)
        pixels = decode(image, name=name)  # an array is checked; anything else is refused
    except ImageError as error:
        return Item(name, _refusing(error))
    return Item(name, lambda: pixels)


def file_bytes(image: Image.Image, name: str) -> bytes:
    """Returns a PIL image as the bytes of a file without loss, so that it is read by the rules of every other file.

    Args:
        image: Of any mode; an EXIF orientation is applied.
        name: How messages call it.

    Raises:
        ImageError: It has no pixels, too many, or they cannot be read.
    """
    width, height = image.size
    if not 0 < width * height <= max_pixels():
        raise ImageError(f"{name!r} has {width} x {height} pixels.", expected=f"1 to {max_pixels():,} pixels")
    try:
        upright = ImageOps.exif_transpose(image)
        encoded = io.BytesIO()
        if upright.mode in _PNG:
            upright.save(encoded, "PNG", compress_level=0)
        else:
            upright.save(encoded, "TIFF")
    except Exception as error:  # decoders raise nearly anything on damaged bytes
        raise ImageError(f"{name!r} cannot be decoded: {str(error).strip() or type(error).__name__}.") from error
    return encoded.getvalue()


def _refusing(error: ImageError) -> Callable[[], bytes]:
    def refuse() -> bytes:
        raise error

    return refuse
