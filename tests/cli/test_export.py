"""knowngood export and bench, and predict with an exported graph: parity, what is refused, and the way out of it."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from knowngood import Recipe
from knowngood.environment import install_command
from knowngood.recipe.exporting import DOCUMENT, ExportDocument

pytest.importorskip("openvino")
pytest.importorskip("onnxruntime")
pytest.importorskip("nncf")
Run = Callable[..., Any]


@pytest.fixture(scope="module")
def exported(trained_run: Path, run_cli: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with exports in float; not to be changed."""
    run = Path(shutil.copytree(trained_run, tmp_path_factory.mktemp("exported") / "run"))
    for to in ("openvino", "onnx"):
        answer = run_cli("export", run, "--to", to, "--precision", "fp32", "--json")
        assert answer.code == 0, answer.err
        assert answer.json["parity"]["changed_decisions"] == 0
        assert answer.json["parity"]["score_difference"]["max"] < 1e-3
        assert answer.json["threshold"]["bads"] > 0
    return run


@pytest.fixture
def copy(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "run"))


def refused(answer: Any, *words: str) -> None:
    assert answer.code == 2, answer.err
    assert "Traceback" not in answer.err
    for word in words:
        assert word in " ".join(answer.err.split())


def test_every_runtime_decides_alike(run_cli: Run, exported: Path, parts: Path) -> None:
    frames = {}
    for runtime in ("torch", "openvino", "onnxruntime", "auto"):
        answer = run_cli("predict", exported, parts, "--runtime", runtime, "--json", "--profile")
        assert answer.code == 0, answer.err
        frames[runtime] = pl.DataFrame(answer.json["rows"])
        assert answer.json["profile"]["images"] == 90
    own = frames.pop("torch")
    for name, frame in frames.items():
        np.testing.assert_allclose(frame["defect_score"], own["defect_score"], atol=1e-3)
        assert frame["decision"].to_list() == own["decision"].to_list()
        assert frame["recipe"][0].startswith(own["recipe"][0] + "+" + ("onnx" if name == "onnxruntime" else "openvino"))


def test_int8_with_its_own_thresholds(run_cli: Run, copy: Path, parts: Path) -> None:
    answer = run_cli("export", copy, "--max-score", 0.4, "--min-likeness", 0.7, "--json")  # Lite0 at 64 pixels
    assert answer.code == 0, answer.err
    document = answer.json
    assert document["precision"] == "int8"
    assert document["sample"] >= 16
    assert document["parity"]["auc"]["after"] >= 0.99
    rows = pl.DataFrame(run_cli("predict", copy, parts, "--json").json["rows"])  # auto: the quickest
    assert "int8" in rows["recipe"][0]
    cut = document["threshold"]["threshold"]
    assert ((rows["defect_score"] >= cut) == (rows["decision"] != "accept")).all()
    bad = ~rows["image"].str.contains("good_")
    assert (rows.filter(bad)["decision"] == "reject").mean() > 0.9
    assert (rows.filter(~bad)["decision"] == "accept").mean() > 0.9


def test_a_graph_that_strays_is_refused_and_nothing_is_written(run_cli: Run, copy: Path) -> None:
    shutil.rmtree(copy / "recipe" / "exports")
    answer = run_cli("export", copy, "--precision", "bf16", "--max-score", 0)
    refused(answer, "strays too far", "scores differ by", "--max-score")
    assert not (copy / "recipe" / "exports" / "openvino-bf16").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--to", "nonsense"], "There is no export format named 'nonsense'"),
        (["--precision", "fp7"], "has no precision 'fp7'"),
        (["--to", "onnx", "--precision", "bf16"], "--to openvino for bf16"),
        (["--max-score", "2"], "--max-score"),
    ],
)
def test_what_cannot_be_asked_for(run_cli: Run, exported: Path, words: list[str], told: str) -> None:
    refused(run_cli("export", exported, *words), told)


