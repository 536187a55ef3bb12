"""Watches a folder into which a camera writes photographs: each is inspected once, when it is complete."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from knowngood.data.containers import JPEG_SIGNATURE, PNG_SIGNATURE
from knowngood.data.images import SUFFIXES, decode, read_bytes, verify
from knowngood.data.pages import file_of, pages_of, without_suffix
from knowngood.errors import DataError, ImageError
from knowngood.review.station import Job, Station
from knowngood.review.workers import Worker

EVERY = 1.0  # seconds between two scans
PATIENCE = 60.0  # seconds that a file may stand still without its end, before it is filed as it is
_CHUNK, _BYTES = 64, 128_000_000  # photographs, and bytes of them, that are filed together
_SELDOM = 5  # scans between two attempts on a file whose end is missing

Mark = tuple[int, int]


@dataclass
class _File:
    """State of one file.

    Attributes:
        mark: Size in bytes and time of the last change, ns.
        since: When it was first seen so, seconds of `time.monotonic`.
        rest: Scans for which it is left alone, because its end was missing.
        done: Whether it is in the record as it is.
    """

    mark: Mark
    since: float
    rest: int = 0
    done: bool = False


class Watcher(Worker):
    """Worker that inspects the photographs of a folder. Folders in it are lots, a file's name is its unit.

    A file counts as complete when its size and time are unchanged for two scans **and** its end marker is there. One
    that stays without its end (empty ones included) is waited for; after `patience` it is filed once, as
    unreadable, and again only when it changes.

    Args:
        station: To inspect with.
        folder: To look into, its folders included; nothing in it is changed.
        every: Seconds between two scans.
        patience: Seconds that a file may stand still without its end.
    """

    def __init__(self, station: Station, folder: Path, every: float = EVERY, patience: float = PATIENCE) -> None:
        super().__init__("watched folder", every)
        self.station, self.folder, self.patience = station, folder, patience
        self._files: dict[Path, _File] = {}

    def step(self) -> int:
        """Scans the folder once, see `scan`."""
        return self.scan()

    def scan(self) -> int:
        """Scans the folder once; returns how many photographs were inspected.

        Raises:
            DataError: The folder cannot be listed.
            StorageError: The record takes nothing now; what was found is tried again.
            UnsignedError: Nothing may be served now; the same.
        """
        at, now = time.monotonic(), {}
        still: list[Path] = []
        for path in _photographs(self.folder):
            try:
                facts = file_of(path).stat()
            except OSError:
                continue  # gone meanwhile
            mark = (facts.st_size, facts.st_mtime_ns)
            file = self._files.get(path)
            if file is None or file.mark != mark:
                file = _File(mark, at)
            elif not file.done:
                if file.rest == 0 or at - file.since >= self.patience:
                    still.append(path)
                file.rest = max(0, file.rest - 1)
            now[path] = file
        self._files = now
        count = 0
        for paths in _chunks(still, self._files):
            found = [(path, self._job(path, at)) for path in paths]
            for path, job in found:
                if job is None:
                    now[path].rest = _SELDOM
            count += self._inspect([(path, job) for path, job in found if job is not None])
            self.moves()
        return count

    def _inspect(self, found: Sequence[tuple[Path, Job]]) -> int:
        """Inspects those that are not in the record; returns how many."""
        keys = {path: (job.image, hashlib.sha256(job.data).hexdigest()) for path, job in found}
        known = self.station.record.inspections.known_of(
            self.station.scoring, "watch", [digest for _, digest in keys.values()]
        )
        new = [job for path, job in found if keys[path] not in known]
        if new:
            self.station.inspect(new)
        for path, _ in found:
            self._files[path].done = True  # only now: what could not be added is tried again
        return len(new)

    def _job(self, path: Path, at: float) -> Job | None:
        """Returns what to file of a file that stands still, or None where it is waited for."""
        file = self._files[path]
        late = at - file.since >= self.patience
        inside = path.relative_to(self.folder)
        name = _shown(inside)
        lot = _shown(inside.parent) if inside.parent != Path() else None
        data, error = b"", None
        if file.mark[0] > self.station.settings.max_mb * 1_000_000:
            error = f"It has {file.mark[0]:,} bytes; at most {self.station.settings.max_mb} MB are taken."
        elif file.mark[0] == 0:
            if not late:
                return None
            error = f"It has been empty (0 bytes) for {self.patience:.0f} s."
        else:
            try:
                data = read_bytes(path)
            except ImageError:
                if not late:
                    return None
                error = "It cannot be read: no permission, or a fault of the disk."
            cut = file_of(path) == path and len(data) != file.mark[0]  # a page of a file is shorter than the file
            if (cut and error is None) or not (late or error or _is_whole(data, name)):
                return None  # it is still being written
        unit = without_suffix(_shown(Path(inside.name)))
        return Job(data, name, unit, lot, None, "watch", self.station.settings.user, error=error)


def _is_whole(data: bytes, name: str) -> bool:
    """Returns whether a file is complete: by its end marker for PNG and JPEG, by decoding for other formats."""
    try:
        verify(data, name=name)
        if not data.startswith((PNG_SIGNATURE, JPEG_SIGNATURE)):
            decode(data, name=name)
    except ImageError:
        return False
    return True


def _photographs(folder: Path) -> Iterator[Path]:
    """Yields the files that are called as photographs are, sorted, hidden ones left out; never in circles.

    Raises:
        DataError: The folder itself cannot be listed; a folder in it that cannot costs its own photographs only.
    """
    try:
        os.scandir(folder).close()
    except OSError as error:
        raise DataError(
            f"The watched folder cannot be listed: {error.strerror}.", fix="Check --inbox and its permissions."
        ) from error
    seen: set[str] = set()
    for here, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(here)
        folders[:] = [] if real in seen else sorted(name for name in folders if not name.startswith("."))
        if real in seen:
            continue
        seen.add(real)
        for name in sorted(files):
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES:
                yield from pages_of(Path(here, name))[0]


def _chunks(paths: Sequence[Path], files: dict[Path, _File]) -> Iterator[list[Path]]:
    chunk: list[Path] = []
    size = 0
    for path in paths:
        if chunk and (len(chunk) == _CHUNK or size + files[path].mark[0] > _BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(path)
        size += files[path].mark[0]
    if chunk:
        yield chunk


def _shown(path: Path) -> str:
    """Returns a path with "/" as the record has it; bytes that are no UTF-8 are written as \\xNN."""
    return os.fsencode(path.as_posix()).decode("utf-8", "backslashreplace")
