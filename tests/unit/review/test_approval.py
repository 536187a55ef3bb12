"""Nothing is served that nobody approved: not other scores under the same weights, and not by who made it alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the review station comes with the extra review")

from starlette.testclient import TestClient

from knowngood.errors import ConflictError, RecipeError, UnsignedError
from knowngood.files import write_json
from knowngood.recipe.bundle import Recipe
from knowngood.recipe.manifest import seal
from knowngood.review.serving import approval_notes, inspect_data, open_station
from knowngood.review.station import Job, Station
from knowngood.review.web.factory import make_app


def rewrite(place: Path, **values: Any) -> None:
    """Writes other values into a recipe's document, sealed anew: the weights stay."""
    document = json.loads((place / "recipe.json").read_text("utf-8"))
    for name, value in values.items():
        document[name] = document[name] | value
    document.pop("seal")
    write_json(place / "recipe.json", document | {"seal": seal(document)})


def add_export(place: Path) -> None:
    """Puts an export beside the weights."""
    (place / "exports" / "onnx-fp32").mkdir(parents=True)
    (place / "exports" / "onnx-fp32" / "model.onnx").write_bytes(b"x")


@pytest.fixture
def place(trained_run: Path, tmp_path: Path) -> Path:
    """A recipe's folder of one's own."""
    return Path(shutil.copytree(trained_run / "recipe", tmp_path / "recipe"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda place: rewrite(place, calibration={"temperature": 5.0, "bias": 2.0}), "calibration"),
        (lambda place: rewrite(place, preprocessing={"roi": [[0.1, 0.1, 0.6, 0.6]]}), "preprocessing"),
        (add_export, "exports/onnx-fp32/model.onnx"),
    ],
)
def test_other_scores_under_the_same_weights_are_refused_until_somebody_approves_them(
    place: Path, parts: Path, tmp_path: Path, change: Callable[[Path], None], said: str
) -> None:
    db = tmp_path / "r.db"
    data = next((parts / "good").iterdir()).read_bytes()
    station = open_station(place, db, user="ann")
    was = station.inspect([Job(data, "part.png", "part")])[0]
    station.record.close()
    weights = (place / "weights.safetensors").read_bytes()
    change(place)
    assert (place / "weights.safetensors").read_bytes() == weights
    with pytest.raises(UnsignedError, match="changed since revision 1") as told:
        open_station(place, db, user="ann")
    assert said in str(told.value)
    trial = open_station(place, db, user="ann", allow_unapproved=True)
    assert trial.revision["id"] != 1
    assert "nobody has approved" in approval_notes(trial)[0]
    assert trial.record.inspections.known(trial.scoring) == set()  # the old scores are not this one's
    row = trial.record.inspections.one(was.number) or {}
    assert trial.replay(row)["agrees"] is None
    assert "same weights" in trial.replay(row)["why"]
    assert inspect_data(trial, parts) > 0
    new = trial.inspect([Job(data, "part.png", "part")])[0]
    assert new.revision != was.revision
    trial.record.revisions.sign(1, trial.revision["id"], agrees=True, result={}, who="eve", why="")
    trial.record.close()
    signed = open_station(place, db, user="ann")
    assert signed.revision["hash"] == new.revision
    signed.record.close()


def test_cuts_that_were_changed_on_the_disk_wait_and_the_approved_ones_are_served(
    place: Path, parts: Path, tmp_path: Path
) -> None:
    db = tmp_path / "r.db"
    station = open_station(place, db, user="ann")
    cuts = (station.revision["accept_below"], station.revision["reject_from"])
    station.record.close()
    rewrite(place, threshold={"threshold": 0.999, "reject_from": 0.999})
    station = open_station(place, db, user="ann")
    assert (station.revision["id"], station.revision["accept_below"], station.revision["reject_from"]) == (1, *cuts)
    assert "revision 2 waits" in approval_notes(station)[0]
    filed = station.inspect([Job(next((parts / "chip").iterdir()).read_bytes(), "x.png")])[0].filed
    assert (filed.accept_below, filed.reject_from) == cuts
    station.record.close()


def test_a_recipe_that_was_taken_from_the_station_is_the_revision_that_it_was(place: Path, tmp_path: Path) -> None:
    db = tmp_path / "r.db"
    station = open_station(place, db, user="ann")
    moved = station.move_threshold(0.1, 0.9, "ann", "a band")
    station.record.revisions.sign(1, moved["id"], agrees=True, result={}, who="eve", why="")
    with TestClient(make_app(station), base_url="http://localhost") as client:
        (place / "recipe.json").write_bytes(client.get(f"/recipes/{moved['id']}/recipe.json").content)
    station.record.close()
    assert Recipe.load(place).thresholds.accept_below == 0.1
    station = open_station(place, db, user="ann")
    assert station.revision["id"] == moved["id"]
    assert len(station.record.revisions.everything()) == 2
    station.record.close()


