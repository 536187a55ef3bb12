"""A short, seeded run of the fuzzer of the decoders; the long one is run by hand, its table is committed."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory and time are read from /proc")


@pytest.fixture(scope="module")
def fuzz() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fuzz_decoders", Path(__file__).with_name("fuzz_decoders.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_hostile_files_are_refused_or_decoded_right(fuzz: ModuleType, tmp_path: Path) -> None:
    out = tmp_path / "state.json"
    fuzz.run(150, seed=1, out=out)
    state = fuzz.run(400, seed=1, out=out)  # goes on
    assert state["done"] == 400
    assert state["failed"] == []
    assert sum(row["tried"] for row in state["by_mutation"].values()) == 400


def test_the_fuzzer_sees_a_crash_and_goes_on(fuzz: ModuleType, tmp_path: Path) -> None:
    watched = fuzz.Watched(tmp_path)
    try:
        sound = fuzz.corpus()["png L 0"]
        assert watched.ask(sound) | {"peak": 0} == {"outcome": "accepted", "peak": 0, "noise": 0, "other": "equal"}
        watched.process.kill()
        watched.process.wait()
        assert fuzz.failures_of(watched.ask(sound)) == ["crash"]
        assert watched.ask(sound)["outcome"] == "accepted"
    finally:
        watched.end()
