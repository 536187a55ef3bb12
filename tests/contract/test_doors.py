"""Whatever way a photograph takes to a decision, the score is the same to the last bit, and so are decision and reason.

Doors: command line, `predict`, `Recipe.predict`, `Recipe.maps`, `explain`, the station's API, KServe, the inbox, replay
and the worker of a cluster. Recipes: every kind of head, several members, a cascade. Runtimes: all that are installed.
"""

from __future__ import annotations

import base64
import datetime
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl
import pytest
from PIL import Image

from knowngood import Prediction, Recipe, predict
from knowngood.data.images import decode
from knowngood.environment import installed
from knowngood.files import sha256_of
from knowngood.metrics.calibration import Calibration
from knowngood.models.classifier import Inspector, NetworkConfig
from knowngood.recipe.cascade import FOLDER, STUDENT, CascadeDocument, CascadeRuntime, Part
from knowngood.recipe.cluster import PartScorer, ScoringTask, listed
from knowngood.recipe.export_formats import EXPORTERS
from knowngood.recipe.exporting import ExportDocument, folder_of
from knowngood.recipe.graphs import Scorer, map_kind
from knowngood.recipe.options import RUNTIMES, Tolerance
from knowngood.recipe.session import open_session
from knowngood.scale.parts import prepared

NOT, BLANK, DEPTH = "not this product", "blank photograph", "bit depth"
INSTALLED = [name for name in RUNTIMES.names() if installed(RUNTIMES.get(name).package)]
KINDS = (  # of conftest
    "grey",
    "colour",
    "eight views",
    "SVM head",
    "cells",
    "SVM and cells",
    "patch memory",
    "nearest",
    "two members with cells",
    "two members of different sizes",
)
NO_EXPORT = "cascade"
Facts = tuple[str, float | None, str | None, str | None]


def _files(folder: Path) -> list[Path]:
    """One photograph of every way of coding that is decoded in a way of its own."""
    random = np.random.default_rng(3)
    turned = Image.Exif()
    turned[0x0112] = 6
    small, large = (64, 70), (900, 840)

    def scene(size: tuple[int, int], colour: bool = False) -> np.ndarray:
        coarse = random.normal(120, 50, (12, 14, 3) if colour else (12, 14)).astype(np.float32)
        return np.clip(cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC), 0, 255).astype(np.uint8)

    made: dict[str, tuple[np.ndarray, dict[str, Any]]] = {
        "grey.png": (scene(small), {}),
        "colour.png": (scene(small, True), {}),
        "deep.png": (scene(small).astype(np.uint16) * 257, {}),
        "small.jpg": (scene(small), {"quality": 90}),
        "large.jpg": (scene(large), {"quality": 90}),
        "large_colour.jpg": (scene(large, True), {"quality": 90}),
        "turned.jpg": (scene((700, 500), True), {"exif": turned}),
        "packed.tiff": (scene(small, True), {"compression": "tiff_lzw"}),
    }
    for name, (pixels, options) in made.items():
        Image.fromarray(pixels).save(folder / name, **options)
    return [folder / name for name in made]


@dataclass
class Case:
    """A recipe on disk, photographs, and what `Recipe.predict` makes of them."""

    kind: str
    place: Path
    paths: list[Path]

    def wanted(self, runtime: str) -> dict[str, Prediction]:
        found = Recipe.load(self.place).predict(self.paths, runtime=runtime)
        assert [one.error for one in found] == [None] * len(self.paths)
        return {one.image: one for one in found}


def _same(facts: Iterable[Facts], wanted: dict[str, Prediction]) -> None:
    """Compares rows of name, defect score, decision, reason, to the last bit."""
    rows = list(facts)
    assert len(rows) == len(wanted)
    for name, *rest in rows:
        one = wanted[str(name)]
        assert rest == [one.defect_score, one.decision, one.reason], name


def _facts(found: Iterable[Prediction]) -> list[Facts]:
    return [(one.image, one.defect_score, one.decision, one.reason) for one in found]


