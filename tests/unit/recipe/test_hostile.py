"""A recipe that anybody may have written: whatever stands in it, only errors of ours come out."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save

from knowngood import Recipe
from knowngood.errors import KnownGoodError, RecipeError
from knowngood.recipe.bundle import MANIFEST
from knowngood.recipe.cascade import CascadeDocument
from knowngood.recipe.exporting import ExportDocument
from knowngood.recipe.manifest import MOST_BYTES, seal

LIARS = [
    None, True, False, -1, 0, 1, 2, 17, 99, 1e-320, -1e308, 1e308, 0.5, 1.5, 2**31, 2**63, 10**4000, "", "x" * 100_000,
    "1", "nan", "\ud800", "../../etc/passwd", "line\nbreak", [], {}, [None], [[]], [99], {"a": {"b": []}}, [0] * 5000,
    ["x"], {"": 1}, [[0.9, 0.9, 0.1, 0.1]], [1e-320] * 3, {"threshold": 2},
]  # fmt: skip


@pytest.fixture(scope="module")
def place(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(trained_run / "recipe", tmp_path_factory.mktemp("hostile") / "recipe"))


@pytest.fixture
def document(trained_run: Path) -> dict[str, Any]:
    made: dict[str, Any] = json.loads((trained_run / "recipe" / MANIFEST).read_text())
    del made["seal"]
    return made


def put(place: Path, document: dict[str, Any]) -> None:
    """Writes a document with a seal that fits it."""
    (place / MANIFEST).write_text(json.dumps(document | {"seal": seal(document)}))


def fields(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yields the way to every value of a document."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inside:
        yield (*path, key)
        yield from fields(one, (*path, key))


def changed(document: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    made = copy.deepcopy(document)
    inside = made
    for key in path[:-1]:
        inside = inside[key]
    inside[path[-1]] = value
    return made


def test_any_value_in_any_field_gives_a_recipe_or_an_error_of_ours(
    place: Path, document: dict[str, Any], parts: Path
) -> None:
    generator = random.Random(17)
    decides = ("format", "kind", "networks", "preprocessing", "calibration", "threshold", "classes", "weights_sha256")
    ways = [one for one in fields(document) if one[0] in decides]
    ways += generator.sample([one for one in fields(document) if one[0] not in decides], 15)
    data = (parts / "good" / "good_000.png").read_bytes()
    loaded, told = 0, [""]
    for way in ways:
        for liar in generator.sample(LIARS, 3):
            put(place, changed(document, way, liar))
            try:
                recipe = Recipe.load(place)
            except KnownGoodError as error:
                told.append(str(error))
                continue
            loaded += 1
            if way[0] in decides:
                (said,) = recipe.predict(data)
                assert said.decision in {"accept", "review", "reject", "error"}, way
    assert loaded  # some values are as good as those that were there
    assert max(map(len, told)) < 1000  # a value of 100,000 letters is not shown


@pytest.mark.parametrize(
    ("way", "value"),
    [
        (("calibration", "temperature"), 1e-320),
        (("calibration", "temperature"), -1.0),
        (("calibration", "bias"), 1e300),
        (("networks", 0, "stages"), [99]),
        (("networks", 0, "stages"), [31]),
        (("networks", 0, "stages"), []),
        (("networks", 0, "stages"), [4, 2]),
        (("networks", 0, "supports"), 5_000_000),
        (("networks", 0, "std"), [0.0, 0.5, 0.5]),
        (("networks", 0, "height"), 10**9),
        (("networks", 0, "backbone"), "resnet18"),
        (("networks", 0, "backbone"), "nobody_knows_it"),
        (("networks", 0, "head"), "patch_memory"),
        (("kind",), "one-class"),
        (("name",), "x" * 10_000_000),
        (("name",), "x" * 300),
        (("threshold", "threshold"), 1.5),
        (("threshold", "threshold"), "0.5"),
        (("threshold", "reject_from"), 0.0),
        (("threshold", "escapes"), -1),
        (("threshold", "confidence"), 7),
        (("threshold",), {}),
        (("preprocessing", "roi"), [[0.5, 0.5, 0.4, 0.6]]),
        (("preprocessing", "roi"), [[0.0, 0.0, 1.0, 1.0]] * 2000),
        (("seed",), 10**30),
        (("networks",), [{}] * 100_000),
        (("config",), {str(n): n for n in range(5000)}),
        (("evidence_sha256",), "0" * 64),
    ],
)
def test_a_forged_field_under_a_new_seal_is_refused(
    place: Path, document: dict[str, Any], way: tuple[Any, ...], value: Any
) -> None:
    put(place, changed(document, way, value))
    with pytest.raises(RecipeError) as caught:
        Recipe.load(place)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "text",
    [
        '{"format": NaN}',
        '{"format": Infinity}',
        '{"format": -Infinity}',
        '{"format": 1e999}',
        '{"a": ' * 100_000,
        "[" * 100_000,
        '{"a": ' * 200 + "1" + "}" * 200,
        '{"format": ' + "9" * 5000 + "}",
        '{"format": 3, "format": 2}',
        '{"name": "\\ud800"}',
        "\x00\x01",
        '{"a": "' + "x" * MOST_BYTES + '"}',
        "{" + ",".join(f'"{n}":{n}' for n in range(250_000)) + "}",
        "\ufeff{}",
        "",
    ],
    ids=range(15),
)
def test_texts_that_are_no_document(place: Path, text: str) -> None:
    (place / MANIFEST).write_text(text)
    with pytest.raises(RecipeError, match="damaged"):
        Recipe.load(place)


def test_bytes_that_are_no_text_and_places_that_are_none(place: Path, tmp_path: Path) -> None:
    (place / MANIFEST).write_bytes(b"\xff\xfe\x00{}")
    with pytest.raises(RecipeError, match="damaged"):
        Recipe.load(place)
    (tmp_path / "report.html").write_text("<html>")
    with pytest.raises(RecipeError, match="no recipe"):
        Recipe.load(tmp_path / "report.html")


@pytest.mark.parametrize("file", ["weights.safetensors", "evidence.safetensors"])
def test_tensors_that_anybody_may_have_written(
    place: Path, document: dict[str, Any], trained_run: Path, parts: Path, file: str
) -> None:
    whole = (trained_run / "recipe" / file).read_bytes()
    tensors = load(whole)
    header = 8 + int.from_bytes(whole[:8], "little")
    # What a layer counts in whole numbers decides nothing, and torch does without.
    first = next(name for name, one in tensors.items() if one.dtype != np.int64)
    contents = [
        b"", b"\x00", whole[:100], whole[:-1], whole + b"\x00", b"\xff" * 1000,
        (2**62).to_bytes(8, "little") + whole[8:],
        whole[:8] + whole[8:header].replace(b"F32", b"F8_E4M3").replace(b"F64", b"BF16") + whole[header:],
        whole[:8] + b"[" * (header - 8) + whole[header:],
        save({}), save({"x": np.zeros(3)}), save({name: one[:0] for name, one in tensors.items() if one.ndim}),
        save({name: np.full_like(one, 255 if one.dtype == np.uint8 else np.nan) for name, one in tensors.items()}),
        save({name: one for name, one in tensors.items() if name != first}),
        save({name: one[None] for name, one in tensors.items()}),
    ]  # fmt: skip
    data = (parts / "good" / "good_000.png").read_bytes()
    for number, content in enumerate(contents):
        (place / file).write_bytes(content)
        put(place, document | {file.split(".", maxsplit=1)[0] + "_sha256": hashlib.sha256(content).hexdigest()})
        with contextlib.suppress(KnownGoodError):
            (said,) = Recipe.load(place).predict(data)
            assert file.startswith("evidence") or said.decision == "error", number  # no sound tensors, no decision
    (place / file).write_bytes(whole)


EXPORT = {
    "format": 1, "recipe": "abc", "exporter": "onnx", "precision": "int8", "created": "now", "shape": [1, 64, 64],
    "map_kind": None, "folded": True, "wide": [], "threshold": {"threshold": 0.5, "reject_from": 0.5},
    "tolerance": {"max_score": 0.05, "max_auc_loss": 0.001, "min_correlation": 0.99, "max_overkill": 0.01,
                  "min_likeness": 0.9},
    "parity": {}, "sample": 3, "versions": {}, "files": {"model.onnx": "0" * 64},
}  # fmt: skip
CASCADE = {
    "format": 1, "created": "now", "certainty": 0.5, "low": 0.1, "high": 2.0, "figures": {},
    "threshold": {"threshold": 0.5, "reject_from": 0.5},
    "large": {"revision": "abc", "runtime": "torch", "precision": "fp32"},
    "student": {"revision": "def", "runtime": "torch", "precision": "fp32"},
}  # fmt: skip


@pytest.mark.parametrize(("name", "document"), [("export.json", EXPORT), ("cascade.json", CASCADE)])
def test_documents_of_exports_and_cascades_have_ranges_too(tmp_path: Path, name: str, document: dict[str, Any]) -> None:
    def load() -> None:
        if name == "export.json":
            ExportDocument.load(tmp_path, "abc")
        else:
            CascadeDocument.load(tmp_path)

    for way in fields(document):
        for liar in LIARS:
            made = changed(document, way, liar)
            (tmp_path / name).write_text(json.dumps(made | {"seal": seal(made)}))
            if name == "cascade.json":
                with contextlib.suppress(RecipeError):
                    load()
            else:
                with pytest.raises(RecipeError):  # its file is not there, whatever else
                    load()
    for text in ('{"low": NaN}', "[" * 100_000, '{"low": 1e999}', "{}"):
        (tmp_path / name).write_text(text)
        with pytest.raises(RecipeError):
            load()


def test_a_file_that_an_export_does_not_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"graph")
    made = EXPORT | {"files": {"model.onnx": hashlib.sha256(b"graph").hexdigest()}}
    (tmp_path / "export.json").write_text(json.dumps(made | {"seal": seal(made)}))
    assert ExportDocument.load(tmp_path, "abc").precision == "int8"
    (tmp_path / "model.data").write_bytes(b"weights of somebody else")
    with pytest.raises(RecipeError, match=r"model\.data is not among"):
        ExportDocument.load(tmp_path, "abc")
