"""From the key to the next picture: an operator with a full queue, in a real browser.

Fills a record with 10,000 doubtful images (the photographs again and again), then presses a key as soon as the next
picture is there. Measured in the page: from the key until the next photograph is decoded and on the screen.

    python benchmarks/review_queue.py RUN PHOTOGRAPHS [--keys 100] [--images 10000] [--pause 0.3]
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import shutil
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

import uvicorn
from playwright.sync_api import Page, sync_playwright

from knowngood.files import sha256_of, write_json
from knowngood.review.app.factory import make_app
from knowngood.review.serving import open_station
from knowngood.review.store.inspections import Filed

RESULT = Path(__file__).parent / "results" / "review_queue.json"
PORT = 8237


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run")
    parser.add_argument("photographs")
    parser.add_argument("--keys", type=int, default=100)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--pause", type=float, default=0.3, help="seconds that the operator looks")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    paths = sorted(p for p in Path(options.photographs).rglob("*") if p.suffix.lower() in (".png", ".jpg"))[:500]
    with tempfile.TemporaryDirectory() as folder:
        station = open_station(Path(options.run) / "recipe", Path(folder) / "record.db")
        revision = station.revision
        known = [(sha256_of(path), path) for path in paths]
        cuts = (revision["id"], revision["accept_below"], revision["reject_from"])
        rows = [
            Filed(f"part_{n:05}", path.name, digest, *cuts, 0.5, "review", doubt=1 - n / 1e6, reason="review band")
            for n in range(options.images)
            for digest, path in [known[n % len(known)]]
        ]
        station.record.inspections.file(rows, [(d, str(p), p.stat().st_size) for d, p in known])
        server = uvicorn.Server(uvicorn.Config(make_app(station), port=PORT, log_level="warning"))
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            taken = _press(browser.new_page(), options.keys, options.pause)
            browser.close()
        said = len(station.record.verdicts.everything())
        server.should_exit = True
        thread.join()
    quantiles = statistics.quantiles(taken, n=100, method="inclusive")
    document = {
        "command": shlex.join(["python", *sys.argv]),
        "machine": {"cores": os.cpu_count(), "machine": platform.machine(), "load": round(os.getloadavg()[0], 2)},
        "images in the queue": options.images,
        "keys": len(taken),
        "verdicts in the record": said,
        "seconds that the operator looks": options.pause,
        "milliseconds from key to next picture": {
            "p50": round(quantiles[49], 1),
            "p99": round(quantiles[98], 1),
            "most": round(max(taken), 1),
        },
    }
    write_json(options.out, document)
    print(document)


def _press(page: Page, keys: int, pause: float) -> list[float]:
    page.goto(f"http://127.0.0.1:{PORT}/queue")
    page.wait_for_selector("#item:not([hidden]) #photo-view img")
    taken = []
    for number in range(keys):
        time.sleep(pause)
        page.evaluate("delete document.body.dataset.milliseconds")
        page.keyboard.press("b" if number % 3 else "g")
        page.wait_for_function("() => document.body.dataset.milliseconds !== undefined")
        taken.append(float(page.evaluate("document.body.dataset.milliseconds")))
    page.wait_for_function("() => document.body.dataset.pending === '0'")
    return taken


if __name__ == "__main__":
    main()