def _saved(like: Recipe, inspector: Inspector, place: Path, paths: list[Path]) -> Recipe:
    """Saves a recipe of random networks whose scores spread over 0..1 and whose decisions differ."""
    for member in inspector.members:
        if hasattr(member.head, "level"):
            member.head.level.fill_(1.0)  # what a random head has is infinite
    kind = "one-class" if inspector.configs[0].head in ("knn", "patch_memory") else "classifier"
    fields = {"kind": kind, "networks": inspector.configs, "evidence_sha256": None, "input_check": None}
    made = Recipe(like.manifest.model_copy(update=fields), inspector)
    pixels = np.stack([made.fitted(decode(path)) for path in paths])
    raw = open_session(made, "torch").runtime.run(pixels).raw_scores.astype(float)
    calibration = Calibration(temperature=max(float(raw.std()), 1e-9), bias=-float(raw.mean() / max(raw.std(), 1e-9)))
    low, high = np.quantile(calibration.apply(raw), [0.4, 0.7])
    cuts = {**made.manifest.threshold, "threshold": float(low), "reject_from": float(high)}
    made = Recipe(made.manifest.model_copy(update={"calibration": calibration, "threshold": cuts}), inspector)
    made.save(place)
    return made


def _exported(recipe: Recipe, place: Path) -> None:
    """Puts exports beside a recipe, without the gate, which wants the photographs of a run."""
    for name, kind in EXPORTERS.items():
        if not installed(RUNTIMES.get(kind.runtime).package):
            continue
        folder = folder_of(place, name, "fp32")
        folder.mkdir(parents=True)
        kind().save(kind().graph(Scorer(recipe.inspector, fold=False)), folder)
        ExportDocument(
            recipe=recipe.manifest.revision,
            exporter=name,
            precision="fp32",
            created=datetime.datetime.now(datetime.timezone.utc).isoformat(),
            shape=recipe.input_shape,
            map_kind=map_kind(recipe.inspector),
            folded=False,
            threshold=dict(recipe.manifest.threshold),
            tolerance=Tolerance(),
            parity={},
            sample=0,
            versions={},
            files={path.name: sha256_of(path) for path in sorted(folder.iterdir())},
        ).save(folder)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return _files(tmp_path_factory.mktemp("files"))


@pytest.fixture(scope="module", params=[*KINDS, "cascade"])
def case(
    request: pytest.FixtureRequest,
    trained_run: Path,
    files: list[Path],
    make_inspector: Callable[[str], Inspector],
    tmp_path_factory: pytest.TempPathFactory,
) -> Case:
    like, place = Recipe.load(trained_run), tmp_path_factory.mktemp("recipe") / "recipe"
    if request.param != "cascade":
        recipe = _saved(like, make_inspector(request.param), place, files)
        _exported(recipe, place)
        return Case(request.param, place, files)
    large = _saved(like, make_inspector("grey"), place, files)
    student = _saved(
        like,
        Inspector((NetworkConfig(backbone="resnet18", height=24, width=24, channels=1),)),
        place / FOLDER / STUDENT,
        files,
    )
    scores = sorted(one.defect_score for one in student.predict(files, runtime="torch"))
    parts = [Part(revision=one.manifest.revision, runtime="torch", precision="fp32") for one in (large, student)]
    CascadeDocument(
        created="2026-01-01T00:00:00+00:00",
        large=parts[0],
        student=parts[1],
        certainty=0.5,
        low=scores[2],
        high=scores[-2],
        threshold=dict(large.manifest.threshold),
        figures={},
    ).save(place / FOLDER)
    return Case("cascade", place, files)


def _runtimes(case: Case) -> list[str]:
    return ["auto", "torch"] if case.kind == NO_EXPORT else ["auto", *INSTALLED]


def test_the_session_is_the_fastest_that_there_is(case: Case) -> None:
    found = open_session(case.place).runtime.name
    if case.kind == "cascade":
        assert found == CascadeRuntime.name
    else:
        assert found == ("openvino" if "openvino" in INSTALLED else INSTALLED[0])
    scores = [one.defect_score for one in case.wanted("auto").values()]
    assert len(set(scores)) > len(scores) // 2  # or equality would show nothing


def test_python_and_the_command_line(case: Case, run_cli: Any) -> None:
    for runtime in _runtimes(case):
        wanted, recipe = case.wanted(runtime), Recipe.load(case.place)
        names = [str(path) for path in case.paths]
        _same(_facts(recipe.predict([path.read_bytes() for path in case.paths], names, runtime=runtime)), wanted)
        for path in reversed(case.paths):  # alone, in another order
            _same(_facts(recipe.predict(path, runtime=runtime)), {str(path): wanted[str(path)]})
        whole = [path for path in case.paths if path.name != "deep.png"]  # an array has lost the depth of its file
        arrays = [decode(path) for path in whole]
        few = {str(path): wanted[str(path)] for path in whole}
        _same(_facts(recipe.predict(arrays, [*few], runtime=runtime)), few)
        frame = predict(case.place, case.paths, runtime=runtime)
        _same(frame.select("image", "defect_score", "decision", "reason").iter_rows(), wanted)
    answer = run_cli("predict", case.place, *case.paths, "--json")
    assert answer.code == 0, answer.err
    rows = answer.json["rows"]
    _same([(r["image"], r["defect_score"], r["decision"], r["reason"]) for r in rows], case.wanted("auto"))


