"""Multi-page TIFF files: `stack.tif#page=2` names the second picture of a file and reads as a file of its own.

The pages of a file are counted from its directories alone (a few hundred bytes each). One page is read by copying its
directory and its strips or tiles, byte for byte, into a new file of one page: nothing is decoded, so every sample
keeps its value, whatever its depth, colours or compression, and the bytes are the same on every machine.

Reference: TIFF 6.0 (Adobe, 1992), section 2; BigTIFF (libtiff) for files with 8-byte offsets.
"""

from __future__ import annotations

import functools
import io
import os
import re
import stat
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

from knowngood.data.header import TYPE_SIZES
from knowngood.errors import ImageError

MAX_PAGES = 10_000
_MAX_BYTES = 1 << 30  # of one page
_MAX_PIECES = 1_000_000  # strips or tiles of one page
_PAGE = re.compile(r"(.+\.tiff?)#page=([1-9][0-9]{0,8})", re.IGNORECASE | re.DOTALL)

_SUBFILE, _OLD_SUBFILE, _WIDTH, _HEIGHT, _COMPRESSION = 254, 255, 256, 257, 259
_REDUCED, _MASK = 1, 4  # bits of NewSubfileType: a smaller copy of another page; a transparency mask of one
_OLD_REDUCED = 2  # value of SubfileType
_STRIPS, _TILES = (273, 279), (324, 325)  # offsets and byte counts
_OLD_JPEG = 6
# Pointers to further directories, which are left behind, and what only says that there were other pages.
_LEFT_OUT = frozenset({_SUBFILE, _OLD_SUBFILE, 297, 330, 34665, 34853, 40965})
_CODES = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_ESCAPED = re.compile(rb"\\x([0-9a-f]{2})")


class Chain(NamedTuple):
    """The pages of a TIFF file.

    Attributes:
        offsets: Where the directory of each page lies; thumbnails and masks are not among them.
        whole: Whether the only page is also what a decoder takes for the picture of the file.
        remark: What is left out besides them, as `Walker.passed_over` counts it; None where nothing is.
    """

    offsets: tuple[int, ...]
    whole: bool
    remark: str | None


def split_page(path: str | os.PathLike[str]) -> tuple[str, int | None]:
    """Splits a name into its file and its page from 1; the page is None where the name has none."""
    text = os.fspath(path)
    found = _PAGE.fullmatch(text) if "#" in text else None
    return (found[1], int(found[2])) if found else (text, None)


def is_tiff(name: str) -> bool:
    """Returns whether a file may have pages, by its ending."""
    return name.lower().endswith((".tif", ".tiff"))


def file_of(path: str | os.PathLike[str]) -> Path:
    """Returns the file on the disk that a path means: without its page, unless a file has that very name.

    A path may be the text of a table, in which bytes that are not UTF-8 stand as "\\xe4" (see
    `knowngood.data.sources.walking.text_of`).
    """
    file, page = split_page(path)
    text = os.fspath(path if page is None or os.path.lexists(path) else file)
    if "\\x" not in text or os.path.lexists(text):
        return Path(text)
    raw = _ESCAPED.sub(lambda found: bytes([int(found.group(1), 16)]), os.fsencode(text))
    return Path(os.fsdecode(raw) if os.path.lexists(raw) else text)


def without_suffix(name: str | os.PathLike[str]) -> str:
    """Returns the name of an image without its file ending, "/" between the parts; pages keep their number."""
    file, page = split_page(name)
    stem = Path(file).with_suffix("").as_posix()
    return stem if page is None else f"{stem}#page={page}"


def pages_of(file: Path) -> tuple[list[Path], str | None]:
    """Lists the pages of an image file.

    Args:
        file: Any file; only names ending in .tif or .tiff are opened.

    Returns:
        The file itself where it is one picture or cannot be opened, else one path `file#page=K` a page, K from 1;
        and what is left out, as in `Chain`.
    """
    if not is_tiff(file.name):
        return [file], None
    try:
        found = _pages_at(os.fspath(file), *_mark(file))
    except OSError:
        return [file], None  # whoever reads it says why it cannot be read
    if found.whole:
        return [file], found.remark
    return [Path(f"{file}#page={number}") for number in range(1, len(found.offsets) + 1)], found.remark


def pages_in(handle: BinaryIO) -> Chain:
    """Finds the pages of an open TIFF file by its directories; a file that is no TIFF is one picture."""
    layout = _Layout.of(handle)
    if layout is None:
        return Chain((), True, None)
    pages, seen, remark = list[int](), set[int](), None
    at, first = layout.first, layout.first
    while at:
        directory = None if at in seen else layout.directory(handle, at)
        if directory is None or _WIDTH not in directory.entries or _HEIGHT not in directory.entries:
            remark = "pages behind the damage, in a TIFF file whose list of pages is damaged"
            break
        if len(pages) == MAX_PAGES:
            remark = f"pages behind the first {MAX_PAGES:,}, in a TIFF file with more"
            break
        seen.add(at)
        if not layout.is_secondary(handle, directory):
            pages.append(at)
        at = directory.next
    return Chain(tuple(pages), not pages or pages == [first], remark)


