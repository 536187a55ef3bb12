"""Limits of connections: idle and slow clients cannot keep others out.

uvicorn itself limits only how long a connection idles after an answer. Here a connection has a time for its head, a
least speed for its body, and a time in which its answer has to be taken; there are so many at most, of one address and
in all. One more than that ends the one that has waited longest without a whole request. Only where all of them are
being worked on is the new one refused, and even then it is answered about health.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import Any, ClassVar

import h11
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

HEALTH = ("/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready")
_FILES = 4096  # open files that a busy station has at most
_IDLE, _HEAD, _BODY, _WORK = range(4)  # how far a connection's request has come


@dataclass(frozen=True)
class Limits:
    """Limits of one connection.

    Attributes:
        total: Connections at once.
        each: Connections of one address at once.
        spare: Connections beyond `total` that are only answered about health.
        head: Seconds for the head of a request.
        grace: Seconds for a body at any speed.
        speed: Bytes a second of a body after that, on average.
        taking: Seconds in which a client has to take some of its answer.
        rest: Bytes of a body that are read and thrown away after the answer was given, so that it arrives.
        every: Seconds between two checks of a connection.
    """

    total: int = 512
    each: int = 256
    spare: int = 64
    head: float = 10.0
    grace: float = 20.0
    speed: float = 20_000.0
    taking: float = 30.0
    rest: int = 1 << 20
    every: float = 1.0


class BoundedProtocol(H11Protocol):
    """Protocol of one connection, with limits of time."""

    limits: ClassVar[Limits] = Limits()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Counts the connection, and closes an idle one where there are too many."""
        self._since: float | None = self.loop.time()  # when the head or the body started; None between two requests
        self._partial = False  # whether a part of a head is there
        self._got = 0  # bytes of the body
        self._answered: float | None = None  # when a request was answered that is still being sent
        self._taken: tuple[int, float] = (0, self.loop.time())  # bytes of the answer that wait to be taken, since when
        self._timer = self.loop.call_later(self.limits.every, self._check)
        super().connection_made(transport)  # from here on others count it
        self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stops its timer."""
        self._timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Receives bytes of a head or a body."""
        if self._since is None:
            self._since = self.loop.time()
        if self.conn.their_state is h11.IDLE:
            self._partial = True
        elif self.conn.their_state is h11.SEND_BODY:
            self._got += len(data)
            if self._answered is not None and self._got > self.limits.rest:
                self.transport.close()
                return
        super().data_received(data)

    def handle_events(self) -> None:
        """Records when a head ends and a body starts."""
        before = self.conn.their_state
        super().handle_events()
        self._partial = self._partial and self.conn.their_state is h11.IDLE
        if before is h11.IDLE and self.conn.their_state is h11.SEND_BODY:
            self._since, self._got, self._answered = self.loop.time(), 0, None

    def on_response_complete(self) -> None:
        """Records that the answer was sent."""
        if self.conn.their_state is h11.SEND_BODY:  # answered before its body was there
            self._answered, self._got = self.loop.time(), 0
        else:
            self._since = None
        super().on_response_complete()

    @property
    def stage(self) -> int:
        """State of the request: nothing received, part of the head, part of the body, complete."""
        their = self.conn.their_state
        if their is h11.SEND_BODY:
            return _BODY
        if their is not h11.IDLE or (self.cycle is not None and not self.cycle.response_complete):
            return _WORK
        return _HEAD if self._partial else _IDLE

    def _make_room(self) -> None:
        others = [one for one in self.connections if one is not self and isinstance(one, BoundedProtocol)]
        host = self.client[0] if self.client else None
        alike = [one for one in others if one.client is not None and one.client[0] == host]
        for crowd, most in ((alike, self.limits.each), (others, self.limits.total)):
            there = [one for one in crowd if not one.transport.is_closing()]
            if len(there) < most:
                continue
            waiting = [one for one in there if one.stage != _WORK]
            if waiting:
                min(waiting, key=lambda one: (one.stage, one._since or 0.0)).transport.abort()
            elif len(there) < most + self.limits.spare:
                self.app = _health_only(self.app)
            else:
                self.transport.abort()
                return

    def _check(self) -> None:
        """Closes the connection where it takes too long."""
        now = self.loop.time()
        self._timer = self.loop.call_later(self.limits.every, self._check)
        waits = self.transport.get_write_buffer_size()
        if not waits or waits != self._taken[0]:
            self._taken = (waits, now)
        elif now - self._taken[1] > self.limits.taking:
            self.transport.abort()
            return
        if self.transport.is_closing() or self._since is None:
            return
        stage, took = self.stage, now - self._since
        if stage in (_IDLE, _HEAD):
            if took > self.limits.head:
                self.transport.close()
        elif stage == _BODY:
            if self.flow.read_paused:  # we are slow, not they
                self._since += self.limits.every
            elif self._answered is not None:
                if now - self._answered > self.limits.head:
                    self.transport.close()
            elif took > self.limits.grace + self._got / self.limits.speed:
                self._too_slow()

    def _too_slow(self) -> None:
        if not self.cycle.response_started:
            answer = b"The request came too slowly."
            headers = [("content-type", "text/plain"), ("connection", "close"), ("content-length", str(len(answer)))]
            for event in (
                h11.Response(status_code=408, headers=headers),
                h11.Data(data=answer),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")
        self.cycle.disconnected = True
        self.cycle.message_event.set()
        self.transport.close()


def room_for_connections() -> None:
    """Raises this process's limit of open files to what all connections and the record need."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _health_only(app: Any) -> Any:
    """Returns an application that answers about health, and everything else with 503."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in HEALTH:
            await app(scope, receive, send)
            return
        answer = {"error": {"what": "Too many connections.", "expected": None, "fix": "Try again in a moment."}}
        await JSONResponse(answer, 503, {"retry-after": "1", "connection": "close"})(scope, receive, send)

    return answer
