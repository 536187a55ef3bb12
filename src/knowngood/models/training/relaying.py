"""Progress across processes: one sends what it would report, the other reports it here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from knowngood.errors import KnownGoodError
from knowngood.progress import Reporter


class Sending:
    """Reporter of another process: sends what it is told."""

    def __init__(self, told: Any) -> None:
        self.told, self.last = told, 0

    def start(self, title: str, total: int | None, done: int = 0) -> int:
        self.last += 1
        self.told.put(("start", self.last, title, total, done))
        return self.last

    def advance(self, task: int, steps: int = 1, note: str = "") -> None:
        self.told.put(("advance", task, steps, note))

    def finish(self, task: int) -> None:
        self.told.put(("finish", task))

    def say(self, message: str) -> None:
        self.told.put(("say", message))


@dataclass
class Receiving:
    """Hands on what another process tells, and keeps the first error of any."""

    to: Reporter
    tasks: dict[int, int] = field(default_factory=dict)  # theirs to ours
    error: KnownGoodError | None = None

    def hear(self, told: Any) -> None:
        """Takes all that waits in the queue."""
        while not told.empty():
            match told.get():
                case KnownGoodError() as error:
                    self.error = self.error or error
                case "start", task, *what:
                    self.tasks[task] = self.to.start(*what)
                case "advance", task, steps, note:
                    self.to.advance(self.tasks[task], steps, note)
                case "finish", task:
                    self.to.finish(self.tasks.pop(task))
                case "say", message:
                    self.to.say(message)
