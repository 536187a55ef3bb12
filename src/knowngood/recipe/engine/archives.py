"""Photographs inside .tar and .zip files, read one after the other, nothing unpacked to disk."""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from knowngood.data.images import MAX_BYTES
from knowngood.data.records import PassedOver
from knowngood.data.sources.walking import HEAD, Verdict, hidden_within, judged, text_of
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
    """Yields name and reader of each photograph in an archive, in its order.

    Bytes are read here, in the order of the archive, since a compressed tar can be read in no other.

    Args:
        path: Of the archive; a member is called "archive/member".
        start: How many photographs are passed over, unread.
        contents: Whether bytes are wanted at all; without, readers refuse.
        passed_over: Is told of members that are no photographs.

    Raises:
        DataError: It is no archive, or damaged.
    """
    try:
        listed = _of_zip if path.name.lower().endswith(_ZIPS) else _of_tar
        yield from listed(path, start, contents, PassedOver() if passed_over is None else passed_over)
    except (tarfile.TarError, zipfile.BadZipFile, OSError, EOFError) as error:
        raise DataError(f"The archive {path} cannot be read: {error}.", fix="Copy it again from its origin.") from error


def _of_tar(path: Path, start: int, contents: bool, passed_over: PassedOver) -> Iterator[Member]:
    number = 0
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

            verdict = judged(name.rsplit("/", 1)[-1], first)
            if verdict.taken not in ("photograph", "unread"):
                _pass_over(passed_over, verdict, name)
                continue
            number += 1
            if number <= start:
                continue
            data = None
            if verdict.taken == "photograph" and contents and handle is not None and member.size <= MAX_BYTES:
                data = head + handle.read()
            yield f"{path}/{name}", _reader(name, verdict, data)


def _of_zip(path: Path, start: int, contents: bool, passed_over: PassedOver) -> Iterator[Member]:
    number = 0
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            name = text_of(member.filename)
            if member.is_dir() or hidden_within(name):
                continue
            verdict = judged(name.rsplit("/", 1)[-1], partial(_first, archive, member))
            if verdict.taken not in ("photograph", "unread"):
                _pass_over(passed_over, verdict, name)
                continue
            number += 1
            if number <= start:
                continue
            data = None
            if verdict.taken == "photograph" and contents and member.file_size <= MAX_BYTES:
                try:
                    data = archive.read(member)
                except (zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:  # one damaged, or locked
                    yield f"{path}/{name}", _refusing(f"{name!r} cannot be read: {error}.")
                    continue
            yield f"{path}/{name}", _reader(name, verdict, data)


def _first(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    try:
        with archive.open(member) as handle:
            return handle.read(HEAD)
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
        raise OSError(str(error)) from error


def _pass_over(passed_over: PassedOver, verdict: Verdict, name: str) -> None:
    if verdict.taken == "other":
        passed_over.add(verdict.reason, name)


def _reader(name: str, verdict: Verdict, data: bytes | None) -> Callable[[], bytes]:
    if verdict.taken == "unread":
        return _refusing(f"{name!r} has {verdict.reason}.")
    if data is None:
        return _refusing(f"{name!r} is absurdly large.")
    return (lambda: data) if data else _refusing(f"{name!r} is empty (0 bytes).")


def _refusing(what: str) -> Callable[[], bytes]:
    def refuse() -> bytes:
        raise ImageError(what, fix="Copy it again from its origin.")

    return refuse
