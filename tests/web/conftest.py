"""A station that really listens, and a real browser to ask it with."""

from __future__ import annotations

import contextlib
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the review station comes with the extra review")

from knowngood.recipe.bundle import Recipe
from knowngood.recipe.session import open_session
from knowngood.review.serving import server_of
from knowngood.review.settings import Settings
from knowngood.review.station import Station
from knowngood.review.store.inspections import Filed
from knowngood.review.store.record import Record
from knowngood.review.web.factory import make_app


class Live:
    """A station at an address."""

    def __init__(self, station: Station) -> None:
        self.station = station
        self.socket = socket.socket()
        self.socket.bind(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self.socket.getsockname()[1]}"
        self.url = f"http://{self.host}"
        app = make_app(station)
        self.overview = app.state.overview
        self.server = server_of(app)
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.socket]}, daemon=True)

    def start(self) -> Live:
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)
        return self

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join()
        self.socket.close()
        self.station.record.close()


@pytest.fixture(scope="session")
def recipe(trained_run: Path) -> Recipe:
    """A trained recipe; not to be changed."""
    return Recipe.load(trained_run)


@pytest.fixture
def serve_live(recipe: Recipe, tmp_path: Path) -> Iterator[Callable[..., Live]]:
    """Starts a station on an empty record: serve_live(open=False)."""
    live: list[Live] = []

    def start(**settings: Any) -> Live:
        folder = tmp_path / f"station{len(live)}"
        limits = Settings(shelf=folder / "images", user="ann", **settings)
        made = Station(open_session(recipe), Record(folder / "record.db"), limits)
        live.append(Live(made).start())
        return live[-1]

    yield start
    for one in live:
        one.stop()


def fill_queue(station: Station, parts: Path, count: int) -> list[int]:
    """Puts photographs into the queue, the doubt of each a little smaller than that of the one before."""
    paths = sorted(parts.rglob("*.png"))
    revision = station.revision
    rows, images = [], []
    for number in range(count):
        path = paths[number % len(paths)]
        prepared = station.inspector.prepare(path.read_bytes(), path.name, 10**7)
        digest = f"{number:064x}" if number >= len(paths) else _hash(path)
        facts = {"brightness": prepared.brightness, "contrast": prepared.contrast, "sharpness": prepared.sharpness}
        rows.append(
            Filed(
                *(f"part_{number:03}", path.name, digest, revision["id"]),
                *(revision["accept_below"], revision["reject_from"], 0.5, "review"),
                lot="A17",
                **facts,
                priority=2 - number / (10 * count),
                reason="review band",
            )
        )
        images.append((digest, str(path), path.stat().st_size))
    return station.record.inspections.file(rows, images)


def _hash(path: Path) -> str:
    from knowngood.files import sha256_of

    return sha256_of(path)


@pytest.fixture
def fill() -> Callable[..., list[int]]:
    """Fills a queue: fill(station, parts, 60)."""
    return fill_queue


@pytest.fixture(scope="module")  # Playwright leaves an event loop running, which other files' tests must not meet
def chromium() -> Iterator[Any]:
    """Debian's Chromium, driven by Playwright; skips where there is none, which CI does not allow."""
    import os

    where = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        where = None
    if where is None:
        assert os.environ.get("KNOWNGOOD_BROWSER") != "required", (
            "CI has to run the tests in a browser: apt-get install chromium"
        )
        pytest.skip("there is no Chromium with Playwright here: apt-get install chromium")
    with contextlib.ExitStack() as stack:
        driver = stack.enter_context(sync_playwright())
        browser = driver.chromium.launch(executable_path=where, args=["--no-sandbox"])
        stack.callback(browser.close)
        yield browser


class Window:
    """A browser window on a station that tells of every mistake that a page makes."""

    def __init__(self, browser: Any, url: str, width: int = 1280, scheme: str = "light") -> None:
        self.context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme, base_url=url)
        self.page = self.context.new_page()
        self.mistakes: list[str] = []
        self.page.on("pageerror", lambda error: self.mistakes.append(str(error)))
        self.page.on(
            "console", lambda said: self.mistakes.append(said.text) if "Content Security" in said.text else None
        )

    def queue(self) -> None:
        self.page.goto("/queue")
        self.page.wait_for_selector("#item:not([hidden]) #photo-view img")

    def unit(self) -> str:
        return str(self.page.text_content("#unit"))

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def settle(self) -> None:
        self.page.wait_for_function("() => document.body.dataset.pending === '0'")

    def sign_in(self, token: str) -> None:
        self.page.goto("/sign-in")
        self.page.fill("[name=token]", token)
        self.page.click("main button")
        self.page.wait_for_url("**/queue")


@pytest.fixture
def window(chromium: Any) -> Any:
    """Opens a window: window(url, width=390)."""
    opened: list[Window] = []

    def open_one(url: str, **more: Any) -> Window:
        opened.append(Window(chromium, url, **more))
        return opened[-1]

    yield open_one
    for one in opened:
        assert one.mistakes == []
        one.context.close()
