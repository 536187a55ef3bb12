"""knowngood compare as a person uses it: killed and gone on with, extended, and with everything wrong that can be."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

Run = Callable[..., Any]
SMALL = ("--image-size", "32", "--epochs", "2", "--batch-size", "16", "--limit", "24")
TWO = ("--models", "efficientnet_lite0,resnet18")


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def killed(words: list[str], when: Callable[[], bool]) -> str:
    """Runs a command and kills it as soon as `when` says so."""
    command = [sys.executable, "-m", "knowngood", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        while process.poll() is None:
            if when():
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.002)
        said = process.communicate()[0]
    assert process.returncode == -signal.SIGKILL, said
    return said


def test_killed_in_the_second_model_it_goes_on_there(run_cli: Run, parts: Path, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    words = ["compare", str(parts), *TWO, *SMALL, "--out"]
    assert run_cli(*words, whole).code == 0
    first, second = (broken / "models" / f"{name}.transforms" / "seed-0" for name in TWO[1].split(","))
    killed([*words, str(broken)], (second / "work" / "last.ckpt").exists)
    assert (first / "metrics.json").exists()
    assert not (second / "metrics.json").exists()
    assert not (broken / "compare.json").exists()
    finished = (first / "metrics.json").stat().st_mtime_ns
    answer = run_cli(*words, broken)
    assert answer.code == 0, answer.err
    assert f"the run in {second} is continued" in answer.err
    assert "epoch 1/2" not in answer.err.split(str(second))[1]  # it was behind it
    assert (first / "metrics.json").stat().st_mtime_ns == finished
    tables = [pl.read_parquet(run / "compare.parquet") for run in (whole, broken)]
    same = ["key", "train_accuracy", "test_accuracy", "auroc", "fpr_at_tpr_0.995", "parameters_m", "gflops"]
    assert tables[0].select(same).equals(tables[1].select(same))
    assert sorted(p.name for p in whole.iterdir()) == sorted(p.name for p in broken.iterdir())


def test_a_manifest_that_changed_under_a_resumed_run(run_cli: Run, parts: Path, tmp_path: Path) -> None:
    lines = [f"{path},{'good' if path.parent.name == 'good' else 'bad'}" for path in sorted(parts.rglob("*.png"))]
    manifest, out = tmp_path / "parts.csv", tmp_path / "run"
    manifest.write_text("\n".join(["image,label", *lines]) + "\n")
    words = ["compare", str(manifest), *TWO, *SMALL, "--out", str(out)]
    killed(words, (out / "models" / "efficientnet_lite0.transforms" / "seed-0" / "work" / "last.ckpt").exists)
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file() and p.suffix != ".u8"}
    manifest.write_text("\n".join(["image,label", *lines[1:]]) + "\n")
    answer = run_cli(*words)
    assert answer.code == 2
    assert "other images or labels" in answer.err
    assert "--force" in answer.err
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file() and p.suffix != ".u8"} == before
    manifest.write_text("\n".join(["image,label", *lines]) + "\n")
    assert run_cli(*words).code == 0


def test_the_table_fits_and_says_where_models_start(
    run_cli: Run, parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    options = ("--training-sets", "as-is,transforms+without-outliers", "--feature-model", "efficientnet_lite0")
    words = ("compare", parts, "--out", tmp_path / "run", *TWO, *SMALL, *options, "--freeze", "none,all-but-head")
    answer = run_cli(*words)
    assert answer.code == 0, answer.err
    table = answer.out.split("Left out")[0]
    assert all(len(line.rstrip()) <= 100 for line in table.splitlines())
    for words_there in ("efficientnet_lite0", "random", "ImageNet", "GFLOPs", "images/s", "without-outliers"):
        assert words_there in table
    assert "frozen layers with random weights would stay random: resnet18" in answer.out
    assert "no pretrained weights are available" in answer.err
    as_json = run_cli(*words, "--json").json
    assert len(as_json["rows"]) == 2 * 2 + 2
    assert as_json["best"] == as_json["rows"][0]["key"]
    assert len(as_json["pairs"]["all"]) == 15
    assert len(as_json["sentences"]) == 5
    assert json.loads((tmp_path / "run" / "compare.json").read_text())["rows"] == as_json["rows"]


def test_generated_images_are_trained_on_and_tested_nowhere(
    run_cli: Run, parts: Path, make_set: Callable[..., Path], tmp_path: Path
) -> None:
    made = make_set(tmp_path / "made", good=1, bad=8, seed=3)
    words = ("compare", parts, "--out", tmp_path / "run", "--models", "resnet18", *SMALL, "--training-sets")
    answer = run_cli(*words, "generated,as-is", "--generated", made, "--json")
    assert answer.code == 0, answer.err
    by_set = {row["training_set"]: row for row in answer.json["rows"]}
    assert "9 generated images added to training (1 good, 8 bad)" in by_set["generated"]["changes"][0]
    folder = tmp_path / "run" / "models" / "resnet18.generated" / "seed-0"
    records = pl.read_parquet(folder / "records.parquet").filter(pl.col("generated"))
    assert records["split"].to_list() == ["train"] * 9
    tests = [row["seeds"][0]["test"] for row in by_set.values()]
    assert tests[0]["n_good"] + tests[0]["n_bad"] == tests[1]["n_good"] + tests[1]["n_bad"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--models", "resnet5"), ("no model named 'resnet5'", "resnet50")),
        (("--models", ""), ("--models", "at least 1")),
        (("--models", "resnet18,resnet18"), ("named twice",)),
        (("--training-sets", "transfroms"), ("no training set named 'transfroms'", "transforms")),
        (("--training-sets", "generated"), ("--generated FOLDER",)),
        (("--training-sets", "generated", "--generated", "nowhere"), ("nowhere",)),
        (("--freeze", "head"), ("--freeze", "all-but-head")),
        (("--freeze", "stem"), ("No row is left", "knowngood weights")),
        (("--balance", "both"), ("--balance", "sampling")),
        (("--seeds", "0"), ("--seeds",)),
        (("--limit", "3"), ("--limit", "8")),
        (("--require-pretrained",), ("No pretrained weights of resnet18",)),
    ],
)
def test_what_is_wrong_is_said(
    run_cli: Run, parts: Path, tmp_path: Path, options: tuple[str, ...], words: tuple[str, ...]
) -> None:
    answer = run_cli("compare", parts, "--out", tmp_path / "run", *SMALL, "--models", "resnet18", *options)
    assert answer.code == 2, answer.out
    assert "Traceback" not in answer.err
    told = " ".join(answer.err.replace("│", " ").split())
    for word in words:
        assert word in told


def test_a_folder_with_other_things_is_left_alone(run_cli: Run, parts: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    for force in ((), ("--force",)):
        answer = run_cli("compare", parts, "--out", tmp_path, *TWO, *SMALL, *force)
        assert answer.code == 2
        assert "holds no run" in answer.err
    assert os.listdir(tmp_path) == ["thesis.txt"]


def test_conventional_classifiers_stand_beside_the_networks(run_cli: Run, parts: Path, tmp_path: Path) -> None:
    words = ("--models", "efficientnet_lite0", "--feature-model", "efficientnet_lite0", *SMALL)
    answer = run_cli("compare", parts, "--out", tmp_path / "run", *words, "--classifiers", "lda,knn", "--json")
    assert answer.code == 0, answer.err
    rows = {row["key"]: row for row in answer.json["rows"]}
    assert set(rows) == {"efficientnet_lite0.transforms", "lda", "knn"}
    network, lda = rows["efficientnet_lite0.transforms"], rows["lda"]
    assert lda["kind"] == "conventional"
    assert lda["name"] == "lda on efficientnet_lite0 features"
    assert lda["parameters"] is None
    assert lda["auroc"] > 0.9  # a dark spot on a bright square
    for one in (network, lda):  # the same test images
        assert (one["seeds"][0]["test"]["n_good"], one["seeds"][0]["test"]["n_bad"]) == (16, 7)
    assert len(answer.json["pairs"]["all"]) == 3
    wrong = run_cli("compare", parts, "--out", tmp_path / "no", *words, "--classifiers", "ldb")
    assert wrong.code == 2
    assert "lda" in wrong.err
    assert not (tmp_path / "no").exists()
