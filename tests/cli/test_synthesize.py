"""knowngood synthesize: transplants, a judgement of them, and what is said of wrong input."""

from __future__ import annotations

import json
import shutil

import numpy as np
import polars as pl
import pytest

from knowngood.data.images import decode

NETWORK = ("--model", "efficientnet_lite0", "--image-size", "64")


@pytest.fixture(scope="module")
def boxed(parts, tmp_path_factory):
    """The small photographs with boxes, as a manifest."""
    rows = []
    for path in sorted(parts.rglob("*.png")):
        bad = path.parent.name != "good"
        ys, xs = np.nonzero(decode(path) < 40)
        box = f"{xs.min()},{ys.min()},{xs.max() + 1},{ys.max() + 1}" if bad else None
        rows.append((str(path), "bad" if bad else "good", box))
    file = tmp_path_factory.mktemp("boxed") / "manifest.csv"
    pl.DataFrame(rows, schema=["image", "label", "box"], orient="row").write_csv(file)
    return file


@pytest.fixture(scope="module")
def made(run_cli, boxed, tmp_path_factory):
    out = tmp_path_factory.mktemp("synthesize") / "more"
    answer = run_cli("synthesize", "transplant", boxed, "--count", "24", "--out", out, "--json")
    assert answer.code == 0, answer.err
    return out, answer.json


def test_what_was_made_is_told(made, run_cli, boxed):
    out, told = made
    assert (told["made"], told["generator"]) == (24, "transplant")
    assert told["counts"]["train"]["generated"] == 24
    assert all(told["counts"][name]["generated"] == 0 for name in ("val", "calibration", "test"))
    again = run_cli("synthesize", "transplant", boxed, "--count", "24", "--out", out)
    assert "finished already" in again.err
    assert "24 images made" in again.out
    assert f"knowngood train {out}" in again.out


def test_training_on_them_tests_on_the_same_photographs(made, run_cli, small, tmp_path):
    answer = run_cli("train", made[0], "--out", tmp_path / "run", *small, "--json")
    assert answer.code == 0, answer.err
    assert answer.json["data"]["counts"]["train"]["bad"] > 24
    records = pl.read_parquet(tmp_path / "run" / "records.parquet")
    assert records.filter("generated")["split"].unique().to_list() == ["train"]
    assert not run_cli("check", made[0], "--json").json["spoils_training"]


def test_a_recipe_points_out_defects(run_cli, parts, trained_run, tmp_path):
    refused = run_cli("synthesize", "transplant", parts, "--count", "3", "--out", tmp_path / "no")
    assert refused.code == 2
    assert "--recipe" in refused.err
    assert not (tmp_path / "no").exists()
    words = ("synthesize", "transplant", parts, "--count", "3", "--out", tmp_path / "yes", "--recipe", trained_run)
    answer = run_cli(*words, "--json")
    assert answer.code == 0, answer.err
    facts = pl.read_parquet(tmp_path / "yes" / "manifest.parquet").filter("generated")["facts"].to_list()
    assert {json.loads(one)["cut_by"] for one in facts} == {"map"}


def test_a_judgement_says_what_they_are_worth(made, run_cli, boxed, tmp_path):
    out = tmp_path / "judged"
    words = ("synthesize", "judge", made[0], boxed, "--out", out, *NETWORK, "--classifier", "--bad-counts", "8,all")
    answer = run_cli(*words, "--json")
    assert answer.code == 0, answer.err
    told = answer.json
    by = {row["set"]: row["kid"]["value"] for row in told["likeness"]}
    assert set(by) == {"made", "known", "good", "blurred"}
    assert by["made"] < by["good"]
    arms = {(arm["regime"], arm["arm"]): arm for arm in told["classifier"]["arms"]}
    assert {regime for regime, _ in arms} == {"8", "all"}
    assert arms["8", "none"]["bads"] == 8
    assert arms["all", "transplant"]["added"] == 24
    assert "24 images of transplant beside all real bads" in told["classifier"]["verdict"]
    assert told["command"].startswith(f"knowngood synthesize judge {made[0]} {boxed} --out {out} --classifier")
    page = (out / "judge.html").read_text()
    assert told["classifier"]["verdict"] in page
    assert 'src="http' not in page
    assert pl.read_csv(out / "drop.csv").columns == ["image", "drop"]
    assert pl.read_parquet(out / "judge.parquet").height == 24
    assert not (out / "trial.work").exists()


