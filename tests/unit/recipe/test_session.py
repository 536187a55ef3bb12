"""A session: which runtime, device and thresholds it takes, and its results for what cannot be read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from knowngood import Recipe
from knowngood.data.images import decode
from knowngood.errors import ConfigError, ImageError, RecipeError
from knowngood.models.classifier import Inspector, NetworkConfig
from knowngood.recipe.inputs import items_from
from knowngood.recipe.manifest import RecipeManifest
from knowngood.recipe.parity import holdout_splits
from knowngood.recipe.session import open_session, shared_session


@pytest.fixture(scope="module")
def recipe(trained_run: Path) -> Recipe:
    return Recipe.load(trained_run)


@pytest.fixture(scope="module")
def mapping(recipe: Recipe) -> Recipe:
    """A recipe in memory that draws maps, of random weights."""
    torch.manual_seed(0)
    inspector = Inspector((NetworkConfig(backbone="resnet18", height=64, width=64, channels=1),))
    return Recipe(recipe.manifest.model_copy(update={"networks": inspector.configs}), inspector)


def test_the_device_is_checked(recipe: Recipe) -> None:
    with pytest.raises(ConfigError, match="no device 'tpu'"):
        open_session(recipe, device="tpu")
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="no GPU"):
            open_session(recipe, device="cuda")
    assert open_session(recipe, "torch", "cpu").label == "torch fp32"


def test_a_session_is_kept_with_its_recipe(recipe: Recipe) -> None:
    assert shared_session(recipe) is shared_session(recipe)
    assert shared_session(recipe, any_product=True) is not shared_session(recipe)
    assert open_session(recipe) is not open_session(recipe)


def test_thresholds_are_those_of_what_decides(recipe: Recipe) -> None:
    session = open_session(recipe)
    assert session.thresholds == recipe.thresholds
    assert session.threshold == dict(recipe.manifest.threshold)
    assert session.change() is None


def test_explanations_of_what_cannot_be_read_are_rows_and_maps_raise(mapping: Recipe, parts: Path) -> None:
    path = parts / "good" / "good_000.png"
    broken = [path, b"nonsense", decode(path)]
    found = list(mapping.explain(broken))
    assert [one.heat is None for one in found] == [False, True, False]
    assert [one.fitted is None for one in found] == [False, True, False]
    assert found[1].prediction.decision == "error"
    assert "image 1" in (found[1].prediction.error or "")
    assert found[0].size == decode(path).shape[:2]
    np.testing.assert_array_equal(found[0].fitted, mapping.fitted(decode(path)))
    np.testing.assert_array_equal(found[0].heat.values, found[2].heat.values)  # type: ignore[union-attr]
    with pytest.raises(ImageError, match="image 1"):
        list(mapping.maps(broken))
    assert next(open_session(mapping).explain(items_from([b"only broken"]))).heat is None


def test_a_method_that_does_not_go_is_refused_before_anything_is_read(recipe: Recipe, mapping: Recipe) -> None:
    with pytest.raises(ConfigError):
        next(recipe.explain(["/nowhere.png"], method="cam"))  # neither cells nor an SVM head have a CAM


def test_a_recipe_in_memory_has_no_export_and_no_cascade(mapping: Recipe) -> None:
    with pytest.raises(RecipeError, match="in memory"):
        mapping.export(to="onnx", precision="fp32")
    with pytest.raises(ConfigError, match="no export for openvino"):
        open_session(mapping, "openvino")


@pytest.mark.parametrize(("head", "splits"), [("kernel", 1), ("kernel+cells", 1), ("cells", 2), ("linear", 2)])
def test_exports_are_compared_on_images_that_no_head_was_fitted_on(head: str, splits: int) -> None:
    stages = {} if head == "linear" else {"stages": (3, 4)}
    network = NetworkConfig(backbone="resnet18", head=head, height=32, width=32, channels=1, **stages)
    manifest = RecipeManifest.model_construct(networks=(network,))
    assert len(holdout_splits(manifest)) == splits