def test_the_worker_of_a_cluster(case: Case, tmp_path: Path) -> None:
    for runtime in _runtimes(case):
        out, revision = tmp_path / runtime, open_session(case.place, runtime).revision
        prepared(out, revision, 3, lambda: listed([str(path) for path in case.paths], 3))
        worker = PartScorer(
            ScoringTask(out=str(out), recipe=str(case.place), runtime=runtime, revision=revision, cores=1, host="here")
        )
        frame = pl.concat([worker.rows_of(number) for number in range(3)])
        _same(frame.select("image", "defect_score", "decision", "reason").iter_rows(), case.wanted(runtime))


def test_maps_and_explanations(case: Case, run_cli: Any, tmp_path: Path) -> None:
    if case.kind == "nearest":
        pytest.skip("it compares whole photographs and draws no maps")
    wanted = case.wanted("auto")
    maps = list(Recipe.load(case.place).maps(case.paths))
    _same([(one.image, one.defect_score, one.decision, wanted[one.image].reason) for one in maps], wanted)
    for one in maps:
        assert one.values.shape == decode(one.image).shape[:2]
    answer = run_cli("explain", case.place, *case.paths, "--out", tmp_path / "maps")
    assert answer.code == 0, answer.err
    images = json.loads((tmp_path / "maps" / "explained.json").read_text())["images"]
    _same([(r["image"], r["defect_score"], r["decision"], r["reason"]) for r in images], wanted)
    boxes = pl.read_csv(tmp_path / "maps" / "boxes.csv").unique("image")
    _same(boxes.select("image", "defect_score", "decision", "reason").iter_rows(), wanted)


def test_the_station(case: Case, tmp_path: Path) -> None:
    pytest.importorskip("fastapi", reason="the review station comes with the extra review")
    from starlette.testclient import TestClient

    from knowngood.review.inbox import Watcher
    from knowngood.review.serving import open_station
    from knowngood.review.web.factory import make_app

    wanted = case.wanted("auto")
    station = open_station(case.place, tmp_path / "record.db", user="tester", open=True, keep="all")
    assert station.session.label == open_session(case.place).label
    with TestClient(make_app(station), base_url="http://localhost") as client:
        uploads = [("images", (str(path), path.read_bytes(), "image/png")) for path in case.paths]
        results = client.post("/v1/inspect", files=uploads).json()["results"]
        _same([(r["image"], r["defect_score"], r["decision"], r["reason"]) for r in results], wanted)
        encoded = [base64.b64encode(path.read_bytes()).decode() for path in case.paths]
        tensor = {"name": "images", "shape": [len(encoded)], "datatype": "BYTES", "data": encoded}
        answer = client.post(f"/v2/models/{station.inspector.name}/infer", json={"inputs": [tensor]})
        assert answer.status_code == 200, answer.text
        found = {one["name"]: one["data"] for one in answer.json()["outputs"]}
        reasons = [one or None for one in found["reason"]]
        names = [str(path) for path in case.paths]
        _same(zip(names, found["defect_score"], found["decision"], reasons, strict=True), wanted)
    for row in station.record.inspections.search(most=100):
        told = station.replay(station.record.inspections.one(row["id"]) or {})
        assert told["agrees"], told["why"]
        assert told["now"] == told["then"]
    camera = tmp_path / "camera"
    camera.mkdir()
    for path in case.paths:
        (camera / path.name).write_bytes(path.read_bytes())
    watcher = Watcher(station, camera)
    assert sum(watcher.scan() for _ in range(4)) == len(case.paths)
    rows = [row for row in station.record.inspections.search(most=100) if row["source"] == "watch"]
    by_name = {path.name: wanted[str(path)] for path in case.paths}
    _same([(Path(r["image"]).name, r["defect_score"], r["decision"], r["input_reason"]) for r in rows], by_name)
    station.record.close()


def test_company_does_not_matter(case: Case, files: list[Path]) -> None:
    """Batches of any size, with any others, give the same score."""
    for runtime in _runtimes(case):
        session = open_session(case.place, runtime)
        pixels = np.stack([session.recipe.fitted(decode(path)) for path in files])
        together = session.score(pixels)
        alone = np.concatenate([session.score(one[None]) for one in pixels])
        np.testing.assert_array_equal(together, alone)
        np.testing.assert_array_equal(session.score(pixels[::-1])[::-1], alone)
        np.testing.assert_array_equal(session.score(np.concatenate([pixels] * 5))[-len(files) :], alone)


