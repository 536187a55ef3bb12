"""What is typed wrongly is answered by what was meant, at once, and before anything is computed or written."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]
HEAVY = ("torch", "torchvision", "timm", "lightning", "sklearn", "scipy", "cv2", "matplotlib", "ray", "openvino")


def told(answer: Any) -> str:
    assert answer.code == 2, answer.out + answer.err
    assert "Traceback" not in answer.err
    return " ".join(answer.err.split())


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("train --data DIR --out x", "DATA is an argument: knowngood train DATA --out"),
        ("train d --out x --folder y", "DATA is an argument"),
        ("train d --output x", "--out"),
        ("train d -o x", "--out"),
        ("train d --out x --lr 0.1", "--learning-rate"),
        ("train d --out x --bs 8", "--batch-size"),
        ("train d --out x --size 64", "--image-size"),
        ("train d --out x --imgsz 64", "--image-size"),
        ("train d --out x --threshold 0.5", "--escape-budget"),
        ("train d --out x --gpu 0", "--device"),
        ("train d --out x --accelerator cuda", "--device"),
        ("train d --out x --backbone resnet50", "--model"),
        ("train d --out x --network resnet50", "--model"),
        ("train d --out x --arch resnet50", "--model"),
        ("train d --out x --epoch 3", "--epochs"),
        ("train d --out x --sample y", "--sample is an option of knowngood predict"),
        ("audit d --out x --backbone resnet50", "--backbone is called --model now"),
        ("compare d --out x --outlier-backbone resnet50", "--outlier-backbone is called --feature-model now"),
        ("train d --out x --memory 100", "--memory is called --coreset-size now"),
        ("synthesize transplant d --out x --turn 3", "--turn is called --rotate now"),
        ("predict --model run d", "RECIPE is an argument: knowngood predict RECIPE IMAGES"),
        ("predict --recipe run d", "RECIPE is an argument"),
        ("predict run --images d", "IMAGES is an argument"),
        ("explain run d --out x --threshold 0.3", "--cam-threshold"),
        ("export run --format onnx", "--to"),
        ("train d", "knowngood train DATA --out"),
        ("fit d", "knowngood train?"),
        ("score run d", "knowngood predict?"),
        ("infer run d", "knowngood predict?"),
        ("heatmap run d", "knowngood explain?"),
        ("gui run", "knowngood serve?"),
        ("trian d", "knowngood train?"),
        ("synthesize fit d", "knowngood synthesize train?"),
        ("train d --out x --escape-budget 1%", "--escape-budget 0.01"),
        ("train d --out x --escape-budget=0,02", "--escape-budget 0.02"),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_what_was_meant_is_suggested(run_cli: Run, tmp_path: Path, words: str, meant: str, as_json: bool) -> None:
    (tmp_path / "d").mkdir()
    typed = [str(tmp_path / word) if word == "d" else word for word in words.split()]
    answer = run_cli(*typed, *(["--json"] if as_json else []))
    assert meant in told(answer)
    if as_json:
        assert meant in answer.json["error"]["fix"]


@pytest.mark.parametrize("words", ["train d --wibble 3", "train --data d", "predict run d --data e", "xyzzy"])
def test_nothing_silly_is_suggested(run_cli: Run, words: str) -> None:
    said = told(run_cli(*words.split()))
    for silly in ("--cam-history", "--inbox", "--balance", "--patience", "--profile", "--test"):
        assert silly not in said


@pytest.mark.parametrize(
    ("words", "right"),
    [
        (("train", "--escape-budget", "1"), "--escape-budget 0.01"),
        (("train", "--escape-budget", "5"), "--escape-budget 0.05"),
        (("train", "--one-class", "--overkill-budget", "2.5"), "--overkill-budget 0.025"),
        (("train", "--review-overkill", "3"), "--review-overkill 0.03"),
        (("train", "--test", "25"), "--test 0.25"),
        (("train", "--val", "10"), "--val 0.1"),
        (("train", "--calibration", "20"), "--calibration 0.2"),
        (("train", "--confidence", "95"), "--confidence 0.95"),
        (("study", "--escape-budget", "1"), "--escape-budget 0.01"),
        (("compare", "--escape-budget", "1"), "--escape-budget 0.01"),
        (("augment", "--shift", "3"), "--shift 0.03"),
    ],
)
def test_percents_are_told_from_shares(run_cli: Run, tmp_path: Path, words: tuple[str, ...], right: str) -> None:
    said = told(run_cli(words[0], tmp_path, "--out", tmp_path / "x", *words[1:]))
    assert "0.01 means 1 %" in said
    assert said.endswith(right)
    assert not (tmp_path / "x").exists()


def test_a_number_that_is_no_percent_is_not_called_one(run_cli: Run, tmp_path: Path) -> None:
    for words in (("--escape-budget", "0"), ("--escape-budget", "-1"), ("--weight-decay", "2"), ("--test", "1000")):
        assert "means 1 %" not in told(run_cli("train", tmp_path, "--out", tmp_path / "x", *words))


WRONG = [
    "train nosuch --out x",
    "train DATA --out /proc/none",
    "train DATA --out FILE",
    "train DATA --out FILE/below",
    "train DATA --out x --model resnet5",
    "train DATA --out x --models x",
    "train DATA --out x --augment studdy",
    "train DATA --out x --weights nowhere",
    "train DATA --out x --verdicts nowhere",
    "train DATA --out x --source mvtek",
    "train DATA --out x --escape-budget 1",
    "predict nosuch DATA",
    "predict RUN/report.html DATA",
    "predict DATA DATA",
    "predict RUN nosuch",
    "predict RUN DATA --out /proc/none.csv",
    "predict RUN DATA --out x.txt",
    "predict RUN DATA --out FILE/below.csv",
    "predict RUN DATA --sample nosuch",
    "predict RUN DATA --runtime tourch",
    "explain nosuch DATA --out x",
    "explain RUN DATA --out /proc/none",
    "explain RUN DATA --out x --method gradcamm",
    "export nosuch",
    "export RUN --to openvin",
    "export RUN --data nosuch",
    "audit nosuch --out x",
    "audit DATA --out /proc/none",
    "serve nosuch",
    "serve RUN --data nosuch",
    "compare nosuch --out x",
    "compare DATA --out /proc/none",
    "compare DATA --out x --models resnet18,resnet5",
    "features nosuch --out x.parquet",
    "features DATA --out /proc/none.parquet",
    "features DATA --out x.csv",
    "features DATA --out x.parquet --model resnet5",
    "cascade nosuch",
    "bench nosuch",
    "bench RUN nosuch",
    "check nosuch",
    "study nosuch --out x",
    "study DATA --out /proc/none",
    "classical nosuch --out x",
    "classical DATA --out x --models svmm",
    "augment nosuch --out x",
    "augment DATA --out /proc/none",
    "synthesize train nosuch --out x",
    "synthesize sample nosuch --out x",
    "synthesize judge DATA nosuch --out x",
    "synthesize transplant DATA --out /proc/none",
    "replay nosuch unit",
    "tape /proc/none",
]
# All of them in one process that would have imported what is heavy by the end.
TYPING = """
import contextlib, io, json, sys
from knowngood.cli.main import run
said = []
for words in json.loads(sys.stdin.read()):
    sys.argv, code, err = ["knowngood", *words], None, io.StringIO()
    with contextlib.redirect_stderr(err), contextlib.redirect_stdout(err):
        try: run()
        except SystemExit as end: code = end.code
    said.append([code, err.getvalue(), [name for name in sys.argv[0:0] or HEAVY if name in sys.modules]])
