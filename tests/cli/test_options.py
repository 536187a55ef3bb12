"""Options: what is wrong is named, nothing is written, a run is never overwritten by accident."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--model", "resnet5"], ("no model named 'resnet5'", "did you mean resnet50")),
        (["--augment", "studdy"], ("no augmentation policy 'studdy'", "quarter_turns")),
        (["--image-size", "7"], ("--image-size 7", "greater than or equal to 32")),
        (["--image-size", "abc"], ("--image-size", "integer")),
        (["--escape-budget", "0"], ("--escape-budget", "greater than 0")),
        (["--preset", "fast"], ("--preset", "'fast'", "best")),
        (["--source", "mvtek"], ("no data source named 'mvtek'", "did you mean mvtec")),
        (["--nonsense"], ("No such option", "--nonsense")),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_a_wrong_value_is_named(
    run_cli: Run,
    parts: Path,
    tmp_path: Path,
    small: tuple[str, ...],
    options: list[str],
    words: tuple[str, ...],
    as_json: bool,
) -> None:
    answer = run_cli("train", parts, "--out", tmp_path / "run", *small, *options, *(["--json"] if as_json else []))
    assert answer.code == 2
    assert "Traceback" not in answer.err
    told = " ".join(answer.err.replace("│", " ").split())
    for word in words:
        assert word in told
    if as_json:
        assert set(answer.json["error"]) == {"what", "expected", "fix"}
        assert answer.json["error"]["what"]
    else:
        assert answer.out == ""


def test_a_start_that_failed_does_not_block_the_next(
    run_cli: Run, parts: Path, tmp_path: Path, small: tuple[str, ...]
) -> None:
    run = tmp_path / "run"
    (tmp_path / "nowhere").mkdir()
    first = run_cli("train", parts, "--out", run, *small, "--weights", tmp_path / "nowhere")
    assert first.code == 2
    assert "holds no weights of efficientnet_lite0" in first.err
    again = run_cli("train", parts, "--out", run, *small, "--no-pretrained")
    assert again.code == 2
    assert "--preset standard --no-pretrained" in again.err
    assert run_cli("train", parts, "--out", run, *small).code == 0


def test_a_finished_run_is_kept(run_cli: Run, parts: Path, trained_run: Path, small: tuple[str, ...]) -> None:
    before = {p: p.read_bytes() for p in trained_run.rglob("*") if p.is_file()}
    same = run_cli("train", parts, "--out", trained_run, *small)
    assert same.code == 0
    assert "finished already" in same.err
    other = run_cli("train", parts, "--out", trained_run, *small, "--seed", "3")
    assert other.code == 2
    assert "other options (seed)" in other.err
    assert {p: p.read_bytes() for p in trained_run.rglob("*") if p.is_file()} == before


def test_no_run_is_made_over_other_files(run_cli: Run, parts: Path, tmp_path: Path, small: tuple[str, ...]) -> None:
    mine = tmp_path / "mine" / "thesis.txt"
    mine.parent.mkdir()
    mine.write_text("years of work")
    for force in ([], ["--force"]):
        answer = run_cli("train", parts, "--out", mine.parent, *small, *force)
        assert answer.code == 2
        assert "holds no run" in answer.err
    assert run_cli("train", parts, "--out", mine, *small).code == 2
    assert mine.read_text() == "years of work"


def test_options_are_the_fields_of_the_configuration(run_cli: Run) -> None:
    from knowngood import TrainConfig

    shown = run_cli("train", "--help").out
    for name in TrainConfig.model_fields:
        assert "--" + name.replace("_", "-") in shown


@pytest.mark.parametrize("words", [["trian"], ["predict"], ["predict", "somewhere"], ["train", "data"], []])
def test_usage_mistakes_exit_with_2(run_cli: Run, words: list[str]) -> None:
    answer = run_cli(*words)
    assert answer.code in ((0, 2) if not words else (2,))
    assert "Traceback" not in answer.err
    if words:
        assert json.loads(run_cli(*words, "--json").out)["error"]["what"]


def test_weights_lists_networks_and_refuses_unknown_names(run_cli: Run) -> None:
    rows = {row["model"]: row for row in run_cli("weights", "--json").json}
    assert rows["efficientnet_lite0"]["here"]
    assert "Apache" in rows["efficientnet_lite0"]["licence"]
    assert rows["resnet50_front"]["package"] == rows["resnet50"]["package"]  # it takes the weights of the whole
    answer = run_cli("weights", "--fetch", "nono")
    assert answer.code == 2
    assert "no model named 'nono'" in answer.err
