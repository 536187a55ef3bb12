"""Progress on stderr: a bar with an ETA on a terminal, plain lines with an ETA in a log."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import TextIO

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class Bars:
    """Progress bars on a terminal."""

    def __init__(self, stream: TextIO) -> None:
        self.console = Console(file=stream)
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self.console,
            transient=True,
        )

    def start(self, title: str, total: int | None, done: int = 0) -> int:
        return self.progress.add_task(escape(title), total=total, completed=done, note="")

    def advance(self, task: int, steps: int = 1, note: str = "") -> None:
        self.progress.update(TaskID(task), advance=steps, note=escape(note))

    def finish(self, task: int) -> None:
        self.progress.remove_task(TaskID(task))

    def say(self, message: str) -> None:
        self.console.print(escape(message), highlight=False)

    def __enter__(self) -> Bars:
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.stop()


@dataclass
class _Task:
    title: str
    total: int | None
    done: int
    before: int  # done by an earlier run: it says nothing about the rate of this one
    began: float = field(default_factory=time.monotonic)
    told: float = field(default_factory=time.monotonic)


class Lines:
    """One line every so often, for logs."""

    EVERY = 15.0  # seconds between lines of one task

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.tasks: dict[int, _Task] = {}
        self.next = 0

    def start(self, title: str, total: int | None, done: int = 0) -> int:
        self.next += 1
        self.tasks[self.next] = _Task(title, total, done, done)
        return self.next

    def advance(self, task: int, steps: int = 1, note: str = "") -> None:
        one = self.tasks[task]
        one.done += steps
        now = time.monotonic()
        if now - one.told >= self.EVERY:
            one.told = now
            self.say(f"{one.title}: {one.done}{_rest(one, now)}{'  ' + note if note else ''}")

    def finish(self, task: int) -> None:
        one = self.tasks.pop(task)
        spent = time.monotonic() - one.began
        if spent >= 1:
            self.say(f"{one.title}: {one.done} done in {spent:.0f} s")

    def say(self, message: str) -> None:
        print(message, file=self.stream, flush=True)

    def __enter__(self) -> Lines:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


def reporter_for(stream: TextIO) -> Bars | Lines:
    """Returns bars for a terminal, lines for anything else."""
    return Bars(stream) if stream.isatty() else Lines(stream)


def _rest(task: _Task, now: float) -> str:
    if not task.total or task.done <= task.before:
        return ""
    left = (now - task.began) / (task.done - task.before) * max(0, task.total - task.done)
    return f" of {task.total}, {left:.0f} s left"