print(json.dumps(said))
"""


def test_nothing_heavy_is_imported_for_a_slip_of_the_pen(tmp_path: Path) -> None:
    for place in ("DATA/good", "DATA/bad", "RUN/recipe"):
        (tmp_path / place).mkdir(parents=True)
    for place in ("RUN/report.html", "RUN/recipe/recipe.json", "RUN/recipe/weights.safetensors", "FILE"):
        (tmp_path / place).touch()
    before = sorted(str(path) for path in tmp_path.rglob("*"))
    code = TYPING.replace("sys.argv[0:0] or HEAVY", repr(HEAVY))
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps([words.split() for words in WRONG]),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    for words, (ended, said, heavy) in zip(WRONG, json.loads(done.stdout), strict=True):
        assert (ended, heavy) == (2, []), (words, said)
        assert "Traceback" not in said, words
        assert said.startswith("knowngood: "), (words, said)
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before


def test_what_is_no_recipe_is_told_what_one_is(run_cli: Run, trained_run: Path, parts: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained_run, run)
    for wrong in ("report.html", "recipe/recipe.json", "recipe/weights.safetensors", "metrics.json"):
        said = told(run_cli("predict", run / wrong, parts))
        assert "is a file, no recipe" in said
        assert "a folder with recipe.json and weights.safetensors" in said
        assert said.endswith(str(run)) or said.endswith(str(run / "recipe")), said
    assert "a folder without a recipe" in told(run_cli("predict", parts, parts))
    assert told(run_cli("predict", tmp_path, parts)).endswith(str(run))  # it lies below
    assert told(run_cli("predict", tmp_path / "runs", parts)).endswith(str(run))  # one letter off
    (run / "metrics.json").unlink()
    shutil.rmtree(run / "recipe")
    assert "not finished" in told(run_cli("predict", run, parts))
