"""knowngood study as a person uses it: one command, one report; killed, resumed, with steps that cannot be done."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]
COMPARE = ("--models", "efficientnet_lite0", "--compare-size", "32", "--epochs", "1", "--limit", "24")


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def test_one_command_answers_every_question_in_one_page(
    run_cli: Run, parts: Path, small: tuple[str, ...], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    answer = run_cli("study", parts, "--out", out, *small, *COMPARE, "--trial-seeds", "3", "--json")
    assert answer.code == 0, answer.err
    document = answer.json
    assert document["left_out"] == {}
    steps = {"data", "inspector", "models", "training-sets", "conventional", "outliers"}
    assert steps <= set(document["found"])
    page = (out / "study.html").read_text()
    for heading in ("Verdict", "Networks compared", "Training sets compared", "Conventional classifiers", "PCA"):
        assert heading in page, heading
    links = re.findall(r'href="([^"#]+)"', page)
    assert links
    for link in links:
        assert (out / link).is_file(), link
    assert (out / "inspector" / "recipe" / "recipe.json").is_file()
    assert any("Collect bad images" in said for said in document["next"])
    assert json.loads((out / "study.json").read_text())["found"] == document["found"]

    found = {path: path.stat().st_mtime_ns for path in (out / "found").iterdir()}
    again = run_cli("study", parts, "--out", out, *small, *COMPARE, "--trial-seeds", "3")
    assert again.code == 0, again.err
    assert again.err.count("kept from before") == len(found)
    assert {path: path.stat().st_mtime_ns for path in (out / "found").iterdir()} == found

    (out / "found" / "outliers.json").unlink()  # as if killed in that step
    third = run_cli("study", parts, "--out", out, *small, *COMPARE, "--trial-seeds", "3")
    assert third.code == 0
    assert third.err.count("kept from before") == len(found) - 1


def test_good_images_alone_get_an_inspector_and_the_rest_is_left_out_with_its_reason(
    run_cli: Run, make_set: Callable[..., Path], small: tuple[str, ...], tmp_path: Path
) -> None:
    data = make_set(tmp_path / "data", good=40, bad=2)
    for path in [*data.glob("chip/*"), *data.glob("scratch/*")]:
        path.unlink()
        path.parent.rmdir()
    answer = run_cli("study", data, "--out", tmp_path / "run", *small, *COMPARE, "--json")
    assert answer.code == 0, answer.err
    assert {"data", "inspector", "outliers"} <= set(answer.json["found"])
    assert answer.json["found"]["inspector"]["one_class"] is True
    assert "no bad image" in answer.json["left_out"]["conventional"]
    assert "There is no bad image" in answer.json["left_out"]["models"]
    assert (tmp_path / "run" / "study.html").is_file()


def test_steps_can_be_skipped_and_wrong_names_are_told_before_anything_is_read(
    run_cli: Run, parts: Path, small: tuple[str, ...], tmp_path: Path
) -> None:
    skip = "inspector,conventional,outliers"
    answer = run_cli("study", parts, "--out", tmp_path / "run", *small, "--skip", skip, "--json")
    assert answer.code == 0, answer.err
    assert set(answer.json["found"]) == {"data"}
    assert answer.json["left_out"]["outliers"] == "skipped, as asked"
    for words, near in ((("--skip", "outlier"), "outliers"), (("--models", "resnet19"), "resnet18")):
        wrong = run_cli("study", parts, "--out", tmp_path / "no", *words)
        assert wrong.code == 2
        assert near in wrong.err
    other = run_cli("study", parts, "--out", tmp_path / "run", *small, "--seed", "7")
    assert other.code == 2
    assert "seed" in other.err
