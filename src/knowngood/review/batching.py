"""Batches the photographs of many senders; requests beyond the queue's size are refused (HTTP 503)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from knowngood.errors import StorageError, UnsignedError

J = TypeVar("J")
R = TypeVar("R")
A = TypeVar("A")

log = logging.getLogger("knowngood.review")
_STUCK = 300.0  # seconds of one batch after which the worker is taken for dead
_OF_ALL = (StorageError, UnsignedError)  # what is no fault of one job: each would meet it again


class BusyError(Exception):
    """The queue is full."""


class Batcher(Generic[J, R]):
    """A bounded queue in front of one worker that takes what is there, up to a batch.

    It never waits for more to come: while one batch is worked on the next gathers by itself. A batch that fails is
    done again job by job, so that only the guilty one fails. A worker that has died is started anew.

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
        self._began: float | None = None  # when the batch that is worked on did
        self._stopping = False

    @property
    def working(self) -> bool:
        """Whether the worker runs and is not stuck."""
        if self._task is None or self._task.done():
            return False
        return self._began is None or time.monotonic() - self._began < _STUCK

    def start(self) -> None:
        """Starts the worker."""
        self._task = asyncio.create_task(self._run())

    def ensure(self) -> None:
        """Restarts a worker that has died."""
        if self._task is not None and self._task.done() and not self._stopping:
            log.error("the worker that scores photographs has died and is started anew")
            self.start()

    async def stop(self) -> None:
        """Finishes what was accepted, then stops."""
        while self.pending:
            self.ensure()
            await asyncio.sleep(0.01)
        self._stopping = True
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
        self.ensure()
        loop = asyncio.get_running_loop()
        futures: list[asyncio.Future[R]] = [loop.create_future() for _ in jobs]
        self.pending += len(jobs)
        for job, future in zip(jobs, futures, strict=True):
            future.add_done_callback(self._finished)
            self._line.put_nowait((job, future))
        # A sender who goes away does not take accepted work back: it is on its way into the record.
        return list(await asyncio.shield(asyncio.gather(*futures)))

    async def _run(self) -> None:
        while True:
            taken = [await self._line.get()]
            while len(taken) < self.batch and not self._line.empty():
                taken.append(self._line.get_nowait())
            self._began = time.monotonic()
            try:
                await self._work_on(taken)
            finally:
                self._began = None
                for _, future in taken:
                    if not future.done():  # the worker itself was ended: its senders may come again
                        future.set_exception(StorageError("The photograph was not inspected.", fix="Send it again."))

    async def _work_on(self, taken: Sequence[tuple[J, asyncio.Future[R]]]) -> None:
        loop = asyncio.get_running_loop()
        try:
            results = await loop.run_in_executor(self._pool, _guarded, self.work, [job for job, _ in taken])
        except _OF_ALL as error:
            _fail(taken, error)
        except Exception as error:
            if len(taken) == 1:
                _fail(taken, error)
                return
            log.warning("a batch of %d failed and is done one by one", len(taken), exc_info=error)
            for one in taken:
                self._began = time.monotonic()
                await self._work_on([one])
        else:
            for (_, future), result in zip(taken, results, strict=True):
                if not future.done():
                    future.set_result(result)

    def _finished(self, _: asyncio.Future[R]) -> None:
        self.pending -= 1


class Pool:
    """A few threads for work that takes memory, such as decoding; refuses more than `most` pieces of work at a time.

    Args:
        threads: That work at once.
        most: Pieces of work in line, those being worked on included.
        name: Of the threads.
    """

    def __init__(self, threads: int, most: int, name: str) -> None:
        self.most = most
        self.pending = 0
        self._pool = ThreadPoolExecutor(threads, name)

    async def run(self, work: Callable[..., A], *given: object) -> A:
        """Returns what the work returns.

        Raises:
            BusyError: There is no room for it.
        """
        if self.pending >= self.most:
            raise BusyError
        self.pending += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work, *given)
        finally:
            self.pending -= 1

    def stop(self) -> None:
        """Stops the threads; queued work is dropped."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _fail(taken: Sequence[tuple[J, asyncio.Future[R]]], error: Exception) -> None:
    for _, future in taken:
        if not future.done():
            future.set_exception(error)


def _guarded(work: Callable[[Sequence[J]], Sequence[R]], jobs: Sequence[J]) -> Sequence[R]:
    """Runs the work; exceptions that would end the process (SystemExit ...) become a RuntimeError."""
    try:
        results = work(jobs)
        if len(results) != len(jobs):
            raise RuntimeError(f"{len(results)} results for {len(jobs)} jobs")
        return results
    except (SystemExit, KeyboardInterrupt, GeneratorExit) as error:
        raise RuntimeError(f"{type(error).__name__} in the worker") from error
