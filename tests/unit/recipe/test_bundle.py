"""A recipe: the same scores after saving and loading, from paths, bytes and arrays, alone and in company."""

from __future__ import annotations

import json
import os
import shutil
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image

from knowngood import Recipe
from knowngood.errors import ConfigError, DataError, ReadOnlyError, RecipeError
from knowngood.metrics.thresholds import Thresholds, choose_threshold, threshold_by_hand
from knowngood.recipe.bundle import MANIFEST, WEIGHTS
from knowngood.recipe.evidence import EVIDENCE, Evidence
from knowngood.recipe.input_check import INPUT_CHECK
from knowngood.recipe.manifest import RecipeManifest, seal


@pytest.fixture(scope="module")
def recipe(trained_run: Path) -> Recipe:
    return Recipe.load(trained_run / "recipe")


def test_saved_and_loaded_it_scores_the_same(recipe: Recipe, parts: Path, tmp_path: Path) -> None:
    images = sorted((parts / "chip").iterdir())
    again = Recipe.load(recipe.save(tmp_path / "copy"))
    assert again.predict(images) == recipe.predict(images)
    assert again.manifest == recipe.manifest
    assert again.manifest.revision == recipe.manifest.revision


def test_saving_over_a_recipe_replaces_it_whole(recipe: Recipe, tmp_path: Path) -> None:
    place = tmp_path / "recipe"
    place.mkdir()
    (place / "old.txt").write_text("old")
    recipe.save(place)
    assert sorted(p.name for p in place.iterdir()) == [EVIDENCE, INPUT_CHECK, MANIFEST, WEIGHTS]
    assert [p.name for p in tmp_path.iterdir()] == ["recipe"]


def test_others_may_read_what_the_umask_lets_them(recipe: Recipe, tmp_path: Path) -> None:
    mask = os.umask(0o022)
    try:
        recipe.save(tmp_path / "recipe")
    finally:
        os.umask(mask)
    for name in (INPUT_CHECK, MANIFEST, WEIGHTS):
        assert stat.S_IMODE((tmp_path / "recipe" / name).stat().st_mode) == 0o644


def test_paths_bytes_and_arrays_are_the_same_photograph(recipe: Recipe, parts: Path) -> None:
    path = parts / "scratch" / "scratch_000.png"
    array = np.asarray(Image.open(path))
    told = recipe.predict([path, str(path), path.read_bytes(), array, np.stack([array] * 3, axis=2)])
    assert {p.decision for p in told} == {"reject"}
    assert [p.defect_score for p in told] == pytest.approx([told[0].defect_score] * 5, abs=1e-6)
    assert [p.image for p in told][2:] == ["image 2", "image 3", "image 4"]
    assert recipe.predict(array)[0].defect_score == pytest.approx(told[0].defect_score, abs=1e-6)
    assert recipe.predict(path)[0].image == str(path)
    assert recipe.predict([]) == []


def test_a_score_does_not_depend_on_its_company(recipe: Recipe, parts: Path) -> None:
    paths = sorted(parts.rglob("*.png"))
    together = [p.defect_score for p in recipe.predict(paths)]
    alone = [recipe.predict(path)[0].defect_score for path in paths[::9]]
    np.testing.assert_allclose(together[::9], alone, atol=1e-4)


def test_decisions_follow_the_thresholds(recipe: Recipe, parts: Path) -> None:
    cuts = recipe.thresholds
    for prediction in recipe.predict(sorted(parts.rglob("*.png"))):
        assert prediction.defect_score is not None
        if prediction.defect_score < cuts.accept_below:
            assert prediction.decision == "accept"
        else:
            assert prediction.decision == ("reject" if prediction.defect_score >= cuts.reject_from else "review")


def test_one_bad_photograph_costs_its_own_prediction(recipe: Recipe, parts: Path) -> None:
    good = parts / "good" / "good_000.png"
    told = recipe.predict([good, b"nonsense", parts / "missing.png", np.zeros((4, 4), np.float32), good])
    assert [p.error is None for p in told] == [True, False, False, False, True]
    assert all(p.decision == "error" and p.defect_score is None for p in told[1:4])
    assert told[0].defect_score == pytest.approx(told[4].defect_score, abs=1e-6)


@pytest.mark.parametrize("field", sorted(RecipeManifest.model_fields))
def test_no_field_can_be_changed_unnoticed(recipe: Recipe, tmp_path: Path, field: str) -> None:
    place = recipe.save(tmp_path / "recipe")
    document = json.loads((place / MANIFEST).read_text())
    document[field] = 0 if field != "seed" else 1
    (place / MANIFEST).write_text(json.dumps(document))
    with pytest.raises(RecipeError, match="damaged"):
        Recipe.load(place)


