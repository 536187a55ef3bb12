"""knowngood features and audit on a cluster, and what all verbs with an engine refuse."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from knowngood.environment import install_command

Run = Callable[..., Any]
BACKBONE = ("--model", "efficientnet_lite0", "--image-size", "64")
RAY = ("--engine", "ray", "--worker-cores", "1")


def test_features_answer_with_one_document(run_cli: Run, parts: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the extra ray is not installed")
    words = ["features", parts, *BACKBONE, *RAY, "--out", tmp_path / "there"]
    command = [sys.executable, "-m", "knowngood", *map(str, words), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(word not in done.stderr.lower() for word in ("ray", "warning", "error")), done.stderr
    told = json.loads(done.stdout)
    assert (told["images"], told["features"], told["parts"], told["unreadable"]) == (90, 1280, 1, 0)
    rows = pl.read_parquet(tmp_path / "there" / "rows" / "*.parquet")
    answer = run_cli("features", parts, *BACKBONE, "--out", tmp_path / "here.parquet")
    assert answer.code == 0, answer.err
    plain = pl.read_parquet(tmp_path / "here.parquet")
    assert rows.drop("features").equals(plain.drop("features"))
    np.testing.assert_allclose(rows["features"].to_numpy(), plain["features"].to_numpy(), atol=1e-5)


@pytest.mark.usefixtures("two_workers")
def test_an_audit_doubts_the_same_images(
    run_cli: Run, parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = {}
    for name, more in (("here", ()), ("there", (*RAY, "--part-size", "32"))):
        monkeypatch.setenv("KNOWNGOOD_CACHE", str(tmp_path / f"cache of {name}"))
        answer = run_cli("audit", parts, *BACKBONE, "--detectors", "knn", "--out", tmp_path / name, *more)
        assert answer.code == 0, answer.err
        tables[name] = pl.read_parquet(tmp_path / name / "audit.parquet")
        facts = json.loads((tmp_path / name / "audit.json").read_text())
        assert facts["features"]["computed"] == 90
    assert {path.name for path in (tmp_path / "there").iterdir()} == {
        path.name for path in (tmp_path / "here").iterdir()
    }
    kinds = tables["here"].schema
    exact = [name for name, kind in kinds.items() if kind != pl.Float64]
    assert tables["here"].select(exact).equals(tables["there"].select(exact))
    for name in set(kinds) - set(exact):
        np.testing.assert_allclose(tables["here"][name], tables["there"][name], rtol=1e-6, atol=1e-6)


@pytest.fixture
def verbs(trained_run: Path, parts: Path) -> dict[str, tuple[object, ...]]:
    return {
        "predict": ("predict", trained_run, parts),
        "features": ("features", parts, *BACKBONE),
        "audit": ("audit", parts, *BACKBONE),
    }


@pytest.mark.parametrize("verb", ["predict", "features", "audit"])
class TestMistakes:
    @pytest.mark.parametrize(
        "words", [("--address", "10.0.0.1:6379"), ("--part-size", "4096"), ("--worker-cores", "2")]
    )
    def test_options_without_a_cluster(
        self, run_cli: Run, verbs: dict[str, Any], verb: str, words: tuple[str, str], tmp_path: Path
    ) -> None:
        answer = run_cli(*verbs[verb], "--out", tmp_path / "out.parquet", *words)
        assert answer.code == 2
        assert f"{words[0]} says how a cluster works" in answer.err
        assert f"Add --engine ray, or leave {words[0]} out" in answer.err
        assert not list(tmp_path.iterdir())

    def test_nothing_answers(self, run_cli: Run, verbs: dict[str, Any], verb: str, tmp_path: Path) -> None:
        pytest.importorskip("ray", reason="the extra ray is not installed")
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{closed.getsockname()[1]}"
        answer = run_cli(*verbs[verb], "--out", tmp_path / "out", "--engine", "ray", "--address", address)
        assert answer.code == 2
        assert f"No Ray cluster answers at {address}" in answer.err
        assert not list(tmp_path.iterdir())

    def test_ray_is_missing(
        self, run_cli: Run, verbs: dict[str, Any], verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "ray", None)  # what Python keeps of a package that is not there
        answer = run_cli(*verbs[verb], "--out", tmp_path / "out", "--engine", "ray")
        assert answer.code == 2
        assert install_command("ray") in answer.err
        assert not list(tmp_path.iterdir())

    def test_a_file_is_no_folder(self, run_cli: Run, verbs: dict[str, Any], verb: str, tmp_path: Path) -> None:
        answer = run_cli(*verbs[verb], "--out", tmp_path / "out.parquet", "--engine", "ray")
        assert answer.code == 2
        assert "is named like one file" in answer.err


def test_fresh_features_are_of_a_cluster(run_cli: Run, parts: Path, tmp_path: Path) -> None:
    answer = run_cli("features", parts, *BACKBONE, "--out", tmp_path / "f.parquet", "--fresh")
    assert answer.code == 2
    assert "--fresh says how a cluster works" in answer.err
