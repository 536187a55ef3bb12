"""knowngood predict: rows, what is reused, submissions, damaged recipes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from PIL import Image

Run = Callable[..., Any]


def test_scores_separate_good_from_bad(run_cli: Run, parts: Path, trained_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "scores.parquet"
    answer = run_cli("predict", trained_run / "recipe", parts, "--out", out, "--json")
    assert answer.code == 0, answer.err
    frame = pl.read_parquet(out)
    assert len(frame) == 90
    assert frame["defect_score"].is_between(0, 1).all()
    bad = ~frame["image"].str.contains("good_")
    assert (frame.filter(bad)["decision"] == "reject").mean() > 0.9
    assert (frame.filter(~bad)["decision"] == "accept").mean() > 0.9
    assert answer.json["rows"] == frame.to_dicts()


def test_a_second_run_scores_only_what_is_new(
    run_cli: Run, make_set: Run, trained_run: Path, tmp_path: Path, parts: Path
) -> None:
    data, out = make_set(tmp_path / "data", good=6, bad=4), tmp_path / "scores.csv"
    run_cli("predict", trained_run, data, "--out", out)
    marked = pl.read_csv(out).with_columns(defect_score=pl.lit(0.125))  # shows which rows were taken over
    marked.write_csv(out)
    shutil.copy(parts / "chip" / "chip_000.png", data / "good" / "new.png")
    shutil.copy(parts / "chip" / "chip_001.png", data / "good" / "good_000.png")  # same name, other bytes
    answer = run_cli("predict", trained_run, data, "--out", out)
    assert "9 of 11 photographs were scored before" in answer.err
    frame = pl.read_csv(out)
    new = frame.filter(pl.col("defect_score") != 0.125)["image"].to_list()
    assert [Path(name).name for name in new] == ["good_000.png", "new.png"]
    run_cli("predict", trained_run, data, "--out", out, "--fresh")
    assert (pl.read_csv(out)["defect_score"] != 0.125).all()


def test_another_recipe_scores_everything_again(run_cli: Run, make_set: Run, trained_run: Path, tmp_path: Path) -> None:
    data, out = make_set(tmp_path / "data", good=3, bad=2), tmp_path / "scores.csv"
    run_cli("predict", trained_run, data, "--out", out)
    pl.read_csv(out).with_columns(recipe=pl.lit("0123456789ab"), defect_score=pl.lit(0.125)).write_csv(out)
    run_cli("predict", trained_run, data, "--out", out)
    assert (pl.read_csv(out)["defect_score"] != 0.125).all()


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    path = tmp_path / "sample.csv"
    path.write_text("\ufeffname,probability\nscratch_003,0.5\ngood_001.png,0.5\nchip_002,0.5\n", encoding="utf-8")
    return path


def test_a_sample_decides_columns_ids_and_order(
    run_cli: Run, parts: Path, trained_run: Path, tmp_path: Path, sample: Path
) -> None:
    out = tmp_path / "submission.csv"
    assert run_cli("predict", trained_run, parts, "--out", out, "--sample", sample).code == 0
    frame = pl.read_csv(out)
    assert frame.columns == ["name", "probability"]
    assert frame["name"].to_list() == ["scratch_003", "good_001.png", "chip_002"]
    assert frame["probability"][1] < 0.5 < frame["probability"][0]


def test_a_submission_without_a_sample(run_cli: Run, parts: Path, trained_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "submission.csv"
    assert run_cli("predict", trained_run, parts / "chip", "--out", out, "--submission").code == 0
    frame = pl.read_csv(out)
    assert frame.columns == ["id", "label"]
    assert frame["id"][0] == "chip_000.png"


def test_an_unreadable_photograph_is_submitted_as_bad(
    run_cli: Run, make_set: Run, trained_run: Path, tmp_path: Path
) -> None:
    data = make_set(tmp_path / "data", good=3, bad=2)
    (data / "good" / "broken.png").write_text("hello")
    out = tmp_path / "submission.csv"
    answer = run_cli("predict", trained_run, data, "--out", out, "--submission")
    assert answer.code == 1  # it is written all the same
    assert "1 photographs of the submission cannot be read" in answer.err
    assert dict(pl.read_csv(out).iter_rows())["broken.png"] == 1.0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "There is no"),
        ("hello\n", "is no sample submission"),
        ("id,label\nelsewhere,0\n", "1 of the 1 ids"),
        ("id,label\ntwice.png,0\n", "names 2 photographs"),
        (b"\x89PNG\r\n\x1a\n\x00\xff", "sample"),
    ],
)
def test_samples_that_cannot_be_followed(
    run_cli: Run, make_set: Run, trained_run: Path, tmp_path: Path, text: str | bytes | None, words: str
) -> None:
    data = make_set(tmp_path / "data", good=2, bad=1)
    for kind in ("good", "chip"):
        shutil.copy(data / "good" / "good_000.png", (data / kind).joinpath("twice.png"))
    sample, out = tmp_path / "sample.csv", tmp_path / "out.csv"
    if text is not None:
        sample.write_bytes(text if isinstance(text, bytes) else text.encode())
    answer = run_cli("predict", trained_run, data, "--out", out, "--sample", sample)
    assert answer.code == 2
    assert words in answer.err
    assert "Traceback" not in answer.err
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nowhere.png"], "There is no nowhere.png"),
        (["EMPTY"], "No picture in"),
        (["PARTS", "--out", "scores.txt"], ".csv or .parquet"),
        (["PARTS", "--submission"], "--out"),
    ],
)
def test_mistakes_are_told_before_anything_is_scored(
    run_cli: Run, parts: Path, trained_run: Path, tmp_path: Path, words: list[str], told: str
) -> None:
    (tmp_path / "empty").mkdir()
    words = [{"EMPTY": str(tmp_path / "empty"), "PARTS": str(parts)}.get(word, word) for word in words]
    answer = run_cli("predict", trained_run, *words)
    assert answer.code == 2
    assert told in answer.err


@pytest.fixture
def recipe_copy(trained_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained_run / "recipe", tmp_path / "recipe"))


@pytest.mark.parametrize("file", ["weights.safetensors", "recipe.json"])
@pytest.mark.parametrize("place", [0.001, 0.5, 0.999])
def test_a_flipped_byte_is_noticed(run_cli: Run, parts: Path, recipe_copy: Path, file: str, place: float) -> None:
    data = bytearray((recipe_copy / file).read_bytes())
    data[int(len(data) * place)] ^= 1
    (recipe_copy / file).write_bytes(data)
    answer = run_cli("predict", recipe_copy, parts / "chip")
    if answer.code == 0:  # the one byte that may change: white space between JSON's words
        assert file == "recipe.json"
        pytest.skip("that byte carries nothing")
    assert answer.code == 2
    assert "is damaged" in answer.err
    assert "Traceback" not in answer.err


def test_recipes_that_are_newer_missing_or_half(run_cli: Run, parts: Path, recipe_copy: Path) -> None:
    manifest = recipe_copy / "recipe.json"
    document = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(document | {"format": 99, "something": "new"}))
    assert "Upgrade knowngood" in run_cli("predict", recipe_copy, parts).err
    manifest.write_text(json.dumps(document))
    (recipe_copy / "weights.safetensors").unlink()
    answer = run_cli("predict", recipe_copy, parts)
    assert answer.code == 2
    assert "weights.safetensors" in answer.err
    for text in ("[]", "{}", "nonsense", "null"):
        manifest.write_text(text)
        assert run_cli("predict", recipe_copy, parts).code == 2
    manifest.unlink()
    assert "is a folder without a recipe" in run_cli("predict", recipe_copy, parts).err
    assert "There is no recipe at" in run_cli("predict", recipe_copy / "none", parts).err


def test_every_row_says_what_decided(run_cli: Run, parts: Path, trained_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.csv"
    answer = run_cli("predict", trained_run, parts / "chip", "--out", out)
    frame = pl.read_csv(out)
    columns = ["image", "defect_score", "decision", "reason", "error", "sha256", "recipe", "runtime"]
    assert frame.columns == columns
    assert set(frame["runtime"]) == {"torch fp32"}
    assert "decided by torch fp32" in answer.err
    assert "Decided by torch fp32" in answer.out


def test_rows_of_an_older_version_are_scored_again(
    run_cli: Run, make_set: Run, trained_run: Path, tmp_path: Path
) -> None:
    data, out = make_set(tmp_path / "data", good=3, bad=2), tmp_path / "scores.csv"
    run_cli("predict", trained_run, data, "--out", out)
    old = pl.read_csv(out).drop("reason", "runtime").with_columns(defect_score=pl.lit(0.125))
    old.write_csv(out)
    answer = run_cli("predict", trained_run, data, "--out", out)
    assert "scored before" not in answer.err
    assert (pl.read_csv(out)["defect_score"] != 0.125).all()


@pytest.mark.parametrize(
    ("broken", "words", "code"),
    [
        (0, [], 0),
        (1, [], 1),
        (2, ["--max-errors", "2"], 0),
        (3, ["--max-errors", "2"], 1),
        (3, ["--max-errors", "2", "--json"], 1),
    ],
)
@pytest.mark.parametrize("verb", ["predict", "explain"])
def test_unreadable_photographs_make_the_exit_code(
    run_cli: Run, make_set: Run, trained_run: Path, tmp_path: Path, broken: int, words: list[str], code: int, verb: str
) -> None:
    data, out = make_set(tmp_path / "data", good=3, bad=2), tmp_path / "out.parquet"
    for number in range(broken):
        (data / f"broken_{number}.png").write_text("hello")
    answer = run_cli(verb, trained_run, data, "--out", out, *words)
    assert answer.code == code, answer.err
    assert "Traceback" not in answer.err
    rows = pl.read_parquet(out) if verb == "predict" else pl.read_csv(out / "boxes.csv")
    errors = rows.filter(pl.col("error").is_not_null())
    assert rows["image"].n_unique() == 5 + broken
    assert errors["decision"].to_list() == ["error"] * broken
    if "--json" in words:
        assert len(answer.json["rows" if verb == "predict" else "images"]) == 8
    if code:
        assert f"{broken} of 8" in answer.err or broken == 1


@pytest.mark.parametrize("words", [[], ["--max-errors", "1000"]])
def test_nothing_readable_is_a_failure_whatever_is_allowed(
    run_cli: Run, trained_run: Path, tmp_path: Path, words: list[str]
) -> None:
    (tmp_path / "a.png").write_text("hello")
    answer = run_cli("predict", trained_run, tmp_path / "a.png", *words)
    assert answer.code == 1
    assert "No photograph could be read" in answer.err


def test_other_cuts_for_a_try(run_cli: Run, parts: Path, trained_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.parquet"
    plain = run_cli("predict", trained_run, parts, "--out", out, "--json").json
    answer = run_cli(
        "predict", trained_run, parts, "--out", out, "--accept-below", 0.25, "--reject-from", 0.75, "--json"
    )
    assert answer.code == 0, answer.err
    assert "A try: Accepts below 0.25, rejects from 0.75." in answer.err
    assert "would be let through (escape rate at most" in answer.err
    assert "scored before" not in answer.err  # other rows
    frame = pl.read_parquet(out)
    assert set(frame["recipe"]) == {plain["recipe"][0] + "+cuts-0.25-0.75"}
    cut = pl.when(pl.col("defect_score") < 0.25).then(pl.lit("accept"))
    cut = cut.when(pl.col("defect_score") < 0.75).then(pl.lit("review")).otherwise(pl.lit("reject"))
    assert frame["decision"].to_list() == frame.select(cut.alias("x"))["x"].to_list()
    assert frame["defect_score"].to_list() == pytest.approx([r["defect_score"] for r in plain["rows"]], abs=1e-6)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--accept-below", "nan"], "accept_below is nan"),
        (["--accept-below", "1.5"], "accept_below is 1.5"),
        (["--accept-below", "-0.1"], "accept_below is -0.1"),
        (["--accept-below", "0.9", "--reject-from", "0.1"], "above reject_from"),
        (["--reject-from", "inf"], "reject_from is inf"),
        (["--accept-below", "0.5", "--engine", "ray", "--out", "rows"], "--accept-below does not go with"),
    ],
)
def test_cuts_that_are_none(run_cli: Run, parts: Path, trained_run: Path, words: list[str], told: str) -> None:
    answer = run_cli("predict", trained_run, parts / "chip", *words)
    assert answer.code == 2
    assert told in answer.err
    assert "Traceback" not in answer.err


def test_pages_of_a_tiff_file_are_scored_as_their_pictures(
    run_cli: Run, parts: Path, trained_run: Path, tmp_path: Path
) -> None:
    files = [*sorted((parts / "chip").iterdir())[:2], *sorted((parts / "good").iterdir())[:2]]
    frames = [Image.open(file) for file in files]
    (tmp_path / "new").mkdir()
    stack = tmp_path / "new" / "stack.tif"
    frames[0].save(stack, save_all=True, append_images=frames[1:], compression="tiff_deflate")

    def scores(*places: object) -> dict[str, float]:
        answer = run_cli("predict", trained_run, *places, "--json")
        assert answer.code == 0, answer.err
        return {row["image"]: row["defect_score"] for row in answer.json["rows"]}

    alone = scores(*files)
    expected = {f"{stack}#page={number}": alone[str(file)] for number, file in enumerate(files, 1)}
    for place in (stack, tmp_path / "new"):
        assert scores(place) == pytest.approx(expected, abs=1e-6)
    third = f"{stack}#page=3"
    assert scores(third) == pytest.approx({third: expected[third]}, abs=1e-6)
    beyond = run_cli("predict", trained_run, f"{stack}#page=5", "--json")
    assert (beyond.code, beyond.json["rows"][0]["decision"]) == (1, "error")
    assert run_cli("predict", trained_run, tmp_path / "none.tif#page=1").code == 2
