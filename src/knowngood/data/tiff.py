"""TIFF: what the first page's directory promises, whether each strip or tile is in the file, and a file with only that.

Reference: TIFF revision 6.0 (Adobe, 1992), sections 2, 7, 15; Technical Note 2 (JPEG); BigTIFF.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from knowngood.data.header import TYPE_SIZES, Header, damaged, directory, inflated, unsupported, whole_numbers

MARKS = {b"II*\0": "<", b"MM\0*": ">", b"II+\0": "<", b"MM\0+": ">"}
NONE, LZW, JPEG, DEFLATE, PACKBITS = 1, 5, 7, (8, 32946), 32773
_COMPRESSIONS = {NONE, LZW, JPEG, *DEFLATE, PACKBITS, 34925, 50000}
_NAMES = {2: "fax", 3: "fax", 4: "fax", 6: "old JPEG", 34661: "JBIG", 34712: "JPEG 2000", 34887: "LERC", 50001: "WebP"}
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL = 256, 257, 258, 259, 262, 266
_STRIPS, _ORIENTATION, _SAMPLES, _ROWS, _STRIP_BYTES, _PLANAR, _PREDICTOR = 273, 274, 277, 278, 279, 284, 317
_PALETTE, _TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_BYTES = 320, 322, 323, 324, 325
_EXTRA, _FORMAT, _TABLES, _SUBSAMPLING = 338, 339, 347, 530
_KEPT: tuple[int, ...] = (
    *(_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL, _STRIPS, _SAMPLES, _ROWS, _STRIP_BYTES),
    *(_PLANAR, _PREDICTOR, _PALETTE, _TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_BYTES, _EXTRA, _FORMAT),
    *(_TABLES, _SUBSAMPLING),
)
_SEVERAL = {_BITS, _STRIPS, _STRIP_BYTES, _PALETTE, _TILES, _TILE_BYTES, _EXTRA, _FORMAT, _TABLES, _SUBSAMPLING}
_BANDS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3}  # samples of a pixel by photometric interpretation, without extra ones
_OTHER_COLOURS = {4: "a transparency mask", 8: "CIE L*a*b*", 32803: "the mosaic of a raw camera file"}
_EXPECTED = "one grey band, or RGB, of 8 or 16 unsigned bits"
_SIGNED, _FLOAT = 2, 3
_SPACES = {"Gray": "GRAY", "CMYK": "CMYK", "YCCK": "CMYK"}  # what a JPEG of that kind is decoded to
_MOST_PIECES = 1 << 20  # strips or tiles; each costs time
_SPARE = 1 << 20  # pixels that a tile may be larger than the picture that it holds


@dataclass(frozen=True, kw_only=True)
class Tiff(Header):
    """The first page of a TIFF.

    Attributes:
        order: "<" or ">".
        photometric: As in the file; 0 is white.
        compression: As in the file.
        pieces: (N, 2) int64, offset and length of each strip or tile.
        piece: Width and height of one strip or tile in pixels.
        per_piece: Bytes of one row of a piece, uncompressed.
        across: Pieces in one row of them.
        entries: Tag to (type, count, offset of the first value).
    """

    order: str
    photometric: int
    compression: int
    pieces: npt.NDArray[np.int64] = field(repr=False)
    piece: tuple[int, int]
    per_piece: int
    across: int
    entries: dict[int, tuple[int, int, int]] = field(repr=False)


@dataclass(frozen=True)
class _Directory:
    """The directory of a page, whose tags are read one by one."""

    data: bytes = field(repr=False)
    name: str
    order: str
    entries: dict[int, tuple[int, int, int]]

    @classmethod
    def of_first_page(cls, data: bytes, name: str) -> _Directory:
        """Reads the directory of the first page of a file."""
        order, big = MARKS[data[:4]], data[:4] in (b"II+\0", b"MM\0+")
        kind = "little" if order == "<" else "big"
        start = int.from_bytes(data[8:16] if big else data[4:8], kind)  # type: ignore[arg-type]
        try:
            return cls(data, name, order, directory(data, start, order, big)[0])
        except ValueError as error:
            raise damaged(name, f"is damaged: {error}") from error

    def __contains__(self, tag: int) -> bool:
        return tag in self.entries

    def values(self, tag: int, default: int | None = None) -> npt.NDArray[np.int64]:
        """Returns the whole numbers of a tag (N,), or the default alone where it is not there.

        Raises:
            ImageError: There are absurdly many, or none and no default.
        """
        if tag in self and self.entries[tag][1] > _MOST_PIECES:
            raise damaged(self.name, f"is divided into {self.entries[tag][1]:,} strips")
        found = whole_numbers(self.data, self.entries[tag], self.order) if tag in self else np.empty(0, np.int64)
        if len(found):
            return found
        if default is None:
            raise damaged(self.name, f"is damaged: its directory lacks tag {tag}")
        return np.array([default])

    def value(self, tag: int, default: int | None = None) -> int:
        """Returns the first of `values`."""
        return int(self.values(tag, default)[0])


def tiff_header(data: bytes, name: str) -> Tiff:
    """Reads the first page's directory and looks whether all that it promises is in the file.

    Raises:
        ImageError: It is damaged, or of a kind that is not read.
    """
    tags = _Directory.of_first_page(data, name)
    width, height = tags.value(_WIDTH), tags.value(_HEIGHT)
    compression, photometric = tags.value(_COMPRESSION, 1), tags.value(_PHOTOMETRIC, 0)
    samples, planar = tags.value(_SAMPLES, 1), tags.value(_PLANAR, 1)
    bits, forms = set(tags.values(_BITS, 1).tolist()), set(tags.values(_FORMAT, 1).tolist())
    turned = tags.value(_ORIENTATION, 1)
    if min(width, height) < 1:
        raise damaged(name, f"has no pixels ({width} x {height})")
    depth = _checked_kind(name, compression, photometric, samples, planar, bits, forms)
    apart = samples if planar == 2 else 1
    across, size = _pieces_of(tags, width, height)
    row = -(-size[0] * depth * (samples // apart) // 8)
    pieces = _extents(tags, size[1] * row if compression == NONE else None)
    wanted = across * -(-height // size[1]) * apart
    if len(pieces) != wanted:
        what = "tiles" if _TILES in tags else "strips"
        raise damaged(name, f"is damaged: it has {len(pieces)} {what}, its size needs {wanted}")
    stored = samples * depth / 8
    area = size[0] * size[1] / (width * height)
    shown = 3.0 if samples > 1 or photometric == 3 else 1.0
    header = Tiff(
        format="TIFF",
        mode=_mode(depth, forms, photometric, samples, tags.order),
        width=width,
        height=height,
        bits=depth,
        orientation=turned if 1 <= turned <= 8 else 1,
        cost=shown + max(4.0 if shown == 3 else 1.0, stored) + stored * (0.5 + max(1.0, area)) + 2,
        order=tags.order,
        photometric=photometric,
        compression=compression,
        pieces=pieces,
        piece=size,
        per_piece=row,
        across=across,
        entries=tags.entries,
    )
    if compression == NONE and (pieces[:, 1] < _rows_of(header) * row).any():
        raise damaged(name, "is truncated: a strip is shorter than its rows")
    return header


def check_pieces(data: bytes, header: Tiff, name: str) -> None:
    """Checks whether compressed strips or tiles hold all their rows, which libtiff does not check.

    Raises:
        ImageError: One is damaged.
    """
    if header.compression in DEFLATE:
        wanted = _rows_of(header) * header.per_piece
        for (start, length), least in zip(header.pieces.tolist(), wanted.tolist(), strict=True):
            most = header.piece[1] * header.per_piece
            found = inflated([memoryview(data)[start : start + length]], most)
            if found is None or not least <= found <= most:
                raise damaged(name, "is damaged: a strip does not hold its rows")
    elif header.compression == JPEG:
        import simplejpeg

        tables = b"\xff\xd8\xff\xd9"
        if _TABLES in header.entries:
            _, number, place = header.entries[_TABLES]
            tables = data[place : place + number]
        rows = _rows_of(header).tolist()
        for (start, length), least in zip(header.pieces.tolist(), rows, strict=True):
            stream = tables[:-2] + data[start + 2 : start + length]
            try:
                tall, wide, kind, _ = simplejpeg.decode_jpeg_header(stream)
                if (wide, tall) != (header.piece[0], least):
                    raise ValueError(f"a strip of {wide} x {tall} pixels where {header.piece[0]} x {least} are due")
                simplejpeg.decode_jpeg(stream, _SPACES.get(kind, "RGB"))
            except ValueError as error:
                raise damaged(name, f"is damaged: {error}") from error


def bare_tiff(data: bytes, header: Tiff) -> bytes:
    """Returns a classic TIFF of the first page with only the tags that make pixels, for a decoder to see.

    What is not needed (remarks, further pages, EXIF) cannot do harm then, nor make a decoder print.
    """
    order = header.order
    kind: Any = "little" if order == "<" else "big"
    extra, table = bytearray(), bytearray()
    tags = sorted(tag for tag in _KEPT if header.entries.get(tag, (0, 0, 0))[0] in TYPE_SIZES)
    start = len(data) + len(data) % 2
    behind = start + 2 + 12 * len(tags) + 4
    for tag in tags:
        form, number, place = header.entries[tag]
        number = number if tag in _SEVERAL else 1  # Pillow warns of more than one
        size = TYPE_SIZES[form] * number
        value = data[place : place + size]
        if form == 16:  # a BigTIFF's offsets; a file is at most 1 GiB
            value, form = whole_numbers(data, (form, number, place), order).astype(order + "u4").tobytes(), 4
        if tag == _PHOTOMETRIC and header.photometric == 0 and header.bits > 8:
            value, form, number = (1).to_bytes(2, kind), 3, 1  # Pillow does not turn these round; `decoders` does
        if len(value) > 4:
            at = behind + len(extra)
            extra += value + b"\0" * (len(value) % 2)
            value = at.to_bytes(4, kind)
        table += tag.to_bytes(2, kind) + form.to_bytes(2, kind) + number.to_bytes(4, kind) + value.ljust(4, b"\0")
    mark = b"II*\0" if order == "<" else b"MM\0*"
    body = len(tags).to_bytes(2, kind) + bytes(table) + bytes(4) + bytes(extra)
    return b"".join((mark, start.to_bytes(4, kind), memoryview(data)[8:], b"\0" * (len(data) % 2), body))


def _checked_kind(
    name: str, compression: int, photometric: int, samples: int, planar: int, bits: set[int], forms: set[int]
) -> int:
    """Returns the bits of a sample, or raises what is not read, with the reason."""
    if compression not in _COMPRESSIONS:
        how = _NAMES.get(compression, f"method {compression}")
        raise unsupported(
            name, f"is compressed by {how}", expected="no compression, LZW, deflate, PackBits, Zstandard, LZMA or JPEG"
        )
    if len(bits) != 1 or len(forms) != 1:
        raise unsupported(name, "has bands of different depth", expected=_EXPECTED)
    depth, form = next(iter(bits)), next(iter(forms))
    word = {_SIGNED: "signed", _FLOAT: "floating-point", 5: "complex", 6: "complex"}.get(form)
    if form not in (1, 4) and not (form in (_SIGNED, _FLOAT) and depth == 32):
        what = f"holds {word} samples of {depth} bits" if word else f"holds samples of an unknown kind ({form})"
        raise unsupported(name, what, expected=_EXPECTED)
    if depth not in (1, 2, 4, 8, 12, 16, 32):
        raise unsupported(name, f"holds samples of {depth} bits", expected=_EXPECTED)
    if photometric not in _BANDS:
        what = _OTHER_COLOURS.get(photometric, f"colours of kind {photometric}")
        raise unsupported(name, f"holds {what}", expected=_EXPECTED)
    if photometric == 6 and compression != JPEG:
        raise unsupported(name, "holds YCbCr without JPEG compression", expected=_EXPECTED)
    if (
        not 0 <= samples - _BANDS[photometric] <= 1
        or (samples > 1 and depth not in (8, 16))
        or (samples == 2 and compression == JPEG)
    ):
        raise unsupported(
            name,
            f"holds {samples} bands of {depth} bits",
            expected="one grey band, or RGB, or either with transparency",
            fix="Export the band or the three bands that are to be inspected as PNG or TIFF.",
        )
    if planar not in (1, 2):
        raise damaged(name, f"is damaged: its planar configuration is {planar}")
    if planar == 2 and samples > 1 and (depth != 8 or samples != 3):
        raise unsupported(
            name,
            f"keeps {samples} bands of {depth} bits apart from one another (planar)",
            expected="interleaved bands",
            fix="Save it with interleaved bands (planar configuration 1).",
        )
    return int(depth)


def _pieces_of(tags: _Directory, width: int, height: int) -> tuple[int, tuple[int, int]]:
    """Returns how many strips or tiles lie in a row, and the width and height of one in pixels."""
    if _TILES not in tags:
        rows = tags.value(_ROWS, height)
        if rows < 1:
            raise damaged(tags.name, "is damaged: its strips have no rows")
        return 1, (width, min(rows, height))
    wide, tall = tags.value(_TILE_WIDTH), tags.value(_TILE_HEIGHT)
    if min(wide, tall) < 1 or wide * tall > 4 * width * height + _SPARE:
        raise damaged(tags.name, f"is damaged: it has tiles of {wide} x {tall} pixels")
    return -(-width // wide), (wide, tall)


def _extents(tags: _Directory, plain: int | None) -> npt.NDArray[np.int64]:
    """Returns (N, 2) offsets and lengths of the strips or tiles, which lie in the file and none over another.

    Args:
        tags: Of the page.
        plain: Bytes of one piece where nothing is compressed, else None.
    """
    name, size = tags.name, len(tags.data)
    offsets = tags.values(_TILES if _TILES in tags else _STRIPS)
    if plain is not None and _TILE_BYTES not in tags and _STRIP_BYTES not in tags and len(offsets) == 1:
        lengths = np.array([min(plain, size - int(offsets[0]))])
    else:
        lengths = tags.values(_TILE_BYTES if _TILES in tags and _TILE_BYTES in tags else _STRIP_BYTES)
    if len(offsets) != len(lengths):
        raise damaged(name, "is damaged: strips and their lengths differ in number")
    pieces = np.stack([offsets, lengths], axis=1)
    if (pieces[:, 0] < 8).any() or (pieces[:, 1] < 1).any() or (pieces.sum(axis=1) > size).any():
        raise damaged(name, "is truncated: a strip lies outside of the file")
    ordered = pieces[np.argsort(pieces[:, 0], kind="stable")]
    if (ordered[1:, 0] < ordered[:-1].sum(axis=1)).any():
        raise damaged(name, "is damaged: its strips lie over one another")
    return pieces


def _rows_of(header: Tiff) -> npt.NDArray[np.int64]:
    """Returns (N,) the rows of pixels that each piece holds; the last strip may be shorter, a tile never is."""
    rows = np.full(len(header.pieces), header.piece[1], np.int64)
    if _TILES not in header.entries and header.height % header.piece[1]:
        in_plane = -(-header.height // header.piece[1])
        rows[in_plane - 1 :: in_plane] = header.height % header.piece[1]
    return rows


def _mode(depth: int, forms: set[int], photometric: int, samples: int, order: str) -> str:
    if depth == 32:
        return "F" if forms == {_FLOAT} else "I"
    if depth in (12, 16) and samples == 1:
        return "I;16" if order == "<" else "I;16B"
    if photometric == 3:
        return "P"
    if photometric == 5:
        return "CMYK"
    if photometric in (0, 1):
        return "1" if depth == 1 else "L" if samples == 1 else "LA"
    return "RGB" if samples == 3 else "RGBA"
