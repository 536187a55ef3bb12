"""knowngood audit and features, and training with what a person said of the audit."""

from __future__ import annotations

import json
import shutil

import numpy as np
import polars as pl
import pytest
from PIL import Image

BACKBONE = ("--model", "efficientnet_lite0")


@pytest.fixture(scope="module")
def doubtful(tmp_path_factory, make_set, photograph):
    """A set with two wrong labels (bad among the good) and one photograph of something else."""
    folder = make_set(tmp_path_factory.mktemp("doubtful") / "set", good=50, bad=24)
    rng = np.random.default_rng(9)
    for number in range(2):
        photograph(rng, True).save(folder / "good" / f"hidden_{number}.png")
    Image.fromarray(rng.integers(0, 256, (96, 96), dtype=np.uint8)).save(folder / "good" / "noise.png")
    return folder


@pytest.fixture(scope="module")
def audited(doubtful, run_cli, tmp_path_factory):
    out = tmp_path_factory.mktemp("audit") / "audit"
    answer = run_cli("audit", doubtful, "--out", out, *BACKBONE, "--detectors", "knn", "--json")
    assert answer.code == 0, answer.err
    return out, answer.json


def test_planted_trouble_is_found(audited):
    out, answer = audited
    table = pl.read_parquet(out / "audit.parquet")
    assert table.height == answer["images"] == 77
    suspects = set(table.filter(pl.col("suspect"))["image"])
    assert {"good/hidden_0.png", "good/hidden_1.png"} <= suspects
    assert len(suspects) <= 12
    assert table.sort("knn_score")["image"][-1] == "good/noise.png"
    assert set(table.filter(pl.col("suspect"))["suggested_label"]) <= {0, 1}


def test_every_doubt_waits_for_a_verdict(audited):
    out, answer = audited
    waiting = pl.read_csv(out / "verdicts.csv", infer_schema=False)
    assert waiting.columns == ["image", "verdict", "defect", "why", "label", "score"]
    assert waiting["verdict"].fill_null("").unique().to_list() == [""]
    assert waiting.filter(pl.col("why").str.contains("suspected")).height == answer["counts"]["suspected labels"]
    assert "hidden_0.png" in (out / "audit.html").read_text(encoding="utf-8")


def test_verdicts_survive_a_second_audit(audited, doubtful, run_cli, tmp_path):
    out = tmp_path / "again"
    shutil.copytree(audited[0], out)
    filled = pl.read_csv(out / "verdicts.csv", infer_schema=False).with_columns(
        verdict=pl.when(pl.col("image") == "good/hidden_0.png").then(pl.lit("bad")).otherwise(pl.lit(""))
    )
    filled.write_csv(out / "verdicts.csv")
    assert run_cli("audit", doubtful, "--out", out, *BACKBONE).code == 0
    after = pl.read_csv(out / "verdicts.csv", infer_schema=False)
    assert after.filter(pl.col("verdict") == "bad")["image"].to_list() == ["good/hidden_0.png"]


def test_training_takes_verdicts_and_leaves_outliers_out(audited, doubtful, run_cli, small, tmp_path):
    verdicts = tmp_path / "said.csv"
    verdicts.write_text("image,verdict,defect\ngood/hidden_0.png,bad,chip\ngood/noise.png,drop,\ngood/hidden_1.png,,\n")
    answer = run_cli("train", doubtful, "--out", tmp_path / "run", *small, "--verdicts", verdicts, "--json")
    assert answer.code == 0, answer.err
    records = pl.read_parquet(tmp_path / "run" / "records.parquet")
    corrected = records.filter(pl.col("image") == "good/hidden_0.png")
    assert corrected.select("label", "defect").row(0) == (1, "chip")
    assert "good/noise.png" not in records["image"]
    assert records.filter(pl.col("image") == "good/hidden_1.png")["label"].to_list() == [0]


def test_outliers_leave_the_training_split_only(audited, doubtful, run_cli, small, tmp_path):
    whole = pl.read_parquet(audited[0] / "audit.parquet")
    flagged = whole.with_columns(outlier=pl.col("image").str.contains("_00"))  # some of every split
    flagged.write_parquet(tmp_path / "audit.parquet")
    answer = run_cli("train", doubtful, "--out", tmp_path / "run", *small, "--without", tmp_path / "audit.parquet")
    assert answer.code == 0, answer.err
    kept = pl.read_parquet(tmp_path / "run" / "records.parquet")
    assert kept.filter((pl.col("split") == "train") & pl.col("image").str.contains("_00")).is_empty()
    assert not kept.filter((pl.col("split") != "train") & pl.col("image").str.contains("_00")).is_empty()


def test_removal_is_tried_before_it_is_believed(doubtful, run_cli, tmp_path):
    out = tmp_path / "tried"
    words = ("audit", doubtful, "--out", out, *BACKBONE, "--image-size", "64", "--test-removal", "--seeds", "3")
    said = tmp_path / "said.csv"
    said.write_text("image,verdict,defect\ngood/hidden_0.png,bad,chip\ngood/noise.png,drop,\n")
    answer = run_cli(*words, "--verdicts", said, "--json")
    assert answer.code == 0, answer.err
    document = json.loads((out / "removal.json").read_text(encoding="utf-8"))
    arms = {effect["arm"] for effect in answer.json["removal"]["effects"]}
    assert arms == {
        "outliers removed", "suspects relabelled", "suspects removed", "as many removed at random", "verdicts applied"
    }  # fmt: skip
    assert document["seeds"] == [0, 1, 2]
    assert len(document["table"]) == 3 * 6 * 2  # seeds, arms, given and corrected labels
    page = (out / "audit.html").read_text(encoding="utf-8")
    assert "Does removing or relabelling help?" in page
    assert all(effect["sentence"] in page for effect in document["effects"])
    table = run_cli(*words)
    assert "suspects relabelled" in table.out
    assert table.out.count("3 seeds") >= 2


