"""What every image file says of itself before a pixel is decoded: size, depth, orientation, and what decoding costs."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from knowngood.errors import ImageError

SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that exchange width and height
_ORIENTATION = 0x0112
_XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([1-8])')
_PIECE = 1 << 16
_MOST_ENTRIES = 4096  # of a directory; each costs time
_COPY = "Copy it again from its origin."
# Bytes of a value by its TIFF type; type 0 is none.
TYPE_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_WHOLE_NUMBERS = {1: "u1", 3: "u2", 4: "u4", 13: "u4", 16: "u8"}


@dataclass(frozen=True, kw_only=True)
class Header:
    """What the header of an image file says; each format has a subclass with what its decoder needs to know.

    Attributes:
        format: Pillow's name of the file format ("PNG", "JPEG" ...).
        mode: Pillow's name of the pixel format in the file ("L", "RGB", "P", "I;16", "CMYK" ...).
        width: Pixels, as stored.
        height: Pixels, as stored.
        bits: Of one sample as stored, 1..32.
        orientation: 1..8, of EXIF or XMP; 1 is upright.
        cost: Bytes of memory that decoding takes for each pixel, at most, the result included.
    """

    format: str
    mode: str
    width: int
    height: int
    bits: int = 8
    orientation: int = 1
    cost: float = 12.0

    @property
    def upright(self) -> tuple[int, int]:
        """Height and width in pixels after rotation."""
        return (self.width, self.height) if self.orientation in SIDEWAYS else (self.height, self.width)


def damaged(name: str, how: str) -> ImageError:
    """Returns the error of a file that is not what its camera wrote.

    Args:
        name: How messages call the image.
        how: What is wrong, as the rest of a sentence ("is truncated: ...").
    """
    return ImageError(f"{name!r} {how}.", fix=_COPY)


def unsupported(name: str, what: str, *, expected: str, fix: str = "Export it as 8-bit or 16-bit PNG.") -> ImageError:
    """Returns the error of a sound file of a kind that is not read.

    Args:
        name: How messages call the image.
        what: The kind, as the rest of a sentence ("holds 5 bands").
        expected: What is read.
        fix: What to do.
    """
    return ImageError(f"{name!r} {what}.", expected=expected, fix=fix)


def directory(data: bytes, at: int, order: str, big: bool = False) -> tuple[dict[int, tuple[int, int, int]], int]:
    """Reads the entries of one directory of a TIFF or EXIF structure.

    Args:
        data: The whole structure, from its byte order mark on.
        at: Where the directory begins.
        order: "<" or ">".
        big: Whether it is a BigTIFF.

    Returns:
        Tag to (type, count, offset of the first value), and the offset behind the last entry.

    Raises:
        ValueError: The directory, or values of a known type, reach out of the data.
    """
    kind = "little" if order == "<" else "big"
    head, entry, inline = (8, 20, 8) if big else (2, 12, 4)
    count = int.from_bytes(data[at : at + head], kind)  # type: ignore[arg-type]
    end = at + head + count * entry
    if at < 8 or end > len(data):
        raise ValueError("the directory reaches out of the file")
    if count > _MOST_ENTRIES:
        raise ValueError(f"the directory has {count:,} entries")
    found: dict[int, tuple[int, int, int]] = {}
    for start in range(at + head, end, entry):
        tag = int.from_bytes(data[start : start + 2], kind)  # type: ignore[arg-type]
        form = int.from_bytes(data[start + 2 : start + 4], kind)  # type: ignore[arg-type]
        number = int.from_bytes(data[start + 4 : start + 4 + inline], kind)  # type: ignore[arg-type]
        size = TYPE_SIZES.get(form, 0) * number
        place = start + 4 + inline
        if size > inline:
            place = int.from_bytes(data[place : place + inline], kind)  # type: ignore[arg-type]
            if place + size > len(data):
                continue  # the tag is as good as not there
        found.setdefault(tag, (form, number, place))
    return found, end


def whole_numbers(data: bytes, entry: tuple[int, int, int], order: str) -> npt.NDArray[np.int64]:
    """Returns the values of a directory's entry; empty where they are no whole numbers."""
    form, number, place = entry
    if form not in _WHOLE_NUMBERS:
        return np.empty(0, np.int64)
    values: npt.NDArray[Any] = np.frombuffer(data, np.dtype(order + _WHOLE_NUMBERS[form]), number, place)
    return values.astype(np.int64)


def orientation_in(exif: bytes | None, xmp: bytes | None = None) -> int:
    """Returns the orientation 1..8 that EXIF says, or else XMP; 1 where neither does, or cannot be read.

    Args:
        exif: A TIFF structure, with or without "Exif\\0\\0" in front.
        xmp: An XML packet.
    """
    if exif is not None:
        data = exif.removeprefix(b"Exif\0\0")
        order = {b"II": "<", b"MM": ">"}.get(data[:2])
        try:
            if order is not None:
                start = int.from_bytes(data[4:8], "little" if order == "<" else "big")
                entries, _ = directory(data, start, order)
                if _ORIENTATION in entries:
                    values = whole_numbers(data, entries[_ORIENTATION], order)
                    return int(values[0]) if len(values) and 1 <= values[0] <= 8 else 1
        except ValueError:  # a broken EXIF block says nothing about the pixels
            pass
    found = None if xmp is None else _XMP_ORIENTATION.search(xmp)
    return int(found[1]) if found else 1


def inflated(parts: Iterable[memoryview], most: int, stride: int = 0) -> int | None:
    """Counts what a zlib stream holds, in bounded memory, its checksum verified.

    Args:
        parts: The stream, in pieces.
        most: Bytes above which counting ends.
        stride: Bytes of a row of a PNG; each begins with its filter, 0..4. 0 where there are no rows.

    Returns:
        The number of bytes; None where the stream is damaged, lacks its end, holds more than `most` or, with rows, an
        unknown filter or something behind its end.
    """
    stream, found = zlib.decompressobj(), 0
    pieces = (part[start : start + _PIECE] for part in parts for start in range(0, len(part), _PIECE))
    piece: bytes | memoryview = b""
    try:
        while not stream.eof:
            made = stream.decompress(piece, _PIECE)
            if stride and max(made[-found % stride :: stride], default=0) > 4:
                return None
            found += len(made)
            if found > most:
                return None
            piece = stream.unconsumed_tail
            if not piece and not made and not stream.eof:
                following = next(pieces, None)
                if following is None:
                    return None
                piece = following
    except zlib.error:
        return None
    return None if stride and (stream.unused_data or next(pieces, None) is not None) else found
