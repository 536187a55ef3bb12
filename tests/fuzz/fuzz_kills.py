"""SIGKILL at random times of train, predict, features, audit, export, tape and serve: what follows is as if unbroken.

The process imports everything once and forks one child a command, so that a kill falls into the work and not into the
imports. A chain is one to four kills of the same command at random times, then the same command to its end. It has
failed when the last run fails or prints a traceback, or when its result differs from that of a run that nobody broke.
Of `serve` (on SQLite and PostgreSQL) every inspection and every verdict that was acknowledged has to be in the record,
once, after all kills.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import importlib
import json
import os
import pkgutil
import random
import shutil
import signal
import socket
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fuzz_tables import WrongError

PATIENCE = 600.0  # seconds after which a run that was not broken counts as hanging
NETWORK = ("--preset", "standard", "--no-pretrained", "--model", "resnet18", "--image-size", "32", "--epochs", "2")
FEATURES = ("--model", "efficientnet_lite0", "--image-size", "64")
SHARES = {"train": 5, "predict": 6, "features": 5, "audit": 4, "export": 5, "tape": 6, "serve": 8}  # of the kills


def fork(words: list[str], log: Path) -> int:
    """Begins a command in a child of this process, in a group of its own; returns its process number."""
    number = os.fork()
    if number:
        return number
    code = 1
    try:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(out, 1)
        os.dup2(out, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
        os.environ["KNOWNGOOD_CACHE"] = str(log.with_suffix(".cache"))  # a chain's own: it is broken as well
        from knowngood.cli.main import run

        sys.argv = ["knowngood", *words]
        try:
            run()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def ended(number: int, seconds: float) -> int | None:
    """Waits at most so long for a child; returns its exit code, or None where it works still."""
    until = time.monotonic() + seconds
    while True:
        found, status = os.waitpid(number, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= until:
            return None
        time.sleep(0.002)


def kill(number: int) -> None:
    """Kills a child and all that it began."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(number, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        os.kill(number, signal.SIGKILL)
    os.waitpid(number, 0)


@dataclass
class Verb:
    """A command that is broken, and how its result is compared.

    Attributes:
        name: Of the verb.
        words: Makes its arguments from the folder that it writes into.
        result: Makes what is compared from that folder.
        prepare: Lays out what the folder needs before, if anything.
        seconds: That a run takes which nobody breaks.
        expected: Its result.
    """

    name: str
    words: Callable[[Path], list[str]]
    result: Callable[[Path], Any]
    prepare: Callable[[Path], None] = lambda _: None
    seconds: float = 0.0
    expected: Any = None
    chains: int = field(default=0)


