"""One photograph in, one uint8 array out: what the camera saw, by fixed rules, or an `ImageError`.

The rules, which never look at the brightness of the picture itself, so that equal parts give equal arrays:

- grey stays grey (H, W); an RGB or palette file whose channels are equal everywhere is grey too;
- EXIF orientation is applied, colour profiles and gamma are not;
- 16-bit samples keep their high byte. Cameras that put 10 or 12 bits *right-aligned* into 16 give nearly
  black pictures that way; they are not stretched by guesswork, `knowngood.data.health` points them out;
- 32-bit integers are read as 16-bit values 0..65535, floats as 0..1; others are refused, not clipped;
- transparency is laid on black; CMYK (and Adobe's inverted CMYK) becomes RGB; bilevel becomes 0 and 255;
- of an animation or a multi-page file the first picture counts;
- a file with a wrong checksum or without its end is refused, even where a decoder would paint the rest grey.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from knowngood.data.containers import JPEG_SIGNATURE, PNG_SIGNATURE, PngFacts, jpeg_is_cut, png_facts
from knowngood.data.decoders import (
    SIDEWAYS,
    Opened,
    Pixels,
    brightest_sample,
    fast_pixels,
    general_pixels,
    orientation_of,
)
from knowngood.errors import ImageError

ImageSource: TypeAlias = "str | os.PathLike[str] | bytes | npt.NDArray[Any]"

MAX_PIXELS = 100_000_000
MAX_BYTES = 1 << 30
SUFFIXES = frozenset(
    [
        ".png",
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".bmp",
        ".dib",
        ".tif",
        ".tiff",
        ".gif",
        ".webp",
        ".pgm",
        ".ppm",
        ".pbm",
        ".pnm",
        ".jp2",
        ".j2k",
    ]
)


@dataclass(frozen=True)
class ImageFacts:
    """What the header of an image file says.

    Attributes:
        width: Pixels, after EXIF rotation.
        height: Pixels, after EXIF rotation.
        mode: Pillow's name of the pixel format in the file ("L", "RGB", "P", "I;16", "CMYK" ...).
        format: Pillow's name of the file format ("PNG", "JPEG" ...).
    """

    width: int
    height: int
    mode: str
    format: str


def decode(
    source: ImageSource,
    *,
    max_pixels: int = MAX_PIXELS,
    name: str | None = None,
    at_least: tuple[int, int] | None = None,
) -> Pixels:
    """Decodes one photograph by the rules on top of this module.

    Args:
        source: Path or bytes of a file, or a uint8 array (H, W), (H, W, 1) or (H, W, 3) RGB.
        max_pixels: A file whose header promises more is refused before anything is decoded. Pillow's own
            limit of about 179 million stays in force.
        name: How messages call the image; the path by default.
        at_least: Height and width in pixels that are enough: a JPEG may come out at 1/2, 1/4 or 1/8 of its size, but
            not smaller than this. By default every file comes out at its own size.

    Returns:
        uint8, 0..255, contiguous: (H, W) when the picture is grey, else (H, W, 3) RGB.

    Raises:
        ImageError: The file is missing, unreadable, empty, damaged, too large or no image; the array has
            another type or shape.
    """
    if isinstance(source, np.ndarray):
        return _checked_array(source, name or "the array")
    data, name = _read(source, name)
    facts = _check_container(data, name)
    with Opened(data, name, max_pixels) as image:
        pixels = fast_pixels(data, image, facts, name, at_least)
        if pixels is None:
            pixels = general_pixels(image, name)
    return np.ascontiguousarray(_grey_if_equal(pixels))


def probe(source: ImageSource, *, max_pixels: int = MAX_PIXELS, name: str | None = None) -> ImageFacts:
    """Reads the header of an image file and decodes nothing.

    Args:
        source: Path or bytes of a file.
        max_pixels: As in `decode`.
        name: As in `decode`.

    Returns:
        Size after EXIF rotation, mode and format.

    Raises:
        ImageError: The file is missing, unreadable, empty, too large or no image.
    """
    if isinstance(source, np.ndarray):
        raise ImageError("An array has no header to read.", expected="a path or the bytes of a file")
    data, name = _read(source, name)
    return _facts(data, name, max_pixels, png_facts(data) if data.startswith(PNG_SIGNATURE) else None)


def depth_of(source: ImageSource) -> int | None:
    """Returns how many bits a sample of a photograph has, 8 to 16 (32 of floats), or None where that cannot be known.

    Of 16-bit files it is what the brightest sample needs, 10, 12, 14 or 16: cameras put 10 or 12 bits into 16.

    Args:
        source: Path or bytes of a file; an array has been brought to 8 bits already and gives None.
    """
    if isinstance(source, np.ndarray):
        return None
    try:
        data = bytes(source) if isinstance(source, bytes) else read_bytes(source)
        if data.startswith(JPEG_SIGNATURE) or (data.startswith(PNG_SIGNATURE) and data[24:25] <= b"\x08"):
            return 8
        with Opened(data, "the photograph", MAX_PIXELS) as image:
            if image.mode == "F":
                return 32
            deep = data.startswith(PNG_SIGNATURE) or image.mode.startswith("I;16") or image.mode == "I"
            brightest = brightest_sample(data, image) if deep else None
    except ImageError:
        return None
    if brightest is None:
        return 8
    return next((bits for bits in (10, 12, 14) if brightest < 1 << bits), 16)


def verify(data: bytes, *, max_pixels: int = MAX_PIXELS, name: str) -> ImageFacts:
    """Does what `probe` does and checks what needs no decoding: checksums and the file's end.

    Args:
        data: The bytes of a file.
        max_pixels: As in `decode`.
        name: How messages call the image.

    Returns:
        Size after EXIF rotation, mode and format.

    Raises:
        ImageError: As `probe`, and when a PNG or JPEG is truncated or has a wrong checksum.
    """
    return _facts(data, name, max_pixels, _check_container(data, name))


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Reads a regular file of sane size.

    Args:
        path: Path of the file.

    Returns:
        Its bytes, never empty.

    Raises:
        ImageError: No such file, no permission, not a regular file, empty, or over 1 GiB.
    """
    shown = os.fspath(path)
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):  # a pipe or device would be read for ever
            raise ImageError(f"{shown!r} is not a file.", expected="an image file")
        if status.st_size > MAX_BYTES:
            raise ImageError(
                f"{shown!r} is absurdly large ({status.st_size / 2**30:.1f} GiB).", expected="at most 1 GiB"
            )
        data = Path(path).read_bytes()
    except FileNotFoundError as error:
        raise ImageError(f"There is no file {shown!r}.", fix="Check the path.") from error
    except PermissionError as error:
        raise ImageError(
            f"{shown!r} may not be read: permission denied.", fix="Give yourself read permission (chmod u+r)."
        ) from error
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        raise ImageError(f"{shown!r} cannot be read: {error}.") from error
    if not data:
        raise ImageError(f"{shown!r} is empty (0 bytes).", fix="Copy it again from its origin.")
    return data


