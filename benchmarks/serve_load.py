"""The station under twice the load that it can bear: what it answers, how fast, and whether anything is lost.

First the bare engine scores the same photographs in batches, in a process of its own. Then `knowngood serve` runs as a
user runs it, and 64 clients send one photograph each at twice the bare engine's rate together. Afterwards the record is
asked for every inspection that was acknowledged, and the station is ended while clients still send.

    python benchmarks/serve_load.py [RUN PHOTOGRAPHS] [--seconds 60] [--clients 64] [--queue-size 32]

Without a run a quick one is trained on look-alike parts first, which takes minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import shlex
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from itertools import cycle
from pathlib import Path
from typing import Any

import httpx
from own_input import TAPE, run_and_photographs

from knowngood.files import write_json

RESULT = Path(__file__).parent / "results" / "serve_load.json"
BARE = """
import sys, time
from pathlib import Path
from knowngood.recipe.bundle import Recipe
recipe, images = Recipe.load(sys.argv[1]), [Path(p).read_bytes() for p in sys.argv[2:]]
recipe.predict(images[:16])
started, done = time.perf_counter(), 0
while time.perf_counter() - started < 5:
    done += len(recipe.predict(images[:16]))
print(done / (time.perf_counter() - started))
"""


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory() as folder:
        options.run, paths = run_and_photographs(options.run, options.photographs, Path(folder))
        paths = paths[:256]
        words = [sys.executable, "-c", BARE, str(options.run), *map(str, paths[:16])]
        bare = float(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
        print(f"bare engine: {bare:.1f} images/s")
        db = Path(folder) / "record.db"
        process, url = _serve(options, db)
        try:
            seen = asyncio.run(_load(options, url, [p.read_bytes() for p in paths], 2 * bare, process.pid))
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()
        kept = {n for (n,) in sqlite3.connect(db).execute("SELECT id FROM inspections")}
    document = _document(options, bare, seen, kept)
    write_json(options.out, document)
    for name, value in document["load"].items():
        print(f"{name}: {value}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", nargs="?")
    parser.add_argument("photographs", nargs="?")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--queue-size", type=int, default=32)
    parser.add_argument("--out", type=Path, default=RESULT)
    return parser.parse_args()


def _serve(options: argparse.Namespace, db: Path) -> tuple[subprocess.Popen[str], str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # an empty data set: only what is sent is inspected
    words = ["serve", str(Path(options.run) / "recipe"), "--db", str(db), "--port", str(port)]
    words = [sys.executable, "-m", "knowngood", *words, "--queue-size", str(options.queue_size)]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    next(line for line in process.stderr if "http://" in line)
    return process, f"http://127.0.0.1:{port}"


async def _load(options: argparse.Namespace, url: str, images: list[bytes], rate: float, pid: int) -> dict[str, Any]:
    """Sends at a rate from all clients; a client that is refused goes on with its next photograph at its time."""
    seen: dict[str, Any] = {"codes": Counter(), "seconds": [], "ids": [], "memory": [], "retry": 0}
    supply, end, pause = cycle(images), time.perf_counter() + options.seconds, options.clients / rate
    stopped = False

    async def client(number: int, session: httpx.AsyncClient) -> None:
        await asyncio.sleep(pause * number / options.clients)
        due = time.perf_counter()
        while not stopped:
            started = time.perf_counter()
            try:
                # each photograph is a new one to the station: a byte of the file's end differs
                data = next(supply) + os.urandom(8)
                answer = await session.post(f"{url}/v1/inspect", files={"images": ("part.png", data)})
            except httpx.HTTPError as error:
                seen["codes"]["ended" if stopped else type(error).__name__] += 1
                continue
            seen["codes"][answer.status_code] += 1
            if answer.status_code == 200:
                seen["seconds"].append(time.perf_counter() - started)
                seen["ids"].append(answer.json()["results"][0]["inspection"])
            elif answer.status_code == 503:
                seen["retry"] += "retry-after" in answer.headers
            due = max(due + pause, time.perf_counter())
            await asyncio.sleep(max(0.0, due - time.perf_counter()))

    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(timeout=120, limits=limits) as session:
        tasks = [asyncio.create_task(client(n, session)) for n in range(options.clients)]
        while time.perf_counter() < end:
            seen["memory"].append(_memory(pid))
            await asyncio.sleep(1)
        stopped = True
        os.kill(pid, signal.SIGTERM)  # in the middle of it: what was accepted has to be answered and kept
        await asyncio.gather(*tasks)
    return seen


def _memory(pid: int) -> float:
    """Returns the resident memory of a process in MiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024


def _document(options: argparse.Namespace, bare: float, seen: dict[str, Any], kept: set[int]) -> dict[str, Any]:
    quantiles = statistics.quantiles(seen["seconds"], n=100, method="inclusive")
    rate = len(seen["ids"]) / options.seconds
    load = {
        "answers": {str(code): count for code, count in sorted(seen["codes"].items(), key=str)},
        "503 with Retry-After": seen["retry"],
        "acknowledged": len(seen["ids"]),
        "acknowledged and not in the record": len(set(seen["ids"]) - kept),
        "images/s": round(rate, 2),
        "share of the bare engine": round(rate / bare, 3),
        "p50 s": round(quantiles[49], 4),
        "p99 s": round(quantiles[98], 4),
        "memory MiB, by the tenth": [round(m) for m in seen["memory"][:: max(1, len(seen["memory"]) // 10)]],
    }
    return {
        "command": shlex.join(["python", *sys.argv]),
        "photographs": options.photographs or TAPE,
        "machine": {
            "cores": os.cpu_count(),
            "machine": platform.machine(),
            "load before": round(os.getloadavg()[0], 2),
        },
        "seconds": options.seconds,
        "clients": options.clients,
        "waiting": options.queue_size,
        "bare engine, images/s": round(bare, 2),
        "load": load,
    }


if __name__ == "__main__":
    main()
