"""knowngood cascade: a student before a recipe, used by predict, certified with the very graphs that score."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from knowngood.data.images import decode
from knowngood.models.batching import BATCH
from knowngood.recipe.bundle import Recipe
from knowngood.recipe.cascade import (
    DOCUMENT,
    FOLDER,
    PASSED,
    WAITING,
    CascadeDocument,
    CascadeRuntime,
    smaller,
)
from knowngood.recipe.session import open_cascade, open_session

Run = Callable[..., Any]
STUDENT = ("--student-size", 64, "--certainty", 0.5)


@pytest.fixture(scope="module")
def cascaded(trained_run: Path, run_cli: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a cascade; not to be changed."""
    run = Path(shutil.copytree(trained_run, tmp_path_factory.mktemp("cascaded") / "run"))
    answer = run_cli("cascade", run, *STUDENT, "--json")
    assert answer.code == 0, answer.err
    figures = answer.json["figures"]["test"]
    shares = [figures[key] for key in ("accepted_by_student", "passed_on", "rejected_by_student")]
    assert sum(shares) == pytest.approx(1, abs=2e-4)
    assert figures["cascade"]["n_bad"] == figures["large"]["n_bad"] > 0
    page = (run / "cascade.html").read_text("utf-8")
    assert "Cost against escapes" in page
    assert "Which images went up" in page
    return run


@pytest.fixture
def copy(cascaded: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(cascaded, tmp_path / "run"))


def predicted(run_cli: Run, *words: object) -> pl.DataFrame:
    answer = run_cli("predict", *words, "--json")
    assert answer.code == 0, answer.err
    return pl.DataFrame(answer.json["rows"])


def test_predict_uses_it_and_says_so_in_every_row(run_cli: Run, cascaded: Path, parts: Path) -> None:
    document = CascadeDocument.load(cascaded / "recipe" / FOLDER)
    rows = predicted(run_cli, cascaded, parts)
    assert set(rows["recipe"]) == {document.revision}
    alone = predicted(run_cli, cascaded, parts, "--no-cascade")
    assert set(alone["recipe"]) == {Recipe.load(cascaded).manifest.revision}
    large = open_session(cascaded, cascade=False)
    student = open_session(cascaded / "recipe" / FOLDER / "student", cascade=False)
    pixels = np.stack([large.recipe.fitted(decode(name)) for name in rows["image"]])
    size = student.recipe.input_shape[1:]
    small = student.recipe.manifest.calibration.apply(student.runtime.run(smaller(pixels, size)).raw_scores)
    cut = document.threshold["threshold"]
    for score, decision, s, t in zip(rows["defect_score"], rows["decision"], small, alone["defect_score"], strict=True):
        want = "accept" if s < document.low else "reject" if s >= document.high else ("accept", "reject")[t >= cut]
        assert decision == want
        assert (score >= cut) == (decision == "reject")


def divided_in_three(run: Path, pixels: Any, seen: list[Any]) -> CascadeRuntime:
    """The run's cascade, its rule moved so that each zone gets a third of these photographs."""
    given = open_cascade(run).runtime
    assert isinstance(given, CascadeRuntime)
    scores = given.rule.student.apply(given.student.run(smaller(pixels, given.size)).raw_scores)
    low, high = np.quantile(scores, [1 / 3, 2 / 3])
    return CascadeRuntime(given.student, given.large, replace(given.rule, low=low, high=high), given.size, seen.append)


@pytest.fixture(scope="module")
def pixels(cascaded: Path, parts: Path) -> Any:
    recipe = Recipe.load(cascaded)
    rng = np.random.default_rng(0)
    photographs = [recipe.fitted(decode(name)) for name in sorted(parts.rglob("*.png"))]
    noise = [np.clip(one + rng.normal(0, 20, one.shape), 0, 255).astype(np.uint8) for one in photographs]
    return np.stack(photographs + noise)[: 3 * BATCH + 5]


