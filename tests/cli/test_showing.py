"""Progress in a log: what an earlier run has done counts as done, but says nothing about how long the rest takes."""

from __future__ import annotations

import io

import pytest

from knowngood.cli import output as showing


class Clock:
    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(showing, "time", made)
    return made


def told(done: int, clock: Clock) -> str:
    stream = io.StringIO()
    lines = showing.Lines(stream)
    task = lines.start("work", 100, done)
    lines.tasks[task].began = lines.tasks[task].shown = clock.now
    clock.now += 20.0
    lines.advance(task, 10)
    return stream.getvalue()


def test_the_rest_takes_as_long_as_this_run_says(clock: Clock) -> None:
    assert told(0, clock) == "work: 10 of 100, 180 s left\n"
    assert told(50, clock) == "work: 60 of 100, 80 s left\n"
