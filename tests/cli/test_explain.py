"""knowngood explain: pictures, boxes, raw maps; mistakes told before anything is written."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image

from knowngood import Recipe, explain

Run = Callable[..., Any]

ONE = ("--max-errors", 1)  # of the photographs cannot be read


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory, photograph: Run) -> Path:
    """Odd sizes, grey and colour, twice the same name, and one that is no picture."""
    folder, rng = tmp_path_factory.mktemp("new"), np.random.default_rng(4)
    (folder / "more").mkdir()
    photograph(rng, True).resize((267, 275)).save(folder / "one.png")
    photograph(rng, True).convert("RGB").resize((403, 103)).save(folder / "more" / "one.png")
    tinted = np.asarray(photograph(rng, False).convert("RGB")).copy()
    tinted[..., 0] //= 2
    Image.fromarray(tinted).save(folder / "red.png")
    (folder / "broken.png").write_bytes(b"nonsense")
    return folder


def test_everything_is_there_and_the_recipes_own(
    trained_run: Path, photographs: Path, run_cli: Run, tmp_path: Path
) -> None:
    out = tmp_path / "maps"
    answer = run_cli("explain", trained_run, photographs, "--out", out, "--layers", "all", "--raw", "--json", *ONE)
    assert answer.code == 0, answer.err
    images = {one["image"]: one for one in answer.json["images"]}
    broken = images.pop(str(photographs / "broken.png"))
    assert "not an image" in broken["error"]
    recipe = Recipe.load(trained_run)
    stages = answer.json["stages"]["layers"]
    assert answer.json["stages"]["method"] == "gradcam"
    assert len(stages) == 3
    for prediction in recipe.predict(list(images)):
        assert images[prediction.image]["defect_score"] == prediction.defect_score
        assert images[prediction.image]["decision"] == prediction.decision
    for heat in recipe.maps(list(images)):
        one = images[heat.image]
        np.testing.assert_allclose(np.load(out / "raw" / f"{one['files']}.npy"), heat.values, rtol=1e-4, atol=1e-6)
        assert [box["box"] for box in one["boxes"]] == [list(region.box) for region in heat.regions]
        for stage in stages:
            assert np.load(out / "raw" / f"{one['files']}.{stage}.npy").shape == heat.values.shape
        for kind in ("overlays", "strips", "layers"):
            assert Image.open(out / kind / f"{one['files']}.png").size[0] >= 300
    boxes = pl.read_csv(out / "boxes.csv")
    assert set(boxes["image"]) == {*images, broken["image"]}
    assert boxes["error"].is_not_null().sum() == 1
    document = json.loads((out / "boxes.coco.json").read_text())
    assert {(i["width"], i["height"]) for i in document["images"]} == {(267, 275), (403, 103), (96, 96)}
    page = (out / "index.html").read_text()
    assert "broken.png" in page
    for link in re.findall(r'<a href="([^#"]+)"', page):
        assert (out / link).is_file(), link


def test_each_picture_by_itself_says_so_and_an_earlier_answer_is_replaced(
    trained_run: Path, photographs: Path, run_cli: Run, tmp_path: Path
) -> None:
    out = tmp_path / "maps"
    done = explain(trained_run, photographs, out, raw=True)
    assert (out / "raw").is_dir()
    assert done.boxes.height >= 4
    answer = run_cli(
        "explain", trained_run, photographs, "--out", out, "--scale", "image", "--cam-threshold", "0.9", *ONE
    )
    assert answer.code == 0, answer.err
    assert "Unreadable (1 of 1)" in answer.out
    assert not (out / "raw").exists()
    assert "cannot be compared" in (out / "index.html").read_text()
    areas = [pl.read_csv(out / "boxes.csv")["area"].sum(), done.boxes["area"].sum()]
    assert areas[0] < areas[1]


def test_a_recipe_from_good_images_alone(
    parts: Path, photographs: Path, run_cli: Run, small: tuple[str, ...], tmp_path: Path
) -> None:
    run, line = tmp_path / "run", tmp_path / "line"
    shutil.copytree(parts / "good", line / "good")
    trained = run_cli("train", line, "--one-class", "--out", run, *small)
    assert trained.code == 0, trained.err
    answer = run_cli("explain", run, photographs, "--out", tmp_path / "maps", "--json", *ONE)
    assert answer.code == 0, answer.err
    assert answer.json["scale"]["level"] > 0
    refused = run_cli("explain", run, photographs, "--out", tmp_path / "no", "--layers", "all")
    assert refused.code == 2
    assert "Leave --layers out" in refused.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--method", "cam"], "gradcam"),
        (["--method", "nonsense"], "gradcam"),
        (["--layers", "layer9"], "blocks.6"),
        (["--cam-threshold", "1.5"], "--cam-threshold"),
        (["--scale", "nonsense"], "shared"),
    ],
)
def test_mistakes_are_told_and_nothing_is_written(
    trained_run: Path, photographs: Path, run_cli: Run, tmp_path: Path, words: list[str], told: str
) -> None:
    answer = run_cli("explain", trained_run, photographs, "--out", tmp_path / "maps", *words)
    assert answer.code == 2
    assert told in answer.err
    assert "Traceback" not in answer.err
    assert not (tmp_path / "maps").exists()


def test_other_peoples_folders_are_left_alone(
    trained_run: Path, photographs: Path, run_cli: Run, tmp_path: Path
) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    answer = run_cli("explain", trained_run, photographs, "--out", tmp_path)
    assert answer.code == 2
    assert "holds no maps" in answer.err
    assert (tmp_path / "mine.txt").read_text() == "mine"
    assert run_cli("explain", trained_run, tmp_path / "nowhere", "--out", tmp_path / "x").code == 2
    (tmp_path / "broken.png").write_bytes(b"x")
    alone = run_cli("explain", trained_run, tmp_path / "broken.png", "--out", tmp_path / "alone")
    assert alone.code == 1  # nothing could be read; it is written all the same
    assert pl.read_csv(tmp_path / "alone" / "boxes.csv").height == 1


def test_the_report_of_a_training_shows_where_it_looked(trained_run: Path) -> None:
    page = (trained_run / "report.html").read_text()
    assert 'id="maps"' in page
    assert "<h3>Caught" in page