def test_the_seal_does_not_depend_on_how_json_is_written(recipe: Recipe, tmp_path: Path) -> None:
    place = recipe.save(tmp_path / "recipe")
    document = json.loads((place / MANIFEST).read_text())
    (place / MANIFEST).write_text(json.dumps(dict(sorted(document.items(), reverse=True))))
    Recipe.load(place)
    assert seal({"a": 1.5, "b": [1]}) == seal({"b": [1], "a": 1.5}) != seal({"a": 1.5, "b": [2]})


def test_weights_that_fit_their_hash_but_not_the_network_are_refused(recipe: Recipe, tmp_path: Path) -> None:
    place = recipe.save(tmp_path / "recipe")
    networks = tuple(n.model_copy(update={"supports": n.supports + 1}) for n in recipe.manifest.networks)
    document = recipe.manifest.model_copy(update={"networks": networks}).model_dump(mode="json")
    (place / MANIFEST).write_text(json.dumps(document | {"seal": seal(document)}))
    with pytest.raises(RecipeError, match="damaged"):
        Recipe.load(place)


def test_everything_that_the_command_line_takes_is_taken(
    recipe: Recipe, parts: Path, tmp_path: Path, run_cli: Callable[..., Any], trained_run: Path
) -> None:
    folder = tmp_path / "new"
    shutil.copytree(parts / "chip", folder / "chip")
    (folder / "broken.png").write_text("hello")
    answer = run_cli("predict", trained_run, folder, "--json", "--max-errors", 1)
    rows = {row["image"]: row for row in answer.json["rows"]}
    for given in (folder, str(folder), [folder]):
        told = recipe.predict(given)
        assert {one.image for one in told} == set(rows)
        for one in told:
            assert (one.decision, one.error) == (rows[one.image]["decision"], rows[one.image]["error"])
            assert one.defect_score == rows[one.image]["defect_score"]
    chips = sorted(map(str, (folder / "chip").iterdir()))
    wanted = recipe.predict(chips)
    assert recipe.predict(str(folder / "chip" / "*.png")) == wanted
    assert recipe.predict((folder / "chip").glob("*.png"))  # a generator
    assert recipe.predict(iter(chips)) == wanted
    assert recipe.predict(tuple(map(Path, chips))) == wanted
    (tmp_path / "list.csv").write_text("path\n" + "\n".join(chips) + "\n")
    assert recipe.predict(tmp_path / "list.csv") == wanted
    with zipfile.ZipFile(tmp_path / "chips.zip", "w") as archive:
        for chip in chips:
            archive.write(chip, Path(chip).name)
    assert [one.defect_score for one in recipe.predict(tmp_path / "chips.zip")] == [one.defect_score for one in wanted]
    assert len(recipe.predict([folder / "chip", chips[0], tmp_path / "chips.zip"])) == 2 * len(chips) + 1


def test_pil_images_follow_the_rules_of_files(recipe: Recipe, tmp_path: Path, parts: Path) -> None:
    image = Image.open(parts / "scratch" / "scratch_000.png")
    grey = np.asarray(image)
    turned = Image.Exif()
    turned[0x0112] = 6  # the camera lay on its side
    image.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.jpg", exif=turned, quality=100, subsampling=0)
    deep = Image.fromarray(grey.astype(np.uint16) << 8)
    alpha = Image.merge("RGBA", [image, image, image, Image.new("L", image.size, 255)])
    half = Image.merge("LA", [image, Image.new("L", image.size, 128)])
    half.save(tmp_path / "half.png")
    told = recipe.predict([image, image.convert("RGB"), image.convert("P"), alpha, deep, image.convert("I"), half])
    assert deep.mode == "I;16"
    assert [one.image for one in told] == [f"image {n}" for n in range(7)]
    assert [one.defect_score for one in told[:5]] == pytest.approx([told[0].defect_score] * 5, abs=1e-6)
    assert told[5].error is None  # 32-bit values are 0..65535: nearly black
    assert told[6].defect_score == pytest.approx(recipe.predict(tmp_path / "half.png")[0].defect_score, abs=1e-6)
    on_disk = recipe.predict(tmp_path / "turned.jpg")[0].defect_score
    assert recipe.predict(Image.open(tmp_path / "turned.jpg"))[0].defect_score == pytest.approx(on_disk, abs=1e-6)
    assert on_disk == pytest.approx(told[0].defect_score, abs=0.05)
    cut = tmp_path / "cut.png"
    cut.write_bytes((parts / "chip" / "chip_000.png").read_bytes()[:400])
    named = recipe.predict([Image.open(cut), Image.new("L", (0, 4)), 5, None], ["cut", "nothing", "five", "none"])
    assert [one.decision for one in named] == ["error"] * 4
    assert "cut" in (named[0].error or "")


def test_names_that_are_no_files(recipe: Recipe, tmp_path: Path) -> None:
    (one,) = recipe.predict("nowhere.png")
    assert (one.image, one.decision, one.defect_score) == ("nowhere.png", "error", None)
    assert "no file" in (one.error or "")
    assert recipe.predict(str(tmp_path / "*.png"))[0].decision == "error"
    assert recipe.predict("memory://nothing/here.png")[0].decision == "error"
    with pytest.raises(DataError, match="No picture"):
        recipe.predict(tmp_path)  # a folder without photographs is a mistake
    with pytest.raises(ConfigError, match="2 names for 1"):
        recipe.predict("nowhere.png", ["a", "b"])
    with pytest.raises(ConfigError, match="no export for onnxruntime"):
        recipe.predict("nowhere.png", runtime="onnxruntime")


