"""knowngood sign, and --require-signature."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from knowngood.recipe.manifest import seal

pytest.importorskip("cryptography", reason="the extra sign is not installed")
Run = Callable[..., Any]


@pytest.fixture
def place(trained_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained_run / "recipe", tmp_path / "run" / "recipe"))


def test_from_a_key_to_a_refusal(run_cli: Run, place: Path, parts: Path, tmp_path: Path) -> None:
    key, pub = tmp_path / "anna", tmp_path / "anna.pub"
    answer = run_cli("sign", "--new-key", key, "--json")
    assert answer.code == 0, answer.err
    assert answer.json["public_key"] == str(pub)
    mark = answer.json["key"]
    photographs = parts / "chip"
    answer = run_cli("predict", place, photographs, "--require-signature", pub)
    assert answer.code == 2
    assert "is not signed" in answer.err
    answer = run_cli("sign", place.parent, "--key", key, "--json")
    assert answer.json["key"] == mark
    assert run_cli("sign", "--verify", place, "--key", pub, "--json").json["key"] == mark
    assert run_cli("predict", place, photographs, "--require-signature", pub).code == 0
    assert run_cli("predict", place, photographs, "--require-signature", tmp_path).code == 0  # a folder of keys
    path = place / "recipe.json"
    document = json.loads(path.read_text())
    del document["seal"]
    document["calibration"]["bias"] = -20.0
    path.write_text(json.dumps(document | {"seal": seal(document)}))
    assert run_cli("predict", place, photographs).code == 0  # the seal alone does not notice
    for words in (
        ["predict", place, photographs, "--require-signature", pub],
        ["sign", "--verify", place, "--key", pub],
    ):
        answer = run_cli(*words)
        assert answer.code == 2
        assert "recipe.json has changed" in answer.err
        assert "knowngood sign" in answer.err
        assert "Traceback" not in answer.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "There is no RECIPE"),
        (["PLACE"], "There is no --key"),
        (["PLACE", "--new-key", "KEY"], "signs nothing"),
        (["PLACE", "--key", "nowhere"], "cannot be read"),
        (["nowhere", "--key", "KEY"], "no recipe"),
        (["PLACE", "--key", "KEY.pub"], "no private"),
        (["PLACE", "--verify", "--key", "KEY"], "no public"),
        (["PLACE", "--verify", "--key", "KEY.pub"], "not signed"),
        (["--new-key", "KEY"], "already"),
    ],
)
def test_mistakes(run_cli: Run, place: Path, tmp_path: Path, words: list[str], told: str) -> None:
    assert run_cli("sign", "--new-key", tmp_path / "key").code == 0
    filled = [word.replace("PLACE", str(place)).replace("KEY", str(tmp_path / "key")) for word in words]
    answer = run_cli("sign", *filled)
    assert answer.code == 2
    assert told in answer.err
    assert "Traceback" not in answer.err
