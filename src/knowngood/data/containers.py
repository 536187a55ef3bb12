"""What a file's bytes say before any decoder sees them: what it is, how large, and whether all pixels are there.

A format is known by its first bytes, never by its name. `read_header` looks at structure and checksums and costs
little; `check_content` also counts what the compressed data of a PNG or TIFF hold, where decoders would leave the rest
black.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

from knowngood.data.header import Header, damaged, inflated, orientation_in, unsupported
from knowngood.data.rarer import bmp_header, gif_header, jp2_header, pnm_header, webp_header
from knowngood.data.tiff import MARKS, Tiff, check_pieces, tiff_header
from knowngood.errors import ImageError

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG_SIGNATURE = b"\xff\xd8\xff"
MOST_SCANS = 100  # of a progressive JPEG; usual are 10. Each is a pass over all pixels, whatever its length
MOST_WORK = 5_000_000_000  # pixels times scans: about two seconds
_MOST_CHUNKS, _MOST_SEGMENTS = 200_000, 20_000  # of a PNG, of a JPEG; each costs time
_MOST_TEXT = 1 << 20  # bytes of a compressed remark

_CUT = "is truncated: it ends before the end of the picture"
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of a PNG's pixel, by colour type
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_PNG_MODES = {2: "RGB", 3: "P", 4: "LA", 6: "RGBA"}
_PIXEL_CHUNKS = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_JPEG_BARE = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a length
_FRAMES = frozenset({0xC0, 0xC1, 0xC2, 0xC3, *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0)})
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_NEXT_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # in the data of a scan


@dataclass(frozen=True, kw_only=True)
class Png(Header):
    """A PNG.

    Attributes:
        samples: Of one pixel.
        plain: 8-bit grey or RGB in rows from top to bottom, without transparency.
        interlaced: In seven passes (Adam7).
        kept: Begin and end of each chunk that makes pixels, its length and checksum included.
        content: Begin and end of the data of each IDAT chunk.
        others: Whether there are chunks besides those.
        colours: Of its palette; 0 where it has none.
    """

    samples: int
    plain: bool
    interlaced: bool
    kept: tuple[tuple[int, int], ...] = field(repr=False)
    content: tuple[tuple[int, int], ...] = field(repr=False)
    others: bool
    colours: int

    @property
    def size(self) -> int:
        """Bytes that the data inflate to."""
        if not self.interlaced:
            return self.height * self._row(self.width)
        wide = [-(-(self.width - x) // step) for x, _, step, _ in _PASSES]
        tall = [-(-(self.height - y) // step) for _, y, _, step in _PASSES]
        return sum(self._row(w) * h for w, h in zip(wide, tall, strict=True) if w > 0 and h > 0)

    @property
    def stride(self) -> int:
        """Bytes of a row with its filter; 0 where rows differ."""
        return 0 if self.interlaced else self._row(self.width)

    def _row(self, width: int) -> int:
        return 1 + -(-width * self.samples * self.bits // 8)

    def bare(self, data: bytes) -> bytes:
        """Returns the file with only the chunks that make pixels: remarks, profiles and animations do no harm then."""
        if not self.others:
            return data
        view = memoryview(data)
        return b"".join((PNG_SIGNATURE, *(view[start:end] for start, end in self.kept)))


@dataclass(frozen=True, kw_only=True)
class Jpeg(Header):
    """A JPEG."""


def read_header(data: bytes, name: str) -> Header:
    """Finds out what a file is and whether its structure is whole.

    Args:
        data: The whole file.
        name: How messages call the image.

    Returns:
        The header, of the format's own class.

    Raises:
        ImageError: It is no image of a format that is read, damaged, truncated, or of a kind that is not read.
    """
    for begins, reader in _READERS:
        if data.startswith(begins):
            try:
                header = reader(data, name)
            except (IndexError, ValueError) as error:  # a field that the file is too short for
                raise damaged(name, _CUT) from error
            if header.width < 1 or header.height < 1:
                raise damaged(name, f"has no pixels ({header.width} x {header.height})")
            return header
    raise ImageError(
        f"{name!r} is not an image: it begins with {data[:12]!r}.",
        expected="PNG, JPEG, TIFF, BMP, WebP, GIF, PNM or JPEG 2000",
    )


def check_content(data: bytes, header: Header, name: str) -> None:
    """Checks whether compressed data hold exactly the rows that the header promises, which some decoders do not check.

    JPEG, WebP and JPEG 2000 have decoders that check it; a GIF is checked while it is decoded.

    Args:
        data: The whole file.
        header: Of `read_header`.
        name: How messages call the image.

    Raises:
        ImageError: They do not, or are damaged.
    """
    if isinstance(header, Png):
        view = memoryview(data)
        found = inflated((view[start:end] for start, end in header.content), header.size, header.stride)
        if found is None:
            raise damaged(name, "is damaged: its compressed data are not those of its size")
        if found != header.size:
            raise damaged(
                name, f"is truncated: it holds {found:,} bytes of pixels where its size needs {header.size:,}"
            )
    elif isinstance(header, Tiff):
        check_pieces(data, header, name)


@dataclass
class _Chunks:
    """What the chunks of a PNG say, gathered in one walk over them.

    Attributes:
        kept: Begin and end of each chunk that makes pixels, its length and checksum included.
        content: Begin and end of the data of each IDAT chunk.
        seen: Kinds of all chunks.
        palette: Number of its colours; 0 where it has no palette.
        exif: Data of the chunk eXIf.
        texts: EXIF and XMP of text chunks, see `_note_text`.
    """

    kept: list[tuple[int, int]] = field(default_factory=list)
    content: list[tuple[int, int]] = field(default_factory=list)
    seen: set[bytes] = field(default_factory=set)
    palette: int = 0
    exif: bytes | None = None
    texts: dict[str, bytes | None] = field(default_factory=dict)


def png_header(data: bytes, name: str) -> Png:
    """Walks the chunks of a PNG and checks their lengths and the checksums of those that make pixels.

    Decoders skip the checksum of the pixel data; a damaged photograph must not be inspected as a sound one.

    Raises:
        ImageError: It is damaged or truncated.

    Reference: PNG specification (W3C, third edition), sections 5, 8 and 13.2.
    """
    chunks = _chunks_of(data, name)
    if not chunks.content:
        raise damaged(name, "is damaged: it holds no pixels")
    if chunks.kept[0][1] - chunks.kept[0][0] != 25 or data[26] or data[27] or data[28] > 1:
        raise damaged(name, "is damaged: its header cannot be")
    bits, colours = data[24], data[25]
    if bits not in _DEPTHS.get(colours, ()):
        raise damaged(name, f"is damaged: it has {bits} bits of colour type {colours}")
    if colours == 3 and not chunks.palette:
        raise damaged(name, "is damaged: it lacks its palette")
    grey = "1" if bits == 1 else "I;16" if bits == 16 else "L"
    plain = bits == 8 and colours in (0, 2) and not data[28] and b"tRNS" not in chunks.seen
    return Png(
        format="PNG",
        mode=_PNG_MODES.get(colours, grey),
        width=int.from_bytes(data[16:20], "big"),
        height=int.from_bytes(data[20:24], "big"),
        bits=bits,
        orientation=orientation_in(chunks.exif or chunks.texts.get("exif"), chunks.texts.get("xmp")),
        cost=(4.0 if colours == 0 else 9.0) if plain else 10.5,
        samples=_SAMPLES[colours],
        plain=plain,
        interlaced=bool(data[28]),
        kept=tuple(chunks.kept),
        content=tuple(chunks.content),
        others=not chunks.seen <= _PIXEL_CHUNKS,
        colours=chunks.palette,
    )


def _chunks_of(data: bytes, name: str) -> _Chunks:
    """Walks the chunks of a PNG up to its end.

    Raises:
        ImageError: One is cut off, has a wrong checksum, or is not where it belongs.
    """
    view, found = memoryview(data), _Chunks()
    at, number, ended = len(PNG_SIGNATURE), 0, False
    while not ended:
        if at + 12 > len(data):
            raise damaged(name, _CUT)
        length, kind = int.from_bytes(view[at : at + 4], "big"), bytes(view[at + 4 : at + 8])
        start, end = at + 8, at + 8 + length
        if end + 4 > len(data):
            raise damaged(name, _CUT)
        if number >= _MOST_CHUNKS:
            raise damaged(name, f"has more than {_MOST_CHUNKS:,} chunks")
        if (kind in _PIXEL_CHUNKS or not kind[0] & 0x20) and zlib.crc32(view[at + 4 : end]) != int.from_bytes(
            view[end : end + 4], "big"
        ):
            raise damaged(name, "is damaged: a checksum in it is wrong")
        if (kind == b"IHDR") != (number == 0):
            raise damaged(name, "is damaged: its header is not its first chunk")
        if kind == b"IDAT":
            if found.content and found.content[-1][1] + 4 != at:
                raise damaged(name, "is damaged: its data are not in one piece")
            found.content.append((start, end))
        elif kind == b"eXIf":
            found.exif = data[start:end]
        elif kind in (b"tEXt", b"zTXt", b"iTXt"):
            _note_text(kind, data[start:end], found.texts)
        elif kind == b"PLTE":
            found.palette = length // 3
        if kind in _PIXEL_CHUNKS:
            found.kept.append((at, end + 4))
        found.seen.add(kind)
        at, number, ended = end + 4, number + 1, kind == b"IEND"
    return found


def _note_text(kind: bytes, chunk: bytes, texts: dict[str, bytes | None]) -> None:
    """Keeps the first text chunk that holds EXIF, and the first that holds XMP; all others are only remarks."""
    key, _, rest = chunk.partition(b"\0")
    which = {b"Raw profile type exif": "exif", b"XML:com.adobe.xmp": "xmp"}.get(key)
    if which is None or which in texts:
        return
    packed = kind == b"zTXt"
    if kind == b"iTXt":
        packed, rest = rest[:1] == b"\1", rest[2:].split(b"\0", 2)[-1]
    elif packed:
        rest = rest[1:]
    texts[which] = None
    try:
        text = zlib.decompressobj().decompress(rest, _MOST_TEXT) if packed else rest
        if which == "exif":
            text = bytes.fromhex(b"".join(text.split(b"\n")[3:]).decode("ascii"))
        texts[which] = text
    except (zlib.error, ValueError):
        return


def jpeg_header(data: bytes, name: str) -> Jpeg:
    """Walks the segments of a JPEG up to its end and looks whether every component has all of its scans.

    A file that was cut between two scans decodes without a warning, only blurred.

    Raises:
        ImageError: It is truncated, damaged, of a kind that is not read, or has more scans than a photograph needs.

    Reference: ITU-T T.81, annexes B and G.
    """
    at, frame, exif, xmp, segments = 2, 0, None, None, 0
    size = (0, 0, 0)  # bits, height, width
    levels: dict[int, list[int]] = {}  # of a component: the lowest bit of each coefficient that is known
    scans = 0
    while True:
        if at + 4 > len(data) and data[at : at + 2] != b"\xff\xd9":
            raise damaged(name, _CUT)
        if data[at] != 0xFF:
            raise damaged(name, "is damaged: there are bytes between its segments")
        marker, segments = data[at + 1], segments + 1
        if marker == 0xD9:
            break
        if segments > _MOST_SEGMENTS:
            raise damaged(name, f"has more than {_MOST_SEGMENTS:,} segments")
        if marker == 0xFF or marker in _JPEG_BARE:
            at += 1 if marker == 0xFF else 2
            continue
        segment = data[at + 4 : at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")]
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xE1 and segment.startswith(b"Exif\0\0"):
            exif = exif or segment
        elif marker == 0xE1 and segment.startswith(b"http://ns.adobe.com/xap/1.0/\0"):
            xmp = xmp or segment
        elif marker in _FRAMES:
            if frame:
                raise damaged(name, "is damaged: it has two frames")
            frame = marker
            size = segment[0], int.from_bytes(segment[1:3], "big"), int.from_bytes(segment[3:5], "big")
            levels = {segment[6 + 3 * i]: [-1] * 64 for i in range(segment[5])}
            _check_frame(name, size, len(levels))
        elif marker == 0xDA:
            scans += 1
            _note_scan(name, segment, levels, frame in _PROGRESSIVE)
            _check_scans(name, scans, size[1] * size[2])
            found = _NEXT_MARKER.search(data, at)
            if found is None:
                raise damaged(name, _CUT)
            at = found.start()
    if not frame or any(level != 0 for known in levels.values() for level in known):
        raise damaged(name, "is truncated: it lacks some of its scans")
    buffered = 2.0 * len(levels) if frame in _PROGRESSIVE or scans > 1 else 0.0
    turned = orientation_in(exif, xmp)
    return Jpeg(
        format="JPEG",
        mode={1: "L", 3: "RGB"}.get(len(levels), "CMYK"),
        width=size[2],
        height=size[1],
        bits=size[0],
        orientation=turned,
        cost={1: 2.0, 3: 7.0}.get(len(levels), 12.0) + buffered + (3.0 if turned != 1 else 0.0),
    )


def _check_frame(name: str, size: tuple[int, int, int], components: int) -> None:
    if size[0] != 8:
        raise unsupported(name, f"is a JPEG of {size[0]} bits", expected="8 bits", fix="Export it as 16-bit PNG.")
    if components not in (1, 3, 4):
        raise unsupported(name, f"is a JPEG of {components} components", expected="grey, colour or CMYK")
    if not size[1]:
        raise unsupported(name, "is a JPEG that does not say its height", expected="a height in its header")


def _note_scan(name: str, segment: bytes, levels: dict[int, list[int]], progressive: bool) -> None:
    """Writes down which coefficients a scan brings, and to which bit."""
    count = segment[0]
    first, last, low = segment[1 + 2 * count], segment[2 + 2 * count], segment[3 + 2 * count] & 15
    for i in range(count):
        known = levels.get(segment[1 + 2 * i])
        if known is None or first > last or last > 63:
            raise damaged(name, "is damaged: a scan in it cannot be")
        for k in range(first, last + 1) if progressive else range(64):
            known[k] = low if progressive else 0


def _check_scans(name: str, scans: int, pixels: int) -> None:
    if scans > MOST_SCANS or scans * pixels > MOST_WORK:
        raise unsupported(
            name,
            f"is a JPEG of {scans} scans and more",
            expected=f"at most {MOST_SCANS}, and at most {MOST_WORK:,} pixels times scans",
            fix="Save it again as a baseline JPEG or as PNG.",
        )


_READERS: tuple[tuple[bytes | tuple[bytes, ...], Callable[[bytes, str], Header]], ...] = (
    (PNG_SIGNATURE, png_header),
    (JPEG_SIGNATURE, jpeg_header),
    (tuple(MARKS), tiff_header),
    ((b"GIF87a", b"GIF89a"), gif_header),
    (b"RIFF", webp_header),
    ((b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  \r\n\x87\n"), jp2_header),
    ((b"BM", *(bytes([n]) + b"\0\0\0" for n in (12, 40, 52, 56, 64, 108, 124))), bmp_header),
    (tuple(b"P" + bytes([n]) for n in b"123456f"), pnm_header),
)
