"""Photographs inside .tar and .zip files, read one after the other, nothing unpacked to disk."""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from knowngood.data.images import MAX_BYTES, SUFFIXES
from knowngood.errors import DataError, ImageError

_TARS = (".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz")
_ZIPS = (".zip",)
Member = tuple[str, Callable[[], bytes]]


def is_archive(path: Path) -> bool:
    """Says whether a path names an archive, by its ending."""
    return path.name.lower().endswith((*_TARS, *_ZIPS))


def members(path: Path, start: int = 0, contents: bool = True) -> Iterator[Member]:
    """Yields name and reader of each photograph in an archive, in its order.

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
        yield from listed(path, start, contents)
    except (tarfile.TarError, zipfile.BadZipFile, OSError, EOFError) as error:
        raise DataError(f"The archive {path} cannot be read: {error}.", fix="Copy it again from its origin.") from error


def _of_tar(path: Path, start: int, contents: bool) -> Iterator[Member]:
    with tarfile.open(path, "r|*") as archive:
        for member in islice((one for one in archive if one.isfile() and _wanted(one.name)), start, None):
            handle = archive.extractfile(member) if contents and member.size <= MAX_BYTES else None
            yield f"{path}/{member.name}", _reader(member.name, None if handle is None else handle.read())


def _of_zip(path: Path, start: int, contents: bool) -> Iterator[Member]:
    with zipfile.ZipFile(path) as archive:
        found = (one for one in archive.infolist() if not one.is_dir() and _wanted(one.filename))
        for member in islice(found, start, None):
            data = None
            if contents and member.file_size <= MAX_BYTES:
                try:
                    data = archive.read(member)
                except (zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:  # one damaged, or locked
                    yield f"{path}/{member.filename}", _refusing(f"{member.filename!r} cannot be read: {error}.")
                    continue
            yield f"{path}/{member.filename}", _reader(member.filename, data)


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
