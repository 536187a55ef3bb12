"""A recipe with a region of interest: nothing outside changes a score, is rejected or is boxed, once saved too."""

from __future__ import annotations

import json

import numpy as np
import pytest

from knowngood.data.preprocessing import Preprocessing
from knowngood.errors import ConfigError
from knowngood.files import write_json
from knowngood.recipe.bundle import Recipe
from knowngood.recipe.manifest import seal
from knowngood.workflows.train import train

ROI = "0.2,0.2,0.8,0.8"
SMALL = {"model": "efficientnet_lite0", "image_size": 64}


@pytest.fixture(scope="module", params=["two classes", "one class"])
def run(request, tmp_path_factory, parts):
    out = tmp_path_factory.mktemp("roi") / "run"
    options = {"one_class": True, "coreset_size": 300} if request.param == "one class" else {}
    return train(parts, out, roi=ROI, **SMALL, **options)


def picture(photograph, bad=False, seed=5):
    return np.asarray(photograph(np.random.default_rng(seed), bad))


def with_spot(image, x, y):
    made = image.copy()
    made[y : y + 14, x : x + 14] = 20
    return made


def test_no_pixel_outside_changes_a_score_by_a_bit(run, photograph):
    image = picture(photograph)
    inside = run.recipe.manifest.preprocessing.inside(*image.shape)
    noise = np.random.default_rng(1).integers(0, 256, image.shape, dtype=np.uint8)
    other = np.where(inside, image, noise)
    assert np.array_equal(run.recipe.fitted(image), run.recipe.fitted(other))
    # each alone: the place in a batch may move the last bits of an SVM head's score
    assert run.recipe.predict(image, ["a"]) == run.recipe.predict(other, ["a"])


def test_a_defect_outside_is_not_rejected_and_inside_it_is(run, photograph):
    good = picture(photograph)
    outside = with_spot(good, 2, 2)
    inside = with_spot(good, 40, 40)
    before, out, within = (run.recipe.predict(image, any_product=True)[0] for image in (good, outside, inside))
    assert out.defect_score == before.defect_score
    assert before.decision == out.decision == "accept"
    assert within.decision == "reject"


def test_maps_are_nought_outside_and_nothing_is_boxed_there(run, photograph):
    image = with_spot(with_spot(picture(photograph), 2, 2), 50, 40)
    (heat,) = run.recipe.maps([image])
    inside = run.recipe.manifest.preprocessing.inside(*image.shape)
    assert not heat.values[~inside].any()
    assert heat.values[inside].any()
    assert heat.regions
    assert all(inside[region.mask].all() for region in heat.regions)


def test_a_saved_recipe_does_the_same(run, photograph, tmp_path):
    image = picture(photograph, bad=True)
    again = Recipe.load(run.folder / "recipe")
    assert again.manifest.preprocessing == Preprocessing(roi=((0.2, 0.2, 0.8, 0.8),))
    assert again.manifest.revision == run.recipe.manifest.revision
    assert again.predict(image) == run.recipe.predict(image)
    again.save(tmp_path / "copy")
    assert Recipe.load(tmp_path / "copy").manifest == again.manifest


def test_a_recipe_from_before_still_loads_under_its_name(trained_run, tmp_path):
    recipe = Recipe.load(trained_run)
    recipe.save(tmp_path / "old")
    path = tmp_path / "old" / "recipe.json"
    document = json.loads(path.read_text())
    for newer in ("seal", "preprocessing", "evidence_sha256", "parent", "input_check"):
        del document[newer]
    document["format"] = 1
    write_json(path, document | {"seal": seal(document)})
    old = Recipe.load(tmp_path / "old")
    assert old.manifest.preprocessing == Preprocessing()
    assert old.manifest.revision == seal(document)[:12]
    old.save(tmp_path / "again")
    assert Recipe.load(tmp_path / "again").manifest == old.manifest


def test_a_region_in_pixels_is_the_same_region(parts, tmp_path, trained_run, photograph):
    run = train(parts, tmp_path / "run", roi="19,19,77,77", mask_leads=True, **SMALL)
    inside = run.recipe.manifest.preprocessing.inside(96, 96)
    assert inside[19:77, 19:77].all()
    assert inside.sum() == 58 * 58
    assert run.recipe.manifest.preprocessing.mask_leads
    plain = Recipe.load(trained_run).predict(picture(photograph))  # another cache key, other features
    assert plain[0].defect_score != run.recipe.predict(picture(photograph))[0].defect_score


def test_a_region_that_does_not_fit_is_told_before_anything_is_written(parts, tmp_path):
    with pytest.raises(ConfigError, match=r"--roi.*reaches out"):
        train(parts, tmp_path / "run", roi="10,10,97,90", **SMALL)
    assert not (tmp_path / "run").exists()
