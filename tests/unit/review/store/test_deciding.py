"""What a revision is named by: everything that decides, and nothing else; older records are carried over."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError

from knowngood.files import write_json
from knowngood.recipe.manifest import RecipeManifest, decision_digest, seal
from knowngood.review.store.database import address
from knowngood.review.store.deciding import Decider
from knowngood.review.store.record import Record


def changed(place: Path, **values: Any) -> Decider:
    """Writes other values into a recipe's document, sealed anew, and returns what it decides by then."""
    document = json.loads((place / "recipe.json").read_text("utf-8")) | values
    document.pop("seal", None)
    write_json(place / "recipe.json", document | {"seal": seal(document)})
    return Decider.in_folder(place)


def test_everything_that_decides_is_in_the_hash_and_the_cuts_alone_leave_the_scores(
    trained_run: Path, tmp_path: Path
) -> None:
    place = Path(shutil.copytree(trained_run / "recipe", tmp_path / "recipe"))
    was = Decider.in_folder(place)
    assert was.digest == decision_digest(place)
    named = changed(place, name="another", created="2030-01-01T00:00:00+00:00")
    assert (named.digest, named.scoring) == (was.digest, was.scoring)
    cut = changed(place, threshold=was.document["threshold"] | {"threshold": 0.01})
    assert (cut.digest != was.digest, cut.scoring == was.scoring) == (True, True)
    assert was.differences(cut) == ["threshold"]
    warm = changed(place, calibration=was.document["calibration"] | {"temperature": 3.0})
    assert warm.scoring != was.scoring
    assert was.differences(warm) == ["calibration", "threshold"]
    (place / "exports" / "onnx-fp32").mkdir(parents=True)
    (place / "exports" / "onnx-fp32" / "model.onnx").write_bytes(b"x")
    with_export = Decider.in_folder(place)
    assert with_export.scoring != warm.scoring
    assert warm.differences(with_export) == ["exports/onnx-fp32/model.onnx"]


def test_another_file_beside_the_same_recipe_is_another_revision(
    record: Record, make_manifest: Callable[..., RecipeManifest]
) -> None:
    bare = Decider.of_manifest(make_manifest())
    more = Decider(bare.document, bare.files | {"exports/x/model.onnx": "0" * 64})
    for decider in (bare, more, bare, more):
        record.revisions.add(decider, "ann")
    rows = record.revisions.everything()[::-1]
    assert [row["digest"] for row in rows] == [bare.digest, more.digest]
    assert [row["hash"] for row in rows] == [bare.hash, more.digest]
    assert record.revisions.to_serve(bare.scoring) is not None
    assert record.revisions.to_serve(more.scoring) is None
    again = Decider.of_row(record.revisions.newest(more.scoring) or {})
    assert (again.digest, again.files) == (more.digest, more.files)


def test_an_older_record_is_carried_over_and_marked(url: str, make_manifest: Callable[..., RecipeManifest]) -> None:
    manifest = make_manifest()
    document = manifest.document()
    engine = create_engine(address(url))
    config = Config()
    config.set_main_option("script_location", "knowngood.review.store:migrations")
    config.set_main_option("path_separator", "os")
    row = {"hash": seal(document), "weights": "w" * 64, "manifest": json.dumps(document), "at": "2026-11-25T00:00:00Z"}
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.execute(
            text(
                "INSERT INTO revisions (hash, weights_sha256, name, accept_below, reject_from, manifest, who, at, why) "
                "VALUES (:hash, :weights, 'sot23', 0.3, 0.7, :manifest, 'ann', :at, 'Served from its folder.')"
            ),
            row,
        )
        connection.execute(
            text(
                "INSERT INTO signoffs (old_id, new_id, agrees, result, who, at, why) "
                "VALUES (1, 1, 1, '{}', 'ann', :at, '')"
            ),
            row,
        )
    engine.dispose()
    record = Record(url)
    decider = Decider.of_manifest(manifest)
    found = record.revisions.to_serve(decider.scoring)
    assert found is not None
    assert (found["id"], found["digest"], found["parts"]) == (1, decider.digest, None)
    assert record.revisions.everything()[0]["signoffs"][0]["own"] == 0
    moved = record.revisions.change(found, 0.2, 0.2, "bob", "an escape")
    assert (moved["scoring"], moved["parts"]) == (decider.scoring, None)
    with pytest.raises(DBAPIError, match="only ever added to"), record.database.engine.begin() as connection:
        connection.execute(text("UPDATE revisions SET who = 'x'"))
    record.close()
