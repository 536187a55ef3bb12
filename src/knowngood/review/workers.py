"""A background thread that repeats a step and survives errors in it."""

from __future__ import annotations

import logging
import threading
import time

from knowngood.errors import KnownGoodError
from knowngood.progress import reporter

log = logging.getLogger("knowngood.review")
_STUCK = 300.0  # seconds without progress after which a worker counts as stuck


class Worker:
    """Runs `step` periodically in a thread of its own until it is stopped.

    A step that raises is reported and repeated; a thread that has died is restarted by `ensure`, which the station
    calls every second.

    Args:
        name: Of the thread, also used in messages.
        every: Seconds between two steps.
    """

    def __init__(self, name: str, every: float) -> None:
        self.name, self.every = name, every
        self.done = threading.Event()
        self.failed: BaseException | None = None  # what the last step raised
        self._thread: threading.Thread | None = None
        self._alive_at = time.monotonic()

    def step(self) -> object:
        """Runs the work once."""
        raise NotImplementedError

    def start(self) -> None:
        """Starts the worker."""
        self._alive_at = time.monotonic()
        self._thread = threading.Thread(target=self._run, daemon=True, name=self.name)
        self._thread.start()

    def stop(self, timeout: float = 10.0) -> None:
        """Stops the worker; waits at most `timeout` seconds for the current step."""
        self.done.set()
        if self._thread is not None:
            self._thread.join(timeout)

    def ensure(self) -> bool:
        """Restarts a thread that has died; returns whether it was alive."""
        dead = self._thread is not None and not self._thread.is_alive() and not self.done.is_set()
        if dead:
            log.error("the worker %s has died and is started anew", self.name)
            self.start()
        return not dead

    def moves(self) -> None:
        """Records progress within a long step."""
        self._alive_at = time.monotonic()

    @property
    def working(self) -> bool:
        """Whether the thread runs and its last step succeeded, or the worker was not started."""
        if self._thread is None:
            return True
        return self._thread.is_alive() and self.failed is None and time.monotonic() - self._alive_at < _STUCK

    def _run(self) -> None:
        while not self.done.is_set():
            self.moves()
            try:
                self.step()
                self.failed = None
            except BaseException as error:  # whatever it is: the next photograph must not pay for it
                self._report(error)
                self.failed = error
            self.done.wait(self.every)

    def _report(self, error: BaseException) -> None:
        if self.failed is not None and str(error) == str(self.failed):
            return  # reported already
        if isinstance(error, KnownGoodError):
            reporter().say(f"{self.name}: {error.what}")
        else:
            log.error("the worker %s goes on after a failure", self.name, exc_info=error)
            reporter().say(f"{self.name}: {type(error).__name__}; it goes on")
