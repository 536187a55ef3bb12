"""knowngood train --one-class: good images in, a whole recipe out, and nothing said of escapes that is not known."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image

from knowngood import Recipe
from knowngood.errors import ConfigError, ImageError

Run = Callable[..., Any]
UNKNOWN = "unknown - no bad images"


@pytest.fixture(scope="module")
def good_only(tmp_path_factory: pytest.TempPathFactory, photograph: Run) -> Path:
    root = tmp_path_factory.mktemp("one_class") / "line"
    (root / "good").mkdir(parents=True)
    rng = np.random.default_rng(5)
    for number in range(40):
        photograph(rng, False).save(root / "good" / f"{number:03}.png")
    return root


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, good_only: Path, run_cli: Run, small: tuple[str, ...]) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    answer = run_cli("train", good_only, "--one-class", "--out", folder, *small)
    assert answer.code == 0, answer.err
    assert UNKNOWN in answer.out
    return folder


@pytest.fixture(scope="module")
def bads(tmp_path_factory: pytest.TempPathFactory, photograph: Run) -> list[Path]:
    folder, rng = tmp_path_factory.mktemp("later"), np.random.default_rng(9)
    paths = [folder / f"{number}.png" for number in range(6)]
    for path in paths:
        photograph(rng, True).save(path)
    return paths


def test_defects_that_nobody_has_shown_are_rejected(run: Path, run_cli: Run, bads: list[Path]) -> None:
    answer = run_cli("predict", run, *bads, "--json")
    assert answer.json["reject"] == len(bads)


def test_nothing_is_invented(run: Path) -> None:
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["threshold"]["escape_rate"].endswith(UNKNOWN)
    assert metrics["threshold"]["certified_escape_rate"] is None
    for split in ("calibration", "test"):
        assert metrics[split]["n_bad"] == 0
        assert {metrics[split][name] for name in ("auroc", "escape_rate", "recall", "ece", "brier")} == {None}
    assert "train" not in metrics  # what is remembered has no distance to itself
    assert sum(metrics["data"]["counts"][split]["good"] for split in ("train", "calibration", "test")) == 40
    recipe = json.loads((run / "recipe" / "recipe.json").read_text())
    assert recipe["kind"] == "one-class"
    assert recipe["threshold"]["escape_rate"].endswith(UNKNOWN)
    page = (run / "report.html").read_text()
    assert "Escape rate: unknown - no bad images" in page
    assert "Where units differ from good ones" in page
    assert "NaN" not in page.replace("data:image", "")[:20000]
    assert "no AUC can be given" not in page
    assert 'id="calibration"' not in page


def test_maps_have_the_size_of_the_photograph_and_boxes_lie_on_the_defect(
    run: Path, tmp_path: Path, photograph: Run
) -> None:
    rng = np.random.default_rng(3)
    pixels = np.asarray(photograph(rng, False)).copy()
    pixels[50:64, 24:38] = 20
    large = Image.fromarray(pixels).resize((300, 192))  # stretched: x 3.125, y 2
    large.save(tmp_path / "bad.png")
    one, array = Recipe.load(run).maps([tmp_path / "bad.png", np.asarray(large)])
    assert one.values.shape == (192, 300)
    assert one.values.dtype == np.float32
    assert one.decision == "review"  # the product is not so wide
    x0, y0, x1, y1 = one.regions[0].box
    assert 0 <= x0 < x1 <= 300
    assert 0 <= y0 < y1 <= 192
    assert x0 < 31 * 3.125 < x1
    assert y0 < 57 * 2 < y1
    np.testing.assert_allclose(array.values, one.values, rtol=1e-5)
    assert array.image == "image 1"
    with pytest.raises(ImageError):
        list(Recipe.load(run).maps([b"nonsense"]))


def test_maps_of_two_photographs_share_one_scale(run: Path, good_only: Path, bads: list[Path]) -> None:
    recipe = Recipe.load(run)
    good, bad = recipe.maps([good_only / "good" / "000.png", bads[0]])
    assert bad.values.max() > 1.3 * good.values.max()
    assert math.isclose(recipe.predict(bads[0])[0].defect_score or 0, bad.defect_score, rel_tol=1e-4)


def test_saved_and_loaded_it_scores_the_same(run: Path, good_only: Path, tmp_path: Path) -> None:
    recipe = Recipe.load(run)
    copy = Recipe.load(recipe.save(tmp_path / "copy"))
    images = sorted((good_only / "good").iterdir())
    assert copy.predict(images) == recipe.predict(images)
    rows = pl.read_parquet(run / "scores.parquet").filter(pl.col("score").is_not_null())
    assert set(rows["split"]) == {"calibration", "test"}
    again = [p.defect_score for p in recipe.predict(rows["path"].to_list())]
    np.testing.assert_allclose(again, rows["score"], atol=1e-4)


def test_bad_images_are_for_the_test_only(
    run: Path, good_only: Path, bads: list[Path], run_cli: Run, small: tuple[str, ...], tmp_path: Path
) -> None:
    data = Path(shutil.copytree(good_only, tmp_path / "line"))
    (data / "chip").mkdir()
    for path in bads:
        shutil.copy(path, data / "chip")
    answer = run_cli("train", data, "--one-class", "--out", tmp_path / "run", *small, "--json")
    assert answer.code == 0, answer.err
    assert answer.json["data"]["counts"]["test"]["chip"] == len(bads)
    assert "bad ones are all in the test" in " ".join(answer.json["data"]["notes"])
    assert answer.json["test"]["auroc"] > 0.9
    assert "of 6 bad test images" in answer.json["threshold"]["escape_rate"]
    mine, theirs = (Recipe.load(r).inspector.state_dict() for r in (run, tmp_path / "run"))
    assert all(np.array_equal(mine[name].numpy(), theirs[name].numpy()) for name in mine)
    page = (tmp_path / "run" / "report.html").read_text()
    assert "from the strangest to the most ordinary" in page


def test_the_mvtec_layout(
    good_only: Path, bads: list[Path], run_cli: Run, small: tuple[str, ...], tmp_path: Path
) -> None:
    data = tmp_path / "bottle"
    shutil.copytree(good_only / "good", data / "train" / "good")
    for kind in ("good", "chip"):
        (data / "test" / kind).mkdir(parents=True)
    (data / "ground_truth").mkdir()
    for number in range(6):
        (data / "train" / "good" / f"{number:03}.png").rename(data / "test" / "good" / f"{number:03}.png")
        shutil.copy(bads[number], data / "test" / "chip")
    refused = run_cli("train", data, "--out", tmp_path / "run", *small)
    assert refused.code == 2
    assert "--one-class" in refused.err
    checked = run_cli("check", data)
    assert checked.code == 0
    assert "--one-class" in checked.out.replace("\n", " ")
    answer = run_cli("train", data, "--one-class", "--out", tmp_path / "run", *small, "--json")
    assert answer.code == 0, answer.err
    counts = answer.json["data"]["counts"]
    assert counts["test"] == {"good": 6, "chip": 6}
    assert set(counts) == {"train", "calibration", "test"}


def test_nearest_neighbours_make_a_recipe_without_maps(
    good_only: Path, bads: list[Path], run_cli: Run, small: tuple[str, ...], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    answer = run_cli("train", good_only, "--one-class", "--detector", "knn", "--out", folder, *small)
    assert answer.code == 0, answer.err
    recipe = Recipe.load(folder)
    assert [p.decision for p in recipe.predict(bads)] == ["reject"] * 6
    rows = pl.read_parquet(folder / "scores.parquet").filter(pl.col("score").is_not_null())
    again = [p.defect_score for p in recipe.predict(rows["path"].to_list())]
    np.testing.assert_allclose(again, rows["score"], atol=1e-3)
    assert set(rows.filter(pl.col("split") == "calibration")["decision"]) == {"accept"}
    with pytest.raises(ConfigError, match="draws no maps"):
        next(recipe.maps(bads))


def test_good_images_alone_are_no_error_of_check(good_only: Path, run_cli: Run) -> None:
    answer = run_cli("check", good_only, "--json")
    assert answer.code == 0
    assert [f["severity"] for f in answer.json["findings"] if f["code"] == "one-class"] == ["info"]


def test_a_person_says_that_one_is_bad(good_only: Path, run_cli: Run, small: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "verdicts.csv").write_text("image,verdict\ngood/003.png,bad\ngood/004.png,drop\n")
    words = ["--verdicts", tmp_path / "verdicts.csv", "--out", tmp_path / "run"]
    answer = run_cli("train", good_only, "--one-class", *words, *small, "--json")
    assert answer.code == 0, answer.err
    assert answer.json["data"]["counts"]["test"]["bad"] == 1
    assert answer.json["data"]["images"] == 39


def test_a_killed_run_goes_on_and_a_finished_one_is_returned(
    run: Path, good_only: Path, run_cli: Run, small: tuple[str, ...], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(run, tmp_path / "run"))
    words = ("train", good_only, "--one-class", "--out", folder, *small)
    assert "finished already" in run_cli(*words).err
    for left in ("metrics.json", "report.html", "recipe/weights.safetensors"):
        (folder / left).unlink()
    (folder / "work").mkdir()
    (folder / "work" / "memory.safetensors").write_bytes(b"half")  # damaged: it is chosen again
    again = run_cli(*words)
    assert again.code == 0, again.err
    assert "is continued" in again.err
    mine, theirs = (Recipe.load(r).inspector.state_dict() for r in (run, folder))
    assert all(np.array_equal(mine[name].numpy(), theirs[name].numpy()) for name in mine)
    other = run_cli(*words, "--overkill-budget", "0.2")
    assert other.code == 2
    assert "overkill_budget" in other.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--one-class", "--preset", "best"], "fine-tunes nothing"),
        (["--one-class", "--epochs", "3"], "fine-tunes nothing"),
        (["--one-class", "--no-pretrained"], "--no-pretrained"),
        (["--one-class", "--review-overkill", "0.05"], "below --overkill-budget"),
        (["--one-class", "--overkill-budget", "2"], "--overkill-budget"),
        (["--detector", "knn"], "--one-class only"),
        (["--overkill-budget", "0.1"], "--one-class only"),
        ([], "--one-class"),
    ],
)
def test_mistakes_are_told(
    good_only: Path, run_cli: Run, small: tuple[str, ...], tmp_path: Path, words: list[str], told: str
) -> None:
    answer = run_cli("train", good_only, "--out", tmp_path / "run", *words, *small)
    assert answer.code == 2
    assert told in answer.err
    assert "Traceback" not in answer.err


def test_bad_images_alone_and_too_few_goods(
    bads: list[Path], good_only: Path, run_cli: Run, small: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "data" / "good").mkdir(parents=True)
    shutil.copytree(bads[0].parent, tmp_path / "data" / "chip")
    words = ("train", tmp_path / "data", "--one-class", "--out", tmp_path / "run", *small)
    assert "There is no good image" in run_cli(*words).err
    for number in range(2):
        shutil.copy(good_only / "good" / f"{number:03}.png", tmp_path / "data" / "good")
    answer = run_cli(*words)
    assert answer.code == 2
    assert "too few" in answer.err


def test_the_whole_inspector_can_be_exported(run: Path) -> None:
    """One graph for any number of photographs: what ONNX and OpenVINO will take."""
    import torch

    recipe = Recipe.load(run)
    images = torch.randint(0, 256, (4, *recipe.input_shape), dtype=torch.uint8)
    batch = {0: torch.export.Dim("batch", min=1, max=64)}
    program = torch.export.export(recipe.inspector.cpu(), (images,), dynamic_shapes=(batch,)).module()
    torch.testing.assert_close(program(images[:3]), recipe.inspector(images[:3]))