def test_results_keep_their_order_whatever_the_batches(cascaded: Path, pixels: Any) -> None:
    seen: list[Any] = []
    runtime = divided_in_three(cascaded, pixels, seen)
    whole = runtime.run(pixels).raw_scores
    zones = np.concatenate(seen)
    assert set(zones.tolist()) == {0, 1, 2}
    np.testing.assert_allclose(whole[zones == PASSED], runtime.large.run(pixels).raw_scores[zones == PASSED], atol=1e-4)
    cuts = [0, 1, 1, 20, 40, 77, len(pixels)]  # an empty one among them
    parts = [pixels[a:b] for a, b in pairwise(cuts)]
    made = list(runtime.stream(parts))
    assert [len(one.raw_scores) for one in made] == [len(part) for part in parts]
    np.testing.assert_allclose(np.concatenate([one.raw_scores for one in made]), whole, atol=1e-4)
    assert runtime.run(pixels[:0]).raw_scores.shape == (0,)


def test_batches_are_not_held_without_end(cascaded: Path, pixels: Any) -> None:
    runtime = divided_in_three(cascaded, pixels, [])
    runtime.rule = replace(runtime.rule, low=2, high=3)  # nothing ever fills a batch of the large network
    taken = 0

    def batches() -> Iterator[Any]:
        nonlocal taken
        for start in range(500):
            taken += 1
            yield pixels[start % 10 : start % 10 + 1]

    stream = runtime.stream(batches())
    for number, _ in enumerate(stream):
        assert taken <= number + 2 * WAITING
    assert taken == 500


def test_maps_are_the_large_networks_and_empty_where_accepted(run_cli: Run, parts: Path, tmp_path: Path) -> None:
    options = ("--preset", "standard", "--epochs", 1, "--model", "efficientnet_lite0", "--image-size", 64)
    answer = run_cli("train", parts, "--out", tmp_path / "run", *options, "--cascade")
    assert answer.code == 0, answer.err
    recipe, seen = Recipe.load(tmp_path / "run"), list[Any]()
    shown = np.stack([recipe.fitted(decode(name)) for name in sorted(parts.rglob("*.png"))[::4]])
    runtime = divided_in_three(tmp_path / "run", shown, seen)
    made, want = runtime.run(shown, maps=True), runtime.large.run(shown, maps=True)
    zones = np.concatenate(seen)
    assert made.maps is not None
    assert want.maps is not None
    np.testing.assert_allclose(made.maps[zones != 0], want.maps[zones != 0], atol=1e-3)
    assert not made.maps[zones == 0].any()
    np.testing.assert_allclose(made.raw_scores[zones == PASSED], want.raw_scores[zones == PASSED], atol=1e-3)
    runtime.rule = replace(runtime.rule, low=2, high=3)
    nothing = runtime.run(shown[:3], maps=True).maps
    assert nothing is not None
    assert nothing.shape == want.maps[:3].shape
    assert not nothing.any()


def test_made_again_it_keeps_the_student(run_cli: Run, copy: Path) -> None:
    before = CascadeDocument.load(copy / "recipe" / FOLDER)
    answer = run_cli("cascade", copy, "--student-size", 64, "--certainty", 1)
    assert answer.code == 0, answer.err
    assert "is finished already" in answer.err
    after = CascadeDocument.load(copy / "recipe" / FOLDER)
    assert after.student == before.student
    assert after.certainty == 1
    answer = run_cli("cascade", copy, "--student-size", 48)
    assert answer.code == 0, answer.err
    assert CascadeDocument.load(copy / "recipe" / FOLDER).student != before.student


def test_other_graphs_than_those_of_the_certificate_are_refused(run_cli: Run, copy: Path, parts: Path) -> None:
    path = copy / "recipe" / FOLDER
    document = CascadeDocument.load(path)
    document.model_copy(update={"large": document.large.model_copy(update={"revision": "abc"})}).save(path)
    answer = run_cli("predict", copy, parts)
    assert answer.code == 2
    assert "was certified with abc" in answer.err
    assert "--no-cascade" in answer.err
    assert run_cli("predict", copy, parts, "--no-cascade").code == 0