class Kills:
    """Kills commands; see the module.

    Args:
        folder: Empty.
        seed: Of the times.
        parts: Folder of a small set.
        run: Folder of a finished run of train on it.
        addresses: Of empty records for `serve`.
        only: Verbs to break; all of them by default.
    """

    def __init__(
        self, folder: Path, seed: int, parts: Path, run: Path, addresses: list[str], only: tuple[str, ...] = ()
    ) -> None:
        preload()
        self.folder, self.parts, self.run, self.addresses = folder, parts, run, addresses
        self.dice = random.Random(seed)
        self.verbs = {verb.name: verb for verb in self._verbs() if not only or verb.name in only}
        self.only = only or tuple(SHARES)
        self.served: dict[str, dict[str, Any]] = {}

    def _verbs(self) -> list[Verb]:
        parts, run = str(self.parts), str(self.run)
        many = self.folder / "many"
        for copy in range(4):
            shutil.copytree(self.parts, many / f"c{copy}")

        def with_run(place: Path) -> None:
            shutil.copytree(run, place / "run", ignore=shutil.ignore_patterns("exports"))

        return [
            Verb("train", lambda place: ["train", parts, "--out", str(place / "run"), *NETWORK], _of_train),
            Verb("predict", lambda p: ["predict", run, str(many), "--out", str(p / "s.csv")], _bytes_of("s.csv")),
            Verb(
                "features",
                lambda p: ["features", parts, "--out", str(p / "f.parquet"), *FEATURES],
                _frame_of("f.parquet"),
            ),
            Verb("audit", lambda p: ["audit", parts, "--out", str(p / "a"), *FEATURES], _frame_of("a/audit.parquet")),
            Verb(
                "export",
                lambda p: ["export", str(p / "run"), "--to", "onnx", "--precision", "fp32"],
                _of_export,
                with_run,
            ),
            Verb(
                "tape", lambda p: ["tape", str(p / "t"), "--train", "60", "--test", "12", "--seed", "6"], _all_in("t")
            ),
        ]

    def kills(self, count: int) -> list[dict[str, Any]]:
        """Kills so often; returns one row a verb: kind, tried (kills), failed, and what went wrong."""
        total = sum(SHARES[name] for name in self.only)
        rows = []
        for name in self.only:
            share = max(1, round(count * SHARES[name] / total))
            rows.append(self._serve(share) if name == "serve" else self._break(self.verbs[name], share))
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
        return rows

    def _break(self, verb: Verb, count: int) -> dict[str, Any]:
        began = time.monotonic()
        whole = self.folder / f"{verb.name} whole"
        whole.mkdir()
        verb.prepare(whole)
        start = time.monotonic()
        self._finish(verb, whole)
        verb.seconds = time.monotonic() - start
        verb.expected = compared(verb, whole)
        done, chains, failed = 0, 0, []
        while done < count:
            place = self.folder / f"{verb.name} {chains}"
            place.mkdir()
            chains += 1
            verb.prepare(place)
            try:
                for _ in range(min(self.dice.randint(1, 4), count - done)):
                    if not self._one_kill(verb, place):
                        break  # it was through before
                    done += 1
                self._finish(verb, place)
                found = compared(verb, place)
                if found != verb.expected:
                    raise WrongError(f"the result differs: {_difference(verb.expected, found)}")
                shutil.rmtree(place)
                shutil.rmtree(place.with_suffix(".cache"), ignore_errors=True)
            except WrongError as error:
                failed.append(f"{error} ({place})")
        seconds = round(time.monotonic() - began, 1)
        return {"kind": f"kill {verb.name}", "tried": done, "failed": len(failed), "why": failed, "seconds": seconds}

    def _one_kill(self, verb: Verb, place: Path) -> bool:
        """Begins a run and kills it at a random time; returns whether it was not through before."""
        number = fork(verb.words(place), place.with_suffix(".log"))
        code = ended(number, self.dice.uniform(0, verb.seconds))
        if code is None:
            kill(number)
            return True
        if code:
            raise WrongError(f"it ended with {code}: {_last(place.with_suffix('.log'))}")
        return False

    def _finish(self, verb: Verb, place: Path) -> None:
        log = place.with_suffix(".log")
        number = fork(verb.words(place), log)
        code = ended(number, PATIENCE)
        if code is None:
            kill(number)
        said = log.read_text("utf-8", "replace") if log.exists() else ""
        whole = verb.name == "tape" and code == 2 and "is not empty" in said  # it never replaces a finished set
        if (code != 0 and not whole) or "Traceback" in said:
            raise WrongError(f"the last run ended with {code}: {said[-800:]}")
        log.unlink(missing_ok=True)

    # --- serve -------------------------------------------------------------------------------------------------------

    def _serve(self, count: int) -> dict[str, Any]:
        began = time.monotonic()
        failed: list[str] = []
        seen = {address: Served(address, self.folder / f"shelf{n}") for n, address in enumerate(self.addresses)}
        for number in range(count):
            one = list(seen.values())[number % len(seen)]
            try:
                self._one_serve(one)
            except WrongError as error:
                failed.append(str(error))
        for one in seen.values():
            failed += checked(one)
        acknowledged = sum(len(one.inspections) + len(one.verdicts) for one in seen.values())
        row = {"kind": "kill serve", "tried": count, "failed": len(failed), "why": failed}
        return row | {"acknowledged": acknowledged, "seconds": round(time.monotonic() - began, 1)}

    def _one_serve(self, one: Served) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = int(free.getsockname()[1])
        log = one.shelf.with_suffix(".log")
        recipe = str(self.run / "recipe")
        words = ["serve", recipe, "--db", one.address, "--port", str(port), "--image-folder", str(one.shelf)]
        number = fork(words, log)
        try:
            _wait_for(port, number, log)
            before, until = len(one.inspections), time.monotonic() + PATIENCE
            threads = [one.client(port, until, self._images(), n) for n in range(2)]
            for thread in threads:
                thread.start()
            while len(one.inspections) == before and time.monotonic() < until:
                time.sleep(0.002)
            time.sleep(self.dice.uniform(0, 1.5))  # from the first answer on
        finally:
            kill(number)
        for thread in threads:
            thread.join()
        if "Traceback" in log.read_text("utf-8", "replace"):
            raise WrongError(f"serve: {_last(log)}")

    def _images(self) -> list[bytes]:
        return [file.read_bytes() for file in sorted(self.parts.rglob("*.png"))[:20]]


