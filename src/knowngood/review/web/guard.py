"""Middleware of every request: limits of size, origin and rate, and the security headers of every answer."""

from __future__ import annotations

import errno
import logging
import time
from collections import OrderedDict
from urllib.parse import urlsplit

from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from knowngood.review.settings import Settings
from knowngood.review.web.connections import HEALTH

SAFE = ("GET", "HEAD", "OPTIONS")
LOOPBACK = ("localhost", "127.0.0.1", "::1", "[::1]")
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}
_SENDERS = 10_000  # whose rate is remembered
_TAKES_PHOTOGRAPHS = ("/v1/inspect", "/v2/")
_SMALL = 1 << 16  # bytes of a request to anything else
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE)

log = logging.getLogger("knowngood.review")


class Rate:
    """Token bucket for each sender: a rate per second and a burst of twice that.

    Args:
        rate: Requests a second.
        burst: Requests at once.
    """

    def __init__(self, rate: float, burst: float) -> None:
        self.rate, self.burst = rate, burst
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, sender: str) -> float:
        """Takes one token and returns 0, or returns the seconds until there is one."""
        at = time.monotonic()
        left, before = self._left.pop(sender, (self.burst, at))
        left = min(self.burst, left + (at - before) * self.rate)
        self._left[sender] = (max(left - 1, left if left < 1 else 0.0), at)
        while len(self._left) > _SENDERS:
            self._left.popitem(last=False)
        return 0.0 if left >= 1 else (1 - left) / self.rate


class Guard:
    """ASGI middleware with the limits of the settings.

    Args:
        app: Behind it.
        settings: Limits.
        hosts: Names under which an open station may be spoken to; a page of another name that was made to point
            here (DNS rebinding) is refused.
    """

    def __init__(self, app: ASGIApp, settings: Settings, hosts: tuple[str, ...] = LOOPBACK) -> None:
        self.app, self.settings, self.hosts = app, settings, hosts
        self.rate = Rate(settings.rate, 2 * settings.rate)
        self.in_flight = 0  # bytes of requests that are being received or processed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        started = False
        counted = _Counted(receive, self._most(scope), self)

        async def answer(message: Message) -> None:
            nonlocal started
            if counted.over and not started:
                return  # whatever the application makes of a request that was cut off, the answer is ours
            if message["type"] == "http.response.start":
                started = True
                have = {name.lower() for name, _ in message["headers"]}
                more = [(n.encode(), v.encode()) for n, v in HEADERS.items() if n.encode() not in have]
                message["headers"] = [*message["headers"], *more]
                if b"cache-control" not in have:
                    message["headers"].append((b"cache-control", b"no-store"))
            await send(message)

        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await refusal(scope, receive, answer)
            return
        try:
            await self.app(scope, counted, answer)
        except (_TooLargeError, ClientDisconnect):
            pass
        except Exception as error:
            log.exception("a request failed")  # for us; who asked gets no trace of it
            if not started and not counted.over:
                await _failed(error)(scope, receive, answer)
        finally:
            self.in_flight -= counted.seen
        if counted.over and not started:
            counted.over = False
            await counted.refusal(scope, receive, answer)

    def _refusal(self, scope: Scope, headers: dict[str, str]) -> JSONResponse | None:
        sender = str((scope.get("client") or ("?",))[0])
        wait = 0.0 if scope["path"] in HEALTH else self.rate.wait(sender)
        if wait:
            return _error(429, "Too many requests.", {"retry-after": str(int(wait) + 1)})
        host = headers.get("host", "")
        if self.settings.open and _bare(host) not in self.hosts:
            return _error(421, "This station answers on this computer only.")
        if scope["method"] not in SAFE and not _same_site(headers, host):
            return _error(403, "The request comes from another site.")
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit()):
            return _error(400, "The length of the request is no number.")
        if len(length) > 18 or int(length) > self._most(scope):
            return _error(413, f"The request is too large; at most {self._most(scope):,} bytes are taken.")
        return None

    def _most(self, scope: Scope) -> int:
        """Returns the largest request in bytes."""
        most = self.settings.max_body
        return most if scope["path"].startswith(_TAKES_PHOTOGRAPHS) else min(most, _SMALL)


class _TooLargeError(Exception):
    """The request body is larger than its limit."""


class _Counted:
    """Counts the bytes that really come: a Content-Length may be wrong or missing.

    Args:
        receive: Of the request.
        most: Bytes of it.
        guard: Counts the bytes of all requests.
    """

    def __init__(self, receive: Receive, most: int, guard: Guard) -> None:
        self.receive, self.most, self.guard = receive, most, guard
        self.seen, self.over = 0, False
        self.refusal = _error(413, "The request is too large.")

    async def __call__(self) -> Message:
        message = await self.receive()
        size = len(message.get("body", b""))
        self.seen += size
        self.guard.in_flight += size
        if self.seen > self.most:
            self.over = True
        elif self.guard.in_flight > self.guard.settings.max_request_bytes and self.seen > _SMALL:
            self.over = True
            self.refusal = _error(503, "Too many large requests at once.", {"retry-after": "1"})
        if self.over:
            raise _TooLargeError
        return message


def _same_site(headers: dict[str, str], host: str) -> bool:
    """Returns whether a request that changes something comes from our own pages or from no page at all."""
    if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        return False
    origin = headers.get("origin")
    try:
        return origin is None or urlsplit(origin).netloc == host
    except ValueError:  # no address at all, such as http://[::1
        return False


def _bare(host: str) -> str:
    """Returns a host without its port."""
    return host.rsplit(":", 1)[0] if not host.endswith("]") and ":" in host else host


def _failed(error: Exception) -> JSONResponse:
    """Returns the answer to what nobody foresaw; a full disk is reported as such."""
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        return _error(503, "The station has no room for the request now.", {"retry-after": "5"})
    return _error(500, "This is an error of the station; its log has the details.")


def _error(status: int, what: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": {"what": what, "expected": None, "fix": None}}, status, headers)
