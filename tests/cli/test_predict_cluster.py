"""knowngood predict --engine ray: what it prints, what it refuses and how soon, and its quiet."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from knowngood.scale import connecting

Run = Callable[..., Any]


def test_a_cluster_of_this_machine_answers_with_one_document(
    run_cli: Run, trained_run: Path, parts: Path, tmp_path: Path
) -> None:
    pytest.importorskip("ray", reason="the extra ray is not installed")
    words = ["predict", trained_run, parts, "--engine", "ray", "--out", tmp_path / "scores", "--worker-cores", 1]
    command = [sys.executable, "-m", "knowngood", *map(str, words), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(word not in done.stderr.lower() for word in ("ray", "warning", "error")), done.stderr
    told = json.loads(done.stdout)
    rows = pl.read_parquet(tmp_path / "scores" / "rows" / "*.parquet")
    assert told["images"] == len(rows) == 90
    assert told["reject"] == (rows["decision"] == "reject").sum()
    answer = run_cli(*words)  # all of it is whole: nothing is started
    assert answer.code == 0, answer.err
    assert "Highest scores (20)" in answer.out
    assert "1 of 1 parts were whole before" in answer.err


@pytest.fixture
def silent() -> Iterator[str]:
    """An address where somebody listens and says nothing."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield f"127.0.0.1:{listening.getsockname()[1]}"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--out", "scores", "--address", "CLOSED"], "No Ray cluster answers at"),
        (["--out", "scores", "--address", "SILENT"], "no answer of a Ray cluster within"),
        (["--out", "scores", "--address", "ray://10.0.0.1:10001"], "has a scheme"),
        (["--out", "scores", "--address", "nonsense"], "HOST:PORT"),
        (["--out", "scores.csv"], "named like one file"),
        ([], "no --out says where"),
        (["--out", "scores", "--sample", "SAMPLE"], "--sample does not go with --engine ray"),
        (["--out", "scores", "--worker-cores", "0"], "--worker-cores"),
    ],
)
def test_mistakes_are_told_before_anything_is_started(
    run_cli: Run,
    trained_run: Path,
    parts: Path,
    silent: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    words: list[str],
    told: str,
) -> None:
    pytest.importorskip("ray", reason="the extra ray is not installed")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        places = {"SILENT": silent, "CLOSED": f"127.0.0.1:{closed.getsockname()[1]}"}
    places["SAMPLE"] = str(tmp_path / "sample.csv")
    Path(places["SAMPLE"]).write_text("id,label\n")
    monkeypatch.setattr(connecting, "ANSWER", 1.0)
    words = [places.get(word, word) for word in words]
    answer = run_cli("predict", trained_run, parts, "--engine", "ray", *words)
    assert answer.code == 2
    assert told in answer.err
    assert "Traceback" not in answer.err