def page_bytes(file: str | os.PathLike[str] | bytes, page: int) -> bytes:
    """Returns one page as the bytes of a TIFF file of its own.

    Args:
        file: Path of a TIFF file, or its bytes.
        page: From 1, thumbnails and masks not counted.

    Raises:
        ImageError: There is no such page, or it is damaged or larger than 1 GiB.
        OSError: The file cannot be read.
    """
    if isinstance(file, bytes):
        return page_from(io.BytesIO(file), page, f"<{len(file)} bytes>")
    with open(file, "rb") as handle:
        return page_from(handle, page, os.fspath(file), _pages_at(os.fspath(file), *_mark(file)))


def page_from(handle: BinaryIO, page: int, name: str, chain: Chain | None = None) -> bytes:
    """Does what `page_bytes` does for an open file; `chain` are its pages where they are known already."""
    offsets = (chain or pages_in(handle)).offsets
    if page > len(offsets):
        count = f"{len(offsets)} page" + ("" if len(offsets) == 1 else "s")
        raise ImageError(f"{name!r} has {count}, no page {page}.", fix="Check the number behind #page=.")
    layout = _Layout.of(handle)
    directory = None if layout is None else layout.directory(handle, offsets[page - 1])
    if layout is None or directory is None:
        raise ImageError(f"{name!r} changed while it was read.", fix="Try again.")
    return _copied(handle, layout, directory, f"Page {page} of {name!r}")


def _mark(file: str | os.PathLike[str]) -> tuple[int, int]:
    facts = os.stat(file)
    if not stat.S_ISREG(facts.st_mode):  # a pipe would be waited for
        raise OSError(f"{os.fspath(file)!r} is not a file")
    return facts.st_size, facts.st_mtime_ns


@functools.lru_cache(maxsize=16)
def _pages_at(file: str, _size: int, _changed: int) -> Chain:
    """Finds the pages of a file; kept while it does not change, so that n pages do not cost n times n directories."""
    with open(file, "rb") as handle:
        return pages_in(handle)


@dataclass(frozen=True)
class _Entry:
    """One tag: its type, how many values, and the bytes of the values or of their offset."""

    kind: int
    count: int
    field: bytes


@dataclass(frozen=True)
class _Directory:
    offset: int
    entries: dict[int, _Entry]
    next: int


@dataclass(frozen=True)
class _Layout:
    """How a TIFF file writes numbers: byte order, 4- or 8-byte offsets; and where its first directory lies."""

    order: str
    big: bool
    first: int
    size: int

    @classmethod
    def of(cls, handle: BinaryIO) -> _Layout | None:
        """Reads the header; None for a file that is no TIFF."""
        handle.seek(0, io.SEEK_END)
        size = handle.tell()
        handle.seek(0)
        head = handle.read(16)
        order = {b"II": "<", b"MM": ">"}.get(head[:2])
        if order is None or len(head) < 8:
            return None
        magic = struct.unpack(order + "H", head[2:4])[0]
        if magic == 42:
            return cls(order, False, struct.unpack(order + "I", head[4:8])[0], size)
        if magic == 43 and len(head) == 16 and struct.unpack(order + "HH", head[4:8]) == (8, 0):
            return cls(order, True, struct.unpack(order + "Q", head[8:])[0], size)
        return None

    @property
    def word(self) -> int:
        """Bytes of an offset."""
        return 8 if self.big else 4

    def pack(self, code: str, *values: int) -> bytes:
        return struct.pack(f"{self.order}{len(values)}{code}", *values)

    def offset(self, value: int) -> bytes:
        return self.pack("Q" if self.big else "I", value)

    def number(self, data: bytes) -> int:
        return int.from_bytes(data, "little" if self.order == "<" else "big")

    def directory(self, handle: BinaryIO, at: int) -> _Directory | None:
        """Reads the directory at an offset; None where there cannot be one."""
        head, width = (8, 20) if self.big else (2, 12)
        handle.seek(at)
        count = self.number(handle.read(head))
        length = count * width
        if not 0 < count <= 0xFFFF or at + head + length > self.size:
            return None
        data = handle.read(length)
        entries = {}
        for place in range(0, length, width):
            tag, kind = struct.unpack_from(self.order + "HH", data, place)
            values = self.number(data[place + 4 : place + 4 + self.word])
            entries[tag] = _Entry(kind, values, data[place + 4 + self.word : place + width])
        following = handle.read(self.word)
        return _Directory(at, entries, self.number(following) if len(following) == self.word else 0)

    def raw(self, handle: BinaryIO, entry: _Entry) -> bytes | None:
        """Returns the bytes of the values of a tag; None where they lie outside the file or their type is unknown."""
        length = TYPE_SIZES.get(entry.kind, 0) * entry.count
        if length <= self.word:
            return entry.field[:length] if entry.kind in TYPE_SIZES else None
        at = self.number(entry.field)
        if at + length > self.size:
            return None
        handle.seek(at)
        return handle.read(length)

    def values(self, handle: BinaryIO, entry: _Entry | None) -> Sequence[int] | None:
        """Returns the values of a tag of whole numbers, or None."""
        if entry is None or entry.kind not in _CODES or entry.count > _MAX_PIECES:
            return None
        data = self.raw(handle, entry)
        if data is None:
            return None
        return struct.unpack(f"{self.order}{entry.count}{_CODES[entry.kind]}", data)

    def is_secondary(self, handle: BinaryIO, directory: _Directory) -> bool:
        """Returns whether a directory describes a smaller copy or a mask of another page."""
        new = self.values(handle, directory.entries.get(_SUBFILE)) or (0,)
        old = self.values(handle, directory.entries.get(_OLD_SUBFILE)) or (0,)
        return bool(new[0] & (_REDUCED | _MASK)) or old[0] == _OLD_REDUCED


