"""Photographs of many senders are scored together; who comes when too many wait is told to come back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

J = TypeVar("J")
R = TypeVar("R")


class BusyError(Exception):
    """Too many wait already."""


class Batcher(Generic[J, R]):
    """A bounded line in front of one worker that takes as many as there are, up to a batch.

    It never waits for more to come: while one batch is worked on the next gathers by itself.

    Args:
        work: Called in a thread of its own with at most `batch` jobs; returns a result for each.
        batch: Most jobs at once.
        waiting: Most jobs in line, those being worked on included.
    """

    def __init__(self, work: Callable[[Sequence[J]], Sequence[R]], batch: int, waiting: int) -> None:
        self.work, self.batch, self.most = work, batch, waiting
        self.pending = 0
        self._line: asyncio.Queue[tuple[J, asyncio.Future[R]]] = asyncio.Queue()
        self._pool = ThreadPoolExecutor(1, "inspect")
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to work."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Finishes what was accepted, then ends."""
        while self.pending:
            await asyncio.sleep(0.01)
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._pool.shutdown()

    async def submit(self, jobs: Sequence[J]) -> list[R]:
        """Returns the results of jobs, all or none accepted.

        Raises:
            BusyError: There is no room for them.
        """
        if self.pending + len(jobs) > self.most:
            raise BusyError
        loop = asyncio.get_running_loop()
        futures: list[asyncio.Future[R]] = [loop.create_future() for _ in jobs]
        self.pending += len(jobs)
        for job, future in zip(jobs, futures, strict=True):
            self._line.put_nowait((job, future))
        # A sender who goes away does not take accepted work back: it is on its way into the record.
        return list(await asyncio.shield(asyncio.gather(*futures)))

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            taken = [await self._line.get()]
            while len(taken) < self.batch and not self._line.empty():
                taken.append(self._line.get_nowait())
            try:
                results = await loop.run_in_executor(self._pool, self.work, [job for job, _ in taken])
                for (_, future), result in zip(taken, results, strict=True):
                    if not future.done():
                        future.set_result(result)
            except Exception as error:
                for _, future in taken:
                    if not future.done():
                        future.set_exception(error)
            finally:
                self.pending -= len(taken)
