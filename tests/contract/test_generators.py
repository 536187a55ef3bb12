"""Every registered generator: image k is decided by the seed and k, and held-out images are not seen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from knowngood.data.images import decode
from knowngood.data.loading import load
from knowngood.data.records import BAD, Records
from knowngood.data.splits import split
from knowngood.errors import DataError, KnownGoodError
from knowngood.parameters import checked_parameters
from knowngood.synthesis.generators import GENERATORS, ImageGenerator, Made, open_image_generator
from knowngood.synthesis.writing import write_set
from knowngood.workflows.generate import train_generator

Places = dict[str, "Records | Path"]


def with_boxes(records: Records) -> Records:
    """Returns the small photographs of the tests with a box around the dark spot of each bad one."""
    boxes = []
    for path, label in records.frame.select("path", "label").iter_rows():
        spot = decode(path) < 40 if label == BAD else np.zeros((1, 1), bool)
        ys, xs = np.nonzero(spot)
        boxes.append([[xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]] if label == BAD else None)
    column = pl.Series("box", boxes, dtype=records.frame.schema["box"])
    return records.with_frame(records.frame.with_columns(column))


@pytest.fixture(scope="module")
def divided(parts: Path) -> Records:
    return split(with_boxes(load(parts)))


@pytest.fixture(scope="module")
def places(divided: Records, tmp_path_factory: pytest.TempPathFactory) -> Places:
    """What each generator is opened on; one that is opened on a run has its folder in RUNS."""
    made: Places = {name: divided for name in GENERATORS if GENERATORS.get(name).opened_on == "photographs"}
    return made | {name: make(tmp_path_factory.mktemp(name), divided) for name, make in RUNS.items()}


# Name of a generator that is opened on a run -> function of (empty folder, divided photographs) that returns one.
def a_stylegan(folder: Path, divided: Records) -> Path:
    few = {"kimg": 0.04, "tick_kimg": 0.04, "batch_size": 8, "resolution": 32, "base": 128, "most": 16}
    return train_generator(divided, folder, allow_few_images=True, model="efficientnet_lite0", **few).folder


RUNS: dict[str, Callable[[Path, Records], Path]] = {"stylegan": a_stylegan}


@pytest.fixture(params=list(GENERATORS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def generator(name: str, places: Places) -> ImageGenerator:
    return open_image_generator(name, places[name], 3)


def same(one: Made, two: Made, tolerance: int = 0) -> bool:
    apart = np.abs(one.pixels.astype(int) - two.pixels).max(initial=0) <= tolerance
    masks = one.mask is two.mask is None or np.array_equal(one.mask, two.mask)  # type: ignore[arg-type]
    return bool(apart and masks and (one.defect, one.boxes, one.parents) == (two.defect, two.boxes, two.parents))


def test_a_number_decides_an_image_whatever_else_is_made(name: str, generator: ImageGenerator, places: Places) -> None:
    many = generator.make([0, 1, 2, 7, 40])
    again = open_image_generator(name, places[name], 3).make([0, 1, 2, 7, 40])
    assert all(same(one, two) for one, two in zip(many, again, strict=True))
    assert same(generator.make([7])[0], many[3], tolerance=1)
    turned = generator.make([40, 0])
    assert same(turned[0], many[4], tolerance=1)
    assert same(turned[1], many[0], tolerance=1)


def test_seeds_and_numbers_make_a_difference(name: str, generator: ImageGenerator, places: Places) -> None:
    first, second = generator.make([0, 1])
    assert not same(first, second, 2)
    assert not same(first, open_image_generator(name, places[name], 4).make([0])[0], 2)


def test_what_is_made_is_bad_alike_and_lies_where_it_says(generator: ImageGenerator) -> None:
    made = generator.make(range(6))
    assert {one.label for one in made} == {BAD}
    assert len({one.pixels.ndim for one in made}) == 1
    for one in made:
        assert one.pixels.std() > 1
        for box in one.boxes:
            assert one.mask is None or one.mask[int(box[1]) : int(box[3]), int(box[0]) : int(box[2])].any()


def test_only_training_images_are_looked_at(generator: ImageGenerator, divided: Records) -> None:
    training = set(divided.of_split("train").frame["image"].to_list())
    assert set(generator.training_images["image"].to_list()) <= training
    assert generator.training_images.schema == {"image": pl.String, "sha256": pl.String, "label": pl.UInt8}
    assert generator.training_images.height
    assert all(set(one.parents) <= training for one in generator.make(range(12)))


def test_held_out_images_do_not_change_it(name: str, places: Places) -> None:
    if GENERATORS.get(name).opened_on == "run":
        pytest.skip("a run is made of the training split")
    records = places[name]
    assert isinstance(records, Records)
    without = records.of_split("train")
    pairs = zip(
        open_image_generator(name, records, 1).make([0, 5]),
        open_image_generator(name, without, 1).make([0, 5]),
        strict=True,
    )
    assert all(same(one, two) for one, two in pairs)


def test_it_is_written_and_read_as_a_data_source(name: str, generator: ImageGenerator, tmp_path: Path) -> None:
    write_set(name, generator, tmp_path / "set", 3, 3)
    frame = load(tmp_path / "set").frame
    assert frame.height == 3
    assert frame["generated"].all()
    assert frame["split"].to_list() == ["train"] * 3
    assert frame["error"].null_count() == 3
    assert np.array_equal(decode(frame["path"][1]), generator.make([1])[0].pixels)


def test_it_says_what_it_is(name: str, generator: ImageGenerator) -> None:
    kind = GENERATORS.get(name)
    assert len(kind.summary) > 10
    assert all(field.description for field in kind.parameters.model_fields.values())
    assert checked_parameters(kind.parameters, {}) == kind.parameters()
    assert generator.identity


def test_the_wrong_thing_to_open_is_said(name: str, divided: Records, tmp_path: Path) -> None:
    wrong = tmp_path if GENERATORS.get(name).opened_on == "photographs" else divided
    with pytest.raises(DataError, match="opened on"):
        open_image_generator(name, wrong)
    with pytest.raises(KnownGoodError):
        open_image_generator(
            name, divided.of_split("test") if GENERATORS.get(name).opened_on == "photographs" else tmp_path / "no"
        )


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"pixels": np.zeros((4, 4), np.float32)}, "uint8"),
        ({"mask": np.zeros((3, 4), bool)}, "mask"),
        ({"label": 0, "defect": "chip"}, "label"),
        ({"boxes": ((0, 0, 5, 2),)}, "inside"),
    ],
)
def test_what_no_maker_may_make(wrong, said) -> None:
    with pytest.raises(DataError, match=said):
        Made(**({"pixels": np.zeros((4, 4), np.uint8)} | wrong))