def _copied(handle: BinaryIO, layout: _Layout, directory: _Directory, name: str) -> bytes:
    """Returns a file with the tags and the pixel data of one directory."""
    tags = _STRIPS if _STRIPS[0] in directory.entries else _TILES
    offsets, counts = (layout.values(handle, directory.entries.get(tag)) for tag in tags)
    old_jpeg = layout.values(handle, directory.entries.get(_COMPRESSION)) == (_OLD_JPEG,)
    if offsets is None or counts is None or len(offsets) != len(counts) or old_jpeg:
        return _pointed(handle, layout, directory, name)
    if sum(counts) > min(layout.size, _MAX_BYTES):
        raise ImageError(f"{name} promises more pixel data than there are.", fix="Copy it again from its origin.")
    values: dict[int, tuple[int, int, bytes]] = {}
    left = layout.size
    for tag, entry in sorted(directory.entries.items()):
        if tag in (*tags, *_LEFT_OUT) or entry.kind not in TYPE_SIZES:
            continue
        left -= TYPE_SIZES[entry.kind] * entry.count
        data = layout.raw(handle, entry) if left >= 0 else None
        if data is None:
            raise ImageError(f"{name} is damaged: its tag {tag} has no value.", fix="Copy it again from its origin.")
        values[tag] = (entry.kind, entry.count, data)
    kind, code = (16, "Q") if layout.big else (4, "I")
    empty = bytes(layout.word * len(offsets))  # the new offsets are known once all else has its place
    values |= {tags[0]: (kind, len(offsets), empty), tags[1]: (kind, len(counts), layout.pack(code, *counts))}
    start = len(_written(layout, values))
    places = [start + sum_ for sum_ in _sums(counts)]
    values[tags[0]] = (kind, len(offsets), layout.pack(code, *places))
    parts = [_written(layout, values)]
    for at, count in zip(offsets, counts, strict=True):
        handle.seek(at)
        parts.append(handle.read(count))
        if len(parts[-1]) != count:
            raise ImageError(
                f"{name} is truncated: its pixel data end after the end of the file.",
                fix="Copy it again from its origin.",
            )
    return b"".join(parts)


def _sums(counts: Sequence[int]) -> list[int]:
    """Returns where each of several pieces begins."""
    sums, total = [], 0
    for count in counts:
        sums.append(total)
        total += count
    return sums


def _written(layout: _Layout, values: dict[int, tuple[int, int, bytes]]) -> bytes:
    """Returns header, directory and values of a file of one page; pixel data follow them."""
    head = (b"II" if layout.order == "<" else b"MM") + (
        layout.pack("H", 43, 8, 0) + layout.offset(16) if layout.big else layout.pack("H", 42) + layout.offset(8)
    )
    table = layout.pack("Q" if layout.big else "H", len(values))
    width = 20 if layout.big else 12
    at = len(head) + len(table) + width * len(values) + layout.word
    further = b""
    for tag, (kind, count, data) in sorted(values.items()):
        table += layout.pack("H", tag, kind) + layout.offset(count)
        if len(data) <= layout.word:
            table += data.ljust(layout.word, b"\0")
        else:
            table += layout.offset(at + len(further))
            further += data + b"\0" * (len(data) % 2)
    return head + table + layout.offset(0) + further


def _pointed(handle: BinaryIO, layout: _Layout, directory: _Directory, name: str) -> bytes:
    """Returns the whole file with its header pointing at one directory, where pages share their data."""
    if layout.size > _MAX_BYTES:
        raise ImageError(f"{name} cannot be taken out of a file of that size.", expected="at most 1 GiB")
    handle.seek(0)
    data = bytearray(handle.read())
    at = 8 if layout.big else 4
    data[at : at + layout.word] = layout.offset(directory.offset)
    return bytes(data)