@pytest.mark.parametrize(
    "name", ["threshold", "thresholds", "accept_below", "manifest", "folder", "inspector", "tresholds", "x"]
)
def test_nothing_of_a_recipe_can_be_set(recipe: Recipe, name: str) -> None:
    before = recipe.thresholds
    with pytest.raises(ReadOnlyError, match="with_thresholds"):
        setattr(recipe, name, 0.999)
    with pytest.raises(AttributeError):  # for those who expect Python's own
        setattr(recipe, name, 0.999)
    with pytest.raises(ReadOnlyError):
        delattr(recipe, name)
    with pytest.raises(TypeError, match="with_thresholds"):
        recipe.manifest.threshold["threshold"] = 0.999
    assert recipe.thresholds == before


def test_other_cuts_make_another_recipe(recipe: Recipe, parts: Path, tmp_path: Path) -> None:
    before, revision = recipe.thresholds, recipe.manifest.revision
    other = recipe.with_thresholds(accept_below=0.2, reject_from=0.6)
    assert (recipe.thresholds, recipe.manifest.revision) == (before, revision)
    assert other.thresholds == Thresholds(0.2, 0.6)
    saved = Recipe.load(other.save(tmp_path / "other"))
    assert saved.manifest == other.manifest
    assert saved.manifest.parent == revision != saved.manifest.revision
    evidence = recipe.evidence
    assert evidence is not None
    scores = recipe.manifest.calibration.apply(evidence.raw_scores)
    want = threshold_by_hand(evidence.labels, scores, Thresholds(0.2, 0.6), escape_budget=0.01)
    assert saved.manifest.threshold == want.to_dict()
    assert saved.manifest.threshold["bads"] == int(evidence.labels.sum()) > 0
    images = sorted(parts.rglob("*.png"))
    for one, was in zip(saved.predict(images), recipe.predict(images), strict=True):
        assert one.defect_score is not None
        assert one.defect_score == pytest.approx(was.defect_score, abs=1e-6)
        assert one.decision == (
            "accept" if one.defect_score < 0.2 else "reject" if one.defect_score >= 0.6 else "review"
        )
    again = saved.with_thresholds(reject_from=0.7)
    assert again.thresholds == Thresholds(0.2, 0.7)
    assert again.manifest.parent == saved.manifest.revision
    for wrong in ({}, {"accept_below": float("nan")}, {"accept_below": 2}, {"accept_below": 0.9, "reject_from": 0.1}):
        with pytest.raises(ConfigError):
            recipe.with_thresholds(**wrong)


def test_the_saved_scores_are_those_that_certified_the_threshold(recipe: Recipe) -> None:
    evidence, threshold = recipe.evidence, recipe.manifest.threshold
    assert evidence is not None
    scores = recipe.manifest.calibration.apply(evidence.raw_scores)
    made = choose_threshold(evidence.labels, scores, escape_budget=threshold["escape_budget"])
    assert made.to_dict() == dict(threshold)


def test_a_recipe_without_calibration_scores_says_so(recipe: Recipe, tmp_path: Path) -> None:
    plain = Recipe(recipe.manifest.model_copy(update={"evidence_sha256": None, "format": 2}), recipe.inspector)
    old = Recipe.load(plain.save(tmp_path / "old"))
    assert "evidence_sha256" not in json.loads((tmp_path / "old" / MANIFEST).read_text())
    other = old.with_thresholds(accept_below=0.3)
    assert other.thresholds == Thresholds(0.3, 0.3)
    assert other.manifest.threshold["certified"] is False
    assert "has no calibration scores" in other.manifest.threshold["sentence"]
    assert Recipe.load(other.save(tmp_path / "other")).thresholds == Thresholds(0.3, 0.3)


def test_a_recipe_knows_what_it_has_seen(recipe: Recipe, trained_run: Path) -> None:
    table = pl.read_parquet(trained_run / "records.parquet")
    assert recipe.evidence is not None
    seen = recipe.evidence.has_seen(table["sha256"])
    assert seen.tolist() == (table["split"] != "test").to_list()
    (place := trained_run / "recipe" / EVIDENCE).stat()
    assert Evidence.read(place).seen.shape[1] == 8


def test_evidence_that_was_changed_is_refused_and_that_was_left_behind_is_not(recipe: Recipe, tmp_path: Path) -> None:
    place = recipe.save(tmp_path / "recipe")
    data = (place / EVIDENCE).read_bytes()
    (place / EVIDENCE).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(RecipeError, match="damaged"):
        Recipe.load(place)
    (place / EVIDENCE).unlink()
    assert Recipe.load(place).evidence is None
