"""knowngood evaluate: a table, one document, a folder, exit codes for a continuous integration."""

from __future__ import annotations

import html
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory, make_set: Callable[..., Path]) -> Path:
    return make_set(tmp_path_factory.mktemp("fresh") / "fresh", good=20, bad=12, seed=99)


def test_a_table_sentences_and_a_page(run_cli: Run, trained_run: Path, parts: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    answer = run_cli("evaluate", trained_run, parts, "--out", out)
    assert answer.code == 0, answer.err
    for word in ("escape rate", "overkill", "AUC", "TPR 99.5 %", "chip", "trained or calibrated on", "report.html"):
        assert word in answer.out, word
    again = run_cli("evaluate", trained_run, parts, "--out", out)
    assert again.code == 2
    assert "--force" in again.err
    assert run_cli("evaluate", trained_run, parts, "--out", out, "--force").code == 0


def test_one_document(run_cli: Run, trained_run: Path, fresh: Path) -> None:
    document = run_cli("evaluate", trained_run, fresh, "--json").json
    assert document["decisions"]["images"] == 32
    assert document["requirements"] is None
    assert document["out"] is None


@pytest.mark.parametrize(("limit", "code", "word"), [("1", 0, "PASSED"), ("0", 1, "FAILED")])
def test_the_exit_code_is_the_verdict(
    run_cli: Run, trained_run: Path, fresh: Path, limit: str, code: int, word: str
) -> None:
    # every good is rejected from score 0 on
    words = ("evaluate", trained_run, fresh, "--max-overkill-rate", limit, "--accept-below", "0")
    answer = run_cli(*words)
    assert answer.code == code, answer.err
    assert word in answer.out
    document = run_cli(*words, "--json")
    assert document.code == code
    assert document.json["requirements"]["passed"] == (code == 0)


def test_the_command_on_the_page_repeats_the_evaluation(
    run_cli: Run, trained_run: Path, fresh: Path, tmp_path: Path
) -> None:
    given = ("--max-escape-rate", "0", "--accept-below", "0.2", "--any-product", "--confidence", "0.9")
    first = run_cli("evaluate", trained_run, fresh, "--out", tmp_path / "out", *given)
    page = html.unescape((tmp_path / "out" / "report.html").read_text())
    command = shlex.split(next(line for line in re.split(r"[<>]", page) if line.startswith("knowngood evaluate")))
    assert "--any-product" in command
    for option, value in (("--max-escape-rate", 0), ("--accept-below", 0.2), ("--confidence", 0.9)):
        assert float(command[command.index(option) + 1]) == value
    again = run_cli(*command[1:], "--force", "--json")
    assert again.code == first.code
    assert again.json["decisions"]["images"] == 32


def test_other_class_names(run_cli: Run, trained_run: Path, fresh: Path, tmp_path: Path) -> None:
    place = tmp_path / "set"
    place.mkdir()
    for name, called in (("good", "gruen"), ("chip", "rot")):
        (place / called).symlink_to(fresh / name)
    assert run_cli("evaluate", trained_run, place).code == 2
    document = run_cli("evaluate", trained_run, place, "--good", "gruen", "--bad", "rot", "--json").json
    assert (document["decisions"]["goods"], document["decisions"]["bads"]) == (20, 6)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["DATA", "DATA"], "RECIPE"),
        (["RUN", "nowhere"], "nowhere"),
        (["RUN", "DATA", "--max-escape-rate", "3"], "--max-escape-rate"),
        (["RUN", "DATA", "--runtime", "tpu"], "tpu"),
        (["RUN", "DATA", "--golden", "no.csv"], "no.csv"),
        (["RUN", "DATA", "--accept-below", "7"], "--accept-below"),
        (["RUN", "FLAT"], "knowngood predict"),
    ],
)
def test_what_is_wrong_is_named(
    run_cli: Run, trained_run: Path, fresh: Path, tmp_path: Path, words: list[str], named: str
) -> None:
    flat = tmp_path / "photographs"
    flat.mkdir()
    (flat / "one.png").write_bytes((fresh / "good" / "good_000.png").read_bytes())
    given = {"RUN": trained_run, "DATA": fresh, "FLAT": flat}
    answer = run_cli("evaluate", *(given.get(word, word) for word in words))
    assert answer.code == 2
    assert named.lower() in answer.err.lower()
    assert "Traceback" not in answer.err
