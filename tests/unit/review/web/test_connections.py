"""Connections that send nothing, or slowly, or too much: nobody else waits for them."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from knowngood.review.serving import server_of
from knowngood.review.station import Station
from knowngood.review.web.connections import BoundedProtocol, Limits
from knowngood.review.web.factory import make_app

PART = b'--b\r\nContent-Disposition: form-data; name="images"; filename="a.png"\r\n\r\n'
HEAD = b"POST /v1/inspect HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=b\r\n"


class Quick(BoundedProtocol):
    """The same with patience that a test has."""

    limits = Limits(total=60, each=40, spare=10, head=1.0, grace=1.0, speed=20_000.0, taking=1.0, every=0.1)


class Live:
    """A station that really listens."""

    def __init__(self, station: Station, protocol: type[BoundedProtocol]) -> None:
        self.socket = socket.socket()
        self.socket.bind(("127.0.0.1", 0))
        self.port = int(self.socket.getsockname()[1])
        self.server = server_of(make_app(station))
        self.server.config.http = protocol
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.socket]}, daemon=True)
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join()
        self.socket.close()

    def open(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def get(self, path: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        finally:
            connection.close()

    def post(self, data: bytes) -> int:
        body = (
            b'--b\r\nContent-Disposition: form-data; name="images"; filename="a.png"\r\n\r\n' + data + b"\r\n--b--\r\n"
        )
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("POST", "/v1/inspect", body, {"content-type": "multipart/form-data; boundary=b"})
            return connection.getresponse().status
        finally:
            connection.close()


@pytest.fixture
def listen(station: Station) -> Iterator[Callable[..., Live]]:
    """Starts the station: listen(Quick)."""
    live: list[Live] = []

    def start(protocol: type[BoundedProtocol] = BoundedProtocol, of: Station | None = None) -> Live:
        live.append(Live(of or station, protocol))
        return live[-1]

    yield start
    for one in live:
        one.stop()


@pytest.fixture
def crowd() -> Iterator[list[socket.socket]]:
    """Connections that are closed in the end."""
    made: list[socket.socket] = []
    yield made
    for one in made:
        one.close()


def is_closed(connection: socket.socket) -> bool:
    """Waits for the other end to close; what it says before is read."""
    try:
        while connection.recv(65536):
            pass
    except (ConnectionResetError, BrokenPipeError):
        pass
    except TimeoutError:
        return False
    return True


def picture(parts: Path) -> bytes:
    return next((parts / "chip").iterdir()).read_bytes()


def test_1100_idle_connections_keep_nobody_out(
    listen: Callable[..., Live], crowd: list[socket.socket], parts: Path
) -> None:
    live = listen()
    for _ in range(1100):
        crowd.append(live.open())
    for path in ("/health/live", "/health/ready", "/queue"):
        assert live.get(path) == 200
    assert live.post(picture(parts)) == 200
    assert len(live.server.server_state.connections) <= 512


@pytest.mark.parametrize(
    "sent", [b"GET /queue HTTP/1.1\r\nHost: loc", HEAD + b"Content-Length: 1000000\r\n\r\n--b\r\n"]
)
def test_200_slow_clients_keep_nobody_out_and_are_ended(
    listen: Callable[..., Live], crowd: list[socket.socket], parts: Path, sent: bytes
) -> None:
    live = listen(Quick)
    for n in range(200):
        crowd.append(live.open())
        with contextlib.suppress(OSError):
            crowd[-1].sendall(sent)
        if n % 50 == 49:
            assert live.get("/health/ready") == 200
            assert live.post(picture(parts)) == 200
    done = threading.Event()

    def drip() -> None:
        while not done.wait(0.1):
            for one in crowd:
                with contextlib.suppress(OSError):
                    one.send(b"x")

    dripping = threading.Thread(target=drip)
    dripping.start()
    try:
        assert all(is_closed(one) for one in crowd)
    finally:
        done.set()
        dripping.join()
    assert live.get("/queue") == 200


def test_a_client_that_does_not_take_its_answer_is_ended(
    listen: Callable[..., Live], crowd: list[socket.socket]
) -> None:
    live = listen(Quick)
    for _ in range(5):
        greedy = socket.socket()
        greedy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        greedy.connect(("127.0.0.1", live.port))
        crowd.append(greedy)
        request = b"GET /report.css HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2000
        greedy.settimeout(0.5)
        with contextlib.suppress(OSError):
            greedy.sendall(request)
    until = time.monotonic() + 20
    while live.server.server_state.connections:
        assert time.monotonic() < until
        time.sleep(0.05)
    assert live.get("/queue") == 200


def test_who_is_not_known_is_told_so_before_the_body_is_read(
    listen: Callable[..., Live], make_station: Callable[..., Station], crowd: list[socket.socket]
) -> None:
    station = make_station(open=False)
    token = station.record.people.add("eve", "auditor")
    live = listen(Quick, station)
    for more, status in (
        (b"", b"401"),
        (b"Authorization: Bearer x\r\n", b"401"),
        (b"Authorization: Bearer %s\r\n" % token.encode(), b"403"),
    ):
        asking = live.open()
        crowd.append(asking)
        asking.sendall(HEAD + more + b"Content-Length: 60000000\r\n\r\n--b\r\n")
        assert asking.recv(65536).split()[1] == status  # although 60 MB are to come
        sent = 0
        with contextlib.suppress(OSError):
            while sent < 60_000_000:
                sent += asking.send(bytes(1 << 16))
        assert sent < 20_000_000
    assert live.get("/health/live") == 200


def test_a_body_in_pieces_is_cut_at_the_limit(
    listen: Callable[..., Live], make_station: Callable[..., Station], crowd: list[socket.socket]
) -> None:
    live = listen(Quick, make_station(max_mb=1))
    asking = live.open()
    crowd.append(asking)
    asking.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n" % (len(PART), PART))
    sent = 0
    with contextlib.suppress(OSError):
        while sent < 30_000_000:
            asking.sendall(b"10000\r\n" + bytes(1 << 16) + b"\r\n")
            sent += 1 << 16
    assert sent < 20_000_000
    told = b""
    with contextlib.suppress(OSError):
        told = asking.recv(65536)
    assert told.split()[1:2] in ([b"413"], [])
    assert live.get("/health/live") == 200


def test_large_requests_at_once_are_bounded_together(
    listen: Callable[..., Live], make_station: Callable[..., Station], crowd: list[socket.socket], parts: Path
) -> None:
    live = listen(BoundedProtocol, make_station(max_request_bytes=3_000_000))
    codes = []
    for _ in range(4):
        asking = live.open()
        crowd.append(asking)
        asking.sendall(HEAD + b"Content-Length: 20000000\r\n\r\n" + PART)
        with contextlib.suppress(OSError):
            for _ in range(20):
                asking.sendall(bytes(50_000))
    for asking in crowd:
        asking.settimeout(1)
        with contextlib.suppress(OSError):
            codes.append(asking.recv(65536).split()[1])
    assert set(codes) == {b"503"}
    assert live.get("/health/ready") == 200
    for one in crowd:
        one.close()
    while live.post(picture(parts)) != 200:
        time.sleep(0.05)


def test_when_all_connections_are_at_work_health_is_answered(
    listen: Callable[..., Live], station: Station, crowd: list[socket.socket], parts: Path
) -> None:
    class Few(Quick):
        limits = Limits(total=4, each=4, spare=3)

    live = listen(Few)
    gate = threading.Event()
    senders = [threading.Thread(target=live.post, args=(picture(parts),)) for _ in range(4)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(station.inspector, "prepare", _waiting(gate, station.inspector.prepare))
        for one in senders:
            one.start()
        while sum(one.stage == 3 for one in list(live.server.server_state.connections)) < 4:
            time.sleep(0.02)
        assert live.get("/health/live") == 200
        assert live.get("/queue") == 503
        gate.set()
        for one in senders:
            one.join()
    assert live.get("/queue") == 200


def _waiting(gate: threading.Event, work: Callable[..., object]) -> Callable[..., object]:
    def wait(*given: object) -> object:
        gate.wait(20)
        return work(*given)

    return wait
