"""Photographs inside .tar and .zip files, read one after the other, nothing unpacked to disk."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO

from knowngood.data.images import MAX_BYTES
from knowngood.data.pages import is_tiff, page_bytes, pages_in
from knowngood.data.records import PassedOver
from knowngood.data.sources.walking import HEAD, FileKind, classify_file, hidden_within, text_of
from knowngood.errors import DataError, ImageError

_TARS = (".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz")
_ZIPS = (".zip",)
Member = tuple[str, Callable[[], bytes]]


def is_archive(path: Path) -> bool:
    """Says whether a path names an archive, by its ending."""
    return path.name.lower().endswith((*_TARS, *_ZIPS))


def members(
    path: Path, start: int = 0, contents: bool = True, passed_over: PassedOver | None = None
) -> Iterator[Member]:
    """Yields name and reader of each photograph in an archive, in its order; each page of a TIFF file is one.

    Bytes are read here, in the order of the archive, since a compressed tar can be read in no other.

    Args:
        path: Of the archive; a member is called "archive/member".
        start: How many photographs are passed over, unread.
        contents: Whether bytes are wanted at all; without, readers refuse.
        passed_over: Receives members that are no photographs.

    Raises:
        DataError: It is no archive, or damaged.
    """
    try:
        listed = _of_zip if path.name.lower().endswith(_ZIPS) else _of_tar
        number = 0
        for name, file_kind, take in listed(path, PassedOver() if passed_over is None else passed_over):
            if file_kind.taken == "unread":
                pages = [("", _refusing(f"{name!r} has {file_kind.reason}."))]
            elif is_tiff(name):
                pages = _pages(take())  # read in any case: how many there are decides the numbers of the next
            else:
                pages = [("", take() if contents and number >= start else _refusing(f"{name!r} was only listed."))]
            for page, reader in pages:
                if number >= start:
                    yield f"{path}/{name}{page}", reader
                number += 1
    except (tarfile.TarError, zipfile.BadZipFile, OSError, EOFError) as error:
        raise DataError(f"The archive {path} cannot be read: {error}.", fix="Copy it again from its origin.") from error


_Listed = tuple[str, FileKind, Callable[[], Callable[[], bytes]]]


def _of_tar(path: Path, passed_over: PassedOver) -> Iterator[_Listed]:
    """Yields name and kind of each photograph, and what reads its bytes until the next is asked for."""
    with tarfile.open(path, "r|*") as archive:
        for member in archive:
            name = text_of(member.name)
            if not member.isfile() or hidden_within(name):
                continue
            handle = archive.extractfile(member)
            head = b""

            def first() -> bytes:
                nonlocal head
                head = b"" if handle is None else handle.read(HEAD)  # noqa: B023  (called at once)
                return head

            file_kind = classify_file(name.rsplit("/", 1)[-1], first)
            if file_kind.taken in ("photograph", "unread"):
                yield name, file_kind, partial(_from_tar, name, member, handle, head)
            else:
                _pass_over(passed_over, file_kind, name)


def _from_tar(name: str, member: tarfile.TarInfo, handle: IO[bytes] | None, head: bytes) -> Callable[[], bytes]:
    whole = handle is not None and member.size <= MAX_BYTES
    return _reader(name, head + handle.read() if whole and handle is not None else None)


def _of_zip(path: Path, passed_over: PassedOver) -> Iterator[_Listed]:
    """Yields name and kind of each photograph, and what reads its bytes."""
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            name = text_of(member.filename)
            if member.is_dir() or hidden_within(name):
                continue
            file_kind = classify_file(name.rsplit("/", 1)[-1], partial(_first, archive, member))
            if file_kind.taken in ("photograph", "unread"):
                yield name, file_kind, partial(_from_zip, name, archive, member)
            else:
                _pass_over(passed_over, file_kind, name)


def _from_zip(name: str, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Callable[[], bytes]:
    try:
        data = archive.read(member) if member.file_size <= MAX_BYTES else None
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:  # one damaged, or locked
        return _refusing(f"{name!r} cannot be read: {error}.")
    return _reader(name, data)


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


def _first(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    try:
        with archive.open(member) as handle:
            return handle.read(HEAD)
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
        raise OSError(str(error)) from error


def _pass_over(passed_over: PassedOver, file_kind: FileKind, name: str) -> None:
    if file_kind.taken == "other":
        passed_over.add(file_kind.reason, name)


def _reader(name: str, data: bytes | None) -> Callable[[], bytes]:
    if data is None:
        return _refusing(f"{name!r} is absurdly large.")
    return (lambda: data) if data else _refusing(f"{name!r} is empty (0 bytes).")


def _refusing(what: str) -> Callable[[], bytes]:
    def refuse() -> bytes:
        raise ImageError(what, fix="Copy it again from its origin.")

    return refuse
