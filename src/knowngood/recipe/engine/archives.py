"""Photographs inside .tar and .zip files, read one after the other, nothing unpacked to disk."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from knowngood.data.images import MAX_BYTES, SUFFIXES
from knowngood.data.pages import is_tiff, page_bytes, pages_in
from knowngood.errors import DataError, ImageError

_TARS = (".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz")
_ZIPS = (".zip",)
Member = tuple[str, Callable[[], bytes]]


def is_archive(path: Path) -> bool:
    """Says whether a path names an archive, by its ending."""
    return path.name.lower().endswith((*_TARS, *_ZIPS))


def members(path: Path, start: int = 0, contents: bool = True) -> Iterator[Member]:
    """Yields name and reader of each photograph in an archive, in its order; each page of a TIFF file is one.

    Bytes are read here, in the order of the archive, since a compressed tar can be read in no other.

    Args:
        path: Of the archive; a member is called "archive/member".
        start: How many photographs are passed over, unread.
        contents: Whether bytes are wanted at all; without, readers refuse.

    Raises:
        DataError: It is no archive, or damaged.
    """
    try:
        listed = _of_zip if path.name.lower().endswith(_ZIPS) else _of_tar
        number = 0
        for name, take in listed(path):
            if not is_tiff(name):
                if number >= start:
                    yield f"{path}/{name}", take() if contents else _refusing(f"{name!r} was only listed.")
                number += 1
                continue
            for page, reader in _pages(take()):
                if number >= start:
                    yield f"{path}/{name}{page}", reader
                number += 1
    except (tarfile.TarError, zipfile.BadZipFile, OSError, EOFError) as error:
        raise DataError(f"The archive {path} cannot be read: {error}.", fix="Copy it again from its origin.") from error


def _of_tar(path: Path) -> Iterator[tuple[str, Callable[[], Callable[[], bytes]]]]:
    """Yields the name of each photograph, and what reads its bytes until the next is asked for."""
    with tarfile.open(path, "r|*") as archive:
        for member in archive:
            if member.isfile() and _wanted(member.name):
                yield member.name, partial(_from_tar, archive, member)


def _from_tar(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Callable[[], bytes]:
    handle = archive.extractfile(member) if member.size <= MAX_BYTES else None
    return _reader(member.name, None if handle is None else handle.read())


def _of_zip(path: Path) -> Iterator[tuple[str, Callable[[], Callable[[], bytes]]]]:
    """Yields the name of each photograph, and what reads its bytes."""
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if not member.is_dir() and _wanted(member.filename):
                yield member.filename, partial(_from_zip, archive, member)


def _from_zip(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Callable[[], bytes]:
    try:
        data = archive.read(member) if member.file_size <= MAX_BYTES else None
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:  # one damaged, or locked
        return _refusing(f"{member.filename!r} cannot be read: {error}.")
    return _reader(member.filename, data)


def _pages(reader: Callable[[], bytes]) -> list[tuple[str, Callable[[], bytes]]]:
    """Returns what is put behind the name of a TIFF file for each of its pages, and the reader of each."""
    try:
        data = reader()
    except ImageError:
        return [("", reader)]
    found = pages_in(io.BytesIO(data))
    if found.whole:
        return [("", reader)]
    return [(f"#page={number}", partial(page_bytes, data, number)) for number in range(1, len(found.offsets) + 1)]


def _wanted(name: str) -> bool:
    last = name.rsplit("/", 1)[-1]
    return not last.startswith(".") and Path(last).suffix.lower() in SUFFIXES


def _reader(name: str, data: bytes | None) -> Callable[[], bytes]:
    if data is None:
        return _refusing(f"{name!r} is absurdly large.")
    return (lambda: data) if data else _refusing(f"{name!r} is empty (0 bytes).")


def _refusing(what: str) -> Callable[[], bytes]:
    def refuse() -> bytes:
        raise ImageError(what, fix="Copy it again from its origin.")

    return refuse
