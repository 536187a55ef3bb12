"""Penultimate features: what the last layer sees, computed once, one photograph at a time."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image

from knowngood.data.images import decode
from knowngood.data.loading import load
from knowngood.data.pixels import fit
from knowngood.models.classifier import Classifier, network_for, svm_config
from knowngood.models.features import features
from knowngood.models.weights import available, find
from knowngood.training.config import TrainConfig
from knowngood.training.fit import fit_inspector

random = np.random.default_rng(0)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    if available("efficientnet_lite0") is None:
        pytest.skip("the weights of efficientnet_lite0 are not on this machine")
    for label in ("good", "chip"):
        (tmp_path / "set" / label).mkdir(parents=True)
        for number in range(4):
            coarse = Image.fromarray(random.integers(0, 256, (6, 6), dtype=np.uint8))
            coarse.resize((48, 48)).save(tmp_path / "set" / label / f"{number}.png")
    find("efficientnet_lite0")
    monkeypatch.setenv("KNOWNGOOD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "set"


def run(folder, **options):
    return features(load(folder), "efficientnet_lite0", image_size=32, **options)


def test_rows_are_what_the_last_layer_sees(folder):
    made = run(folder)
    assert made.rows.shape == (8, 1280)
    weights = find("efficientnet_lite0")
    classifier = Classifier(network_for("efficientnet_lite0", weights, 32, 32, 1)).eval()
    classifier.load_trunk(weights)
    pixels = np.stack([fit(decode(path), 32, 32, 1) for path in load(folder).frame["path"]])
    with torch.inference_mode():
        logits = classifier.logits(torch.from_numpy(pixels))
        assert torch.allclose(classifier.head_layer()(torch.from_numpy(made.rows)), logits, atol=1e-4)


def test_a_second_run_computes_nothing_and_a_changed_photograph_one_row(folder):
    first = run(folder)
    second = run(folder)
    assert (first.computed, second.computed) == (8, 0)
    assert np.array_equal(first.rows, second.rows)
    Image.fromarray(np.full((48, 48), 99, np.uint8)).save(folder / "good" / "1.png")
    third = run(folder)
    assert third.computed == 1
    changed = ~np.isclose(third.rows, first.rows).all(axis=1)
    assert load(folder).frame["image"].to_numpy()[changed].tolist() == ["good/1.png"]


def test_a_photograph_that_went_bad_is_not_kept(folder):
    records = load(folder)
    (folder / "chip" / "3.png").write_bytes(b"gone")
    made = features(records, "efficientnet_lite0", image_size=32)
    row = records.frame["image"].to_list().index("chip/3.png")
    assert list(made.failed) == [row]
    assert np.isnan(made.rows[row]).all()
    assert np.isfinite(np.delete(made.rows, row, axis=0)).all()
    assert features(records, "efficientnet_lite0", image_size=32).computed == 1


def test_a_given_table_is_filled(folder, tmp_path):
    table = np.lib.format.open_memmap(tmp_path / "rows.npy", "w+", np.float32, (8, 1280))
    made = run(folder, into=table)
    assert made.rows is table
    assert np.array_equal(np.load(tmp_path / "rows.npy"), run(folder).rows)


def test_stages_come_from_the_same_pass_and_are_what_an_svm_head_sees(folder):
    plain, both = run(folder), run(folder, stages=True)
    assert plain.stages is None
    assert np.allclose(both.rows, plain.rows, atol=1e-5)
    weights = find("efficientnet_lite0")
    classifier = Classifier(svm_config(network_for("efficientnet_lite0", weights, 32, 32, 1))).eval()
    classifier.load_trunk(weights)
    pixels = np.stack([fit(decode(path), 32, 32, 1) for path in load(folder).frame["path"]])
    with torch.inference_mode():
        seen = classifier.stage_features(torch.from_numpy(pixels)).numpy()
    assert both.stages.shape == (8, classifier.feature_length)
    assert np.allclose(both.stages, seen, atol=1e-4)
    again = run(folder, stages=True)
    assert again.computed == 0
    assert np.array_equal(again.stages, both.stages)


def test_training_finds_the_stages_of_an_audit_in_the_cache(folder, tmp_path):
    run(folder, stages=True)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.safetensors")}
    config = TrainConfig(model="efficientnet_lite0", image_size=32)
    records = load(folder)
    split = records.with_frame(records.frame.with_columns(split=pl.lit("train")))
    fit_inspector(split, np.arange(8), config, tmp_path / "work")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.safetensors")} == before


def test_some_rows_keep_their_failures(folder):
    (folder / "chip" / "3.png").write_bytes(b"gone")
    records = load(folder).usable()
    made = features(records, "efficientnet_lite0", image_size=32, stages=True)
    some = replace(made, failed={5: "gone"}).of(np.array([5, 2]))
    assert some.failed == {0: "gone"}
    assert np.array_equal(some.stages, made.stages[[5, 2]])
    assert np.array_equal(some.rows, made.rows[[5, 2]])
