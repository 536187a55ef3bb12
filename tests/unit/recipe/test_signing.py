"""Signatures: they hold for what was signed, by whom, and for nothing else."""

from __future__ import annotations

import json
import shutil
import stat
from pathlib import Path

import pytest

from knowngood import Recipe
from knowngood.errors import ConfigError, RecipeError
from knowngood.recipe.manifest import decision_digest, seal
from knowngood.recipe.signing import new_key, public_keys, sign, verify

pytest.importorskip("cryptography", reason="the extra sign is not installed")


@pytest.fixture
def place(trained_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained_run / "recipe", tmp_path / "recipe"))


@pytest.fixture
def key(tmp_path: Path) -> Path:
    new_key(tmp_path / "keys" / "anna")
    return tmp_path / "keys" / "anna"


def public(key: Path) -> Path:
    return key.with_name(key.name + ".pub")


def test_a_key_pair(tmp_path: Path) -> None:
    path, mark = new_key(tmp_path / "new" / "key")
    assert stat.S_IMODE((tmp_path / "new" / "key").stat().st_mode) == 0o600
    assert "PRIVATE" not in path.read_text()
    assert set(public_keys(path)) == {mark}
    with pytest.raises(ConfigError, match="already"):
        new_key(tmp_path / "new" / "key")


def test_what_was_signed_loads_wherever_it_is_copied(place: Path, key: Path, tmp_path: Path) -> None:
    made = sign(place, key)
    assert made.digest == decision_digest(place)
    assert verify(place, public(key)).key == made.signatures[0].key
    copied = Path(shutil.copytree(place, tmp_path / "run" / "recipe"))
    for keys in (public(key), str(public(key)), [public(key)], key.parent):
        assert Recipe.load(copied.parent, signed_by=keys).signed_by == keys
    assert Recipe.load(copied).signed_by is None  # nobody has to look


def forged(place: Path, **changes: object) -> None:
    path = place / "recipe.json"
    document = json.loads(path.read_text())
    del document["seal"]
    document |= changes
    path.write_text(json.dumps(document | {"seal": seal(document)}))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda p: forged(p, calibration={"temperature": 1e6, "bias": -9.0, "note": None}), "recipe.json has changed"),
        (lambda p: forged(p, name="ours"), "forged or damaged"),  # decides nothing, but is shown to people
        (lambda p: forged(p, metrics={}), "recipe.json has changed"),
        (lambda p: (p / "evidence.safetensors").unlink(), "evidence.safetensors is gone"),
        (lambda p: (p / "extra.safetensors").write_bytes(b"1"), "extra.safetensors has been added"),
        (lambda p: (p / "signature.json").unlink(), "not signed"),
        (lambda p: (p / "signature.json").write_text("[" * 100_000), "damaged"),
        (lambda p: (p / "signature.json").write_text("{}"), "damaged"),
    ],
)
def test_what_changed_since_is_refused(place: Path, key: Path, change: object, words: str) -> None:
    sign(place, key)
    change(place)  # type: ignore[operator]
    with pytest.raises(RecipeError, match=words):
        Recipe.load(place, signed_by=public(key))


def test_an_export_that_is_added_is_not_signed(place: Path, key: Path) -> None:
    sign(place, key)
    recipe = Recipe.load(place, signed_by=public(key))
    folder = place / "exports" / "openvino-int8"
    folder.mkdir(parents=True)
    (folder / "export.json").write_text("{}")
    with pytest.raises(RecipeError, match=r"exports/openvino-int8/export.json has been added"):
        Recipe.load(place, signed_by=public(key))
    with pytest.raises(RecipeError, match="has been added"):  # also when it comes after the recipe was loaded
        recipe.predict([])


def test_a_signature_that_is_made_up(place: Path, key: Path) -> None:
    sign(place, key)
    path = place / "signature.json"
    document = json.loads(path.read_text())
    document["signatures"][0]["signature"] = "AAAA" + document["signatures"][0]["signature"][4:]
    path.write_text(json.dumps(document))
    with pytest.raises(RecipeError, match="forged or damaged"):
        verify(place, public(key))
    document["signatures"][0]["signature"] = "no base64"
    path.write_text(json.dumps(document))
    with pytest.raises(RecipeError, match="forged or damaged"):
        verify(place, public(key))


def test_several_people_sign(place: Path, key: Path, tmp_path: Path) -> None:
    other, third = tmp_path / "ben", tmp_path / "carla"
    new_key(other), new_key(third)
    sign(place, key)
    assert len(sign(place, other).signatures) == 2
    assert len(sign(place, other).signatures) == 2  # once a person
    assert verify(place, public(key)).key != verify(place, public(other)).key
    with pytest.raises(RecipeError, match="none of whom is trusted"):
        verify(place, public(third))
    both = tmp_path / "both.pem"
    both.write_text(public(third).read_text() + public(other).read_text())
    assert verify(place, both).key == verify(place, public(other)).key
    forged(place, seed=5)
    assert len(sign(place, third).signatures) == 1  # the others have not signed this


@pytest.mark.parametrize("content", [b"", b"hello", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"])
def test_files_that_are_no_keys(place: Path, tmp_path: Path, content: bytes, key: Path) -> None:
    wrong = tmp_path / "wrong.pub"
    wrong.write_bytes(content)
    sign(place, key)
    for use in (lambda: verify(place, wrong), lambda: sign(place, wrong), lambda: verify(place, tmp_path / "none")):
        with pytest.raises(ConfigError):
            use()
    with pytest.raises(ConfigError, match="no private"):
        sign(place, public(key))
    with pytest.raises(ConfigError, match="no public"):
        verify(place, key)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="no public key in"):
        verify(place, tmp_path / "empty")
