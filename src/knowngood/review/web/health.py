"""Readiness: checks everything that is needed to inspect a photograph and to keep it."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from knowngood.errors import StorageError, UnsignedError
from knowngood.review.batching import Batcher
from knowngood.review.station import Job, Outcome, Station
from knowngood.review.workers import Worker

log = logging.getLogger("knowngood.review")
_PATIENCE = 3.0  # seconds in which record and disk have to answer
_GOOD_FOR = 1.0  # seconds that a written sign of life is believed
EVERY = 1.0  # seconds between two checks of the workers


class Health:
    """Restarts dead workers, and reports what keeps the station from accepting photographs.

    Args:
        station: Whose record, disk and workers.
        batcher: That scores.
        helpers: Workers that are kept alive as well, and that a station is ready without.
    """

    def __init__(self, station: Station, batcher: Batcher[Job, Outcome], helpers: Sequence[Worker] = ()) -> None:
        self.station, self.batcher, self.helpers = station, batcher, helpers
        self.ending = False
        self._name = f"{socket.gethostname()[:60]}:{os.getpid()}"
        self._pool = ThreadPoolExecutor(1, "health")  # its own: busy pages must not delay the health check
        self._asked: asyncio.Future[str | None] | None = None
        self._written_at = float("-inf")

    async def why_not(self) -> str | None:
        """Returns why no photographs are taken now, in words that name no place of this machine; None if they are."""
        if self.ending:
            return "The station is ending."
        if not self.batcher.working:
            return "What scores photographs does not work; it is being started anew."
        for worker in self.station.workers:
            if not worker.working:
                return f"The worker of the {worker.name} does not work; it is being started anew."
        if self._asked is None or self._asked.done():
            self._asked = asyncio.get_running_loop().run_in_executor(self._pool, self._probe)
        try:
            return await asyncio.wait_for(asyncio.shield(self._asked), _PATIENCE)
        except asyncio.TimeoutError:
            return "The record or the disk does not answer."

    async def keep_working(self) -> None:
        """Restarts dead workers until it is cancelled."""
        while True:
            await asyncio.sleep(EVERY)
            self.batcher.ensure()
            for worker in (*self.station.workers, *self.helpers):
                worker.ensure()

    def stop(self) -> None:
        """Ends it."""
        self.ending = True
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _probe(self) -> str | None:
        try:
            _ = self.station.revision  # raises where it was refused meanwhile
            if time.monotonic() - self._written_at > _GOOD_FOR:
                self.station.record.beat(self._name)
                self.station.shelf.check()
                self._written_at = time.monotonic()
        except UnsignedError:
            return "No approved recipe can be served; see the page Recipes."
        except StorageError as error:
            log.warning("not ready: %s", error.what)
            return "The record or the disk for photographs cannot be written."
        except Exception as error:
            log.warning("not ready", exc_info=error)
            return "The record does not work."
        return None
