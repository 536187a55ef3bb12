"""Progress of long work: libraries report to the current reporter, and only the command line shows it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sized
from contextvars import ContextVar
from typing import Protocol, TypeVar

T = TypeVar("T")


class Reporter(Protocol):
    """Receives the progress of long work."""

    def start(self, title: str, total: int | None, done: int = 0) -> int:
        """Starts a task of `total` steps (None when unknown), `done` of them in an earlier run; returns its handle."""
        ...

    def advance(self, task: int, steps: int = 1, note: str = "") -> None:
        """Adds `steps` finished steps; `note` is shown beside the bar."""
        ...

    def finish(self, task: int) -> None:
        """Ends the task."""
        ...

    def say(self, message: str) -> None:
        """Shows one line that is worth keeping."""
        ...


class Silent:
    """The default reporter: a library does not print."""

    def start(self, title: str, total: int | None, done: int = 0) -> int:
        return 0

    def advance(self, task: int, steps: int = 1, note: str = "") -> None:
        return None

    def finish(self, task: int) -> None:
        return None

    def say(self, message: str) -> None:
        return None


_SILENT = Silent()
_current: ContextVar[Reporter] = ContextVar("knowngood_reporter")


def reporter() -> Reporter:
    """Returns the reporter in force here."""
    return _current.get(_SILENT)


@contextlib.contextmanager
def reporting_to(new: Reporter) -> Iterator[None]:
    """Sends the progress of everything inside the block to `new`."""
    token = _current.set(new)
    try:
        yield
    finally:
        _current.reset(token)


def track(items: Iterable[T], title: str, total: int | None = None) -> Iterator[T]:
    """Yields the items and reports each as one step."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    to = reporter()
    task = to.start(title, total)
    try:
        for item in items:
            yield item
            to.advance(task)
    finally:
        to.finish(task)