# The reasons why a person must look whatever the score, on a recipe that knows its own photographs.


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory, parts: Path) -> dict[Path, str | None]:
    """Paths of photographs and how their reason begins."""
    folder = tmp_path_factory.mktemp("doors")
    random = np.random.default_rng(0)
    part = cv2.imread(str(parts / "good" / "good_003.png"), cv2.IMREAD_GRAYSCALE)
    made = {
        "good.png": (part, None),
        "bad.png": (cv2.imread(str(parts / "chip" / "chip_003.png"), cv2.IMREAD_GRAYSCALE), None),
        "noise.png": (random.integers(0, 256, (96, 96)).astype(np.uint8), NOT),
        "ramp.png": (np.tile(np.arange(96, dtype=np.uint8) * 2, (96, 1)), NOT),
        "tinted.png": (cv2.merge([part // 2, part // 2, part]), NOT),
        "wide.png": (np.hstack([part, part[:, :40]]), NOT),
        "black.png": (np.zeros((96, 96), np.uint8), BLANK),
        "white.png": (np.full((96, 96), 255, np.uint8), BLANK),
        "deep.png": (part.astype(np.uint16) << 4, DEPTH),
    }
    for name, (pixels, _) in made.items():
        assert cv2.imwrite(str(folder / name), pixels)
    return {folder / name: begin for name, (_, begin) in made.items()}


@pytest.fixture(scope="module")
def trained(trained_run: Path, photographs: dict[Path, str | None]) -> Case:
    return Case("trained", trained_run, list(photographs))


def test_reasons_are_the_right_ones_and_scores_are_kept(trained: Case, photographs: dict[Path, str | None]) -> None:
    for name, one in trained.wanted("auto").items():
        begin = photographs[Path(name)]
        assert (one.reason or "").partition(":")[0] == (begin or "")
        assert 0 <= (one.defect_score or 0) <= 1
        assert one.decision == "review" if begin else one.decision != "review"


def test_reasons_by_python_the_command_line_and_a_worker(trained: Case, run_cli: Any, tmp_path: Path) -> None:
    test_python_and_the_command_line(replace(trained, kind=NO_EXPORT), run_cli)
    test_the_worker_of_a_cluster(replace(trained, kind=NO_EXPORT), tmp_path)


def test_reasons_by_the_station_which_files_and_replays_them(
    trained: Case, photographs: dict[Path, str | None], tmp_path: Path
) -> None:
    test_the_station(trained, tmp_path)
    from knowngood.review.serving import open_station

    station = open_station(trained.place, tmp_path / "record.db", user="tester")
    found = set()
    for row in station.record.inspections.search(most=100):
        begin = photographs.get(Path(row["image"]))
        if begin is not None:
            assert (row["reason"], row["priority"]) == (begin, 2.0)
            found.add(Path(row["image"]))
    assert found == {path for path, begin in photographs.items() if begin is not None}
    station.record.close()


def test_of_any_product_the_score_decides_but_for_blank_ones(
    trained: Case, photographs: dict[Path, str | None], run_cli: Any
) -> None:
    found = {one.image: one for one in Recipe.load(trained.place).predict(trained.paths, any_product=True)}
    for path, begin in photographs.items():
        one = found[str(path)]
        assert (one.reason is not None) == (begin == BLANK)
        assert (one.decision == "review") == (begin == BLANK)
    answer = run_cli("predict", trained.place, *photographs, "--any-product", "--json")
    rows = answer.json["rows"]
    _same([(r["image"], r["defect_score"], r["decision"], r["reason"]) for r in rows], found)
    assert all(row["recipe"].endswith("+any-product") for row in rows)


def test_the_station_can_take_any_product(trained: Case, photographs: dict[Path, str | None], tmp_path: Path) -> None:
    pytest.importorskip("fastapi", reason="the review station comes with the extra review")
    from knowngood.review.serving import open_station
    from knowngood.review.station import Job

    station = open_station(trained.place, tmp_path / "record.db", user="tester", any_product=True)
    noise = next(path for path in photographs if path.name == "noise.png")
    (outcome,) = station.inspect([Job(noise.read_bytes(), noise.name)])
    assert outcome.filed.input_reason is None
    station.record.close()
