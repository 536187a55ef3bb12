"""kill -9 and full disks, with real processes: what was whole stays whole, and the same command goes on."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

Run = Callable[..., Any]
FROM_NOTHING = ("--preset", "standard", "--no-pretrained", "--model", "resnet18", "--image-size", "32", "--epochs", "3")


@pytest.fixture(autouse=True)
def heard() -> Iterator[None]:
    """Undoes what a shell does to commands in the background, such as these tests may be: they ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def killed(words: list[str], when: Callable[[], bool], by: int = signal.SIGKILL) -> tuple[int, str]:
    """Runs a command and kills it as soon as `when` says so; returns its code and what it had said."""
    command = [sys.executable, "-m", "knowngood", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        while process.poll() is None:
            if when():
                process.send_signal(by)
                break
            time.sleep(0.002)
        said = process.communicate()[0]
    return process.returncode, said


def test_training_goes_on_after_kills_with_the_same_result(run_cli: Run, parts: Path, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert run_cli("train", parts, "--out", whole, *FROM_NOTHING).code == 0
    words = ["train", str(parts), "--out", str(broken), *FROM_NOTHING]
    code, said = killed(words, (broken / "work" / "last.ckpt").exists)
    assert code == -signal.SIGKILL, said
    assert not (broken / "metrics.json").exists()
    code, said = killed(words, lambda: any(broken.glob(".recipe.*")))
    assert code == -signal.SIGKILL, said
    assert not (broken / "recipe").exists()  # whole or not at all
    answer = run_cli(*words)
    assert answer.code == 0, answer.err
    assert "is continued" in answer.err
    margins = [pl.read_parquet(run / "scores.parquet")["raw_score"].to_numpy() for run in (whole, broken)]
    np.testing.assert_allclose(margins[0], margins[1], atol=1e-3)
    figures = [json.loads((run / "metrics.json").read_text()) for run in (whole, broken)]
    assert figures[0]["test"] == figures[1]["test"]
    assert sorted(p.name for p in whole.iterdir()) == sorted(p.name for p in broken.iterdir())


def test_ctrl_c_is_no_failure_of_ours(parts: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = ["train", str(parts), "--out", str(run), *FROM_NOTHING]
    code, said = killed(words, (run / "work" / "best.safetensors").exists, signal.SIGINT)
    assert code == 130
    assert "the same command goes on" in said
    assert "Traceback" not in said


def ended(group: int) -> bool:
    """Whether no process of a group lives any more; dead ones that nobody has asked for do not count."""
    for place in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, its_group = place.read_text().rpartition(")")[2].split()[:3]
        except (OSError, ValueError):
            continue
        if int(its_group) == group and state not in "ZX":
            return False
    return True


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("devices", ["1", "2"])
def test_a_signal_ends_a_training_and_its_processes(parts: Path, tmp_path: Path, by: int, devices: str) -> None:
    run = tmp_path / "run"
    words = ["train", str(parts), "--out", str(run), *FROM_NOTHING, "--devices", devices]
    command = [sys.executable, "-m", "knowngood", *words]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        while process.poll() is None and not (run / "work" / "best.safetensors").exists():
            time.sleep(0.01)
        process.send_signal(by)  # to the first process alone, as `kill` does
        said = process.communicate()[0]
    assert process.returncode == {signal.SIGTERM: 143, signal.SIGINT: 130}[by], said
    assert "the same command goes on" in said
    assert "Traceback" not in said
    while not ended(process.pid):
        time.sleep(0.05)


TAPE = ("--train", "400", "--test", "40", "--seed", "6", "--workers", "2")


def digests(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGTERM])
def test_a_look_alike_goes_on_after_kills_without_force(run_cli: Run, tmp_path: Path, by: int) -> None:
    assert run_cli("tape", tmp_path / "whole", *TAPE).code == 0
    broken = tmp_path / "broken"
    journal = broken / ".tape.journal"

    def lines() -> int:
        return journal.read_text().count("\n") if journal.is_file() else 0

    for when in (broken.exists, (broken / "tape.json").exists, lambda: lines() >= 2, lambda: lines() >= 5):
        code, said = killed(["tape", str(broken), *TAPE], when, by)
        # -15: the signal came while Python itself was starting or ending
        assert code in {signal.SIGTERM: (143, -15), signal.SIGKILL: (-9,)}[by], said
        assert "Traceback" not in said
    if by == signal.SIGKILL:
        assert any(broken.glob(".ballast.*"))
    drawn = {path: path.stat().st_mtime_ns for path in broken.glob("images/train/*/*.png")}
    answer = run_cli("tape", broken, *TAPE)
    assert answer.code == 0, answer.err
    assert digests(broken) == digests(tmp_path / "whole")
    kept = [path for path, at in drawn.items() if path.stat().st_mtime_ns == at]
    assert len(kept) >= 100  # what was finished was not drawn again


def test_predicting_goes_on_from_what_was_scored(run_cli: Run, parts: Path, trained_run: Path, tmp_path: Path) -> None:
    data, out = tmp_path / "many", tmp_path / "scores.csv"
    for copy in range(40):
        shutil.copytree(parts / "good", data / str(copy))
    journal = tmp_path / ".scores.csv.journal"
    words = ["predict", str(trained_run), str(data), "--out", str(out)]
    code, said = killed(words, lambda: journal.is_file() and journal.stat().st_size > 1000)
    assert code == -signal.SIGKILL, said
    assert not out.exists()
    with journal.open("a") as handle:
        handle.write('{"image": "cut o')  # as when the kill comes in the middle of a line
    answer = run_cli(*words)
    assert answer.code == 0
    reused = int(answer.err.split(" of 2400 photographs were scored before")[0].split()[-1])
    assert 100 < reused < 2400
    frame = pl.read_csv(out)
    assert len(frame) == 2400
    assert frame["error"].null_count() == 2400
    assert not journal.exists()


def limited(words: list[str], size: int) -> subprocess.CompletedProcess[str]:
    """Runs a command that may write no file larger than `size` bytes: the kernel's refusal is that of a full disk."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    command = [sys.executable, "-m", "knowngood", *words]
    return subprocess.run(command, capture_output=True, text=True, preexec_fn=limit, check=False)


@pytest.mark.parametrize("size", [1_000, 2_000_000])  # the pixels do not fit; the weights do not fit
def test_a_full_disk_while_training(
    run_cli: Run, parts: Path, tmp_path: Path, small: tuple[str, ...], size: int
) -> None:
    run = tmp_path / "run"
    words = ["train", str(parts), "--out", str(run), *small]
    done = limited(words, size)
    assert done.returncode == 2, done.stderr
    assert "The disk is full" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (run / "metrics.json").exists()
    assert run_cli(*words).code == 0  # there is space again


def test_a_full_disk_while_predicting_keeps_the_old_scores(
    run_cli: Run, parts: Path, trained_run: Path, tmp_path: Path
) -> None:
    out = tmp_path / "scores.csv"
    run_cli("predict", trained_run, parts / "chip", "--out", out)
    before = out.read_bytes()
    done = limited(["predict", str(trained_run), str(parts), "--out", str(out)], 3_000)
    assert done.returncode == 2, done.stderr
    assert "The disk is full" in done.stderr
    assert out.read_bytes() == before
    assert run_cli("predict", trained_run, parts, "--out", out).code == 0


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written(run_cli: Run, parts: Path, trained_run: Path, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    answer = run_cli("predict", trained_run, parts, "--out", locked / "scores.csv")
    assert answer.code == 2
    assert "No permission" in answer.err
