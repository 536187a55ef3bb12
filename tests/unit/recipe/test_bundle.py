"""A recipe: the same scores after saving and loading, from paths, bytes and arrays, alone and in company."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from knowngood import Recipe
from knowngood.errors import RecipeError
from knowngood.recipe.bundle import MANIFEST, WEIGHTS
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
    assert sorted(p.name for p in place.iterdir()) == [INPUT_CHECK, MANIFEST, WEIGHTS]
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
    assert all(p.decision is None and p.defect_score is None for p in told[1:4])
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
