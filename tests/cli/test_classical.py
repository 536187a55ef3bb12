"""knowngood classical: a table, scores for paired tests, components, one page that can be hovered."""

from __future__ import annotations

import json
import re

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import accuracy_score, roc_auc_score

OPTIONS = ("--model", "efficientnet_lite0", "--image-size", "64", "--classifiers", "svm,lda,knn")


@pytest.fixture(scope="module")
def judged(run_cli, parts, tmp_path_factory):
    out = tmp_path_factory.mktemp("classical") / "run"
    answer = run_cli("classical", parts, "--out", out, *OPTIONS, "--seeds", "2", "--json")
    assert answer.code == 0, answer.err
    return out, answer.json["rows"]


def test_a_row_a_model_and_seed_with_the_figures_of_its_scores(judged):
    out, rows = judged
    assert [(row["model"], row["seed"]) for row in rows] == [
        (model, seed) for seed in (0, 1) for model in ("svm", "lda", "knn")
    ]
    scores = pl.read_parquet(out / "classical_scores.parquet")
    assert scores.columns == ["image", "model", "seed", "label", "score"]
    for row in rows:
        own = scores.filter((pl.col("model") == row["model"]) & (pl.col("seed") == row["seed"]))
        label, score = own["label"].to_numpy(), own["score"].to_numpy()
        assert row["kind"] == "conventional"
        assert row["test"]["auroc"] == pytest.approx(roc_auc_score(label, score))
        assert row["test"]["accuracy"] == pytest.approx(accuracy_score(label, score >= 0.5))
        assert set(row["test"]["fpr_at_tpr"]) == {"0.991", "0.993", "0.995", "0.997", "1"}
        assert row["images_per_second"] > 0
        assert row["cv_auroc"] == max(auc for _, auc in row["grid"])
        assert row["setting"] in {setting for setting, _ in row["grid"]}
    assert json.loads((out / "classical.json").read_text())["rows"] == rows


def test_the_test_images_are_those_of_a_training(judged, trained_run):
    own = pl.read_parquet(judged[0] / "classical_scores.parquet").filter(
        (pl.col("seed") == 0) & (pl.col("model") == "svm")
    )
    theirs = pl.read_parquet(trained_run / "scores.parquet").filter(pl.col("split") == "test")
    assert sorted(own["image"]) == sorted(theirs["image"])
    other = pl.read_parquet(judged[0] / "classical_scores.parquet").filter(pl.col("seed") == 1)
    assert set(other["image"]) != set(own["image"])  # a seed is another division


def test_components_and_page(judged):
    out, _ = judged
    table = pl.read_parquet(out / "pca.parquet")
    assert table.columns == ["image", "path", "label", "defect", "pc1", "pc2"]
    assert table.height == 90
    assert np.isfinite(table.select("pc1", "pc2").to_numpy()).all()
    page = (out / "classical.html").read_text(encoding="utf-8")
    points = re.findall(r'<g class="point (good|bad)" data-picture="(data:image/jpeg;base64,[^"]+)"', page)
    assert [kind for kind, _ in points].count("bad") == 30
    assert len(points) == 90
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    found = json.loads((out / "classical.json").read_text())["pca"]
    assert sum(found["explained"]) <= 1 + 1e-6
    assert found["larger_class"] == pytest.approx(2 / 3, abs=0.05)
    assert 0.5 <= found["all_features"]["auroc"] <= 1


def test_a_run_that_was_stopped_goes_on_with_the_model_that_it_was_at(judged, parts, tmp_path, monkeypatch):
    from knowngood.experiments import classical as studying

    out, rows = judged
    options = {"model": "efficientnet_lite0", "image_size": 64, "classifiers": "svm,lda,knn"}
    real, fits = studying.fit_classifier, []

    def until_stopped(classifier, *rest):
        fits.append(type(classifier))
        if len(fits) == 3:
            raise KeyboardInterrupt
        return real(classifier, *rest)

    monkeypatch.setattr(studying, "fit_classifier", until_stopped)
    with pytest.raises(KeyboardInterrupt):
        studying.classical(parts, tmp_path / "run", **options)
    assert not (tmp_path / "run" / "classical.json").exists()
    done = studying.classical(parts, tmp_path / "run", **options)
    assert len(fits) == 4
    assert fits[2] is fits[3]
    unsteady = {"seconds", "images_per_second"}
    steady = [{k: v for k, v in row.items() if k not in unsteady} for row in json.loads(json.dumps(done.rows))]
    assert steady == [{k: v for k, v in row.items() if k not in unsteady} for row in rows[:3]]
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == sorted(path.name for path in out.iterdir())


def test_copies_teach_and_are_not_shown(run_cli, parts, tmp_path):
    assert run_cli("augment", parts, "--out", tmp_path / "more", "--total", "110", "--workers", "1").code == 0
    answer = run_cli(
        "classical", tmp_path / "more", "--out", tmp_path / "run", *OPTIONS[:4], "--classifiers", "lda", "--json"
    )
    assert answer.code == 0, answer.err
    listed = pl.read_parquet(tmp_path / "more" / "manifest.parquet")
    assert listed["generated"].sum() == 20
    assert answer.json["rows"][0]["rows"] == listed["split"].is_in(["train", "val"]).sum()
    assert pl.read_parquet(tmp_path / "run" / "pca.parquet").height == 90


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--classifiers", "svn"], ("no conventional classifier named 'svn'", "did you mean svm")),
        (["--classifiers", ","], ("--models names no classifier", "random_forest")),
        (["--model", "resnet5"], ("no model named 'resnet5'", "resnet50")),
        (["--folds", "1"], ("--folds", "2")),
        (["--folds", "40"], ("too few", "at least 40", "fewer --folds")),
        (["--weights", "nowhere.safetensors"], ("nowhere.safetensors",)),
    ],
)
def test_wrong_options_are_named(run_cli, parts, tmp_path, options, words):
    answer = run_cli("classical", parts, "--out", tmp_path / "run", *OPTIONS[:4], *options)
    assert answer.code == 2, answer.err
    assert "Traceback" not in answer.err
    told = " ".join(answer.err.replace("│", " ").split())
    for word in words:
        assert word in told
    assert not (tmp_path / "run").exists()


def test_one_class_is_refused(run_cli, parts, tmp_path):
    answer = run_cli("classical", parts / "good", "--out", tmp_path / "run", *OPTIONS, "--source", "folder")
    assert answer.code == 2
    assert "Traceback" not in answer.err
