"""Hostile requests to the station: KServe documents and tensors, photographs with odd names, pages, identities.

Hostile requests are sent in groups together with one sound photograph. A request has failed when

- it is answered with a 5xx, or raises;
- the sound photograph of its group is answered otherwise than alone;
- somebody without the right token, or the right role, is answered with a 2xx;
- an inspection that was acknowledged is not in the record, or is there with another score or decision.
"""

from __future__ import annotations

import asyncio
import base64
import copy
import json
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlencode

import numpy as np
from fuzz_decoders import cut, flipped, longer, replaced
from fuzz_tables import DEEP, VALUES, WrongError, _place_in

NAMES = (
    "a.png", "", " ", "..", "../../etc/passwd", "a/b/c", "/", "%2e%2e/", "a\x00b", "a\nb", "a\r\nx: y", "\ud800",
    "é", "😀",
    "\u202e", "=1+1", "<script>alert(1)</script>", "' OR 1=1 --", "x" * 199, "x" * 5000, "\\xff", "~1", "none", "null",
    "a?b#c", "a&b=c", "%s%n", "{0}", "{{7*7}}", "\x7f", "\u2028", "-1", "0", "9" * 30, "CON", "a;b", "a'b", 'a"b',
)  # fmt: skip
PATHS = (
    "/", "/queue", "/queue/near/{}", "/lots", "/lots/map?lot={}", "/units", "/units?words={}", "/units/of/{}",
    "/units/story?unit={}", "/units/story?unit={}&lot={}", "/v1/units?unit={}", "/v1/units?unit={}&lot={}",
    "/v1/units/{}",
    "/v1/recipe", "/v2", "/v2/models/{}", "/v2/models/{}/ready", "/v2/models/{}/versions/{}/ready", "/metrics",
    "/threshold", "/threshold/scores?of={}", "/threshold/cell?low={}&high={}&label={}&decision={}", "/data",
    "/data/map", "/data/map/points", "/data/copies", "/data/verdicts.csv", "/data/manifest.csv", "/recipes",
    "/recipes/requalify?new={}", "/recipes/{}/recipe.json", "/pictures/{}/photo.png", "/pictures/{}/small.jpg",
    "/pictures/{}/heat.png", "/static/{}", "/static/../{}", "/report.css", "/sign-in", "/api", "/openapi.json", "/{}",
)  # fmt: skip
NUMBERS = ("-1", "0", "1", "2", "1e9", "nan", "inf", "9" * 20, "1.5", "", "x", "2147483648", "0x1", "%00")
HEADERS: tuple[tuple[str, bytes], ...] = (
    ("content-type", b"application/json"), ("content-type", b"multipart/form-data"), ("content-type", b"\xff\xfe"),
    ("content-type", b"multipart/form-data; boundary="),
    ("content-type", b"multipart/form-data; boundary=" + b"x" * 9999),
    ("content-type", b"application/x-www-form-urlencoded; charset=utf-7"), ("content-length", b"-1"),
    ("content-length", b"99999999999999999999"), ("content-length", b"\xb2"), ("content-encoding", b"gzip"),
    ("transfer-encoding", b"chunked"), ("authorization", b"Bearer"), ("authorization", b"Bearer \xff"),
    ("range", b"bytes=0-"),
    ("authorization", b"Basic YTpi"), ("cookie", b"kg_session=\xff; kg_local="), ("cookie", b"kg_session=a" * 999),
    ("accept", b"text/html"), ("accept", b"\xff"), ("host", b"evil.example"), ("host", b"127.0.0.1:x"),
    ("host", b"\xff"),
    ("origin", b"null"), ("origin", b"http://[::1"), ("sec-fetch-site", b"cross-site"), ("hx-request", b"true"),
    ("inference-header-content-length", b"-1"), ("inference-header-content-length", b"9" * 5000), ("expect", b"x"),
    ("inference-header-content-length", b"1e3"), ("if-none-match", b"*"), ("if-modified-since", b"yesterday"),
    ("x-csrf-token", b"\xe9"), ("x-http-method-override", b"DELETE"), ("x-forwarded-for", b"127.0.0.1"),
    ("range", b"bytes=9-1"),
)  # fmt: skip
METHODS = ("GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", "TRACE", "CONNECT", "BREW", "get")
COMPANY = 1e-4  # what a batch's company may add to a score
GROUP = 8  # hostile requests that are sent together with one sound photograph
FREE = (
    "/health/",
    "/v2/health",
    "/static/",
    "/sign-in",
    "/report.css",
    "/openapi.json",
)  # what nobody needs a token for
FOR_ENGINEERS = ("/threshold", "/recipes/sign")
CHANGES = ("/queue", "/v1/inspect", "/v2/models", "/threshold", "/recipes/sign", "/units/verdict")  # not for auditors


