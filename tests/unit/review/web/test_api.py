"""Machines ask: what comes back is what `predict` says, and it is in the record."""

from __future__ import annotations

import base64
import hashlib
import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from knowngood.recipe.bundle import Recipe
from knowngood.review.serving import take_over_run
from knowngood.review.station import Station

SAME = 1e-4  # a batch's company moves a score by less (ADR 0003)


def some(parts: Path, count: int = 3) -> list[Path]:
    return [*sorted((parts / "good").iterdir())[:count], *sorted((parts / "chip").iterdir())[:count]]


def uploads(paths: list[Path]) -> list[tuple[str, tuple[str, bytes, str]]]:
    return [("images", (path.name, path.read_bytes(), "image/png")) for path in paths]


def test_answers_are_those_of_predict_and_are_filed(
    client: TestClient, station: Station, recipe: Recipe, parts: Path
) -> None:
    paths = some(parts)
    answer = client.post("/v1/inspect", files=uploads(paths), data={"lot": "A17", "machine": "M2", "heatmap": "true"})
    assert answer.status_code == 200, answer.text
    results, said = answer.json()["results"], recipe.predict(paths)
    assert answer.json()["revision"] == station.revision["hash"]
    for result, prediction, path in zip(results, said, paths, strict=True):
        assert result["defect_score"] == pytest.approx(prediction.defect_score, abs=SAME)
        assert result["decision"] == prediction.decision
        assert result["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
        assert Image.open(io.BytesIO(base64.b64decode(result["heatmap"]))).size == Image.open(path).size
        assert (result["region"] is None) == (result["decision"] == "accept")
        filed = station.record.inspections.one(result["inspection"])
        assert filed is not None
        assert (filed["unit"], filed["lot"], filed["machine"], filed["who"]) == (path.stem, "A17", "M2", "tester")
        assert filed["defect_score"] == result["defect_score"]
        assert station.bytes_of(filed["sha256"]) == path.read_bytes()
    assert client.get(f"/v1/units/{paths[0].stem}").json()[0]["lot"] == "A17"


def test_one_bad_file_costs_its_own_row(client: TestClient, parts: Path) -> None:
    files = uploads(some(parts, 1))
    files.insert(1, ("images", ("broken.png", b"\x89PNG\r\n\x1a\n", "image/png")))
    results = client.post("/v1/inspect", files=files).json()["results"]
    assert [one["decision"] is None for one in results] == [False, True, False]
    assert "broken.png" in results[1]["error"]


def test_what_needs_a_person_is_in_the_queue(client: TestClient, station: Station, parts: Path) -> None:
    results = client.post("/v1/inspect", files=uploads(some(parts))).json()["results"]
    wanted = {one["inspection"] for one in results if one["decision"] != "accept"}
    assert wanted
    assert {row["id"] for row in station.record.queue.take("t", 10)} == wanted


def test_keep_doubtful_keeps_nothing_else(
    make_station: Callable[..., Station], ask: Callable[..., TestClient], parts: Path
) -> None:
    station = make_station(keep="doubtful")
    results = ask(station).post("/v1/inspect", files=uploads(some(parts))).json()["results"]
    kept = {path.name for path in station.settings.shelf.rglob("*") if path.is_file()}
    assert kept == {one["sha256"] for one in results if one["decision"] != "accept"}


def test_a_moved_threshold_is_served_when_it_is_approved_and_its_recipe_can_be_taken_away(
    client: TestClient, station: Station, parts: Path, trained_run: Path, tmp_path: Path, page_word: Callable[..., str]
) -> None:
    csrf = page_word(client)
    take_over_run(station, trained_run)
    before = station.revision["id"]
    moved = {"low": "0", "high": "1", "why": "everything to people", "csrf": csrf}
    assert client.post("/threshold", data=moved, follow_redirects=False).status_code == 303
    results = client.post("/v1/inspect", files=uploads(some(parts))).json()["results"]
    assert "review" not in {one["decision"] for one in results}
    new = station.record.revisions.waiting(station.scoring, before)
    word = {"old": before, "new": new["id"], "agrees": "true", "split": "test", "csrf": csrf}
    assert client.post("/recipes/sign", data=word, follow_redirects=False).status_code == 303
    results = client.post("/v1/inspect", files=uploads(some(parts))).json()["results"]
    assert {one["decision"] for one in results} == {"review"}
    revision = station.revision
    folder = tmp_path / "taken"
    folder.mkdir()
    for path in (trained_run / "recipe").glob("*.safetensors"):
        shutil.copy(path, folder)
    (folder / "recipe.json").write_bytes(client.get(f"/recipes/{revision['id']}/recipe.json").content)
    taken = Recipe.load(folder)
    assert (taken.thresholds.accept_below, taken.thresholds.reject_from) == (0, 1)
    assert taken.manifest.revision == revision["hash"][:12]


def test_replay_says_whether_it_agrees(client: TestClient, station: Station, parts: Path) -> None:
    number = client.post("/v1/inspect", files=uploads(some(parts)[:1])).json()["results"][0]["inspection"]
    row = station.record.inspections.one(number)
    assert row is not None
    assert station.replay(row)["agrees"] is True
    assert station.replay(row | {"defect_score": row["defect_score"] + 0.1})["agrees"] is False
    assert station.replay(row | {"scoring": "0" * 64})["agrees"] is None
    place = Path(station.record.inspections.place_of(row["sha256"]) or "")
    place.write_bytes(place.read_bytes() + b"\0")
    told = station.replay(row)
    assert told["agrees"] is None
    assert "changed" in told["why"]


def test_health_and_figures(client: TestClient, parts: Path) -> None:
    client.post("/v1/inspect", files=uploads(some(parts, 1)))
    assert client.get("/health/ready").json() == {"ready": True}
    assert client.get("/health/live").json() == {"live": True}
    text = client.get("/metrics").text
    counted = [float(line.split()[-1]) for line in text.splitlines() if line.startswith("knowngood_inspections_total{")]
    assert sum(counted) == 2
    assert "knowngood_pending 0.0" in text


def infer(client: TestClient, document: dict[str, Any], model: str = "trained") -> Any:
    return client.post(f"/v2/models/{model}/infer", json=document)


def test_the_open_inference_protocol_in_json(client: TestClient, recipe: Recipe, parts: Path) -> None:
    paths = some(parts, 1)
    tensor = {"name": "image", "datatype": "BYTES", "shape": [2]}
    tensor["data"] = [base64.b64encode(path.read_bytes()).decode() for path in paths]
    answer = infer(client, {"id": "7", "inputs": [tensor]}, recipe.manifest.name).json()
    outputs = {one["name"]: one for one in answer["outputs"]}
    said = recipe.predict(paths)
    assert outputs["defect_score"]["data"] == pytest.approx([p.defect_score for p in said], abs=SAME)
    assert outputs["decision"]["data"] == [p.decision for p in said]
    assert (answer["id"], answer["model_name"]) == ("7", recipe.manifest.name)
    pixels = np.asarray(Image.open(paths[0]))
    tensor = {"name": "image", "datatype": "UINT8", "shape": [1, *pixels.shape], "data": pixels.tolist()}
    answer = infer(client, {"inputs": [tensor], "outputs": [{"name": "decision"}]}, recipe.manifest.name).json()
    assert answer["outputs"] == [{"name": "decision", "datatype": "BYTES", "shape": [1], "data": [said[0].decision]}]


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"inputs": []},
        {"inputs": [1]},
        {"inputs": [{"name": "image", "datatype": "BYTES", "shape": [2], "data": ["x"]}]},
        {"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": ["?"]}]},
        {"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": ["aGVsbG8="]}]},
        {"inputs": [{"name": "image", "datatype": "BYTES", "shape": [-1], "data": []}]},
        {"inputs": [{"name": "image", "datatype": "BYTES", "shape": [10**6], "data": []}]},
        {"inputs": [{"name": "image", "datatype": "FP32", "shape": [1, 2, 2], "data": [[[0, 0], [0, 0]]]}]},
        {"inputs": [{"name": "image", "datatype": "UINT8", "shape": [1, 2, 2], "data": [[[0, 0], [0, 300]]]}]},
        {"inputs": [{"name": "image", "datatype": "UINT8", "shape": [1, 2, 2], "data": [0, 0]}]},
        {"inputs": [{"name": "image", "datatype": "UINT8", "shape": [1, 10**6, 10**6], "data": []}]},
        {"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 9}}]},
    ],
)
def test_inference_requests_that_are_none_are_refused_in_words(
    client: TestClient, recipe: Recipe, document: dict[str, Any]
) -> None:
    answer = infer(client, document, recipe.manifest.name)
    assert answer.status_code == 400
    assert isinstance(answer.json()["error"], str)


def test_another_model_is_not_there(client: TestClient) -> None:
    assert client.get("/v2/models/other").status_code == 404
    assert infer(client, {}, "other").status_code == 404
