"""Few real bads are drawn fairly, made sets go where they belong, and sentences say what intervals say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from knowngood.data.loading import load
from knowngood.data.records import BAD
from knowngood.data.splits import split
from knowngood.errors import ConfigError
from knowngood.experiments import synthesis_trial as trial
from knowngood.experiments.configs import JudgeConfig
from knowngood.experiments.runner import scored
from knowngood.experiments.synthesis_trial import (
    ALONE,
    EVERYTHING,
    NONE,
    GivenSet,
    arms_of,
    chosen_for,
    groups_with,
    helped,
    thinned,
)
from knowngood.parameters import checked_parameters


@pytest.fixture(scope="module")
def divided(parts):
    return split(load(parts))


def bads_in(records, part):
    return set(records.of_split(part).frame.filter(pl.col("label") == BAD)["image"])


def test_bads_are_thinned_in_training_alone_and_every_defect_stays(divided):
    few = thinned(divided, "8", frozenset(), 3, whole_val=True)
    assert len(bads_in(few, "train")) == 8
    kinds = few.of_split("train").frame.filter(pl.col("label") == BAD)["defect"].value_counts()
    assert kinds["count"].to_list() == [4, 4]
    for part in ("val", "calibration", "test"):
        assert few.of_split(part).frame.equals(divided.of_split(part).frame)
    assert few.of_split("train").counts()["good"] == divided.of_split("train").counts()["good"]
    assert bads_in(thinned(divided, "8", frozenset(), 4, whole_val=True), "train") != bads_in(few, "train")
    assert not bads_in(thinned(divided, "8", frozenset(), 3, whole_val=False), "val")
    assert thinned(divided, "all", frozenset(), 3, whole_val=False) is divided


def test_what_a_maker_learned_from_is_kept_first(divided):
    bads = divided.of_split("train").frame.filter(pl.col("label") == BAD)
    known = frozenset(bads["sha256"][:5])
    for seed in range(3):
        few = thinned(divided, "8", known, seed, whole_val=True).of_split("train").frame
        assert known <= set(few["sha256"])
    more = thinned(divided, "8", frozenset(bads["sha256"][:12]), 0, whole_val=True)
    assert len(bads_in(more, "train")) == 8


def test_each_regime_takes_the_set_that_knew_as_many_bads():
    sets = [
        GivenSet(Path("a"), "stylegan", frozenset("abc"), 9),
        GivenSet(Path("b"), "stylegan", frozenset("abcdefgh"), 9),
        GivenSet(Path("c"), "other", None, 9),
        GivenSet(Path("d"), "transplant", frozenset("abcdefgh"), 9),
    ]
    assert {name: str(one.place) for name, one in chosen_for("5", sets).items()} == {"stylegan": "a", "other": "c"}
    assert str(chosen_for("2", sets)["stylegan"].place) == "a"
    every = {name: str(one.place) for name, one in chosen_for("all", sets).items()}
    assert every == {"stylegan": "b", "other": "c", "transplant": "d"}


def test_arms_add_equally_many_to_training_and_leave_the_test_alone(divided, make_set, tmp_path):
    place = make_set(tmp_path / "given", good=0, bad=12, seed=5)
    given = {"stylegan": GivenSet(place, "stylegan", None, 12)}
    arms, left_out = arms_of(divided, given, 10, 0, tmp_path / "work")
    by = {name: arm.records for name, arm in arms.items()}
    assert set(by) == {NONE, "transforms", "stylegan", EVERYTHING, f"stylegan, {ALONE}"}
    assert "mask or box" in left_out["transplant"]
    assert {name: len(one) - len(divided) for name, one in by.items()} == {
        NONE: 0, "transforms": 10, "stylegan": 10, EVERYTHING: 20, f"stylegan, {ALONE}": 10
    }  # fmt: skip
    for one in by.values():
        assert one.of_split("test").frame.equals(divided.of_split("test").frame)
    alone = bads_in(by[f"stylegan, {ALONE}"], "train") | bads_in(by[f"stylegan, {ALONE}"], "val")
    assert len(alone) == 10
    assert all(name.startswith("stylegan/") for name in alone)
    names = divided.frame["image"].to_list()
    groups = groups_with(by["transforms"], {name: row for row, name in enumerate(names)})
    made = by["transforms"].frame.filter("generated")
    assert [names[group] for group in groups[len(divided) :]] == made["made_from"].to_list()
    assert len(set(groups_with(by["stylegan"], dict.fromkeys(names, 0))[len(divided) :].tolist())) == 10


def outcomes_of(shift: float, seeds: int = 3):
    labels = np.repeat([0, 1], [400, 200]).astype(np.uint8)
    images, facts = [f"{row:03}" for row in range(600)], {"bads": 9, "added": 50}
    arms = {"none": [], "gan": []}
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        base = rng.normal(size=600) + 1.5 * labels
        arms["none"].append(scored(seed, images, labels, base, facts))
        arms["gan"].append(scored(seed, images, labels, base + shift * labels + rng.normal(0, 0.1, 600), facts))
    return arms


@pytest.mark.parametrize(("shift", "word"), [(1.5, "helped"), (-1.5, "hurt"), (0.0, "help")])
def test_the_verdict_says_what_happened(shift, word):
    done = helped({"all": outcomes_of(shift)}, "gan")
    assert f"50 images of gan beside all real bads {word}:" in done["verdict"]
    assert done["verdict"].startswith("Cannot tell") == (not shift)
    (effect,) = done["effects"]
    low, high = effect["auroc"]["interval"]
    assert low <= effect["auroc"]["difference"] <= high
    assert (np.sign(effect["auroc"]["difference"]) == np.sign(shift)) or not shift
    assert f"{effect['auroc']['difference']:+.4f}" in done["verdict"]


def test_without_a_pair_it_cannot_tell():
    done = helped({"all": {"none": outcomes_of(0)["none"]}}, "gan")
    assert done["verdict"].startswith("Cannot tell")


@pytest.mark.parametrize(("field", "value"), [("bads", "30,few"), ("seeds", 2), ("bads", "1"), ("preset", "best")])
def test_impossible_options_name_the_flag(field, value):
    with pytest.raises(ConfigError, match=f"--{field}"):
        checked_parameters(JudgeConfig, {field: value})


def test_a_trial_that_was_killed_goes_on_with_the_training_it_was_at(divided, make_set, tmp_path, monkeypatch):
    place = make_set(tmp_path / "given", good=0, bad=6, seed=5)
    options = {"model": "efficientnet_lite0", "image_size": 64, "bad_counts": "6,all"}
    config = checked_parameters(JudgeConfig, options)
    real, count = trial.fit_svm_on, 0

    def until_killed(*arguments):
        nonlocal count
        count += 1
        if count > 7:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(trial, "fit_svm_on", until_killed)
    with pytest.raises(KeyboardInterrupt):
        trial.classifier_trial(place, divided, tmp_path / "out", config)
    count = -100
    done = trial.classifier_trial(place, divided, tmp_path / "out", config)
    assert count == -100 + 23  # 30 trainings in all, seven of them before
    assert len(done["table"]) == 30
    whole = trial.classifier_trial(place, divided, tmp_path / "other", config)
    assert whole["effects"] == done["effects"]
    assert any("unknown number of bad images" in note for note in done["notes"])
    assert {row["bads"] for row in done["table"] if row["arm"] == "none"} == {6, 16}