class Asked:
    """One answer of an application: status, headers, body."""

    def __init__(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body


class Requests:
    """Two stations on one recipe, one open to this computer and one that asks for tokens, asked in this process.

    Args:
        folder: Empty.
        seed: Of the inputs.
        run: Folder of a finished run of train.
        photographs: Files that the recipe can score.
        address: Of the open station's record; a file of SQLite by default.
    """

    def __init__(self, folder: Path, seed: int, run: Path, photographs: list[Path], address: str = "") -> None:
        from knowngood.recipe.session import open_session
        from knowngood.review.settings import Settings
        from knowngood.review.station import Station
        from knowngood.review.store.record import Record
        from knowngood.review.web.factory import make_app

        self.seed = seed
        self.images = [file.read_bytes() for file in photographs]
        self.apps, self.stations = {}, {}
        for name, free in (("open", True), ("closed", False)):
            record = Record(address if free and address else folder / f"{name}.db")
            settings = Settings(shelf=folder / "images", user="tester", open=free, rate=1e9, max_mb=2, max_megapixels=4)
            self.stations[name] = Station(open_session(run), record, settings)
            self.apps[name] = make_app(self.stations[name])
        people = self.stations["closed"].record.people
        self.tokens = {role: people.add(role, role) for role in ("operator", "engineer", "auditor")}
        self.model = self.stations["open"].inspector.name
        self.acknowledged: dict[int, tuple[Any, Any]] = {}
        self.loop = asyncio.new_event_loop()
        self._queues: list[tuple[asyncio.Queue[Any], asyncio.Queue[Any], Any]] = []
        for app in self.apps.values():
            self.loop.run_until_complete(self._begin(app))
        self.alone = self._sound(self.loop.run_until_complete(self._ask(self._sound_request(0))))

    async def _begin(self, app: Any) -> None:
        """Starts the lifespan of an application."""
        events: asyncio.Queue[Any] = asyncio.Queue()
        answers: asyncio.Queue[Any] = asyncio.Queue()
        await events.put({"type": "lifespan.startup"})
        task = self.loop.create_task(app({"type": "lifespan", "state": {}}, events.get, answers.put))
        await answers.get()
        self._queues.append((events, answers, task))

    def end(self) -> None:
        """Stops both stations as a signal does."""

        async def stop() -> None:
            for events, answers, _ in self._queues:
                await events.put({"type": "lifespan.shutdown"})
                await answers.get()

        self.loop.run_until_complete(stop())
        for station in self.stations.values():
            station.record.close()

    def attack(self, number: int) -> tuple[str, str]:
        """Tries one group of requests; see `Tables.attack`. The kind is that of the first."""
        dice = random.Random(f"{self.seed}:{number}")
        ways = [dice.choice(list(_WAYS)) for _ in range(GROUP)]
        requests = [_WAYS[way](self, dice) for way in ways]
        sound = self._sound_request(number)
        answers = self.loop.run_until_complete(self._all([*requests, sound]))
        for way, request, answer in zip(ways, requests, answers, strict=False):
            self._check(way, request, answer)
        here = self._sound(answers[-1])
        near = here[0] == 200 and abs(here[1] - self.alone[1]) < COMPANY
        if not near or here[2:] != self.alone[2:]:
            raise WrongError(
                f"the sound photograph of {ways} was answered {answers[-1].status} {answers[-1].body[:200]!r}"
            )
        if number % 25 == 0:
            self._check_record()
        return ways[0], "refused" if answers[0].status >= 400 else "accepted"

    async def _all(self, requests: list[dict[str, Any]]) -> list[Asked]:
        return list(await asyncio.gather(*map(self._ask, requests)))

    async def _ask(self, request: dict[str, Any]) -> Asked:
        path, _, query = request["path"].partition("?")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": request["method"],
            "scheme": "http",
            "path": path if request.get("raw") else _unquoted(path),
            "raw_path": path.encode("utf-8", "replace"),
            "query_string": query.encode("utf-8", "replace"),
            "root_path": "",
            "headers": [(name.encode(), value) for name, value in request["headers"]],
            "client": ("127.0.0.1", 50_000),
            "server": ("127.0.0.1", 8080),
            "state": {},
        }
        pieces = [request["body"][n : n + 65_536] for n in range(0, max(len(request["body"]), 1), 65_536)]
        begun: list[Any] = []
        body = bytearray()
        done = asyncio.Event()

        async def receive() -> dict[str, Any]:
            if pieces:
                piece = pieces.pop(0)
                return {"type": "http.request", "body": piece, "more_body": bool(pieces)}
            await done.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                begun.append(message)
            else:
                body.extend(message.get("body", b""))
                if not message.get("more_body"):
                    done.set()

        await self.apps[request.get("station", "open")](scope, receive, send)
        if not begun:
            return Asked(0, [], b"")
        return Asked(begun[0]["status"], list(begun[0]["headers"]), bytes(body))

    def _sound_request(self, number: int) -> dict[str, Any]:
        return _photographs([("sound.png", self.images[0])], {"unit": "sound", "lot": "L"})

    def _sound(self, answer: Asked) -> tuple[Any, ...]:
        if answer.status != 200:
            return (answer.status,)
        row = json.loads(answer.body)["results"][0]
        return answer.status, row["defect_score"], row["decision"], row["unit"]

    def _check(self, way: str, request: dict[str, Any], answer: Asked) -> None:
        if answer.status == 0 or answer.status >= 500:
            shown = {**request, "body": request["body"][:300]}
            raise WrongError(f"{way}: {answer.status} {answer.body[:200]!r} to {str(shown)[:900]}")
        path = _unquoted(request["path"].partition("?")[0])
        who, good = request.get("who"), 200 <= answer.status < 300
        if who in ("nobody", "forged") and good and path != "/v2" and not path.startswith(FREE):
            raise WrongError(f"{who} was answered {answer.status} by {request['method']} {path}")
        if who == "auditor" and good and request["method"] == "POST" and path.startswith(CHANGES):
            raise WrongError(f"an auditor was answered {answer.status} by {path}")
        if who == "operator" and answer.status < 400 and request["method"] == "POST" and path.startswith(FOR_ENGINEERS):
            raise WrongError(f"an operator was answered {answer.status} by {path}")
        if answer.status == 200 and path == "/v1/inspect" and request.get("station", "open") == "open":
            for row in json.loads(answer.body)["results"]:
                if row["inspection"] in self.acknowledged:
                    raise WrongError(f"inspection {row['inspection']} was acknowledged twice")
                self.acknowledged[row["inspection"]] = (row["defect_score"], row["decision"])
        if answer.status == 200 and path.endswith("/infer") and b'"outputs"' in answer.body:
            text = answer.body
            length = dict(answer.headers).get(b"inference-header-content-length")
            outputs = json.loads(text if length is None else text[: int(length)])["outputs"]
            scores = next((one.get("data") for one in outputs if one["name"] == "defect_score"), None)
            if scores is not None and not all(0 <= score <= 1 for score in scores):
                raise WrongError(f"scores {scores}")

    def _check_record(self) -> None:
        record = self.stations["open"].record
        for number, (score, decision) in self.acknowledged.items():
            row = record.inspections.one(number)
            if row is None or (row["defect_score"], row["decision"]) != (score, decision):
                raise WrongError(
                    f"inspection {number} was acknowledged with {score}, {decision}, and the record has {row}"
                )
        self.acknowledged.clear()
        ready = self.loop.run_until_complete(self._ask(_get("/health/ready")))
        if ready.status != 200:
            raise WrongError(f"the station is not ready any more: {ready.body[:200]!r}")

    # --- kinds of requests -------------------------------------------------------------------------------------------

    def kserve_document(self, dice: random.Random) -> dict[str, Any]:
        """Returns a KServe request in JSON with one or two values that nobody expects."""
        image = dice.choice(self.images)
        if dice.random() < 0.5:
            tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [base64.b64encode(image).decode()]}
        else:
            tensor = {"name": "image", "datatype": "UINT8", "shape": [1, 40, 48], "data": [100] * (40 * 48)}
        document: Any = {"id": dice.choice(NAMES), "inputs": [tensor], "outputs": [{"name": "decision"}]}
        for _ in range(dice.choice((0, 1, 1, 2))):
            place, key = _place_in(document, dice)
            values = (*VALUES, *NAMES, [10**6] * 3, [2**31 - 1] * 3, [-1, 2, 3], [0], [1, 1, 1, 1])
            place[key] = copy.deepcopy(dice.choice(values))
        text = json.dumps(document)
        if dice.random() < 0.1:
            text = dice.choice(
                (DEEP, text[: dice.randrange(len(text))], '{"inputs": NaN}', "", "null", "[1]", text * 2)
            )
        data = text.encode("utf-8", "replace")
        if dice.random() < 0.2:
            data = dice.choice((flipped, replaced, cut, longer))(data or b"x", dice, [data])
        return _post(self._infer(dice), data, "application/json")

    def kserve_bytes(self, dice: random.Random) -> dict[str, Any]:
        """Returns a KServe request with its tensor as bytes behind a document that may be false."""
        image = dice.choice(self.images)
        kind = dice.choice(("BYTES", "UINT8"))
        if kind == "BYTES":
            size = dice.choice((len(image), len(image), 0, 1, len(image) + 1, 2**31, 2**32 - 1))
            body, shape = struct.pack("<I", size) + image, [1]
        else:
            shape = list(dice.choice(([1, 40, 48], [1, 40, 48, 3], [2, 20, 48], [1, 1, 1], [1, 1, 1920], [1, 1920, 1])))
            body = np.full(int(np.prod(shape)), 90, np.uint8).tobytes()
        if dice.random() < 0.4:
            shape = dice.choice(
                ([-1], [0], [1, -40, -48], [2**31, 1, 1], [2**62, 4, 4], [64], [1, 40], [1, 40, 48, 2], [[1]])
            )
        declared = dice.choice((len(body), len(body), len(body), 0, -1, 2**63, "7", None, 1.5))
        tensor = {"name": "image", "datatype": kind, "shape": shape, "parameters": {"binary_data_size": declared}}
        document = {
            "id": dice.choice(NAMES),
            "inputs": [tensor],
            "parameters": {"binary_data_output": dice.random() < 0.5},
        }
        head = json.dumps(document).encode()
        length = dice.choice((len(head), len(head), len(head), 0, len(head) - 1, len(head) + 9, -1, "x", "9" * 5000))
        made = _post(self._infer(dice), head + body, "application/octet-stream")
        made["headers"].append(("inference-header-content-length", str(length).encode()))
        return made

    def _infer(self, dice: random.Random) -> str:
        model = self.model if dice.random() < 0.9 else quote(dice.choice(NAMES).encode("utf-8", "replace"), safe="")
        version = dice.choice(("", "", "", "/versions/1", "/versions/x", "/versions/" + "9" * 300))
        return f"/v2/models/{model}{version}/infer"

    def inspect(self, dice: random.Random) -> dict[str, Any]:
        """Returns photographs under names that nobody expects, some of them damaged."""
        files = []
        for _ in range(dice.choice((1, 1, 1, 2, 5))):
            data = dice.choice(self.images)
            if dice.random() < 0.5:
                data = dice.choice((flipped, replaced, cut, longer))(data, dice, self.images)
            if dice.random() < 0.1:
                data = dice.choice((b"", b"x", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"RIFF", bytes(10_000)))
            files.append((dice.choice(NAMES), data))
        fields = {name: dice.choice(NAMES) for name in ("unit", "lot", "machine") if dice.random() < 0.5}
        fields |= {"heatmap": dice.choice(("true", "x", ""))} if dice.random() < 0.1 else {}
        made = _photographs(files, fields)
        if dice.random() < 0.15:  # the form itself is damaged
            made["body"] = dice.choice((flipped, replaced, cut, longer))(made["body"], dice, self.images)
        return made

    def pages(self, dice: random.Random) -> dict[str, Any]:
        """Returns a request for a page, with arguments that nobody expects."""
        path = dice.choice(PATHS)
        while "{}" in path:
            word = dice.choice((*NAMES, *NUMBERS)).encode("utf-8", "replace")
            path = path.replace("{}", quote(word, safe="") if dice.random() < 0.9 else word.decode("latin-1"), 1)
        made = _get(path)
        made["headers"] += [dice.choice(HEADERS)] if dice.random() < 0.3 else []
        made["method"] = "GET" if dice.random() < 0.8 else dice.choice(METHODS)
        made["raw"] = dice.random() < 0.1
        return made

    def changes(self, dice: random.Random) -> dict[str, Any]:
        """Returns what a page of ours would send, with values that nobody expects; by a token, so that it is heard."""
        path, sound = dice.choice((
            ("/queue/next", {"tab": "a" * 24}), ("/queue/keep", {"tab": "a" * 24}),
            ("/queue/undo", {"tab": "a" * 24, "key": "k"}),
            ("/queue/skip", {"tab": "a" * 24, "inspection": 1}),
            ("/units/verdict", {"inspection": 1, "verdict": "bad"}),
            ("/queue/verdict", {"tab": "a" * 24, "inspection": 1, "verdict": "bad", "defect": "x", "region": [0, 0,
            9, 9],
                                "note": "n", "key": "k1", "seconds": 1.0}),
            ("/threshold", {"low": "0.2", "high": "0.3", "why": "x"}), ("/units/replay", {"number": "1"}),
            ("/recipes/sign", {"old": "1", "new": "1", "agrees": "true", "why": "x"}),
            ("/queue/release", {"tab": "a" * 24}),
        ))  # fmt: skip
        document: Any = dict(sound)
        for _ in range(dice.choice((0, 1, 1, 2))):
            place, key = _place_in(document, dice)
            values = (*VALUES, *NAMES, *NUMBERS, "good", "unsure", "drop", 10**12, "0.1")
            place[key] = copy.deepcopy(dice.choice(values))
        if dice.random() < 0.05:
            document = dice.choice((None, [], "x", {"a": 1}, [[document]]))
        form = path in ("/threshold", "/recipes/sign", "/queue/release", "/units/replay", "/units/verdict")
        if form and isinstance(document, dict):
            pairs = {k: v if isinstance(v, str) else json.dumps(v) for k, v in document.items()}
            data, kind = urlencode(pairs, errors="replace").encode(), "application/x-www-form-urlencoded"
        else:
            data, kind = json.dumps(document).encode(), "application/json"
        if dice.random() < 0.1:
            data = dice.choice((flipped, replaced, cut, longer))(data, dice, [data])
        made = _post(path, data, kind)
        return self._as(made, dice.choice(("engineer", "engineer", "operator")))

    def identities(self, dice: random.Random) -> dict[str, Any]:
        """Returns any of the requests to the station that asks for tokens, by somebody who may not send it."""
        made = _WAYS[dice.choice([way for way in _WAYS if way not in ("identities", "changes")])](self, dice)
        made = self.changes(dice) if dice.random() < 0.3 else made
        made["headers"] = [(name, value) for name, value in made["headers"] if name not in ("authorization", "host")]
        made["headers"].append(("host", b"127.0.0.1"))
        return self._as(made, dice.choice(("nobody", "forged", "auditor", "operator")))

    def _as(self, made: dict[str, Any], who: str) -> dict[str, Any]:
        token = {"forged": "kg_forged", "nobody": None}.get(who, self.tokens.get(who))
        if token is not None:
            made["headers"].append(("authorization", f"Bearer {token}".encode()))
        return {**made, "station": "closed", "who": who}

    def headers(self, dice: random.Random) -> dict[str, Any]:
        """Returns a request with headers that nobody expects."""
        made = _WAYS[dice.choice(("kserve documents", "photographs", "pages"))](self, dice)
        more = [dice.choice(HEADERS) for _ in range(dice.randint(1, 4))]
        kept = [pair for pair in made["headers"] if pair[0] not in {name for name, _ in more}]
        return {**made, "headers": [*kept, *more]}


