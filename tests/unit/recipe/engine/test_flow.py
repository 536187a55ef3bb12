"""Ordered work in threads: bounded, in order, errors in their place, nothing left over."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from knowngood.recipe.engine import grouped, prefetch_map


def test_results_come_in_order_however_long_they_take():
    def work(number):
        time.sleep(0.002 * (number % 5 == 0))
        return number

    with ThreadPoolExecutor(3) as pool:
        assert list(prefetch_map(pool, work, range(50), 7)) == list(range(50))
        assert list(prefetch_map(pool, work, [], 7)) == []


def test_no_more_is_taken_than_the_window():
    taken, most = 0, 0

    def items():
        nonlocal taken
        for number in range(40):
            taken += 1
            yield number

    with ThreadPoolExecutor(2) as pool:
        for done, _ in enumerate(prefetch_map(pool, lambda n: n, items(), 5)):
            most = max(most, taken - done)
    assert most == 5


def test_a_consumer_that_leaves_cancels_what_has_not_begun():
    begun = []
    gate = threading.Event()

    def work(number):
        begun.append(number)
        if number:
            gate.wait(5)

    with ThreadPoolExecutor(1) as pool:
        running = prefetch_map(pool, work, range(100), 10)
        next(running)
        running.close()
        gate.set()
    assert len(begun) <= 3


def test_an_error_is_raised_in_its_place():
    def work(number):
        if number == 2:
            raise ValueError("two")
        return number

    with ThreadPoolExecutor(2) as pool:
        running = prefetch_map(pool, work, range(5), 3)
        assert [next(running), next(running)] == [0, 1]
        with pytest.raises(ValueError, match="two"):
            next(running)


def test_groups_hold_so_many_that_count():
    groups = list(grouped(range(20), 3, lambda n: n % 2 == 0))
    assert [sum(n % 2 == 0 for n in group) for group in groups] == [3, 3, 3, 1]
    assert [n for group in groups for n in group] == list(range(20))
    assert [len(group) for group in grouped(range(20), 3, lambda _: False)] == [12, 8]
    assert list(grouped([], 3, lambda _: True)) == []