def _read(source: str | os.PathLike[str] | bytes, name: str | None) -> tuple[bytes, str]:
    if isinstance(source, bytes):
        if not source:
            raise ImageError(f"{name or 'The image'} is empty (0 bytes).", expected="the bytes of an image file")
        return source, name or f"<{len(source)} bytes>"
    if not isinstance(source, str | os.PathLike):
        raise ImageError(
            f"An image cannot be made of {type(source).__name__}.", expected="a path, bytes or a numpy array"
        )
    return read_bytes(source), name or os.fspath(source)


def _checked_array(array: npt.NDArray[Any], name: str) -> Pixels:
    right_shape = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3))
    if array.dtype != np.uint8 or not right_shape or array.size == 0:
        raise ImageError(
            f"{name} has dtype {array.dtype} and shape {array.shape}.",
            expected="uint8 of shape (H, W), (H, W, 1) or (H, W, 3) in RGB order, not empty",
            fix="Convert it first, for instance with (array * 255).astype('uint8') for floats in 0..1.",
        )
    pixels = array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array
    return np.ascontiguousarray(_grey_if_equal(pixels))


def _check_container(data: bytes, name: str) -> PngFacts | None:
    if data.startswith(PNG_SIGNATURE):
        facts = png_facts(data)
        if facts.damage:
            raise ImageError(f"{name!r} {facts.damage}.", fix="Copy it again from its origin.")
        return facts
    if data.startswith(JPEG_SIGNATURE) and jpeg_is_cut(data):
        raise ImageError(
            f"{name!r} is truncated: it ends before the end of the picture.",
            fix="Copy it again from its origin.",
        )
    return None


def _facts(data: bytes, name: str, max_pixels: int, png: PngFacts | None) -> ImageFacts:
    with Opened(data, name, max_pixels) as image:
        mode, form = image.mode, str(image.format)
        width, height = image.size
        if form != "TIFF" and orientation_of(image, png) in SIDEWAYS:  # Pillow turns TIFF sizes itself
            width, height = height, width
    return ImageFacts(width, height, mode, form)


def _grey_if_equal(pixels: Pixels) -> Pixels:
    """Drops two channels when all three are equal; a coarse look first, as colour shows soon."""
    if pixels.ndim == 2:
        return pixels
    for part in (pixels[::16, ::16], pixels):
        if not (np.array_equal(part[..., 0], part[..., 1]) and np.array_equal(part[..., 1], part[..., 2])):
            return pixels
    return np.asarray(pixels[..., 0], dtype=np.uint8)
