"""The engine: the recipe's own predictions and maps, in order, a row for what is broken, bounded, gone when left."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from knowngood import Recipe
from knowngood.data.images import decode
from knowngood.errors import ConfigError, DataError
from knowngood.models.classifier import Inspector, NetworkConfig
from knowngood.recipe.engine import Profile
from knowngood.recipe.inputs import Item, stream
from knowngood.recipe.session import open_session


def items_of(*data: bytes):
    return [Item(f"image {n}", lambda one=one: one) for n, one in enumerate(data)]


@pytest.fixture(scope="module")
def recipe(trained_run: Path) -> Recipe:
    return Recipe.load(trained_run)


@pytest.fixture(scope="module", params=["cam", "distances"])
def mapping(request, recipe):
    """A recipe that gives maps in a forward pass, of random weights."""
    torch.manual_seed(0)
    head = {"head": "patch_memory", "stages": (2, 3), "supports": 40} if request.param == "distances" else {}
    inspector = Inspector((NetworkConfig(backbone="resnet18", height=64, width=96, channels=1, **head),)).eval()
    memory = inspector.members[0].head
    if memory is not None:
        memory.memory.uniform_()
        memory.level.fill_(0.0)
    manifest = recipe.manifest.model_copy(update={"networks": inspector.configs})
    return Recipe(manifest, inspector)


def test_it_says_what_the_recipe_says(recipe, parts):
    paths = sorted(parts.rglob("*.png"))
    profile = Profile()
    items = stream(parts).items
    got = [one.prediction for one in open_session(recipe, "torch").stream(items, batch=16, profile=profile)]
    want = recipe.predict(paths)
    assert [one.image for one in got] == [one.image for one in want]
    assert [one.decision for one in got] == [one.decision for one in want]
    assert [one.defect_score for one in got] == [one.defect_score for one in want]
    told = profile.document()
    assert told["images"] == 90
    assert {"read", "decode", "resize", "infer"} <= set(told["stages"])
    assert all(0 <= one["busy"] <= 1 for one in told["stages"].values())


def test_what_is_broken_costs_its_own_row(recipe, parts):
    good = (parts / "good" / "good_000.png").read_bytes()
    session = open_session(recipe, "torch")
    for batch in (1, 2, 32):
        got = list(
            session.stream(items_of(b"nonsense", good, b"\x89PNG\r\n\x1a\n", good, good[:-20], b"x"), batch=batch)
        )
        assert [one.prediction.error is None for one in got] == [False, True, False, True, False, False]
        assert [one.prediction.image for one in got] == [f"image {n}" for n in range(6)]
        assert all(one.digest for one in got)
    assert list(session.stream([])) == []
    assert [o.prediction.error is None for o in session.stream(items_of(b"only", b"broken"))] == [False, False]


def test_what_is_known_is_passed_over(recipe, parts):
    names = [str(path) for path in sorted((parts / "chip").iterdir())]
    known = lambda name, digest: name in names[::2] and len(digest) == 64  # noqa: E731
    got = list(open_session(recipe, "torch").stream(stream(parts / "chip").items, known, batch=4))
    assert [one.known for one in got] == [n % 2 == 0 for n in range(len(names))]
    assert [one.prediction.defect_score is None for one in got] == [one.known for one in got]


def test_maps_and_regions_are_those_of_the_recipe(mapping, photograph):
    rng = np.random.default_rng(0)
    images = [
        np.asarray(photograph(rng, True)),
        np.asarray(photograph(rng, False))[:70],
        np.asarray(photograph(rng, True)),
    ]
    data = [cv2.imencode(".png", image)[1].tobytes() for image in images]
    want = list(mapping.maps(images))
    got = [one.heat for one in open_session(mapping, "torch").stream(items_of(*data), maps=True, batch=2)]
    for one, other in zip(got, want, strict=True):
        scale = np.abs(other.values).max()
        np.testing.assert_allclose(one.values, other.values, atol=1e-4 * scale)
        assert one.decision == other.decision
        assert len(one.regions) == len(other.regions)
        for mine, theirs in zip(one.regions, other.regions, strict=True):
            assert (mine.mask != theirs.mask).mean() < 1e-3


def test_maps_are_refused_where_there_are_none(recipe):
    config = recipe.manifest.networks[0].model_copy(update={"head": "kernel", "kinds": ("bad",)})
    pooled = Recipe(recipe.manifest.model_copy(update={"networks": (config,)}), Inspector((config,)))
    with pytest.raises(ConfigError, match="no map in a forward pass"):
        open_session(pooled, "torch").stream([], maps=True)


def test_a_large_jpeg_scores_as_its_pixels_do(recipe, photograph):
    image = np.asarray(photograph(np.random.default_rng(0), True))
    large = cv2.resize(image, (960, 960), interpolation=cv2.INTER_CUBIC)
    data = cv2.imencode(".jpg", large, [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()
    (engine,) = open_session(recipe, "torch").stream(items_of(data))
    (plain,) = recipe.predict(data, ["image 0"])
    (array,) = recipe.predict([decode(data)], ["image 0"])
    assert engine.prediction.defect_score == plain.defect_score == array.defect_score


class Fragile:
    """A runtime that fails, or gives NaN, for any batch with a photograph of one level."""

    name, maps, busy = "fragile", False, 0.0

    def __init__(self, inner, poison: str, ahead: int) -> None:
        self.inner, self.poison, self.ahead = inner, poison, ahead

    def run(self, pixels, *, maps=False):
        made = self.inner.run(pixels, maps=maps)
        bad = np.array([one.min() == one.max() for one in pixels], bool)
        if bad.any() and self.poison != "nan":
            raise MemoryError if self.poison == "memory" else RuntimeError("the network fell over")
        return type(made)(np.where((bad.any() and len(pixels) > 1) or bad, np.float32("nan"), made.raw_scores))

    def stream(self, batches, *, maps=False):
        taken = []
        for pixels in batches:
            taken.append(pixels)
            if len(taken) > self.ahead:
                yield self.run(taken.pop(0))
        for pixels in taken:
            yield self.run(pixels)


@pytest.mark.parametrize("poison", ["error", "memory", "nan"])
@pytest.mark.parametrize("ahead", [0, 2])
def test_a_photograph_that_the_network_cannot_take_costs_its_own_row(recipe, parts, poison, ahead):
    paths = sorted(parts.rglob("*.png"))[:20]
    data = [path.read_bytes() for path in paths]
    flat = cv2.imencode(".png", np.full((120, 120), 77, np.uint8))[1].tobytes()
    data[7] = data[13] = flat
    opened = open_session(recipe, "torch")
    want = [one.prediction.defect_score for one in opened.stream(items_of(*data), batch=1)]
    fragile = replace(opened, runtime=Fragile(opened.runtime, poison, ahead))
    got = [one.prediction for one in fragile.stream(items_of(*data), batch=4)]
    assert [one.image for one in got] == [f"image {n}" for n in range(20)]
    assert [n for n, one in enumerate(got) if one.error] == [7, 13]
    assert all(one.defect_score is None and "image" in one.error for one in (got[7], got[13]))
    scores = [one.defect_score for one in got]
    assert [one for n, one in enumerate(scores) if n not in (7, 13)] == [
        one for n, one in enumerate(want) if n not in (7, 13)
    ]


def test_what_fails_while_one_is_prepared_is_its_row(recipe, parts, monkeypatch):
    good = (parts / "good" / "good_000.png").read_bytes()
    thin = cv2.imencode(".png", np.zeros((3000, 1), np.uint8))[1].tobytes()
    small = cv2.imencode(".png", np.zeros((5, 5), np.uint8))[1].tobytes()
    prepared = type(recipe).prepared

    def scarce(self, photograph, **more):
        if photograph.pixels.shape == (64, 64):
            raise MemoryError
        return prepared(self, photograph, **more)

    monkeypatch.setattr(type(recipe), "prepared", scarce)
    short = cv2.imencode(".png", np.zeros((64, 64), np.uint8))[1].tobytes()
    items = items_of(good, thin, small, short, good)
    got = [one.prediction.error for one in open_session(recipe, "torch").stream(items, batch=4)]
    assert got[0] is None
    assert got[4] is None
    assert "extreme proportions: 1 x 3000" in got[1]
    assert "too small to inspect" in got[2]
    assert "MemoryError" in got[3]


def test_what_the_list_of_items_raises_is_raised(recipe, parts):
    good = (parts / "good" / "good_000.png").read_bytes()

    def broken():
        yield Item("a", lambda: good)
        raise DataError("The archive cannot be read.")

    with pytest.raises(DataError, match="archive"):
        list(open_session(recipe, "torch").stream(broken(), batch=2))


def test_memory_is_bounded_whatever_the_number(recipe, parts):
    good = (parts / "good" / "good_000.png").read_bytes()
    taken = done = most = 0

    def items():
        nonlocal taken
        for number in range(400):
            taken += 1
            yield Item(str(number), lambda: good)

    for _ in open_session(recipe, "torch").stream(items(), batch=8, workers=2):
        done += 1
        most = max(most, taken - done)
    assert done == 400
    assert most <= 3 * 8 + 2


def test_a_consumer_that_leaves_takes_the_pipeline_down(recipe, parts):
    good = (parts / "good" / "good_000.png").read_bytes()
    taken = 0

    def endless():
        nonlocal taken
        while True:
            taken += 1
            yield Item(str(taken), lambda: good)

    running = open_session(recipe, "torch").stream(endless(), batch=4)
    next(running)
    running.close()
    seen = taken
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("knowngood-decode")]
    assert taken == seen <= 16