def test_copies_are_listed_beside_their_originals(made, run_cli, boxed, tmp_path):
    frame = pl.read_parquet(made[0] / "manifest.parquet")
    source = frame.filter(~pl.col("generated") & (pl.col("label") == "bad") & (pl.col("split") == "train"))["image"][0]
    forged = tmp_path / "forged"
    shutil.copytree(made[0], forged)
    name = frame.filter("generated")["image"][3]
    shutil.copy(source, forged / name)
    answer = run_cli("synthesize", "judge", forged, boxed, "--out", tmp_path / "judged", *NETWORK)
    assert answer.code == 0, answer.err
    dropped = dict(pl.read_csv(tmp_path / "judged" / "drop.csv").iter_rows())
    assert dropped[name].startswith("copy of ")
    assert dropped[name].endswith(source.rsplit("/", 1)[-1])
    assert "copies of known bads" in answer.out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("transplant", "DATA", "--out", "OUT", "--count", "0"), ("--count",)),
        (("transplant", "DATA", "--out", "OUT", "--blend", "glue"), ("--blend", "poisson")),
        (("transplant", "nothing", "--out", "OUT"), ("no such path",)),
        (("sample", "nothing", "--out", "OUT"), ("There is no nothing (RUN)", "synthesize train")),
        (("judge", "nothing", "DATA", "--out", "OUT"), ("There is no nothing (GENERATED)", "generated images")),
        (("judge", "DATA", "DATA", "--out", "OUT", "--bad-counts", "few"), ("--bad-counts", "few")),
        (("judge", "DATA", "DATA", "--out", "OUT", "--seeds", "1"), ("--seeds", "3")),
        (("judge", "DATA", "DATA", "--out", "OUT", "--model", "resnet5"), ("resnet5", "resnet50")),
    ],
)
def test_wrong_input_is_named(run_cli, boxed, tmp_path, words, told):
    given = {"DATA": boxed, "OUT": tmp_path / "out"}
    answer = run_cli("synthesize", *(given.get(word, word) for word in words))
    assert answer.code == 2, answer.err
    assert "Traceback" not in answer.err
    said = " ".join(answer.err.replace("│", " ").split())
    for word in told:
        assert word in said
    assert not (tmp_path / "out").exists()


def test_a_generator_is_taught_and_asked(run_cli, make_set, tmp_path):
    photos = make_set(tmp_path / "photos", good=40, bad=44)
    few = ("--kimg", "0.032", "--tick-kimg", "0.016", "--batch-size", "8", "--resolution", "32", "--base", "128")
    run, out = tmp_path / "run", tmp_path / "samples"
    taught = run_cli("synthesize", "train", photos, "--out", run, *few, "--most", "16")
    assert taught.code == 0, taught.err
    assert "kimg 0.032" in taught.err
    assert f"knowngood synthesize sample {run}" in taught.out
    assert len(list((run / "grids").glob("*.png"))) == 3
    told = run_cli("synthesize", "sample", run, "--count", "6", "--truncation", "0.7", "--out", out, "--json").json
    assert (told["made"], told["generator"]) == (6, "stylegan")
    facts = json.loads(pl.read_parquet(out / "manifest.parquet")["facts"][0])
    assert facts == {"truncation": 0.7, "kimg": 0.032}
    one = ("--models", "resnet18", "--epochs", "1", "--image-size", "32", "--no-pretrained")
    given = ("--training-sets", "generated", "--generated", out, "--out", tmp_path / "compared", "--json")
    compared = run_cli("compare", photos, *one, *given)
    assert compared.code == 0, compared.err
    assert "6 generated images added to training" in json.dumps(compared.json)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["train", "PHOTOS", "--resolution", "100"], "32, 64, 128, 256"),
        (["train", "PHOTOS", "--class", "scrtch"], "scratch"),
        (["train", "PHOTOS", "--class", "scratch"], "--allow-few-images"),
        (["sample", "NOWHERE"], "synthesize train"),
        (["sample", "PHOTOS"], "no generator"),
    ],
)
def test_wrong_words_for_a_generator(run_cli, parts, tmp_path, words, told):
    words = [{"PHOTOS": str(parts), "NOWHERE": str(tmp_path / "no")}.get(word, word) for word in words]
    answer = run_cli("synthesize", *words, "--out", tmp_path / "out")
    assert answer.code == 2
    assert told in answer.err
