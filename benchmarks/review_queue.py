"""From the key to the next picture: an operator with a full queue, in a real browser.

Fills a record with the run's own labelled images, which the station compares others with, and with 10,000 doubtful ones
(the photographs again and again), then presses a key as soon as the next picture is there. Measured in the page: from
the key until the next photograph is decoded and on the screen; once while the features of the labelled images are made,
and once when they are there.

    python benchmarks/review_queue.py [RUN PHOTOGRAPHS] [--keys 100] [--images 10000] [--pause 0.3]

Without a run a quick one is trained on look-alike parts first, which takes minutes.
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
from own_input import TAPE, run_and_photographs
from playwright.sync_api import Page, sync_playwright

from knowngood.files import sha256_of, write_json
from knowngood.review.serving import open_station, take_over_run
from knowngood.review.store.inspections import Filed
from knowngood.review.web.factory import make_app

RESULT = Path(__file__).parent / "results" / "review_queue.json"
PORT = 8237


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", nargs="?")
    parser.add_argument("photographs", nargs="?")
    parser.add_argument("--keys", type=int, default=100)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--pause", type=float, default=0.3, help="seconds that the operator looks")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run, paths = run_and_photographs(options.run, options.photographs, Path(folder))
        paths = paths[::2][:500]  # what waits is not known: the others are compared with
        station = open_station(run, Path(folder) / "record.db")
        labelled = take_over_run(station, run)
        revision = station.revision
        known = [(sha256_of(path), path) for path in paths]
        cuts = (revision["id"], revision["accept_below"], revision["reject_from"])
        rows = [
            Filed(f"part_{n:05}", path.name, digest, *cuts, 0.5, "review", priority=9 - n / 1e6, reason="review band")
            for n in range(options.images)
            for digest, path in [known[n % len(known)]]
        ]
        station.record.inspections.file(rows, [(d, str(p), p.stat().st_size) for d, p in known])
        waiting = station.record.queue.counts()["waiting"]
        app = make_app(station)
        server = uvicorn.Server(uvicorn.Config(app, port=PORT, log_level="warning"))
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            page = browser.new_page()
            during = _press(page, options.keys, options.pause)
            while (
                app.state.overview.view.known is None or app.state.overview.progress[0] < app.state.overview.progress[1]
            ):
                time.sleep(1)
            after = _press(page, options.keys, options.pause)
            browser.close()
        said = len(station.record.verdicts.everything())
        server.should_exit = True
        thread.join()
    document = {
        "command": shlex.join(["python", *sys.argv]),
        "machine": {"cores": os.cpu_count(), "machine": platform.machine(), "load": round(os.getloadavg()[0], 2)},
        "photographs": options.photographs or TAPE,
        "images in the queue": waiting,
        "labelled images": labelled,
        "keys": 2 * options.keys,
        "verdicts in the record": said,
        "seconds that the operator looks": options.pause,
        "milliseconds from key to next picture": {"while features are made": during, "afterwards": after},
    }
    write_json(options.out, document)
    print(document)


def _press(page: Page, keys: int, pause: float) -> dict[str, float]:
    """Returns milliseconds from key to next picture, and how often a neighbour stood there before the key."""
    compared = 0
    page.goto(f"http://127.0.0.1:{PORT}/queue")
    page.wait_for_selector("#item:not([hidden]) #photo-view img")
    taken = []
    for number in range(keys):
        time.sleep(pause)
        compared += page.locator("#good-view img").count()
        page.evaluate("delete document.body.dataset.milliseconds")
        page.keyboard.press("b" if number % 3 else "g")
        page.wait_for_function("() => document.body.dataset.milliseconds !== undefined")
        taken.append(float(page.evaluate("document.body.dataset.milliseconds")))
    page.wait_for_function("() => document.body.dataset.pending === '0'")
    quantiles = statistics.quantiles(taken, n=100, method="inclusive")
    figures = {"p50": quantiles[49], "p99": quantiles[98], "most": max(taken)}
    return {**{name: round(value, 1) for name, value in figures.items()}, "with a neighbour": compared}


if __name__ == "__main__":
    main()