def test_replaying_with_another_recipe_adds_nothing_to_the_record(place: Path, parts: Path, tmp_path: Path) -> None:
    station = open_station(place, tmp_path / "r.db", user="ann")
    number = station.inspect([Job(next((parts / "chip").iterdir()).read_bytes(), "x.png")])[0].number
    station.record.close()
    rewrite(place, calibration={"temperature": 5.0})
    station = open_station(place, tmp_path / "r.db", replay_only=True)
    told = station.replay(station.record.inspections.one(number) or {})
    assert (told["agrees"], "same weights" in told["why"]) == (None, True)
    assert len(station.record.revisions.everything()) == 1
    station.record.close()


def test_a_recipe_that_nobody_trusted_has_signed_is_refused_and_a_signature_is_shown(
    place: Path, parts: Path, tmp_path: Path
) -> None:
    pytest.importorskip("cryptography", reason="signatures come with the extra sign")
    from knowngood.recipe.signing import new_key, sign

    owner, mark = new_key(tmp_path / "owner")
    other, _ = new_key(tmp_path / "other")
    with pytest.raises(RecipeError, match="not signed"):
        open_station(place, tmp_path / "r.db", require_signature=(owner,))
    sign(place, tmp_path / "owner")
    with pytest.raises(RecipeError, match="trusted"):
        open_station(place, tmp_path / "r.db", require_signature=(other,))
    station = open_station(place, tmp_path / "r.db", require_signature=(owner,), user="ann")
    number = station.inspect([Job(next((parts / "chip").iterdir()).read_bytes(), "x.png")])[0].number
    assert mark[:16] in station.replay(station.record.inspections.one(number) or {})["signed_by"]
    with TestClient(make_app(station), base_url="http://localhost") as client:
        assert mark[:16] in client.get("/recipes").text
        assert mark[:16] in client.get("/v1/recipe").json()["signed_by"]
    station.record.close()
    rewrite(place, calibration={"temperature": 5.0})
    with pytest.raises(RecipeError, match="not what was signed"):
        open_station(place, tmp_path / "r.db", require_signature=(owner,))


def moved_and_signed(station: Station, client: TestClient, who: dict[str, str]) -> int:
    """Moves the threshold, approves that, and returns the status of the approval; both over the web."""
    page = client.get("/queue", headers={"accept": "text/html"} | who).text
    csrf = {"csrf": page.split('name="csrf" content="')[1].split('"')[0]}
    moved = {"low": "0.1", "high": "0.9", "why": "a band"} | csrf
    assert client.post("/threshold", data=moved, headers=who, follow_redirects=False).status_code == 303
    new = station.record.revisions.everything()[0]["id"]
    return approval(client, new, who, csrf)


def approval(client: TestClient, new: int, who: dict[str, str], more: dict[str, str]) -> int:
    word = {"old": "1", "new": str(new), "agrees": "true", "split": "all"} | more
    return client.post("/recipes/sign", data=word, headers=who, follow_redirects=False).status_code


@pytest.mark.parametrize("allowed", [False, True])
def test_engineers_approve_their_own_revisions_only_where_that_is_allowed_and_told(
    trained_run: Path, parts: Path, tmp_path: Path, allowed: bool
) -> None:
    station = open_station(trained_run, tmp_path / "r.db", user="line", open=False, allow_own_approval=allowed)
    inspect_data(station, parts)
    ann, bob = ({"authorization": f"Bearer {station.record.people.add(n, 'engineer')}"} for n in ("ann", "bob"))
    with TestClient(make_app(station), base_url="http://localhost") as client:
        assert moved_and_signed(station, client, ann) == (303 if allowed else 409)
        assert station.revision["id"] == (2 if allowed else 1)
        if not allowed:
            assert approval(client, 2, bob, {}) == 303
            assert station.revision["id"] == 2
        assert ("own approval" in client.get("/recipes", headers=bob).text) is allowed
    assert [one["own"] for one in station.record.revisions.everything()[0]["signoffs"]] == [int(allowed)]
    station.record.close()


def test_the_one_person_of_an_unprotected_station_may_and_the_record_says_so(
    trained_run: Path, parts: Path, tmp_path: Path
) -> None:
    station = open_station(trained_run, tmp_path / "r.db", user="ann")
    inspect_data(station, parts)
    with TestClient(make_app(station), base_url="http://localhost") as client:
        assert moved_and_signed(station, client, {}) == 303
        assert "(own approval)" in client.get("/recipes").text
    with pytest.raises(ConflictError, match="cannot approve"):
        station.record.revisions.sign(1, 2, agrees=True, result={}, who="ann", why="")
    assert station.record.revisions.sign(1, 2, agrees=False, result={}, who="ann", why="")  # refusing is never refused
    station.record.close()