@dataclass
class Served:
    """What a record was acknowledged to have.

    Attributes:
        address: Of the record.
        shelf: Folder for photographs.
        inspections: Number to (name, score, decision) as it was answered.
        verdicts: Number to (inspection, verdict) as it was answered.
    """

    address: str
    shelf: Path
    inspections: dict[int, tuple[Any, ...]] = field(default_factory=dict)
    verdicts: dict[int, tuple[int, str]] = field(default_factory=dict)
    doubled: list[str] = field(default_factory=list)

    def client(self, port: int, until: float, images: list[bytes], number: int) -> Any:
        """Returns a thread that sends photographs and verdicts until a time, and remembers what was acknowledged."""
        import threading

        def work() -> None:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
                headers = _page(connection)
                while time.monotonic() < until:  # it ends by the kill
                    self._inspect(connection, images[number])
                    self._say(connection, headers, f"{number}-{'t' * 12}")

        return threading.Thread(target=work, daemon=True)

    def _inspect(self, connection: http.client.HTTPConnection, image: bytes) -> None:
        name = uuid.uuid4().hex
        data = image + name.encode()  # the bytes of each photograph are its own
        head = f'--B\r\ncontent-disposition: form-data; name="images"; filename="{name}.png"\r\n\r\n'
        kind = {"content-type": "multipart/form-data; boundary=B"}
        connection.request("POST", "/v1/inspect", head.encode() + data + b"\r\n--B--\r\n", kind)
        answer = connection.getresponse()
        body = answer.read()
        if answer.status == 200:
            row = json.loads(body)["results"][0]
            if row["inspection"] in self.inspections:
                self.doubled.append(f"inspection {row['inspection']} was acknowledged twice")
            self.inspections[row["inspection"]] = (f"{name}.png", row["defect_score"], row["decision"])

    def _say(self, connection: http.client.HTTPConnection, headers: dict[str, str], tab: str) -> None:
        connection.request("POST", "/queue/next", json.dumps({"tab": tab}), headers)
        answer = connection.getresponse()
        items = json.loads(answer.read()).get("items", []) if answer.status == 200 else []
        for item in items[:2]:
            word = "bad" if item["id"] % 2 else "good"
            said = {"tab": tab, "inspection": item["id"], "verdict": word, "key": uuid.uuid4().hex}
            connection.request("POST", "/queue/verdict", json.dumps(said), headers)
            answer = connection.getresponse()
            body = json.loads(answer.read())
            if answer.status == 200:
                if body["verdict"] in self.verdicts:
                    self.doubled.append(f"verdict {body['verdict']} was acknowledged twice")
                self.verdicts[body["verdict"]] = (item["id"], word)


def checked(one: Served) -> list[str]:
    """Returns what of the acknowledged things is not in the record as it was acknowledged, in words."""
    from knowngood.review.store.record import Record

    record = Record(one.address)
    failed = list(one.doubled)
    for number, told in one.inspections.items():
        row = record.inspections.one(number)
        if row is None or (row["image"], row["defect_score"], row["decision"]) != told:
            failed.append(f"inspection {number} was acknowledged as {told}; the record has {row}")
    rows = {row["id"]: row for row in record.verdicts.everything()}
    for number, said in one.verdicts.items():
        row = rows.get(number)
        if row is None or (row["inspection_id"], row["verdict"]) != said:
            failed.append(f"verdict {number} was acknowledged as {said}; the record has {row}")
    standing = [row["inspection_id"] for row in rows.values()]
    if len(standing) != len(set(standing)):
        failed.append("an inspection has two verdicts")
    record.close()
    return failed


def _page(connection: http.client.HTTPConnection) -> dict[str, str]:
    """Loads the page of the queue; returns the headers that it sends with a change."""
    connection.request("GET", "/queue", headers={"accept": "text/html"})
    answer = connection.getresponse()
    text = answer.read().decode()
    cookie = (answer.getheader("set-cookie") or "").partition(";")[0]
    word = text.split('name="csrf" content="')[1].split('"')[0]
    return {"cookie": cookie, "x-csrf-token": word, "content-type": "application/json"}


