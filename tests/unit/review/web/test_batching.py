"""Many senders, one worker: nothing that was accepted is lost, and too many are told so."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from knowngood.review.batching import Batcher, BusyError


def test_what_gathers_while_one_batch_is_worked_on_is_the_next_batch() -> None:
    gate, sizes = threading.Event(), []

    def work(jobs: Sequence[int]) -> list[int]:
        sizes.append(len(jobs))
        gate.wait(10)
        return [2 * job for job in jobs]

    async def run() -> list[list[int]]:
        batcher: Batcher[int, int] = Batcher(work, 4, 100)
        batcher.start()
        first = asyncio.create_task(batcher.submit([0]))
        while not sizes:
            await asyncio.sleep(0.001)
        rest = [asyncio.create_task(batcher.submit([n])) for n in range(1, 7)]
        await asyncio.sleep(0)
        gate.set()
        answers = await asyncio.gather(first, *rest)
        await batcher.stop()
        return answers

    assert asyncio.run(run()) == [[2 * n] for n in range(7)]
    assert sizes == [1, 4, 2]


def test_too_many_are_refused_whole_and_stopping_finishes_what_was_accepted() -> None:
    gate, done = threading.Event(), []

    def work(jobs: Sequence[int]) -> list[int]:
        gate.wait(10)
        done.extend(jobs)
        return list(jobs)

    async def run() -> None:
        batcher: Batcher[int, int] = Batcher(work, 2, 3)
        batcher.start()
        accepted = asyncio.create_task(batcher.submit([1, 2]))
        await asyncio.sleep(0.01)
        with pytest.raises(BusyError):
            await batcher.submit([3, 4])
        gone = asyncio.create_task(batcher.submit([5]))
        await asyncio.sleep(0.01)
        gone.cancel()  # its sender hangs up
        stopping = asyncio.create_task(batcher.stop())
        await asyncio.sleep(0.01)
        gate.set()
        await stopping
        assert await accepted == [1, 2]

    asyncio.run(run())
    assert done == [1, 2, 5]


def test_a_batch_that_fails_tells_its_senders_and_the_next_one_is_worked_on() -> None:
    def work(jobs: Sequence[int]) -> list[int]:
        if 0 in jobs:
            raise ValueError("zero")
        return list(jobs)

    async def run() -> None:
        batcher: Batcher[int, int] = Batcher(work, 1, 9)
        batcher.start()
        with pytest.raises(ValueError, match="zero"):
            await batcher.submit([0])
        assert await batcher.submit([7]) == [7]
        await batcher.stop()

    asyncio.run(run())
