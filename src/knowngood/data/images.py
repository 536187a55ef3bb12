"""One photograph in, one uint8 array out: what the camera saw, by fixed rules, or an `ImageError`.

The rules, which never look at the brightness of the picture itself, so that equal parts give equal arrays:

- grey stays grey (H, W); an RGB or palette file whose channels are equal everywhere is grey too;
- EXIF orientation is applied, colour profiles and gamma are not;
- 16-bit samples keep their high byte. Cameras that put 10 or 12 bits *right-aligned* into 16 give nearly
  black pictures that way; they are not stretched by guesswork, `knowngood.data.health` points them out;
- 32-bit integers are read as 16-bit values 0..65535, floats as 0..1; others are refused, not clipped;
- transparency is laid on black, but for a BMP whose fourth byte is 0 everywhere, which is no transparency; CMYK (and
  Adobe's inverted CMYK) becomes RGB; bilevel becomes 0 and 255;
- of an animation or a multi-page file the first picture counts, and it covers the whole;
- every pixel comes from the file: what is damaged, or lacks data anywhere, is refused, even where a decoder would only
  warn, or paint the rest grey or black;
- a JPEG is decoded whole, whoever asks: the same file gives the same pixels everywhere;
- one side at most 50 times the other; at most `KNOWNGOOD_MAX_PIXELS` pixels; and all decoding of a process shares one
  budget of memory (`knowngood.data.budget`).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from knowngood.data.budget import PIXELS, ROOM, max_pixels
from knowngood.data.containers import check_content, read_header
from knowngood.data.decoders import Pixels, pixels_of
from knowngood.data.header import Header
from knowngood.data.pages import file_of, page_bytes, split_page
from knowngood.errors import ImageError

ImageSource: TypeAlias = "str | os.PathLike[str] | bytes | npt.NDArray[Any]"

MAX_BYTES = 1 << 30
MAX_PROPORTION = 50  # of the longer side to the shorter one
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
_AFTERWARDS = 24  # bytes a pixel that resizing, or painting over what lies outside of a region, takes meanwhile
_ROWS = 256  # compared at once
_ARRAY = "array"  # the format of what was no file
_CLASSES, _HALF = 32, 127  # levels that a mask of numbered classes may have; half of white
_EFFECTIVE = ((3, 10), (15, 12), (63, 14))  # highest high byte of a 16-bit file, and the bits that it would take


@dataclass(frozen=True)
class ImageFacts:
    """What is known of an image file.

    Attributes:
        width: Pixels, after EXIF rotation.
        height: Pixels, after EXIF rotation.
        mode: Pillow's name of the pixel format in the file ("L", "RGB", "P", "I;16", "CMYK" ...).
        format: Pillow's name of the file format ("PNG", "JPEG" ...).
        bit_depth: Bits of a sample. From the header alone: 8, or 16 where the file holds more than 8. With the pixels:
            of a 16-bit file the fewest of 10, 12, 14 and 16 that its highest sample fits in; of one dark picture that
            says nothing, of a whole set it does (`knowngood.data.pixels.depth_of_set`).
    """

    width: int
    height: int
    mode: str
    format: str
    bit_depth: int = 8


@dataclass(frozen=True)
class Decoded:
    """A decoded photograph.

    Attributes:
        pixels: uint8, 0..255, contiguous: (H, W) when the picture is grey, else (H, W, 3) RGB.
        facts: Of its file; of an array its size, with format "array".
    """

    pixels: Pixels
    facts: ImageFacts

    @property
    def depth(self) -> int | None:
        """Bits of a sample of the file, 8 to 16; None of an array, which has been brought to 8 bits by somebody."""
        return None if self.facts.format == _ARRAY else self.facts.bit_depth


def decode(source: ImageSource, *, max_pixels: int | None = None, name: str | None = None) -> Pixels:
    """Decodes one photograph by the rules on top of this module.

    Args:
        source: Path or bytes of a file, or a uint8 array (H, W), (H, W, 1) or (H, W, 3) RGB.
        max_pixels: A file whose header promises more is refused before anything is decoded; 100 million by default,
            or what the environment variable `KNOWNGOOD_MAX_PIXELS` says.
        name: How messages call the image; the path by default.

    Returns:
        uint8, 0..255, contiguous: (H, W) when the picture is grey, else (H, W, 3) RGB.

    Raises:
        ImageError: The file is missing, unreadable, empty, damaged, too large, of extreme proportions or no image; the
            array has another type or shape.
    """
    with decoding(source, max_pixels=max_pixels, name=name) as decoded:
        return decoded.pixels


@contextmanager
def decoding(source: ImageSource, *, max_pixels: int | None = None, name: str | None = None) -> Iterator[Decoded]:
    """Decodes one photograph and holds its share of the memory budget while the block works on it.

    Args:
        source: As for `decode`.
        max_pixels: As for `decode`.
        name: As for `decode`.

    Yields:
        The pixels, and the facts with the effective bit depth.

    Raises:
        ImageError: As `decode`.
    """
    if isinstance(source, np.ndarray):
        pixels = _checked_array(source, name or "the array")
        height, width = pixels.shape[:2]
        yield Decoded(pixels, ImageFacts(width, height, "L" if pixels.ndim == 2 else "RGB", _ARRAY))
        return
    data, name = _read(source, name)
    with _decoding(data, max_pixels, name) as decoded:
        yield decoded


def effective_bits(highest: int) -> int:
    """Returns the fewest of 10, 12, 14 and 16 bits that the samples of 16-bit files fit in.

    Args:
        highest: Of all high bytes, 0..255, as `decode` gives them.
    """
    return next((bits for most, bits in _EFFECTIVE if highest <= most), 16)


def probe(source: ImageSource, *, max_pixels: int | None = None, name: str | None = None) -> ImageFacts:
    """Reads the header of an image file, checks what needs no decoding, and decodes nothing.

    Args:
        source: Path or bytes of a file.
        max_pixels: As for `decode`.
        name: As for `decode`.

    Returns:
        Size after EXIF rotation, mode, format and the bit depth of the header.

    Raises:
        ImageError: As `verify`, or the file is missing or unreadable.
    """
    if isinstance(source, np.ndarray):
        raise ImageError("An array has no header to read.", expected="a path or the bytes of a file")
    data, name = _read(source, name)
    return verify(data, max_pixels=max_pixels, name=name)


def verify(data: bytes, *, max_pixels: int | None = None, name: str) -> ImageFacts:
    """Checks of a file what needs no decoding: structure, checksums, its end, its size.

    Args:
        data: The bytes of a file.
        max_pixels: As for `decode`.
        name: How messages call the image.

    Returns:
        Size after EXIF rotation, mode, format and the bit depth of the header.

    Raises:
        ImageError: It is no image, truncated, damaged, too large or of extreme proportions.
    """
    return _facts(_checked_header(data, max_pixels, name))


def read_mask(source: str | os.PathLike[str] | bytes, shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Reads where a defect is.

    What is not black is the defect, in masks of 0 and 1, of 0 and 255, of numbered classes, and in colour, of 8 or 16
    bits. Where there are many levels (a JPEG, or a mask that was resized) it is what is above half of white.

    Args:
        source: Path or bytes of an image file.
        shape: (H, W) in pixels that it must have: that of its photograph.

    Returns:
        bool (H, W).

    Raises:
        ImageError: It cannot be read, has another size, or is too dark to say what it marks.
    """
    data, name = _read(source, None)
    header = _checked_header(data, None, name)
    if header.upright != shape:
        height, width = header.upright
        raise ImageError(
            f"The mask {name!r} is {width} x {height} pixels, its photograph {shape[1]} x {shape[0]}.",
            expected="a mask of the photograph's own size",
            fix="Export it again at the size of the photograph, without interpolation.",
        )
    with _decoding(data, None, name, lift=True) as decoded:
        levels = decoded.pixels if decoded.pixels.ndim == 2 else decoded.pixels.max(axis=2)
        rows = (levels[start : start + _ROWS] for start in range(0, len(levels), _ROWS))
        different = np.flatnonzero(sum(np.bincount(part.ravel(), minlength=256) for part in rows))
        if header.format != "JPEG" and len(different) <= _CLASSES:
            return np.asarray(levels > 0, np.bool_)
        if 0 < different[-1] <= _HALF:
            raise ImageError(
                f"The mask {name!r} has many levels of grey, and none above {different[-1]}.",
                expected="black and white",
                fix="Export it as PNG with 0 and 255.",
            )
        return np.asarray(levels > _HALF, np.bool_)


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Reads a regular file of sane size.

    Args:
        path: Path of the file; `stack.tif#page=2` is the second page of a TIFF file, as a file of its own.

    Returns:
        Its bytes, never empty.

    Raises:
        ImageError: No such file, no permission, not a regular file, empty, or over 1 GiB.
    """
    shown = os.fspath(path)
    try:
        file = file_of(path)
        status = os.stat(file)
        if not stat.S_ISREG(status.st_mode):  # a pipe or device would be read for ever
            raise ImageError(f"{shown!r} is not a file.", expected="an image file")
        page = None if os.path.lexists(path) else split_page(path)[1]
        if page is None and status.st_size > MAX_BYTES:
            raise ImageError(
                f"{shown!r} is absurdly large ({status.st_size / 2**30:.1f} GiB).", expected="at most 1 GiB"
            )
        data = file.read_bytes() if page is None else page_bytes(file, page)
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
    refuse_extremes(pixels.shape[0], pixels.shape[1], name)
    return np.ascontiguousarray(_grey_if_equal(pixels))


def refuse_extremes(height: int, width: int, name: str) -> None:
    """Checks whether a picture has the proportions of a photograph.

    Raises:
        ImageError: One side is more than `MAX_PROPORTION` times the other.
    """
    if max(height, width) > MAX_PROPORTION * min(height, width):
        raise ImageError(
            f"{name!r} has extreme proportions: {width} x {height} pixels.",
            expected=f"one side at most {MAX_PROPORTION} times the other",
            fix="Cut it into pieces, or leave it out.",
        )


@contextmanager
def _decoding(data: bytes, most: int | None, name: str, *, lift: bool = False) -> Iterator[Decoded]:
    header = _checked_header(data, most, name)
    area = header.width * header.height
    need = int(area * header.cost) + (1 << 20)
    with ROOM.holding(need, need + area * _AFTERWARDS, name):
        try:
            check_content(data, header, name)
            pixels = np.ascontiguousarray(_grey_if_equal(pixels_of(data, header, name, lift=lift)))
        except ImageError:
            raise
        except Exception as error:  # decoders raise nearly anything on damaged bytes
            reason = str(error).strip() or type(error).__name__
            raise ImageError(f"{name!r} cannot be decoded: {reason}.", fix="Copy it again from its origin.") from error
        facts = _facts(header)
        if facts.bit_depth > 8:
            facts = ImageFacts(facts.width, facts.height, facts.mode, facts.format, effective_bits(int(pixels.max())))
        yield Decoded(pixels, facts)


def _checked_header(data: bytes, most: int | None, name: str) -> Header:
    header = read_header(data, name)
    most = max_pixels() if most is None else most
    if header.width * header.height > most:
        raise ImageError(
            f"{name!r} is too large to decode: {header.width} x {header.height} pixels.",
            expected=f"at most {most:,} pixels",
            fix=f"Crop it, leave it out, or allow more with the environment variable {PIXELS}.",
        )
    refuse_extremes(header.height, header.width, name)
    return header


def _facts(header: Header) -> ImageFacts:
    height, width = header.upright
    return ImageFacts(
        width, height, header.mode, header.format, 16 if 8 < header.bits <= 16 or header.mode == "I" else 8
    )


def _grey_if_equal(pixels: Pixels) -> Pixels:
    """Drops two channels when all three are equal; a coarse look first, as colour shows soon."""
    if pixels.ndim == 2:
        return pixels
    for part in (pixels[::16, ::16], pixels):
        for start in range(0, len(part), _ROWS):
            red, green, blue = (part[start : start + _ROWS, :, channel] for channel in range(3))
            if not (np.array_equal(red, green) and np.array_equal(green, blue)):
                return pixels
    return np.asarray(pixels[..., 0], dtype=np.uint8)
