"""Watches a folder into which a camera drops photographs."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path, PurePosixPath

from knowngood.data.images import read_bytes
from knowngood.data.pages import file_of, without_suffix
from knowngood.data.sources.walking import Walker, relative_name
from knowngood.errors import ImageError, KnownGoodError
from knowngood.progress import reporter
from knowngood.review.app.station import Job, Station

_CHUNK = 64  # photographs that are filed together
_EVERY = 1.0  # seconds between two looks


class Watcher(threading.Thread):
    """Inspects photographs that a camera drops into a folder, each once, when it is whole.

    A file counts as whole when its size has not changed between two looks. Folders in it are lots.

    Args:
        station: To inspect with.
        folder: To look into, its folders included; nothing in it is changed.
        every: Seconds between two looks.
    """

    def __init__(self, station: Station, folder: Path, every: float = _EVERY) -> None:
        super().__init__(daemon=True, name="watch")
        self.station, self.folder, self.every = station, folder, every
        self.done = threading.Event()
        self._sizes: dict[Path, tuple[int, float]] = {}
        self._seen: set[tuple[Path, int, float]] = set()
        self._known = station.record.inspections.known(station.weights)

    def run(self) -> None:
        """Looks until `done` is set."""
        while not self.done.wait(self.every):
            try:
                self.look()
            except KnownGoodError as error:
                reporter().say(f"watched folder: {error.what}")

    def look(self) -> int:
        """Looks once; returns how many photographs were inspected."""
        jobs, now = [], {}
        for path in Walker(sniff=False).images(self.folder):
            try:
                facts = file_of(path).stat()
            except OSError:
                continue
            mark = (facts.st_size, facts.st_mtime)
            now[path] = mark
            if self._sizes.get(path) == mark and (path, *mark) not in self._seen:
                jobs.append(path)
        self._sizes = now
        count = 0
        for start in range(0, len(jobs), _CHUNK):
            paths = jobs[start : start + _CHUNK]
            read = {hashlib.sha256(job.data).hexdigest(): job for path in paths if (job := self._job(path)) is not None}
            new = [job for digest, job in read.items() if digest not in self._known]
            count += len(self.station.inspect(new)) if new else 0
            self._known |= read.keys()  # only now: what could not be filed is tried again
            self._seen |= {(path, *now[path]) for path in paths}
        return count

    def _job(self, path: Path) -> Job | None:
        try:
            data = read_bytes(path)
        except ImageError:
            return None
        inside = PurePosixPath(relative_name(path, self.folder))
        lot = inside.parent.as_posix() if inside.parent != PurePosixPath() else None
        return Job(data, inside.as_posix(), without_suffix(inside.name), lot, None, "watch", self.station.settings.user)