def _wait_for(port: int, number: int, log: Path) -> None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        if ended(number, 0) is not None:
            raise WrongError(f"serve ended: {_last(log)}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.02)
    raise WrongError(f"serve does not answer: {_last(log)}")


# --- what is compared ------------------------------------------------------------------------------------------------


def preload() -> None:
    """Imports what the commands import, so that a forked child begins with its work; starts no thread."""
    before = ("torch", "knowngood.models.torchvision_ops")  # what timm and Lightning need to be there
    for name in (*before, "lightning", "onnxruntime", "polars", "sklearn.svm", "timm", "uvicorn", "knowngood"):
        importlib.import_module(name)
    importlib.import_module("torch").set_num_threads(1)
    for one in pkgutil.walk_packages(importlib.import_module("knowngood").__path__, "knowngood."):
        if "migrations" not in one.name and not one.name.endswith("__main__"):
            importlib.import_module(one.name)


def compared(verb: Verb, place: Path) -> Any:
    """Returns the result of a run, read in a child: some libraries cannot be forked after their first use."""
    out, into = os.pipe()
    number = os.fork()
    if not number:
        try:
            text = json.dumps(verb.result(place))
        except Exception as error:
            text = json.dumps(f"no result: {type(error).__name__}: {error}")
        with os.fdopen(into, "w") as handle:
            handle.write(text)
        os._exit(0)
    os.close(into)
    with os.fdopen(out) as handle:
        text = handle.read()
    os.waitpid(number, 0)
    found = json.loads(text)
    if isinstance(found, str):
        raise WrongError(found)
    return found


def _bytes_of(name: str) -> Callable[[Path], Any]:
    return lambda place: [hashlib.sha256((place / name).read_bytes()).hexdigest(), _hidden(place)]


def _all_in(name: str) -> Callable[[Path], Any]:
    def result(place: Path) -> Any:
        files = [path for path in (place / name).rglob("*") if path.is_file()]
        return {path.relative_to(place).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    return result


def _frame_of(name: str) -> Callable[[Path], Any]:
    def result(place: Path) -> Any:
        import polars as pl

        frame = pl.read_parquet(place / name)
        floats = [column for column, kind in frame.schema.items() if kind.is_float()]
        frame = frame.with_columns(pl.col(floats).cast(pl.Float64).round(4))
        rows = hashlib.sha256()
        for row in frame.rows():
            rows.update(
                repr(
                    [
                        [round(v, 3) for v in x] if isinstance(x, list) and x and isinstance(x[0], float) else x
                        for x in row
                    ]
                ).encode()
            )
        return {"rows": frame.height, "columns": frame.columns, "contents": rows.hexdigest(), "left": _hidden(place)}

    return result


def _of_train(place: Path) -> Any:
    import polars as pl

    run = place / "run"
    scores = pl.read_parquet(run / "scores.parquet")
    floats = [name for name, kind in scores.schema.items() if kind.is_float()]
    kept = scores.with_columns(pl.col(floats).cast(pl.Float64).round(2))
    rows = hashlib.sha256(repr(kept.rows()).encode()).hexdigest()
    figures = json.loads((run / "metrics.json").read_text())["test"]
    files = sorted(path.name for path in run.iterdir())
    return {"scores": rows, "test": figures, "files": files, "left": _hidden(place)}


def _of_export(place: Path) -> Any:
    folder = next((place / "run" / "recipe" / "exports").iterdir())
    document = json.loads((folder / "export.json").read_text())
    kept = {name: document[name] for name in ("precision", "shape", "threshold", "files")}
    return kept | {"files": sorted(path.name for path in folder.iterdir()), "left": _hidden(place)}


def _hidden(place: Path) -> list[str]:
    """Returns what a killed run has left behind."""
    return sorted(path.relative_to(place).as_posix() for path in place.rglob(".*"))


def _difference(expected: Any, found: Any) -> str:
    if isinstance(expected, dict) and isinstance(found, dict):
        names = [name for name in {**expected, **found} if expected.get(name) != found.get(name)]
        return "; ".join(f"{n}: {str(expected.get(n))[:200]} is now {str(found.get(n))[:200]}" for n in names[:4])
    return f"{str(expected)[:300]} is now {str(found)[:300]}"


def _last(log: Path) -> str:
    return log.read_text("utf-8", "replace")[-800:] if log.exists() else ""