def test_images_that_moved_are_found_by_content(run_cli: Run, copy: Path, parts: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(parts, tmp_path / "moved")
    scores = pl.read_parquet(copy / "scores.parquet")
    scores.with_columns(path=pl.lit("/gone/") + pl.col("image")).write_parquet(copy / "scores.parquet")
    words = ("export", copy, "--precision", "fp32")
    refused(run_cli(*words), "images of the run are gone or changed", "--data")
    assert run_cli(*words, "--data", moved).code == 0
    (copy / "scores.parquet").unlink()
    refused(run_cli(*words), "There is no scores.parquet", "--data: a manifest with a split")
    refused(run_cli(*words, "--data", moved), "has a label and a split")


def test_too_few_training_images_for_int8(run_cli: Run, copy: Path) -> None:
    scores = pl.read_parquet(copy / "scores.parquet")
    few = pl.concat([scores.filter(pl.col("split") == "train").head(5), scores.filter(pl.col("split") != "train")])
    few.write_parquet(copy / "scores.parquet")
    refused(run_cli("export", copy), "There are 5 training images", "at least 16", "--precision fp32")


def test_an_export_of_another_revision_is_refused(run_cli: Run, copy: Path, parts: Path) -> None:
    place = copy / "recipe" / "exports" / "openvino-fp32"
    document = json.loads((place / DOCUMENT).read_text())
    del document["seal"]
    ExportDocument.model_validate(document | {"recipe": "0123456789ab"}).save(place)
    refused(run_cli("predict", copy, parts), "was made of revision 0123456789ab", "export again")
    assert run_cli("predict", copy, parts / "chip", "--runtime", "torch").code == 0


@pytest.mark.parametrize("file", [DOCUMENT, "model.xml", "model.bin"])
def test_a_changed_byte_is_noticed(run_cli: Run, copy: Path, parts: Path, file: str) -> None:
    path = copy / "recipe" / "exports" / "openvino-fp32" / file
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    refused(run_cli("predict", copy, parts), "is damaged", "--runtime torch")


def test_a_missing_runtime_is_named_with_its_extra(
    run_cli: Run, exported: Path, parts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)  # what Python keeps of a package that is not there
    told = ("openvino is not installed", install_command("openvino"))
    refused(run_cli("predict", exported, parts, "--runtime", "openvino"), *told)
    refused(run_cli("export", exported), *told)
    answer = run_cli("predict", exported, parts / "chip", "--json")
    assert answer.code == 0
    assert "+onnx-fp32" in answer.json["rows"][0]["recipe"]
    assert "the exported graph is not used" in answer.err


def test_a_runtime_without_an_export(run_cli: Run, trained_run: Path, parts: Path) -> None:
    refused(run_cli("predict", trained_run, parts, "--runtime", "openvino"), "no export for openvino", "--to openvino")
    refused(run_cli("predict", trained_run, parts, "--runtime", "nonsense"), "no runtime named 'nonsense'")


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("to", ["onnx", "openvino"])
@pytest.mark.parametrize("size", [1_000, 2_000_000])  # the pixels do not fit; the graph does not fit
def test_a_full_disk_while_exporting(trained_run: Path, tmp_path: Path, to: str, precision: str, size: int) -> None:
    run = Path(shutil.copytree(trained_run, tmp_path / "run"))

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    words = [sys.executable, "-m", "knowngood", "export", str(run), "--to", to, "--precision", precision]
    done = subprocess.run(words, capture_output=True, text=True, preexec_fn=limit, check=False)
    assert done.returncode == 2, done.stderr
    assert "The disk is full" in done.stderr
    assert "Traceback" not in done.stderr
    exports = run / "recipe" / "exports"
    assert not exports.exists() or not list(exports.iterdir())


def test_a_killed_export_leaves_nothing(trained_run: Path, run_cli: Run, tmp_path: Path) -> None:
    run = Path(shutil.copytree(trained_run, tmp_path / "run"))
    (tmp_path / "temporary").mkdir()
    words = [sys.executable, "-m", "knowngood", "export", str(run), "--precision", "fp32"]
    environment = os.environ | {"TMPDIR": str(tmp_path / "temporary")}
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and not list((run / "recipe" / "exports").glob(".*/*.u8")):
            time.sleep(0.01)
        process.kill()
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not list((tmp_path / "temporary").iterdir())
    assert list((run / "recipe" / "exports").iterdir())
    assert run_cli("predict", run, tmp_path / "run" / "recipe").code == 2  # any verb that opens the recipe clears up
    assert not list((run / "recipe" / "exports").iterdir())


def test_nothing_is_reported_to_anybody(trained_run: Path) -> None:
    code = (
        "import sys\n"
        "from knowngood.telemetry import switch_off\n"
        "switch_off()\n"
        "import openvino, nncf\n"
        "from openvino.tools.ovc.telemetry_utils import tm\n"
        "print(sys.modules['openvino_telemetry'], tm.__name__)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["None", "openvino.tools.ovc.telemetry_stub"]


def test_bench_tells_stages_peaks_and_what_bounds(run_cli: Run, exported: Path, parts: Path) -> None:
    answer = run_cli("bench", exported, parts, "--rounds", 1, "--count", 20, "--json")
    assert answer.code == 0, answer.err
    told = answer.json
    assert set(told["inference"]) == {"torch, fp32", "openvino, fp32", "onnxruntime, fp32"}
    assert all(one["images_per_second"] > 0 for one in told["inference"].values())
    assert set(told["roofline"]) == {"fp32", "bf16", "int8"}
    assert told["pipeline"]["images"] == 20
    assert told["pipeline"]["with"] in told["inference"]
    assert "bounds it" in told["bound_by"]
    assert "files to decisions" in run_cli("bench", exported, "--rounds", 1, "--count", 4).out


def test_the_first_run_after_an_export_says_that_it_decides(
    run_cli: Run, copy: Path, parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KNOWNGOOD_CACHE", str(tmp_path / "cache"))
    own = run_cli("predict", copy, parts / "chip", "--runtime", "torch")
    assert "decided by torch fp32" in own.err
    assert "from now on" not in own.err
    first = " ".join(run_cli("predict", copy, parts / "chip").err.split())
    document = json.loads((copy / "recipe" / "exports" / "openvino-fp32" / DOCUMENT).read_text())
    stamp = document["seal"][:8]
    assert f"the export openvino fp32 {stamp} decides from now on" in first
    assert f"it changes 0 decisions of {document['parity']['images']}" in first
    assert "--runtime torch is the way back" in first
    again = run_cli("predict", copy, parts / "chip", "--json")
    assert "from now on" not in again.err
    assert {row["runtime"] for row in again.json["rows"]} == {f"openvino fp32 {stamp}"}
    monkeypatch.setenv("KNOWNGOOD_CACHE", "/proc/none")  # what cannot be remembered is said again
    assert "from now on" in run_cli("predict", copy, parts / "chip").err


def test_python_decides_as_the_command_line_does(run_cli: Run, copy: Path, parts: Path) -> None:
    recipe = Recipe.load(copy)
    for runtime in ("auto", "torch", "onnxruntime"):
        rows = run_cli("predict", copy, parts, "--runtime", runtime, "--json").json["rows"]
        said = sorted(recipe.predict(parts, runtime=runtime), key=lambda one: one.image)
        assert [one.decision for one in said] == [row["decision"] for row in rows]
        assert [one.defect_score for one in said] == [row["defect_score"] for row in rows]
    shutil.rmtree(copy / "recipe" / "exports")  # what is kept open is not asked once it is gone
    own = run_cli("predict", copy, parts / "chip", "--json").json["rows"]
    assert [one.defect_score for one in recipe.predict(parts / "chip")] == [row["defect_score"] for row in own]


def test_other_cuts_with_an_export(run_cli: Run, copy: Path, parts: Path) -> None:
    answer = run_cli("predict", copy, parts, "--accept-below", 0.3, "--json")
    assert answer.json["runtime"][0].startswith("openvino fp32")
    assert "not of its export" in answer.err
    assert answer.json["recipe"][0].endswith("+cuts-0.3-0.3")
    other = Recipe.load(copy).with_thresholds(accept_below=0.3)
    shutil.rmtree(copy / "recipe")
    other.save(copy / "recipe")
    assert run_cli("predict", copy, parts / "chip", "--json").json["runtime"] == [
        "torch fp32"
    ]  # exports are its parent's
    answer = run_cli("export", copy, "--precision", "fp32", "--json")
    assert answer.code == 0, answer.err
    assert (answer.json["threshold"]["threshold"], answer.json["threshold"]["basis"]) == (0.3, "set by hand")
