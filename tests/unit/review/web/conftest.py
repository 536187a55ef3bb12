"""A station on a trained recipe, asked in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the review station comes with the extra review")

from starlette.testclient import TestClient

from knowngood.recipe.bundle import Recipe
from knowngood.recipe.session import open_session
from knowngood.review.settings import Settings
from knowngood.review.station import Station
from knowngood.review.store.record import Record
from knowngood.review.web.factory import make_app


@pytest.fixture(scope="session")
def recipe(trained_run: Path) -> Recipe:
    """A trained recipe; not to be changed."""
    return Recipe.load(trained_run)


@pytest.fixture
def make_station(recipe: Recipe, tmp_path: Path) -> Iterator[Callable[..., Station]]:
    """Makes a station on an empty record: make_station(queue_size=3)."""
    made: list[Station] = []

    def make(**settings: Any) -> Station:
        record = Record(tmp_path / f"record{len(made)}.db")
        limits = Settings(shelf=tmp_path / "images", user="tester", **settings)
        made.append(Station(open_session(recipe), record, limits))
        return made[-1]

    yield make
    for station in made:
        station.record.close()


@pytest.fixture
def station(make_station: Callable[..., Station]) -> Station:
    """An open station."""
    return make_station()


@pytest.fixture
def ask() -> Iterator[Callable[..., TestClient]]:
    """Makes a client of a station: ask(station, token)."""
    opened: list[TestClient] = []

    def make(station: Station, token: str | None = None) -> TestClient:
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        client = TestClient(
            make_app(station), base_url="http://127.0.0.1", headers=headers, raise_server_exceptions=False
        )
        client.__enter__()
        opened.append(client)
        return client

    yield make
    for client in opened:
        client.__exit__(None, None, None)


@pytest.fixture
def client(station: Station, ask: Callable[..., TestClient]) -> TestClient:
    """A client of the open station."""
    return ask(station)


@pytest.fixture
def page_word() -> Callable[[TestClient], str]:
    """Returns the word that a page of ours sends back with a change: page_word(client)."""

    def word(client: TestClient) -> str:
        page = client.get("/queue", headers={"accept": "text/html"}).text
        return page.split('name="csrf" content="')[1].split('"')[0]

    return word
