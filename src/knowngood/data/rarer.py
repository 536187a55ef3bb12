"""Headers of the rarer formats, GIF, BMP, WebP, JPEG 2000 and PNM, and whether all that they promise is in the file."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field

from knowngood.data.header import Header, damaged, orientation_in, unsupported

_CUT = "is truncated: it ends before the end of the picture"
_REMARKS = 1 << 20  # bytes that may come before the picture of a GIF
_PNM_HEADER = 4096  # bytes, comments included
_GAP = rb"(?:\s|#[^\r\n]*[\r\n])+"
_PNM = re.compile(rb"P([1-6])" + _GAP + rb"(\d{1,9})" + _GAP + rb"(\d{1,9})")
_PNM_MAXIMUM = re.compile(_GAP + rb"(\d{1,5})\s")
_PFM = re.compile(rb"Pf\s+(\d{1,9})\s+(\d{1,9})\s+(-?\d{1,4}(?:\.\d{1,9})?)\s")
_BMP_PALETTES = {1: 2, 2: 4, 4: 16, 8: 256}
_MOST_BLOCKS = 4_000_000  # of a GIF's data; code blocks and precincts of a JPEG 2000: each costs memory or time
_MOST_PARTS = 200_000  # chunks, boxes, tile parts


@dataclass(frozen=True, kw_only=True)
class Gif(Header):
    """The first picture of a GIF.

    Attributes:
        content: Where its compressed data begin, at the size of the codes.
        interlaced: In four passes.
        palette: Of up to 256 colours, three bytes each.
        transparent: The index that is transparent, if any.
    """

    content: int
    interlaced: bool
    palette: bytes = field(repr=False)
    transparent: int | None


@dataclass(frozen=True, kw_only=True)
class Webp(Header):
    """The first picture of a WebP.

    Attributes:
        kept: Begin and end of each chunk that makes its pixels ("ALPH", "VP8 " or "VP8L").
    """

    kept: tuple[tuple[int, int], ...]

    def bare(self, data: bytes) -> bytes:
        """Returns a WebP of this picture alone: remarks, profiles and further pictures do no harm then."""
        body = b"".join(data[start:end] for start, end in self.kept)
        if len(self.kept) > 1:  # with transparency beside it
            sides = (self.width - 1).to_bytes(3, "little") + (self.height - 1).to_bytes(3, "little")
            body = b"VP8X\x0a\0\0\0\x10\0\0\0" + sides + body
        return b"RIFF" + (len(body) + 4).to_bytes(4, "little") + b"WEBP" + body


@dataclass(frozen=True, kw_only=True)
class Bmp(Header):
    """A BMP.

    Attributes:
        missing: The file header of 14 bytes, where the file has none; else nothing.
        colours: Of its palette; 0 where it has none.
    """

    missing: bytes
    colours: int


@dataclass(frozen=True, kw_only=True)
class Jp2(Header):
    """A JPEG 2000."""


@dataclass(frozen=True, kw_only=True)
class Pnm(Header):
    """A PBM, PGM, PPM or PFM.

    Attributes:
        kind: The second letter of the file: b"1" to b"6", or b"f".
        start: Where the samples begin.
        maximum: The sample that is white; of a PFM its scale.
    """

    kind: bytes
    start: int
    maximum: float


def gif_header(data: bytes, name: str) -> Gif:
    """Walks a GIF up to the end of its first picture.

    Raises:
        ImageError: It is truncated, or its first picture covers a part of it only.
    """
    size = int.from_bytes(data[6:8], "little"), int.from_bytes(data[8:10], "little")
    at, palette, transparent = 13, b"", None
    if data[10] & 0x80:
        palette, at = data[13 : 13 + 3 * 2 ** ((data[10] & 7) + 1)], 13 + 3 * 2 ** ((data[10] & 7) + 1)
    while data[at] != 0x2C:
        if data[at] != 0x21:
            raise damaged(name, "is damaged: it holds no picture" if data[at] == 0x3B else "is damaged")
        if data[at + 1] == 0xF9 and data[at + 2] == 4 and data[at + 3] & 1:
            transparent = data[at + 6]
        at = _behind_blocks(data, at + 2, name)
        if at > _REMARKS:
            raise damaged(name, f"has more than {_REMARKS:,} bytes of remarks before its picture")
    left, top, width, height = (int.from_bytes(data[i : i + 2], "little") for i in range(at + 1, at + 9, 2))
    flags, at = data[at + 9], at + 10
    if flags & 0x80:
        palette, at = data[at : at + 3 * 2 ** ((flags & 7) + 1)], at + 3 * 2 ** ((flags & 7) + 1)
    if (left, top, width, height) != (0, 0, *size):
        raise damaged(name, f"has a first picture of {width} x {height} pixels that does not cover its {size}")
    _behind_blocks(data, at + 1, name)
    if not 2 <= data[at] <= 11:
        raise damaged(name, f"is damaged: it has codes of {data[at]} bits")
    if not palette:
        raise damaged(name, "is damaged: it lacks its palette")
    grey = transparent is None and all(
        palette[i] == palette[i + 1] == palette[i + 2] for i in range(0, len(palette), 3)
    )
    return Gif(
        format="GIF",
        mode="L" if grey else "P",
        width=width,
        height=height,
        cost=8.0,
        content=at,
        interlaced=bool(flags & 0x40),
        palette=palette,
        transparent=transparent,
    )


def _behind_blocks(data: bytes, at: int, name: str) -> int:
    for _ in range(_MOST_BLOCKS):
        length = data[at]
        at += 1 + length
        if not length:
            return at
        if at >= len(data):
            raise damaged(name, _CUT)
    raise damaged(name, f"has more than {_MOST_BLOCKS:,} blocks")


def webp_header(data: bytes, name: str) -> Webp:
    """Walks the chunks of a WebP.

    Raises:
        ImageError: It is truncated or damaged, or its first picture covers a part of it only.
    """
    end = 8 + int.from_bytes(data[4:8], "little")
    if data[8:12] != b"WEBP":
        raise unsupported(name, f"is a RIFF file of kind {data[8:12]!r}", expected="a WebP")
    if end > len(data):
        raise damaged(name, _CUT)
    chunks = _webp_chunks(data, 12, end, name)
    canvas, exif, xmp, place = None, None, None, (0, 0)
    for kind, start, stop in chunks:
        if kind == b"VP8X":
            canvas = _three(data, start + 4) + 1, _three(data, start + 7) + 1
        elif kind == b"EXIF":
            exif = data[start:stop]
        elif kind == b"XMP ":
            xmp = data[start:stop]
    moving = [(start, stop) for kind, start, stop in chunks if kind == b"ANMF"]
    if moving:
        start, stop = moving[0]
        place = 2 * _three(data, start), 2 * _three(data, start + 3)
        chunks = _webp_chunks(data, start + 16, stop, name)
    alpha = [c for c in chunks if c[0] == b"ALPH"][:1]
    picture = [c for c in chunks if c[0] in (b"VP8 ", b"VP8L")][:1]
    if not picture:
        raise damaged(name, "is damaged: it holds no picture")
    kind, start, stop = picture[0]
    if kind == b"VP8L":
        word, alpha = int.from_bytes(data[start + 1 : start + 5], "little"), []
        size = (word & 0x3FFF) + 1, (word >> 14 & 0x3FFF) + 1
        clear, sound = bool(word >> 28 & 1), data[start] == 0x2F
    else:
        wide, tall = (int.from_bytes(data[start + i : start + i + 2], "little") & 0x3FFF for i in (6, 8))
        size, clear, sound = (wide, tall), bool(alpha), data[start + 3 : start + 6] == b"\x9d\x01\x2a"
    if not sound:
        raise damaged(name, "is damaged: its picture has no header")
    if place != (0, 0) or (canvas is not None and canvas != size):
        raise damaged(name, f"has a first picture of {size[0]} x {size[1]} pixels that does not cover its {canvas}")
    return Webp(
        format="WEBP",
        mode="RGBA" if clear else "RGB",
        width=size[0],
        height=size[1],
        orientation=orientation_in(exif, xmp),
        cost=20.0,
        kept=tuple((a - 8, b + (b - a) % 2) for _, a, b in (*alpha, picture[0])),
    )


def _webp_chunks(data: bytes, at: int, end: int, name: str) -> list[tuple[bytes, int, int]]:
    """Returns kind, begin and end of the contents of each chunk."""
    found = []
    while at + 8 <= end:
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        if at + 8 + length > end:
            raise damaged(name, _CUT)
        found.append((data[at : at + 4], at + 8, at + 8 + length))
        if len(found) > _MOST_PARTS:
            raise damaged(name, f"has more than {_MOST_PARTS:,} chunks")
        at += 8 + length + length % 2
    return found


def _three(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 3], "little")


def bmp_header(data: bytes, name: str) -> Bmp:
    """Reads the header of a BMP or of a DIB, which is one without its file header.

    Raises:
        ImageError: It is truncated, damaged or of a kind that is not read.
    """
    whole = data.startswith(b"BM")
    base = 14 if whole else 0
    length = int.from_bytes(data[base : base + 4], "little")
    if length == 12:
        width, height, bits = (int.from_bytes(data[base + i : base + i + 2], "little") for i in (4, 6, 10))
        method, colours, entry = 0, 0, 3
    else:
        width, height = (int.from_bytes(data[base + i : base + i + 4], "little", signed=True) for i in (4, 8))
        bits = int.from_bytes(data[base + 14 : base + 16], "little")
        method, colours = (int.from_bytes(data[base + i : base + i + 4], "little") for i in (16, 32))
        entry = 4
    if length not in (12, 40, 52, 56, 64, 108, 124) or bits not in (1, 2, 4, 8, 16, 24, 32):
        raise damaged(name, f"is damaged: its header has {length} bytes and {bits} bits")
    if method not in (0, 3):
        how = {1: "run lengths", 2: "run lengths", 4: "JPEG", 5: "PNG"}.get(method, f"method {method}")
        raise unsupported(name, f"is a BMP compressed by {how}", expected="an uncompressed BMP")
    height = abs(height)
    count = min(colours or _BMP_PALETTES[bits], 1 << bits) if bits <= 8 else 0
    behind = base + length + (12 if length == 40 and method == 3 else 0)
    start = int.from_bytes(data[10:14], "little") if whole else behind + entry * count
    row = (width * bits + 31) // 32 * 4
    if start < behind or len(data) < start + row * height:
        raise damaged(name, _CUT)
    palette = [data[behind + entry * i : behind + entry * i + 3] for i in range(count)]
    mode = "RGB" if bits > 8 else "P"
    if bits <= 8 and palette == [bytes([255 * i // max(1, count - 1)]) * 3 for i in range(count)]:
        mode = "1" if bits == 1 else "L"
    if bits == 32 and method == 3 and length >= 56 and any(data[base + 52 : base + 56]):
        mode = "RGBA"
    header = b"" if whole else b"BM" + bytes(8) + (start + 14).to_bytes(4, "little")
    return Bmp(format="BMP", mode=mode, width=width, height=height, cost=10.0, missing=header, colours=count)


def jp2_header(data: bytes, name: str) -> Jp2:
    """Reads the codestream header of a JPEG 2000 and looks whether every tile is in the file.

    Raises:
        ImageError: It is truncated, damaged, or asks for more memory than its pixels need.

    Reference: ITU-T T.800, annexes A and I.
    """
    start, end = 0, len(data)
    if data.startswith(b"\0\0\0\x0c"):
        start, end = _codestream(data, name)
    if data[start : start + 4] != b"\xff\x4f\xff\x51":
        raise damaged(name, "is damaged: it holds no codestream")
    fields = [int.from_bytes(data[start + i : start + i + 4], "big") for i in range(8, 40, 4)]
    right, bottom, left, top, wide, tall, tile_left, tile_top = fields
    bands, depth = int.from_bytes(data[start + 40 : start + 42], "big"), data[start + 42]
    width, height = right - left, bottom - top
    if min(width, height, wide, tall) < 1 or tile_left > left or tile_top > top:
        raise damaged(name, "is damaged: its size cannot be")
    if not 1 <= bands <= 4 or depth & 0x80 or depth > 15:
        raise unsupported(
            name, f"holds {bands} bands of {(depth & 0x7F) + 1} bits", expected="grey or colour of up to 16 bits"
        )
    tiles = math.ceil((right - tile_left) / wide) * math.ceil((bottom - tile_top) / tall)
    seen, blocks = _tiles(data, start, end, name, min(wide, width) * min(tall, height) * bands)
    if seen != tiles:
        raise damaged(name, f"is truncated: it holds {seen} of its {tiles} tiles")
    if blocks * tiles > _MOST_BLOCKS:
        raise damaged(name, f"is divided into {blocks * tiles:,} parts")
    mode = {1: "L" if depth < 8 else "I;16", 2: "LA", 3: "RGB"}.get(bands, "RGBA")
    cost = 7.0 * bands + 4
    return Jp2(format="JPEG2000", mode=mode, width=width, height=height, bits=depth + 1, cost=cost)


def _codestream(data: bytes, name: str) -> tuple[int, int]:
    """Returns begin and end of the codestream in a JP2 file."""
    at = 0
    for _ in range(_MOST_PARTS):
        if at + 8 > len(data):
            break
        length, head = int.from_bytes(data[at : at + 4], "big"), 8
        if length == 1:
            length, head = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        length = length or len(data) - at
        if length < head or at + length > len(data):
            raise damaged(name, _CUT)
        if data[at + 4 : at + 8] == b"jp2c":
            return at + head, at + length
        at += length
    raise damaged(name, "is damaged: it holds no codestream")


def _tiles(data: bytes, start: int, end: int, name: str, samples: int) -> tuple[int, int]:
    """Returns how many tiles of a codestream have parts, and into how many blocks a tile is divided at least."""
    at, seen, blocks = start + 2, set[int](), 1
    for _ in range(_MOST_PARTS):
        if at + 2 > end:
            raise damaged(name, _CUT)
        marker = data[at + 1]
        if data[at] != 0xFF:
            raise damaged(name, "is damaged: its tiles are not where they should be")
        if marker == 0xD9:
            return len(seen), blocks
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0x90:
            tile, size = int.from_bytes(data[at + 4 : at + 6], "big"), int.from_bytes(data[at + 6 : at + 10], "big")
            size = size or end - 2 - at
            if size < 14 or at + size > end - 2:
                raise damaged(name, _CUT)
            seen.add(tile)
            at += size
            continue
        if marker in (0x52, 0x53):  # COD, COC: sizes of code blocks and of precincts
            field = at + (10 if marker == 0x52 else 7)
            across, down = data[field], data[field + 1]
            blocks = max(blocks, samples >> (across + down + 4))
            if data[at + 4 if marker == 0x52 else at + 5] & 1:
                smallest = min((b & 15) + (b >> 4) for b in data[field + 4 : at + 2 + length])
                blocks = max(blocks, samples >> smallest)
        at += 2 + length
    raise damaged(name, f"has more than {_MOST_PARTS:,} parts")


def pnm_header(data: bytes, name: str) -> Pnm:
    """Reads the header of a PBM, PGM, PPM or PFM and looks whether its samples are all there.

    Raises:
        ImageError: It is truncated, holds more than it says, or has a header that is too long.
    """
    start = data[:_PNM_HEADER]
    if start.startswith(b"Pf"):
        found = _PFM.match(start)
        if found is None or float(found[3]) == 0:
            raise damaged(name, "is damaged: its header cannot be read")
        width, height, maximum, at, bits, mode = int(found[1]), int(found[2]), float(found[3]), found.end(), 32, "F"
        need, cost, kind = 4 * width * height, 10.0, b"f"
    else:
        found = _PNM.match(start)
        if found is None:
            raise damaged(name, f"is damaged: its header cannot be read within {_PNM_HEADER} bytes")
        kind, width, height, at, maximum = found[1], int(found[2]), int(found[3]), found.end(), 1.0
        if kind not in b"14":
            white = _PNM_MAXIMUM.match(start, at)
            if white is None or not 0 < int(white[1]) < 65536:
                raise damaged(name, "is damaged: its header does not say which sample is white")
            maximum, at = float(white[1]), white.end()
        else:
            at += 1
        bits = max(1, math.ceil(math.log2(maximum + 1)))
        bands = 3 if kind in b"36" else 1
        size = 2 if maximum > 255 else 1
        need = height * (-(-width // 8)) if kind == b"4" else width * height * bands * size
        cost = 5.0 * bands if kind in b"456" else 12.0 * bands
        mode = "RGB" if bands == 3 else "1" if kind in b"14" else "L" if maximum < 256 else "I;16"
    rest = data[at + need : at + need + 4096]
    if len(data) < at + need:
        raise damaged(name, _CUT)
    if kind in b"456f" and rest.strip() and not re.match(rb"\s*P[1-7f]\s", rest):
        raise damaged(name, "is damaged: it holds more than its size needs")
    return Pnm(
        format="PPM",
        mode=mode,
        width=width,
        height=height,
        bits=bits,
        cost=cost,
        kind=kind,
        start=at,
        maximum=maximum,
    )