@pytest.mark.parametrize(
    ("words", "word"),
    [
        (("--test-removal", "--seeds", "2"), "--seeds"),
        (("--seeds", "4"), "--test-removal"),
        (("--test-removal", "--verdicts", "nowhere.csv"), "nowhere.csv"),
        (("--test-removal", "--preset", "slow"), "quick"),
    ],
)
def test_wrong_trials_are_refused(doubtful, run_cli, tmp_path, words, word):
    answer = run_cli("audit", doubtful, "--out", tmp_path / "x", *BACKBONE, "--image-size", "64", *words)
    assert answer.code == 2
    assert word in answer.err


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ("image,verdict\ngood/good_000.png,perhaps\n", "perhaps"),
        ("image,verdict\nnobody.png,bad\n", "not in this set"),
        ("image,verdict\ngood/good_000.png,bad\ngood/good_000.png,good\n", "two verdicts"),
        ("name,said\nx,y\n", "columns"),
    ],
)
def test_wrong_verdicts_are_refused(doubtful, run_cli, small, tmp_path, content, word):
    path = tmp_path / "said.csv"
    path.write_text(content)
    answer = run_cli("train", doubtful, "--out", tmp_path / "run", *small, "--verdicts", path)
    assert answer.code == 2
    assert word in answer.err


def test_an_audit_of_other_data_is_refused(audited, parts, run_cli, small, tmp_path):
    other = pl.DataFrame({"image": ["elsewhere.png"], "outlier": [True]})
    other.write_parquet(tmp_path / "audit.parquet")
    answer = run_cli("train", parts, "--out", tmp_path / "run", *small, "--without", tmp_path / "audit.parquet")
    assert answer.code == 2
    assert "None of the outliers" in answer.err


def test_one_class_alone_is_audited_for_outliers(doubtful, run_cli, tmp_path):
    answer = run_cli("audit", doubtful / "good", "--out", tmp_path / "x", *BACKBONE)
    if answer.code:  # a folder named good has no class folders inside it
        (tmp_path / "set").mkdir()
        shutil.copytree(doubtful / "good", tmp_path / "set" / "good")
        answer = run_cli("audit", tmp_path / "set", "--out", tmp_path / "x", *BACKBONE, "--json")
    assert answer.code == 0, answer.err
    assert answer.json["counts"]["suspected labels"] == 0


def test_features_are_written_once_and_read_the_second_time(parts, run_cli, tmp_path, monkeypatch):
    monkeypatch.setenv("KNOWNGOOD_CACHE", str(tmp_path / "cache"))
    words = ("features", parts, "--out", tmp_path / "f.parquet", *BACKBONE, "--image-size", "64", "--json")
    first, second = run_cli(*words), run_cli(*words)
    assert first.code == 0, first.err
    assert (first.json["computed"], second.json["computed"]) == (90, 0)
    table = pl.read_parquet(tmp_path / "f.parquet")
    assert table.columns == ["image", "sha256", "features", "error"]
    assert table["features"].to_numpy().shape == (90, 1280)


@pytest.mark.parametrize(
    ("words", "word"),
    [
        (("audit", "PARTS", "--out", "OUT", "--model", "resnet81"), "resnet"),
        (("audit", "PARTS", "--out", "OUT", "--detectors", "knm", *BACKBONE), "knn"),
        (("features", "PARTS", "--out", "OUT", "--model", "resnet81"), "resnet"),
        (("audit", "nowhere", "--out", "OUT"), "nowhere"),
    ],
)
def test_wrong_names_suggest_the_right_ones(parts, run_cli, tmp_path, words, word):
    places = {"PARTS": parts, "OUT": tmp_path / "out"}
    answer = run_cli(*(places.get(w, w) for w in words))
    assert answer.code == 2
    assert word in answer.err


def test_networks_may_do_the_doubting(run_cli, parts, tmp_path):
    network = ("--model", "efficientnet_lite0", "--image-size", "64")
    plain = run_cli("audit", parts, "--out", tmp_path / "plain", *network, "--json")
    tuned = run_cli("audit", parts, "--out", tmp_path / "tuned", *network, "--fine-tune", "1", "--json")
    assert tuned.code == 0, tuned.err
    assert "training 3 of 3" in tuned.err
    assert json.loads((tmp_path / "tuned" / "audit.json").read_text())["fine_tuned_epochs"] == 1
    first, second = (pl.read_parquet(tmp_path / name / "audit.parquet") for name in ("plain", "tuned"))
    assert (first["out_of_fold_score"] != second["out_of_fold_score"]).any()
    assert first["outlier"].equals(second["outlier"])
    assert not list((tmp_path / "tuned").glob("*.work"))
    assert plain.json["images"] == tuned.json["images"]
