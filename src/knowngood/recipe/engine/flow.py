"""Ordered work in threads with bounded windows: nothing is done before it is wanted soon, nothing waits in a loop."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")


def ahead(pool: ThreadPoolExecutor, work: Callable[[A], B], items: Iterable[A], window: int) -> Iterator[B]:
    """Yields work(item) for each item, in order, while the pool works on those to come.

    Back-pressure: never more than `window` items are taken and not yet yielded, however slow the consumer is. Where
    the consumer goes away, what has not begun is cancelled.

    Args:
        pool: Does the work.
        work: Called in the pool's threads; what it raises is raised here, in its place.
        items: Taken one at a time, in the consumer's thread.
        window: Most items under way.
    """
    under_way: deque[Future[B]] = deque()
    try:
        for item in items:
            under_way.append(pool.submit(work, item))
            if len(under_way) >= window:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        for future in under_way:
            future.cancel()


def grouped(items: Iterable[A], size: int, counts: Callable[[A], bool]) -> Iterator[list[A]]:
    """Yields lists of items, in order, each with `size` of those that count (the last with fewer).

    Those that do not count travel with the others; a list grows to four times `size` at most, so that a long stretch
    of them does not fill the memory.
    """
    group: list[A] = []
    counted = 0
    for item in items:
        group.append(item)
        counted += counts(item)
        if counted == size or len(group) >= 4 * size:
            yield group
            group, counted = [], 0
    if group:
        yield group
