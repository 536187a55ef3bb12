"""Whatever way a photograph takes to a decision, score, decision and reason are the same."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import polars as pl
import pytest

from knowngood import Recipe, predict
from knowngood.environment import installed
from knowngood.recipe.runtimes import RUNTIMES

NOT, BLANK, DEPTH = "not this product", "blank photograph", "bit depth"


@pytest.fixture(scope="module")
def photographs(tmp_path_factory, parts) -> dict[Path, str | None]:
    """Paths of photographs and how their reason begins; all PNG, which every door decodes alike."""
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
def recipe(trained_run) -> Recipe:
    return Recipe.load(trained_run)


@pytest.fixture(scope="module")
def wanted(recipe, photographs):
    return {one.image: one for one in recipe.predict(list(photographs))}


def _same(told, wanted, tolerance=1e-5):
    """Compares rows of name, defect score, decision, reason."""
    told = list(told)
    assert len(told) == len(wanted)
    for name, score, decision, reason in told:
        one = wanted[str(name)]
        assert (decision, reason) == (one.decision, one.reason), name
        assert score == pytest.approx(one.defect_score, abs=tolerance)


def test_reasons_are_the_right_ones_and_scores_are_kept(photographs, wanted):
    for path, begin in photographs.items():
        one = wanted[str(path)]
        assert (one.reason or "").partition(":")[0] == (begin or "")
        assert 0 <= one.defect_score <= 1
        assert one.decision == "review" if begin else one.decision != "review"


def test_bytes(recipe, photographs, wanted):
    names = [str(path) for path in photographs]
    told = recipe.predict([path.read_bytes() for path in photographs], names)
    _same([(one.image, one.defect_score, one.decision, one.reason) for one in told], wanted)


def test_arrays_but_for_the_depth_of_a_file_that_they_no_longer_have(recipe, photographs, wanted):
    paths = [path for path, begin in photographs.items() if begin != DEPTH]
    arrays = [cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB) for path in paths]
    told = recipe.predict(arrays, [str(path) for path in paths])
    few = {str(path): wanted[str(path)] for path in paths}
    _same([(one.image, one.defect_score, one.decision, one.reason) for one in told], few)


def test_the_command_line(run_cli, trained_run, photographs, wanted):
    answer = run_cli("predict", trained_run, *photographs, "--json")
    assert answer.code == 0, answer.err
    rows = answer.json["rows"]
    _same([(r["image"], r["defect_score"], r["decision"], r["reason"]) for r in rows], wanted)
    assert answer.json["review"] == sum(begin is not None for begin in photographs.values())


@pytest.fixture(scope="module", params=[name for name in RUNTIMES.names() if name != "torch"])
def exported(request, trained_run, tmp_path_factory, run_cli):
    kind = RUNTIMES.get(request.param)
    if not installed(kind.package):
        pytest.skip(f"the extra {kind.extra} is not installed")
    import shutil

    run = tmp_path_factory.mktemp("exported") / "run"
    shutil.copytree(trained_run, run)
    form = "onnx" if request.param == "onnxruntime" else "openvino"
    answer = run_cli("export", run, "--to", form, "--precision", "fp32")
    assert answer.code == 0, answer.err
    return run, request.param


def test_exported_graphs(exported, photographs, wanted):
    run, runtime = exported
    frame = predict(run, list(photographs), runtime=runtime)
    told = frame.select("image", "defect_score", "decision", "reason").iter_rows()
    _same(told, wanted, tolerance=1e-3)


def test_maps(recipe, photographs, wanted):
    for path, heat in zip(photographs, recipe.maps(list(photographs)), strict=True):
        assert heat.decision == wanted[str(path)].decision


def test_explain(run_cli, trained_run, photographs, wanted, tmp_path):
    answer = run_cli("explain", trained_run, *photographs, "--out", tmp_path / "maps")
    assert answer.code == 0, answer.err
    images = json.loads((tmp_path / "maps" / "explained.json").read_text())["images"]
    _same([(r["image"], r["defect_score"], r["decision"], r["reason"]) for r in images], wanted)
    boxes = pl.read_csv(tmp_path / "maps" / "boxes.csv").unique("image")
    _same(boxes.select("image", "defect_score", "decision", "reason").iter_rows(), wanted)


def test_the_station_which_files_and_replays_them(trained_run, photographs, wanted, tmp_path):
    pytest.importorskip("fastapi", reason="the review station comes with the extra review")
    from knowngood.review.serving import open_station
    from knowngood.review.station import Job
    from knowngood.review.web.api import found

    station = open_station(trained_run, tmp_path / "record.db", user="tester")
    outcomes = station.inspect([Job(path.read_bytes(), str(path), unit=path.stem) for path in photographs])
    answers = [found(one) for one in outcomes]
    _same([(one.image, one.defect_score, one.decision, one.reason) for one in answers], wanted)
    for path, begin in photographs.items():
        (row,) = station.record.inspections.story(path.stem)
        assert row["input_reason"] == wanted[str(path)].reason
        assert station.replay(row)["agrees"]
        if begin is not None:
            assert (row["reason"], row["priority"]) == (begin, 2.0)
    station.record.close()


def test_of_any_product_the_score_decides_but_for_blank_ones(recipe, run_cli, trained_run, photographs, tmp_path):
    told = {one.image: one for one in recipe.predict(list(photographs), any_product=True)}
    for path, begin in photographs.items():
        one = told[str(path)]
        assert (one.reason is not None) == (begin == BLANK)
        assert (one.decision == "review") == (begin == BLANK)
    answer = run_cli("predict", trained_run, *photographs, "--any-product", "--json")
    rows = answer.json["rows"]
    _same([(r["image"], r["defect_score"], r["decision"], r["reason"]) for r in rows], told)
    assert all(row["recipe"].endswith("+any-product") for row in rows)


def test_the_station_can_be_told_to_take_any_product(trained_run, photographs, tmp_path):
    pytest.importorskip("fastapi", reason="the review station comes with the extra review")
    from knowngood.review.serving import open_station
    from knowngood.review.station import Job

    station = open_station(trained_run, tmp_path / "record.db", user="tester", any_product=True)
    noise = next(path for path in photographs if path.name == "noise.png")
    (outcome,) = station.inspect([Job(noise.read_bytes(), noise.name)])
    assert outcome.filed.input_reason is None
    station.record.close()
