"""How busy each stage of the engine was."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Profile:
    """Adds up the seconds that each stage worked, over all its threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seconds: dict[str, float] = {}
        self._threads: dict[str, int] = {}
        self.images = 0
        self.wall = 0.0

    def stage(self, name: str, threads: int = 1) -> None:
        """Says that there is a stage, and how many threads share it."""
        self._seconds.setdefault(name, 0.0)
        self._threads[name] = threads

    def add(self, name: str, seconds: float) -> None:
        """Adds to a stage."""
        with self._lock:
            self._seconds[name] = self._seconds.get(name, 0.0) + seconds

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        """Adds what passes inside to a stage."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.add(name, time.perf_counter() - began)

    def document(self) -> dict[str, object]:
        """Returns images, seconds, images/s, and of each stage its seconds, threads and busy share (0..1)."""
        wall = max(self.wall, 1e-9)
        return {
            "images": self.images,
            "seconds": round(self.wall, 3),
            "images_per_second": round(self.images / wall, 2),
            "stages": {
                name: {
                    "seconds": round(seconds, 3),
                    "threads": self._threads.get(name, 1),
                    "busy": round(min(1.0, seconds / wall / self._threads.get(name, 1)), 4),
                }
                for name, seconds in self._seconds.items()
            },
        }
