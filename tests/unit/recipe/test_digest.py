"""The digest of a recipe changes with everything that decides, and with nothing else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from knowngood.errors import RecipeError
from knowngood.recipe.manifest import deciding_parts, decision_digest, seal


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder laid out like a recipe with an export and a cascade."""
    root = tmp_path / "recipe"
    _document(root / "recipe.json", calibration={"temperature": 1.0}, name="one", created="today", versions={"a": "1"})
    _document(root / "exports" / "openvino-int8" / "export.json", threshold={"threshold": 0.5}, created="today")
    (root / "exports" / "openvino-int8" / "model.bin").write_bytes(b"graph")
    _document(root / "cascade" / "cascade.json", low=0.1)
    _document(root / "cascade" / "student" / "recipe.json", calibration={"temperature": 2.0})
    for folder in (root, root / "cascade" / "student"):
        (folder / "weights.safetensors").write_bytes(b"tensors")
    return root


def _document(path: Path, **fields: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(fields | {"seal": seal(dict(fields))}))


def _changed(path: str, **fields: object) -> Callable[[Path], None]:
    def change(place: Path) -> None:
        document = json.loads((place / path).read_text())
        document.pop("seal")
        _document(place / path, **(document | fields))

    return change


def _bytes(path: str) -> Callable[[Path], None]:
    return lambda place: (place / path).write_bytes(b"other") and None


DECIDES = {
    "calibration": _changed("recipe.json", calibration={"temperature": 1.1}),
    "threshold of an export": _changed("exports/openvino-int8/export.json", threshold={"threshold": 0.4}),
    "rule of the cascade": _changed("cascade/cascade.json", low=0.2),
    "calibration of the student": _changed("cascade/student/recipe.json", calibration={"temperature": 3.0}),
    "weights": _bytes("weights.safetensors"),
    "weights of the student": _bytes("cascade/student/weights.safetensors"),
    "graph": _bytes("exports/openvino-int8/model.bin"),
    "file beside the graph": _bytes("exports/openvino-int8/more.bin"),
    "scores of the calibration": _bytes("calibration.safetensors"),
    "export removed": lambda place: shutil.rmtree(place / "exports"),
    "cascade removed": lambda place: shutil.rmtree(place / "cascade"),
}
IDLE = {
    "name": _changed("recipe.json", name="two"),
    "created": _changed("recipe.json", created="tomorrow"),
    "versions": _changed("recipe.json", versions={"a": "2"}),
    "date of the export": _changed("exports/openvino-int8/export.json", created="tomorrow"),
    "signature": _bytes("signature.json"),
    "system's files": _bytes(".DS_Store"),
    "page": _bytes("page.html"),
}


@pytest.mark.parametrize("what", sorted(DECIDES))
def test_what_decides_changes_it(place: Path, what: str) -> None:
    before = decision_digest(place)
    DECIDES[what](place)
    assert decision_digest(place) != before


@pytest.mark.parametrize("what", sorted(IDLE))
def test_what_decides_nothing_does_not(place: Path, what: str) -> None:
    before = decision_digest(place)
    IDLE[what](place)
    assert decision_digest(place) == before


def test_a_copy_elsewhere_has_the_same(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place, tmp_path / "elsewhere" / "copy")
    assert decision_digest(tmp_path / "elsewhere" / "copy") == decision_digest(str(place))
    assert list(deciding_parts(place)) == sorted(deciding_parts(place))


def test_what_is_no_recipe_is_refused(place: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no recipe"):
        decision_digest(tmp_path)
    (place / "recipe.json").write_text("[" * 100_000)
    with pytest.raises(RecipeError, match="nested"):
        decision_digest(place)
