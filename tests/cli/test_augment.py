"""knowngood augment, and training on what it made."""

from __future__ import annotations

import polars as pl
import pytest


@pytest.fixture(scope="module")
def augmented(run_cli, parts, tmp_path_factory):
    out = tmp_path_factory.mktemp("augment") / "more"
    words = ("augment", parts, "--out", out, "--total", "130", "--rotate", "5", "--shift", "0.05", "--workers", "1")
    answer = run_cli(*words, "--json")
    assert answer.code == 0, answer.err
    return out, words, answer.json


def test_what_was_made_is_told(augmented):
    out, _, told = augmented
    assert told["made"] == 40
    assert told["counts"]["train"]["generated"] == 40
    assert all(told["counts"][name]["generated"] == 0 for name in ("val", "calibration", "test"))
    assert pl.read_parquet(told["manifest"]).height == 130
    assert len(list((out / "augmented").rglob("*.png"))) == 40


def test_training_on_it_keeps_the_splits_and_tests_on_the_same_photographs(
    augmented, run_cli, small, trained_run, tmp_path
):
    run = tmp_path / "run"
    answer = run_cli("train", augmented[0], "--out", run, *small, "--json")
    assert answer.code == 0, answer.err
    assert answer.json["test"]["auroc"] > 0.9
    columns = ["image", "split"]
    with_copies = pl.read_parquet(run / "records.parquet")
    plain = pl.read_parquet(trained_run / "records.parquet").select(columns).sort("image")
    assert with_copies.filter(~pl.col("generated")).select(columns).sort("image").equals(plain)
    assert with_copies.filter("generated")["split"].unique().to_list() == ["train"]
    goods = plain.filter((pl.col("split") == "train") & pl.col("image").str.starts_with("good/"))
    assert answer.json["data"]["counts"]["train"]["good"] == goods.height
    checked = run_cli("check", augmented[0], "--json")
    assert not checked.json["spoils_training"]


def test_the_same_command_finds_it_finished(augmented, run_cli):
    out, words, _ = augmented
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    again = run_cli(*words)
    assert again.code == 0
    assert "finished already" in again.err
    assert "130" not in again.out
    assert "40 copies made" in again.out
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--total", "10"], ("--total 10", "has 90 images")),
        (["--augment", "studdy"], ("studdy", "standard")),
        (["--zoom", "1.2"], ("zoom", "--augment rotate+shift+brightness+contrast+saturation+zoom")),
        (["--shift", "0.7"], ("--shift", "0.5")),
        (["--class", "rare"], ("--class", "minority")),
        (["--workers", "0"], ("--workers",)),
    ],
)
def test_wrong_options_are_named(run_cli, parts, tmp_path, options, words):
    answer = run_cli("augment", parts, "--out", tmp_path / "more", *options)
    assert answer.code == 2
    assert "Traceback" not in answer.err
    told = " ".join(answer.err.replace("│", " ").split())
    for word in words:
        assert word in told
    assert not (tmp_path / "more").exists()