_WAYS: dict[str, Callable[[Requests, random.Random], dict[str, Any]]] = {
    "kserve documents": Requests.kserve_document,
    "kserve tensors": Requests.kserve_bytes,
    "photographs": Requests.inspect,
    "pages": Requests.pages,
    "changes": Requests.changes,
    "identities": Requests.identities,
    "headers": Requests.headers,
}


def _unquoted(path: str) -> str:
    return unquote(path, errors="replace")


def _get(path: str) -> dict[str, Any]:
    return {"method": "GET", "path": path, "headers": [("host", b"127.0.0.1")], "body": b""}


def _post(path: str, body: bytes, kind: str) -> dict[str, Any]:
    headers = [("host", b"127.0.0.1"), ("content-type", kind.encode()), ("content-length", str(len(body)).encode())]
    return {"method": "POST", "path": path, "headers": headers, "body": body}


def _photographs(files: list[tuple[str, bytes]], fields: dict[str, str]) -> dict[str, Any]:
    """Returns a form as a browser sends it."""
    body = b""
    for name, value in fields.items():
        body += f'--BoundarY\r\ncontent-disposition: form-data; name="{name}"\r\n\r\n'.encode()
        body += value.encode("utf-8", "surrogatepass") + b"\r\n"
    for name, data in files:
        shown = name.replace('"', "%22").encode("utf-8", "surrogatepass")
        body += b'--BoundarY\r\ncontent-disposition: form-data; name="images"; filename="' + shown + b'"\r\n'
        body += b"content-type: image/png\r\n\r\n" + data + b"\r\n"
    return _post("/v1/inspect", body + b"--BoundarY--\r\n", "multipart/form-data; boundary=BoundarY")