def test_a_damaged_one_is_refused(run_cli: Run, copy: Path, parts: Path) -> None:
    path = copy / "recipe" / FOLDER / DOCUMENT
    held = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps(held | {"low": 0.99}), "utf-8")
    answer = run_cli("predict", copy, parts)
    assert answer.code == 2
    assert "is damaged" in answer.err


def test_train_can_end_with_it(run_cli: Run, parts: Path, tmp_path: Path, small: tuple[str, ...]) -> None:
    answer = run_cli("train", parts, "--out", tmp_path / "run", *small, "--cascade", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["cascade"]["low"] <= answer.json["cascade"]["threshold"]["threshold"]
    assert (tmp_path / "run" / "recipe" / FOLDER / DOCUMENT).is_file()


def test_what_cannot_work_is_said(run_cli: Run, cascaded: Path, copy: Path, tmp_path: Path) -> None:
    answer = run_cli("cascade", tmp_path)
    assert answer.code == 2
    assert "without a recipe" in answer.err
    answer = run_cli("cascade", cascaded, "--student-model", "resnet9")
    assert answer.code == 2
    assert "resnet9" in answer.err
    frame = pl.read_parquet(copy / "records.parquet")
    frame.with_columns(path=pl.lit(str(tmp_path / "gone.png"))).write_parquet(copy / "records.parquet")
    answer = run_cli("cascade", copy, *STUDENT)
    assert answer.code == 2
    assert "are gone" in answer.err


def test_good_images_alone_have_none(run_cli: Run, parts: Path, tmp_path: Path) -> None:
    shutil.copytree(parts / "good", tmp_path / "set" / "good")
    answer = run_cli("train", tmp_path / "set", "--out", tmp_path / "run", "--one-class", "--image-size", 64)
    assert answer.code == 0, answer.err
    answer = run_cli("cascade", tmp_path / "run")
    assert answer.code == 2
    assert "no escape budget" in answer.err


def test_a_student_is_exported_as_the_recipe_is(run_cli: Run, copy: Path, parts: Path) -> None:
    for name in ("openvino", "nncf"):
        pytest.importorskip(name)
    assert run_cli("export", copy, "--precision", "fp32").code == 0
    answer = run_cli("cascade", copy, *STUDENT)
    assert answer.code == 0, answer.err
    document = CascadeDocument.load(copy / "recipe" / FOLDER)
    assert (document.student.runtime, document.large.runtime) == ("openvino", "openvino")
    rows = predicted(run_cli, copy, parts)
    assert set(rows["recipe"]) == {document.revision}
    shutil.rmtree(copy / "recipe" / "exports")
    answer = run_cli("predict", copy, parts)
    assert answer.code == 2
    assert "no export for openvino" in answer.err
    assert "knowngood cascade RUN" in answer.err


def test_a_cluster_uses_it_too(run_cli: Run, cascaded: Path, parts: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the extra ray is not installed")
    words = ["predict", cascaded, parts, "--engine", "ray", "--out", tmp_path / "scores", "--worker-cores", 1]
    command = [sys.executable, "-m", "knowngood", *map(str, words)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = pl.read_parquet(tmp_path / "scores" / "rows" / "*.parquet").sort("image")
    want = predicted(run_cli, cascaded, parts).sort("image")
    same = ["image", "decision", "sha256", "recipe"]
    assert rows.select(same).equals(want.select(same))
    np.testing.assert_allclose(rows["defect_score"], want["defect_score"], atol=1e-5)


def test_bench_measures_it_on_photographs_and_says_how_many_went_up(run_cli: Run, cascaded: Path, parts: Path) -> None:
    answer = run_cli("bench", cascaded, parts, "--rounds", 1, "--count", 20, "--json")
    assert answer.code == 0, answer.err
    told = answer.json["cascade"]
    assert told["images"] == 20
    assert told["images_per_second"] > 0
    assert 0 <= told["passed_on"] <= 1
    shown = run_cli("bench", cascaded, parts, "--rounds", 1, "--count", 4).out
    assert "cascade, " in shown
    assert "cascade" not in run_cli("bench", cascaded, "--rounds", 1, "--count", 4, "--json").json  # drawn ones
