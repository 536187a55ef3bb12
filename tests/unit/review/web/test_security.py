"""Closed by default: what must be refused is refused, each without a trace of our insides."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from starlette.testclient import TestClient

from knowngood.errors import ConfigError
from knowngood.review.serving import check_host, is_loopback
from knowngood.review.station import Station

Ask = Callable[..., TestClient]
Make = Callable[..., Station]
Word = Callable[[TestClient], str]
HTML = {"accept": "text/html"}


def sent(client: TestClient, data: bytes, name: str = "x.png", **fields: str):  # type: ignore[no-untyped-def]
    return client.post("/v1/inspect", files={"images": (name, data, "image/png")}, data=fields)


def picture(parts: Path) -> bytes:
    return next((parts / "chip").iterdir()).read_bytes()


def zipped() -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("a.png", b"x")
    return made.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"hello",
        zipped(),
        b"GIF89a<script>alert(1)</script>",
        b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
        b"\x89PNG\r\n\x1a\n" + zipped(),
        b"\xff\xd8\xff\xe0<html>",
        b"P6 99999 99999 255\n",
    ],
)
def test_what_is_no_photograph_is_told_so(client: TestClient, data: bytes) -> None:
    answer = sent(client, data)
    assert answer.status_code == 200
    assert answer.json()["results"][0]["decision"] is None
    assert "Traceback" not in answer.text


def test_a_photograph_that_is_also_an_archive_goes_out_as_pixels_only(
    client: TestClient, station: Station, parts: Path
) -> None:
    number = sent(client, picture(parts) + zipped()).json()["results"][0]["inspection"]
    for name in ("photo.png", "small.jpg"):
        assert b"PK\x03\x04" not in client.get(f"/pictures/{number}/{name}").content


@pytest.mark.parametrize("told", [True, False])
def test_a_request_that_is_too_large_is_cut_off(make_station: Make, ask: Ask, told: bool) -> None:
    client = ask(make_station(max_mb=1))
    body = b"x" * 3_000_000

    def pieces() -> Iterator[bytes]:
        for start in range(0, len(body), 100_000):
            yield body[start : start + 100_000]

    kind = {"content-type": "multipart/form-data; boundary=b"}
    answer = client.post("/v1/inspect", content=body if told else pieces(), headers=kind)
    assert answer.status_code == 413


def test_too_many_bytes_or_pixels_of_one_photograph(make_station: Make, ask: Ask) -> None:
    client = ask(make_station(max_mb=1, max_megapixels=1))
    large = io.BytesIO()
    Image.new("1", (4000, 4000)).save(large, "PNG")  # a few kilobytes that unfold
    assert "pixels" in sent(client, large.getvalue()).json()["results"][0]["error"]
    assert "1 MB" in sent(client, b"x" * 1_500_000).json()["results"][0]["error"]


def test_too_many_photographs_or_senders(make_station: Make, ask: Ask, parts: Path) -> None:
    files = [("images", (f"{n}.png", b"x", "image/png")) for n in range(5)]
    assert ask(make_station(max_images=4)).post("/v1/inspect", files=files).status_code == 413
    assert ask(make_station(queue_size=4)).post("/v1/inspect", files=files).status_code == 413
    slow = ask(make_station(rate=0.001))
    answers = [slow.get("/v1/recipe") for _ in range(3)]
    assert slow.get("/health/live").status_code == 200  # whoever starts the station may always ask
    assert answers[-1].status_code == 429
    assert int(answers[-1].headers["retry-after"]) > 0


@pytest.mark.parametrize("name", ["../../../etc/passwd", "..\\..\\x.png", "/etc/passwd", "a\x00b.png", "x" * 5000])
def test_no_name_becomes_a_path(client: TestClient, station: Station, parts: Path, name: str, tmp_path: Path) -> None:
    answer = sent(client, picture(parts), name, unit=name[:150], lot=name[:150])
    assert answer.status_code in (200, 400, 422), answer.text
    shelf = station.settings.shelf
    files = {p for p in tmp_path.rglob("*") if p.is_file() and ".db" not in p.name}
    assert all(p.is_relative_to(shelf) and p.name == p.name.strip("./\\") and len(p.name) == 64 for p in files)


@pytest.mark.parametrize(
    "path",
    [
        "/static/../store/schema.py",
        "/static/%2e%2e/store/schema.py",
        "/static/..%2f..%2fstore/schema.py",
        "/static//etc/passwd",
        "/pictures/..%2f1/photo.png",
        "/pictures/99999999999999999999/photo.png",
        "/pictures/0/photo.png",
        "/pictures/-1/photo.png",
        "/v1/units/..%2f..%2fetc%2fpasswd",
        "/recipes/../../etc/passwd",
        "/units/story?unit=%00",
    ],
)
def test_no_path_leads_out(client: TestClient, path: str) -> None:
    assert client.get(path).status_code in (404, 422)


def test_from_elsewhere_a_token_is_needed(make_station: Make, ask: Ask, parts: Path) -> None:
    station = make_station(open=False)
    nobody, forged = ask(station), ask(station, "kg_forged")
    for client in (nobody, forged):
        assert sent(client, picture(parts)).status_code == 401
        for path in ("/metrics", "/v1/recipe", "/v2/models/x", "/v1/units/x"):
            assert client.get(path).status_code == 401
    for path in ("/queue", "/threshold", "/data/manifest.csv", "/pictures/1/photo.png", "/recipes/1/recipe.json"):
        assert nobody.get(path, follow_redirects=False).status_code == 303
        assert nobody.get(path, follow_redirects=False).headers["location"] == "/sign-in"
    assert nobody.post("/queue/next", json={"tab": "a" * 24}).status_code == 403
    assert station.record.inspections.search() == []
    nobody.cookies.set("kg_session", "forged")
    assert nobody.get("/queue", follow_redirects=False).status_code == 303


def test_roles(make_station: Make, ask: Ask, parts: Path) -> None:
    station = make_station(open=False)
    tokens = {role: station.record.people.add(role, role) for role in ("operator", "engineer", "auditor")}
    clients = {role: ask(station, token) for role, token in tokens.items()}
    assert [sent(clients[r], picture(parts)).status_code for r in clients] == [200, 200, 403]
    moved = {"low": "0.2", "high": "0.2", "why": "x"}
    codes = [clients[r].post("/threshold", data=moved, follow_redirects=False).status_code for r in clients]
    assert codes == [403, 303, 403]
    assert [clients[r].post("/queue/next", json={"tab": "a" * 24}).status_code for r in clients] == [200, 200, 403]
    assert [clients[r].get("/recipes").status_code for r in clients] == [200, 200, 200]
    station.record.people.revoke("operator")
    assert clients["operator"].get("/queue").status_code == 401


FREE = (
    "/health/",
    "/v2/health",
    "/sign-in",
    "/report.css",
    "/openapi.json",
    "/static",
)  # what nobody needs a token for


def test_every_route_knows_who_asks(make_station: Make, ask: Ask) -> None:
    """Each route of the application by five identities: nobody is let in by a route that forgot to ask."""
    station = make_station(open=False, rate=1e6)
    people = {role: station.record.people.add(role, role) for role in ("operator", "engineer", "auditor")}
    clients = {who: ask(station, token) for who, token in {**people, "nobody": None, "forged": "kg_forged"}.items()}
    document = clients["engineer"].get("/openapi.json").json()["paths"]
    told = [(method.upper(), path) for path, methods in document.items() for method in methods]
    routes = [*told, *sorted(pages_of(clients["engineer"].app))]
    assert len(routes) >= 45
    for method, path in routes:
        filled = re.sub(r"\{[^}]*\}", "1", path)
        for who, client in clients.items():
            code = client.request(method, filled, follow_redirects=False).status_code
            free = filled == "/v2" or filled.startswith(FREE)
            assert code < 500 or (free and code == 503), (who, method, filled, code)
            if who in ("nobody", "forged") and not free:
                assert code in (303, 401, 403, 404, 421), (who, method, filled, code)
            if who == "auditor" and method == "POST" and filled not in ("/sign-in", "/sign-out", "/units/replay"):
                assert code in (401, 403), (who, method, filled, code)
    assert station.record.inspections.search() == []


def pages_of(app: Any) -> set[tuple[str, str]]:
    """Returns method and path of every page, which the document of the API leaves out."""
    from knowngood.review.web import pages

    return {(method, route.path) for router in pages.ROUTERS for route in router.routes for method in route.methods}


def test_signing_in_and_out(make_station: Make, ask: Ask) -> None:
    station = make_station(open=False)
    token = station.record.people.add("ann", "engineer")
    client = ask(station)

    def word() -> str:
        return client.get("/sign-in").text.split('name="csrf" content="')[1].split('"')[0]

    assert client.post("/sign-in", data={"token": token}).status_code == 403  # not from our page
    assert client.post("/sign-in", data={"token": "kg_wrong", "csrf": word()}).status_code == 401
    done = client.post("/sign-in", data={"token": token, "csrf": word()}, follow_redirects=False)
    cookie = done.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert token not in cookie
    assert "ann" in client.get("/queue").text
    api = client.post("/v1/inspect", files={"images": ("x.png", b"x")})
    assert api.status_code == 403  # a browser's cookie does not open the API
    assert client.post("/sign-out", data={"csrf": word()}, follow_redirects=False).status_code == 303
    assert client.get("/queue", follow_redirects=False).status_code == 303


def test_guessing_tokens_is_slow(make_station: Make, ask: Ask) -> None:
    client = ask(make_station(open=False))
    word = client.get("/sign-in").text.split('name="csrf" content="')[1].split('"')[0]
    codes = [client.post("/sign-in", data={"token": f"kg_{n}", "csrf": word}).status_code for n in range(14)]
    assert codes[-1] == 429


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://[::1"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_another_site_changes_nothing(
    client: TestClient, station: Station, parts: Path, headers: dict[str, str], page_word: Word
) -> None:
    word = page_word(client)
    moved = {"low": "0.2", "high": "0.2", "why": "x", "csrf": word}
    assert client.post("/threshold", data=moved, headers=headers).status_code == 403
    files = {"images": ("x.png", picture(parts), "image/png")}
    assert client.post("/v1/inspect", files=files, headers=headers).status_code == 403
    assert station.record.inspections.search() == []
    assert len(station.record.revisions.everything()) == 1


@pytest.mark.parametrize("word", [None, "", "0" * 64, "é"])
def test_a_change_without_the_pages_word_is_refused(
    client: TestClient, station: Station, word: str | None, page_word: Word
) -> None:
    page_word(client)
    moved = {"low": "0.2", "high": "0.2", "why": "x"} | ({} if word is None else {"csrf": word})
    assert client.post("/threshold", data=moved).status_code == 403
    for path in ("next", "verdict", "skip", "undo", "keep", "release"):
        assert client.post(f"/queue/{path}", json={"tab": "a" * 24}).status_code == 403
    assert len(station.record.revisions.everything()) == 1


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8080", "localhost.evil.example", ""])
def test_a_name_that_was_made_to_point_here_is_refused(client: TestClient, host: str) -> None:
    assert client.get("/queue", headers={"host": host}).status_code == 421


def test_names_are_shown_and_never_run(client: TestClient, parts: Path) -> None:
    evil = "<script>alert(1)</script>"
    breaking = '"><img src=x onerror=alert(1)>'
    answer = sent(client, picture(parts), f"{evil}.png", unit=evil, lot=breaking, machine=breaking)
    assert answer.status_code == 200
    for path in (
        "/units",
        "/lots",
        "/lots?by=machine",
        "/queue",
        "/data",
        f"/units/story?unit={evil}",
        f"/units?q={evil}",
    ):
        answer = client.get(path)
        assert answer.status_code == 200
        assert evil not in answer.text
        assert "<img src=x" not in answer.text
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy


def test_every_answer_carries_the_headers(client: TestClient) -> None:
    for path in ("/queue", "/health/live", "/nothing", "/static/queue.js", "/openapi.json"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert "server" not in headers


def test_what_breaks_inside_stays_inside(client: TestClient, station: Station) -> None:
    with station.record.database.writing() as connection:
        connection.exec_driver_sql("DROP TABLE queue")
    answer = client.get("/queue", headers=HTML)
    assert answer.status_code == 500
    assert "log" in answer.text
    for secret in ("Traceback", "sqlite", "queue", ".py"):
        assert secret not in answer.text


def test_pages_from_elsewhere_are_not_needed(client: TestClient) -> None:
    for path in ("/queue", "/threshold", "/units", "/lots", "/data", "/recipes", "/api", "/sign-in"):
        page = client.get(path).text
        assert 'src="http' not in page
        assert 'href="http' not in page


def test_others_are_let_in_only_with_tokens(station: Station) -> None:
    assert [is_loopback(h) for h in ("localhost", "127.0.0.1", "::1", "0.0.0.0", "10.0.0.1", "example.com")] == [
        True,
        True,
        True,
        False,
        False,
        False,
    ]
    check_host(station, "127.0.0.1")
    with pytest.raises(ConfigError, match="nobody has a token"):
        check_host(station, "0.0.0.0")
    station.record.people.add("ann", "engineer")
    check_host(station, "0.0.0.0")
    station.record.people.revoke("ann")
    with pytest.raises(ConfigError):
        check_host(station, "0.0.0.0")
