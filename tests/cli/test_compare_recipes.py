"""knowngood compare-recipes, and how `compare` leads to it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from knowngood import Recipe

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def other(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Recipe.load(trained_run).with_thresholds(accept_below=0.02).save(tmp_path_factory.mktemp("b") / "recipe")


def test_a_table_a_sentence_and_a_page(
    run_cli: Run, trained_run: Path, other: Path, parts: Path, tmp_path: Path
) -> None:
    out = tmp_path / "page"
    answer = run_cli("compare-recipes", trained_run, other, parts, "--all-images", "--out", out)
    assert answer.code == 0, answer.err
    for word in ("escapes", "overkill", "AUC", "Flipped units", "holds back", str(out / "index.html")):
        assert word in answer.out
    document = run_cli("compare-recipes", trained_run, other, parts, "--json").json
    assert document["left_out"]["seen by A"] > 0
    assert len(document["flipped_units"]) == document["flipped"]


@pytest.mark.parametrize("words", [["A", "B", "DATA"], ["A", "B", "DATA", "--out", "OUT"], ["A", "--out", "OUT"]])
def test_compare_points_to_it(
    run_cli: Run, trained_run: Path, other: Path, parts: Path, tmp_path: Path, words: list[str]
) -> None:
    given = {"A": trained_run, "B": other, "DATA": parts, "OUT": tmp_path / "out"}
    answer = run_cli("compare", *(given.get(word, word) for word in words))
    assert answer.code == 2
    assert "knowngood compare-recipes A B DATA" in answer.err
    assert not (tmp_path / "out").exists()
    answer = run_cli("compare", parts)
    assert answer.code == 2
    assert "--out" in answer.err
