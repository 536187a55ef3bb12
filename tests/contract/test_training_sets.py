"""Every registered training set changes the training split alone, marks what it adds, and is reproducible."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest

from knowngood.data.loading import load
from knowngood.data.records import Records
from knowngood.data.splits import split
from knowngood.errors import KnownGoodError
from knowngood.experiments.training_sets import TRAINING_SET_CHANGES, ChangeOptions, TrainingSet, changes_named


@pytest.fixture(scope="module")
def divided(parts: Path) -> Records:
    """The small photographs with a box around the part of each bad one: the training set transplant cuts there."""
    records = load(parts)
    boxes = [[[24, 24, 72, 72]] if label else None for label in records.frame["label"].to_list()]
    column = pl.Series("box", boxes, dtype=records.frame.schema["box"])
    return split(records.with_frame(records.frame.with_columns(column)))


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keeps what is made out of the user's cache; weights are looked for in packages."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KNOWNGOOD_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory, make_set: Callable[..., Path]) -> ChangeOptions:
    """Everything that a change may need."""
    made = make_set(tmp_path_factory.mktemp("made") / "made", good=2, bad=6, seed=8)
    return ChangeOptions(augment="study", generated=made, model="efficientnet_lite0", seed=3)


@pytest.fixture(params=[*TRAINING_SET_CHANGES, "transforms+generated", "without-outliers+transforms"])
def changed(request: pytest.FixtureRequest, divided: Records, options: ChangeOptions) -> TrainingSet:
    return applied(request.param, divided, options)


def applied(name: str, divided: Records, options: ChangeOptions) -> TrainingSet:
    result = TrainingSet(divided)
    for change in changes_named(name):
        change.check(options)
        result = change.apply(result, options)
    return result


def test_held_out_images_stay_what_they_are(changed: TrainingSet, divided: Records) -> None:
    held_out = [r.frame.filter(pl.col("split") != "train").sort("image") for r in (divided, changed.records)]
    assert held_out[0].equals(held_out[1])


def test_what_is_added_is_marked_as_generated(changed: TrainingSet, divided: Records) -> None:
    known = set(divided.frame["image"].to_list())
    new = changed.records.frame.filter(~pl.col("image").is_in(list(known)))
    assert new["generated"].all()
    assert set(new["split"].to_list()) <= {"train"}
    assert all(name.startswith("generated/") for name in new["image"].to_list())


def test_both_classes_are_left_to_learn(changed: TrainingSet) -> None:
    counts = changed.records.of_split("train").counts()
    assert min(counts["good"], counts["bad"]) > 1


@pytest.mark.parametrize("name", list(TRAINING_SET_CHANGES))
def test_it_repeats_itself_and_says_what_it_did(name: str, divided: Records, options: ChangeOptions) -> None:
    first, second = (applied(name, divided, options) for _ in range(2))
    assert first.records.frame.equals(second.records.frame)
    assert first.augment == second.augment
    unchanged = first.records.frame.equals(divided.frame) and first.augment == "none"
    assert unchanged or len(first.changes) == 1
    assert len(TRAINING_SET_CHANGES.get(name).summary) > 10


@pytest.mark.parametrize("name", list(TRAINING_SET_CHANGES))
def test_what_is_missing_is_said_before_anything_is_read(name: str) -> None:
    empty = ChangeOptions(augment="nonsense", generated=None, model="nonsense")
    try:
        TRAINING_SET_CHANGES.get(name)().check(empty)
    except KnownGoodError as error:
        assert error.fix or error.expected  # noqa: PT017


@pytest.mark.parametrize("name", ["transforms", "generated", "without-outliers"])
def test_what_needs_an_option_refuses_nonsense(name: str) -> None:
    with pytest.raises(KnownGoodError):
        TRAINING_SET_CHANGES.get(name)().check(ChangeOptions(augment="nonsense", generated=None, model="nonsense"))
