"""What the tests share: small photographs with a visible defect, the command line, and one trained run."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Before torch: on a busy machine two threads wait for each other many times longer than they work.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
from PIL import Image

SMALL = ("--model", "efficientnet_lite0", "--image-size", "64")  # its weights come with the extra "weights"


@dataclass(frozen=True)
class Answer:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one document on stdout; fails when there is anything else."""
        return json.loads(self.out)


def part(rng: np.random.Generator, bad: bool, size: int = 96) -> Image.Image:
    """Returns a photograph of a bright square part; a bad one has a dark spot."""
    pixels = rng.normal(90, 6, (size, size)) + rng.normal(0, 4)
    edge = size // 5
    pixels[edge:-edge, edge:-edge] += 60
    if bad:
        x, y = rng.integers(edge + 4, size - edge - 20, 2)
        pixels[y : y + 14, x : x + 14] = 20
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


@pytest.fixture(scope="session")
def photograph() -> Callable[..., Image.Image]:
    """Makes one photograph: photograph(rng, bad)."""
    return part


@pytest.fixture(scope="session")
def make_set() -> Callable[..., Path]:
    """Makes a folder with good/, chip/ and scratch/: make_set(root, good=30, bad=16, seed=0)."""

    def make(root: Path, good: int = 30, bad: int = 16, seed: int = 0) -> Path:
        rng = np.random.default_rng(seed)
        for kind, count in (("good", good), ("chip", bad // 2), ("scratch", bad - bad // 2)):
            (root / kind).mkdir(parents=True)
            for number in range(count):
                part(rng, kind != "good").save(root / kind / f"{kind}_{number:03}.png")
        return root

    return make


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory, make_set: Callable[..., Path]) -> Path:
    """A good small set; not to be changed."""
    return make_set(tmp_path_factory.mktemp("parts") / "parts", good=60, bad=30)


@pytest.fixture(scope="session")
def run_cli() -> Callable[..., Answer]:
    """Runs the command line in this process, errors and exit codes included: run_cli("check", folder)."""
    return _run_cli


def _run_cli(*words: object) -> Answer:
    from knowngood.cli.main import run

    out, err, before = io.StringIO(), io.StringIO(), sys.argv
    sys.argv = ["knowngood", *map(str, words)]
    code = 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            run()
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        sys.argv = before
    return Answer(code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory: pytest.TempPathFactory, parts: Path) -> Path:
    """A finished run on `parts`; not to be changed."""
    folder = tmp_path_factory.mktemp("runs") / "trained"
    answer = _run_cli("train", parts, "--out", folder, *SMALL)
    assert answer.code == 0, answer.err
    return folder


@pytest.fixture(scope="session")
def small() -> tuple[str, ...]:
    """Options that make a training take seconds."""
    return SMALL


@pytest.fixture(scope="session")
def two_workers() -> Iterator[object]:
    """The module ray, connected to one small cluster with room for two workers, whatever this machine has."""
    pytest.importorskip("ray", reason="the extra ray is not installed")
    from knowngood.scale.connecting import connected

    os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's own 15 makes tests crawl on a busy machine
    with connected(cpus=2) as one, connected() as same:  # it is there already, and stays
        assert same is one
        yield one


@pytest.fixture(scope="session")
def kill_once() -> Callable[[Path], tuple[threading.Thread, list[int]]]:
    """Kills a worker in the middle: kill_once(out) returns a thread, started, and a list for the worker's number."""

    def start(out: Path) -> tuple[threading.Thread, list[int]]:
        from knowngood.scale.parts import attempts_file, rows_file

        victims: list[int] = []

        def kill() -> None:
            begun = attempts_file(out, 1)
            while not (rows_file(out, 0).exists() and begun.exists() and (said := begun.read_text().split())):
                time.sleep(0.005)  # on a busy machine the file may be there before its words are
            victims.append(int(said[0]))
            os.kill(victims[0], signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        return killer, victims

    return start
