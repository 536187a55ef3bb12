"""What is wrong with one photograph, one field or one sender costs no other."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import random
import struct
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import text
from starlette.testclient import TestClient

from knowngood.errors import StorageError
from knowngood.review.batching import Batcher
from knowngood.review.station import Job, Station

Ask = Callable[..., TestClient]
Make = Callable[..., Station]


def picture(parts: Path) -> bytes:
    return next((parts / "chip").iterdir()).read_bytes()


def png_of(width: int, height: int) -> bytes:
    """A grey PNG that unfolds to much from little."""
    packer, packed = zlib.compressobj(9), b""
    for _ in range(height):
        packed += packer.compress(bytes(width + 1))
    packed += packer.flush()

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


class Fragile:
    """Breaks a recipe at photographs that are white: in `at`, "fit" or "score"."""

    def __init__(self, station: Station, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
        recipe = station.inspector.recipe
        prepared, score = recipe.prepared, station.session.score

        def breaking_fit(photograph: Any, **options: Any) -> Any:
            if at == "fit" and photograph.pixels.min() == 255:
                raise RuntimeError("not enough memory: you tried to allocate 51 GB")
            return prepared(photograph, **options)

        def breaking_score(pixels: Any) -> Any:
            white = (pixels.reshape(len(pixels), -1).min(1) == 255).any()
            if at == "score" and white:
                raise MemoryError("/secret/place")
            scores = score(pixels)
            return np.where(pixels.reshape(len(pixels), -1).min(1) == 255, np.nan, scores) if at == "nan" else scores

        monkeypatch.setitem(recipe.__dict__, "prepared", breaking_fit)  # a recipe takes no assignment
        monkeypatch.setitem(station.session.__dict__, "score", breaking_score)


def white() -> bytes:
    made = io.BytesIO()
    Image.new("L", (70, 70), 255).save(made, "PNG")
    return made.getvalue()


@pytest.mark.parametrize("at", ["fit", "score", "nan"])
def test_what_breaks_at_one_photograph_is_that_photographs_row(
    client: TestClient, station: Station, parts: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    Fragile(station, monkeypatch, at)
    files = [("images", (f"{n}.png", white() if n == 3 else picture(parts), "image/png")) for n in range(8)]
    answer = client.post("/v1/inspect", files=files)
    assert answer.status_code == 200
    results = answer.json()["results"]
    assert [one["decision"] is None for one in results] == [n == 3 for n in range(8)]
    assert results[3]["error"]
    assert "/secret" not in answer.text
    row = station.record.inspections.one(results[3]["inspection"]) or {}
    assert (row["error"], row["reason"], row["sha256"]) == (results[3]["error"], "cannot be read", row["sha256"])
    assert client.get("/health/ready").status_code == 200


def test_many_senders_at_once_and_one_with_a_photograph_that_breaks(
    client: TestClient, station: Station, parts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Fragile(station, monkeypatch, "score")
    codes: list[tuple[bool, int, bool]] = []

    def send(n: int) -> None:
        bad = n % 6 == 0
        answer = client.post("/v1/inspect", files={"images": ("x.png", white() if bad else picture(parts))})
        codes.append((bad, answer.status_code, answer.json()["results"][0]["decision"] is None))

    threads = [threading.Thread(target=send, args=(n,)) for n in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(set(codes)) == [(False, 200, False), (True, 200, True)]


@pytest.mark.parametrize(("width", "height"), [(1, 4_000), (4_000, 1), (1, 1), (3, 2_000)])
def test_extreme_proportions_cost_nothing_else(client: TestClient, parts: Path, width: int, height: int) -> None:
    files = [("images", ("a.png", picture(parts))), ("images", ("b.png", png_of(width, height)))]
    answer = client.post("/v1/inspect", files=[*files, files[0]], data={"heatmap": "true"})
    assert answer.status_code == 200
    assert [one["decision"] is None for one in answer.json()["results"]][::2] == [False, False]


def test_a_job_that_fails_fails_alone_and_a_dead_worker_is_started_anew() -> None:
    def work(jobs: Sequence[int]) -> list[int]:
        if 13 in jobs:
            raise ValueError("unlucky")
        if 14 in jobs:
            raise SystemExit(1)
        return list(jobs)

    async def run() -> None:
        batcher: Batcher[int, int] = Batcher(work, 8, 100)
        batcher.start()
        sent = [asyncio.create_task(batcher.submit([n])) for n in range(10, 20)]
        results = await asyncio.gather(*sent, return_exceptions=True)
        assert [n for n, r in zip(range(10, 20), results, strict=True) if r != [n]] == [13, 14]
        assert batcher.pending == 0
        assert batcher._task is not None
        batcher._task.cancel()
        await asyncio.sleep(0.01)
        assert not batcher.working
        assert await batcher.submit([7]) == [7]
        assert batcher.working
        await batcher.stop()

    asyncio.run(run())


def test_what_was_accepted_by_a_worker_that_dies_is_told_to_its_senders() -> None:
    gate = threading.Event()

    def work(jobs: Sequence[int]) -> list[int]:
        gate.wait(10)
        return list(jobs)

    async def run() -> None:
        batcher: Batcher[int, int] = Batcher(work, 1, 9)
        batcher.start()
        sent = [asyncio.create_task(batcher.submit([n])) for n in (1, 2)]
        await asyncio.sleep(0.05)
        assert batcher._task is not None
        batcher._task.cancel()
        gate.set()
        with pytest.raises(StorageError):
            await sent[0]
        batcher.ensure()
        assert await sent[1] == [2]
        await batcher.stop()

    asyncio.run(run())


def test_a_dead_worker_makes_the_station_unready_until_it_works_again(client: TestClient, parts: Path) -> None:
    batcher: Batcher[Job, Any] = client.app.state.batcher  # type: ignore[attr-defined]
    assert batcher._task is not None
    ended = threading.Event()
    batcher._task.add_done_callback(lambda _: ended.set())
    client.app.state.loop.call_soon_threadsafe(batcher._task.cancel)  # type: ignore[attr-defined]
    ended.wait(5)
    codes = {client.get("/health/ready").status_code}
    while 200 not in codes:
        time.sleep(0.05)
        codes.add(client.get("/health/ready").status_code)
    assert client.post("/v1/inspect", files={"images": ("x.png", picture(parts))}).status_code == 200


def test_a_row_that_the_record_refuses_costs_no_other(client: TestClient, station: Station, parts: Path) -> None:
    with station.record.database.writing() as connection:
        connection.execute(
            text(
                "CREATE TRIGGER picky BEFORE INSERT ON inspections WHEN NEW.lot = 'cursed' "
                "BEGIN SELECT RAISE(ABORT, 'no'); END"
            )
        )
    jobs = [Job(picture(parts), f"{n}.png", lot="cursed" if n == 2 else "A") for n in range(5)]
    outcomes = station.inspect(jobs)
    assert [one.filed.error is None for one in outcomes] == [True, True, False, True, True]
    assert len({one.number for one in outcomes}) == 5
    assert len(station.record.inspections.search()) == 5


def test_a_station_that_cannot_write_is_not_ready(client: TestClient, station: Station) -> None:
    assert client.get("/health/ready").status_code == 200
    time.sleep(1.1)  # what was written is believed for a second
    shelf = station.shelf.folder
    shelf.parent.mkdir(parents=True, exist_ok=True)
    if shelf.exists():
        shelf.rmdir()
    shelf.write_text("something else is in its place")
    answer = client.get("/health/ready")
    assert answer.status_code == 503
    assert str(shelf.parent) not in answer.text
    shelf.unlink()
    assert client.get("/health/ready").status_code == 200
    with station.record.database.engine.connect().execution_options(writes=True) as connection, connection.begin():
        time.sleep(1.1)
        answer = client.get("/v2/health/ready")  # the record is locked
        assert (answer.status_code, "record" in answer.text) == (503, True)
        assert client.get("/health/live").status_code == 200
    until = time.monotonic() + 30
    while client.get("/health/ready").status_code != 200:
        assert time.monotonic() < until


def test_no_answer_names_a_place_of_this_machine(client: TestClient, station: Station, parts: Path) -> None:
    shelf = station.shelf.folder
    shelf.parent.mkdir(parents=True, exist_ok=True)
    shelf.write_text("a file where the folder should be")
    for path in ("/v1/inspect", f"/v2/models/{station.inspector.name}/infer"):
        tensor = {
            "name": "image",
            "datatype": "BYTES",
            "shape": [1],
            "data": [base64.b64encode(picture(parts)).decode()],
        }
        sent: dict[str, Any] = {"files": {"images": ("x.png", picture(parts))}} if "v1" in path else {}
        answer = client.post(path, **(sent or {"json": {"inputs": [tensor]}}))
        assert answer.status_code == 503
        assert str(shelf.parent) not in answer.text
        assert "retry-after" in answer.headers
    page = client.get("/recipes", headers={"accept": "text/html"}).text
    assert str(shelf.parent) not in page


STRANGE = [
    *("\ud800", "a\udc00b", "\x00", "a\x00b", "\x1b[31m", "\r\nx: y", "a/b/c", "..", ".", "a?b#c%d&e=f+g", "  ", ""),
    *("é漢字🙂", "\u202eabc", "x" * 150, "'; DROP TABLE units; --", "=1+1", "<b>", "%2e%2e", "\u3000", "\ufeff"),
]


@pytest.mark.parametrize("name", STRANGE, ids=[str(n) for n in range(len(STRANGE))])
def test_a_strange_name_in_any_field_is_taken_or_refused_and_the_unit_is_found(
    client: TestClient, station: Station, parts: Path, name: str
) -> None:
    body, kind = form({"unit": name, "lot": name, "machine": name}, name, picture(parts))
    answer = client.post("/v1/inspect", content=body, headers={"content-type": kind})
    assert answer.status_code in (200, 400, 422), answer.text
    if answer.status_code == 200:
        result = answer.json()["results"][0]
        row = station.record.inspections.one(result["inspection"]) or {}
        story = client.get(
            f"/v1/units/{quoted(row['unit'])}", params=None if row["lot"] is None else {"lot": row["lot"]}
        )
        if not {"%", "."} & set(row["unit"]):  # clients resolve dots, and this one resolves % twice
            assert [one["id"] for one in story.json()] == [row["id"]]
        asked = {"unit": row["unit"]} | ({} if row["lot"] is None else {"lot": row["lot"]})
        assert [one["id"] for one in client.get("/v1/units", params=asked).json()] == [row["id"]]
        page = client.get(f"/units/of/{row['id']}", headers={"accept": "text/html"})
        assert page.status_code == 200
        for path in ("/units", "/lots", "/lots?by=machine", "/queue"):
            assert client.get(path).status_code == 200
        if row["lot"] is not None:
            assert client.get("/lots/map", params={"lot": row["lot"]}).status_code == 200
        assert client.get("/units", params={"q": row["unit"]}).status_code == 200


def form(fields: dict[str, str], filename: str, data: bytes) -> tuple[bytes, str]:
    """A form with bytes that no well-behaved client would send."""
    raw = b""
    for field, value in fields.items():
        raw += f'--b\r\nContent-Disposition: form-data; name="{field}"\r\n\r\n'.encode()
        raw += value.encode("utf-8", "surrogatepass") + b"\r\n"
    safe = filename.replace("\r", "").replace("\n", "").replace('"', "").replace("\x00", "")
    raw += b'--b\r\nContent-Disposition: form-data; name="images"; filename="'
    raw += safe.encode("utf-8", "surrogatepass") + b'"\r\n\r\n' + data + b"\r\n--b--\r\n"
    return raw, "multipart/form-data; boundary=b"


def quoted(name: str) -> str:
    from urllib.parse import quote

    return quote(name, safe="")


def test_units_of_two_lots_with_one_name_are_two_units(client: TestClient, station: Station, parts: Path) -> None:
    paths = sorted((parts / "chip").iterdir())[:2]
    for path, lot in zip(paths, ("A/1", "B 2"), strict=True):
        files = {"images": ("0001.png", path.read_bytes())}
        assert client.post("/v1/inspect", files=files, data={"lot": lot}).status_code == 200
    assert [row["lot"] for row in client.get("/v1/units/0001").json()] == ["A/1", "B 2"]
    assert [row["lot"] for row in client.get("/v1/units/0001", params={"lot": "B 2"}).json()] == ["B 2"]
    assert client.get("/v1/units/0001", params={"lot": "C"}).status_code == 404
    first = client.get("/units/story", params={"unit": "0001", "lot": "A/1"}).text
    assert ("Inspection 1" in first, "Inspection 2" in first) == (True, False)
    several = client.get("/units/story", params={"unit": "0001"}).text
    assert "/units/of/1" in several
    assert "/units/of/2" in several
    assert len(station.record.inspections.by_lot()) == 2


def test_no_cell_of_a_csv_is_a_formula_and_what_is_read_back_is_what_it_was(
    client: TestClient, station: Station, parts: Path, tmp_path: Path
) -> None:
    import csv

    from knowngood.data.labels import read_verdicts

    names = ["=cmd|calc!A1.png", "+1.png", "-1.png", "@x.png", "plain.png"]
    rows: list[dict[str, Any]] = []
    for n, (name, path) in enumerate(zip(names, sorted((parts / "chip").iterdir()), strict=False)):
        made = station.inspect([Job(path.read_bytes(), name)])[0]
        said = {"inspection": made.number, "verdict": "bad", "defect": "=HYPERLINK(1)"}
        rows.append({"image": name, "sha256": made.filed.sha256, "label": n % 2, "defect": None, "split": None})
        from knowngood.review.store.verdicts import NewVerdict

        station.record.verdicts.add(NewVerdict(said["inspection"], "bad", "ann", defect=said["defect"]))
    station.record.labels.take_over("=set", [row | {"generated": 0} for row in rows])
    for path in ("/data/verdicts.csv", "/data/manifest.csv"):
        for line in csv.reader(io.StringIO(client.get(path).text)):
            assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in line), line
    (tmp_path / "verdicts.csv").write_bytes(client.get("/data/verdicts.csv").content)
    again = read_verdicts(tmp_path / "verdicts.csv")
    assert sorted(again["image"].to_list()) == sorted(names)
    assert set(again["defect"].to_list()) == {"=HYPERLINK(1)"}


def infer(client: TestClient, station: Station, body: bytes, **headers: str) -> Any:
    kind = {"content-type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post(f"/v2/models/{station.inspector.name}/infer", content=body, headers=kind)


BODIES = [
    b'{"id": "\\ud800", "inputs": []}',
    b'{"id": "\xed\xa0\x80"}',
    b"[" * 100_000,
    b'{"a":' * 50_000,
    b'{"inputs": NaN}',
    b'{"inputs": [{"shape": [1e999], "datatype": "UINT8", "data": [1]}]}',
    b'{"inputs": [{"shape": [' + b"9" * 5000 + b'], "datatype": "UINT8", "data": [1]}]}',
    b'{"inputs": [{"shape": [1, 1, 50000000], "datatype": "UINT8", "parameters": {"binary_data_size": 0}}]}',
    b'{"inputs": [{"shape": [1, 2, 2], "datatype": "UINT8", "data": 4}]}',
    b'{"inputs": [{"shape": [1, 2, 2], "datatype": "UINT8", "data": [[[1, 2], [3, 4.5]]]}]}',
    b'{"inputs": [{"shape": [1, 2, 2], "datatype": "UINT8", "data": [[[1, 2, 3], [4]]]}]}',
    b'{"inputs": [{"shape": [1, 2, 2], "datatype": "UINT8", "data": [1, 2, 3, -4]}]}',
    b'{"inputs": [{"shape": [1, 2, 2], "datatype": "UINT8", "data": ["1", "2", "3", "4"]}]}',
    b'{"inputs": [{"shape": [0], "datatype": "BYTES", "data": []}]}',
    b'{"inputs": [{"shape": [true], "datatype": "BYTES", "data": [""]}]}',
    b'{"inputs": [{"shape": [1], "datatype": {"a": 1}, "data": ["\\u0000"]}]}',
    b'{"inputs": {"shape": 1}}',
    b"\xff\xfe{",
    b"",
]


@pytest.mark.parametrize("body", BODIES, ids=[str(n) for n in range(len(BODIES))])
def test_inference_requests_that_are_none_are_the_senders_fault(
    client: TestClient, station: Station, body: bytes
) -> None:
    answer = infer(client, station, body)
    assert 400 <= answer.status_code < 500, answer.text
    assert isinstance(answer.json()["error"], str)


def test_inference_documents_at_random_never_break_the_station(make_station: Make, ask: Ask, parts: Path) -> None:
    station = make_station(rate=100_000.0)
    client = ask(station)
    rng = random.Random(18)
    whole = base64.b64encode(picture(parts)).decode()
    leaves: list[Any] = [
        None,
        True,
        0,
        1,
        -1,
        2**31,
        2**70,
        0.5,
        "",
        "image",
        "BYTES",
        "UINT8",
        whole,
        "\ud800",
        "\x00",
    ]

    def value(depth: int) -> Any:
        kind = rng.random()
        if depth == 0 or kind < 0.6:
            return rng.choice(leaves)
        if kind < 0.8:
            return [value(depth - 1) for _ in range(rng.randrange(4))]
        keys = ["name", "shape", "datatype", "data", "parameters", "binary_data_size", "\udfff", "id"]
        return {rng.choice(keys): value(depth - 1) for _ in range(rng.randrange(4))}

    def tensor() -> Any:
        made: dict[str, Any] = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [whole]}
        if rng.random() < 0.5:
            side = rng.randrange(1, 5)
            made = {"name": "image", "datatype": "UINT8", "shape": [1, side, side], "data": [7] * side * side}
        for _ in range(rng.randrange(3)):
            made[rng.choice(["name", "shape", "datatype", "data", "parameters"])] = value(3)
        return made

    codes: dict[int, int] = {}
    for _ in range(400):
        document: dict[str, Any] = {"inputs": [tensor() for _ in range(rng.choice([1, 1, 1, 0, 2]))]}
        for name in ("id", "outputs", "parameters", "inputs"):
            if rng.random() < 0.15:
                document[name] = value(3)
        headers = (
            {"inference_header_content_length": str(rng.choice([-1, 5, 10**9, "x"]))} if rng.random() < 0.1 else {}
        )
        answer = infer(client, station, json.dumps(document).encode(), **headers)
        codes[answer.status_code] = codes.get(answer.status_code, 0) + 1
        assert answer.status_code in (200, 400, 413, 422), (answer.status_code, document)
    assert codes[200] > 20
    assert codes[400] > 100
    assert client.get("/health/ready").status_code == 200


def test_a_large_tensor_in_json_is_refused_before_it_is_parsed(make_station: Make, ask: Ask) -> None:
    station = make_station(max_json_values=1000)
    client = ask(station)
    tensor = {"name": "image", "datatype": "UINT8", "shape": [1, 40, 40], "data": [[[0] * 40] * 40]}
    answer = infer(client, station, json.dumps({"inputs": [tensor]}).encode())
    assert (answer.status_code, "as bytes" in answer.text) == (413, True)
    tensor = {"name": "image", "datatype": "UINT8", "shape": [1, 20, 20], "data": [[[0] * 20] * 20]}
    assert infer(client, station, json.dumps({"inputs": [tensor]}).encode()).status_code == 200


def test_pages_refuse_what_is_no_number_and_bodies_that_no_page_sends(
    client: TestClient, page_word: Callable[..., str]
) -> None:
    word = {"x-csrf-token": page_word(client), "content-type": "application/json"}
    for body in (
        b'{"tab": "\\ud800"}',
        b'{"tab": "' + b"a" * 24 + b'", "\\udfff": 1}',
        b'{"tab": "' + b"a" * 24 + b'", "inspection": 1, "verdict": "good", "seconds": NaN}',
        b"[" * 30_000,
        b"9" * 10_000,
    ):
        assert 400 <= client.post("/queue/verdict", content=body, headers=word).status_code < 500
    assert client.post("/queue/verdict", content=b"x" * 200_000, headers=word).status_code == 413
    for path in ("/data?low=nan", "/threshold/cell?low=nan&high=inf&label=0&decision=accept", "/data?low=1e999"):
        assert client.get(path).status_code == 422


def test_two_browsers_on_one_unit_a_hundred_times(client: TestClient, station: Station, parts: Path) -> None:
    """Exactly one of two verdicts on the same image counts, each time; none is lost, none doubled."""
    data = picture(parts)
    numbers = [
        one.number
        for start in range(0, 100, 20)
        for one in station.inspect([Job(data, f"{n}.png") for n in range(start, start + 20)])
    ]
    station.record.queue.add([(number, 5.0, "race") for number in numbers])
    page = client.get("/queue", headers={"accept": "text/html"}).text
    word = {"x-csrf-token": page.split('name="csrf" content="')[1].split('"')[0]}
    accepted: list[int] = []
    for number in numbers:
        state = client.post("/queue/next", json={"tab": "a" * 24}, headers=word).json()
        assert number in [item["id"] for item in state["items"]]
        codes: list[int] = []
        gate = threading.Barrier(2)

        def say(key: str, number: int = number, codes: list[int] = codes, gate: threading.Barrier = gate) -> None:
            said = {"tab": "a" * 24, "inspection": number, "verdict": "good", "key": f"{key}-{number:08}"}
            gate.wait()
            codes.append(client.post("/queue/verdict", json=said, headers=word).status_code)

        threads = [threading.Thread(target=say, args=(key,)) for key in ("one", "two")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(codes) == [200, 409]
        accepted.append(number)
    rows = station.record.verdicts.everything()
    assert sorted(row["inspection_id"] for row in rows) == sorted(accepted)


def resident() -> int:
    """Bytes of memory that this process takes now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_large_pictures_of_few_bytes_take_bounded_memory(client: TestClient, station: Station) -> None:
    made = io.BytesIO()
    Image.new("RGB", (7000, 7000), (40, 41, 42)).save(made, "WEBP", lossless=True)
    assert len(made.getvalue()) < 100_000
    most, done, before = [0], threading.Event(), resident()

    def watch() -> None:
        while not done.wait(0.002):
            most[0] = max(most[0], resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        files = [("images", (f"{n}.webp", made.getvalue(), "image/webp")) for n in range(3)]
        results = client.post("/v1/inspect", files=files, data={"heatmap": "true"}).json()["results"]
        number = results[0]["inspection"]
        paths = [f"/pictures/{number}/{name}" for name in ("small.jpg", "heat.png") for _ in range(4)]
        threads = [threading.Thread(target=client.get, args=(path,)) for path in paths]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        done.set()
        watcher.join()
    assert len({one["decision"] for one in results}) == 1
    assert most[0] - before < 2_600_000_000  # two at once, whoever asks
