"""Functions of pieces: run here one after the other, or wherever the caller has arranged it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar
from typing import Protocol, TypeVar

FILES = 256  # photographs that are read at a time: a second of work, a step of the progress bar
P = TypeVar("P")
R = TypeVar("R")


class Mapper(Protocol):
    """Runs a function on pieces."""

    def __call__(self, function: Callable[[P], R], pieces: Iterable[P]) -> Iterator[R]:
        """Yields function(piece) for each piece, in order."""
        ...


_current: ContextVar[Mapper] = ContextVar("knowngood_mapper")


def mapped(function: Callable[[P], R], pieces: Iterable[P]) -> Iterator[R]:
    """Yields function(piece) for each piece, in order; pieces are taken as they are needed.

    Args:
        function: Of one piece, with no effect besides its result: on a cluster it may run twice, and elsewhere. What
            it carries is sent once, so that a method of something large will do.
        pieces: Seconds of work each, so that sending them does not count.
    """
    return _current.get(map)(function, pieces)


def elsewhere() -> bool:
    """Returns whether what is mapped may run on another machine."""
    return _current.get(None) is not None


def pieces(items: Sequence[P], size: int = FILES) -> Iterator[Sequence[P]]:
    """Yields the items in order, so many at a time."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


@contextlib.contextmanager
def mapping_by(new: Mapper) -> Iterator[None]:
    """Has everything inside the block mapped by `new`."""
    token = _current.set(new)
    try:
        yield
    finally:
        _current.reset(token)
