"""Hostile tables and annotation files: manifests, verdicts, lists of photographs, audits, COCO, YOLO, VOC, LabelMe ...

Each input is a sound file with one fault in it: bytes that were changed, a cell, field or attribute with another value,
a column that stands twice, a document that is nested without end. A reader may take it or refuse it with an error of
ours. An input has failed when anything else is raised, or when what was taken is wrong:

- a label, split, probability or box outside of its range, two images of one name, an image without a path;
- one changed cell of a table changes other rows than its own;
- two equal columns, or a row with more cells than the header, are taken.
"""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import io
import json
import math
import random
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import polars as pl
from fuzz_decoders import cut, flipped, longer, replaced, shorter, spliced

BYTES = {
    "flip bits": flipped,
    "replace bytes": replaced,
    "truncate": cut,
    "insert bytes": longer,
    "delete bytes": shorter,
    "splice": spliced,
}
DEEP = "[" * 100_000
CELLS = (
    "", " ", "nan", "NaN", "inf", "-inf", "1e999", "-1", "0", "1", "2", "0,5", "1e308", "9" * 400, "9" * 5000, "good",
    "bad", "true", "ok", "ng", "drop", "keep", "test", "train", "x" * 100_000, "../../etc/passwd", "/etc/passwd",
    "C:\\windows\\x.png", "file:///etc/passwd", "reference://x", "http://127.0.0.1:1/x.png", "a#page=2", "x.tif#page=0",
    "\ufeff", "\u202e", "\x00", "\x1b[2J", "\r", "=1+1", "'=1+1", "@SUM(A1)", "[]", "{}", "null", DEEP, '{"a":' * 5000,
    "[[0,0,1]]", "[[1,1,0,0]]", "[[NaN,0,1,1]]", "[[0,0,1e999,1]]", f"[[0,0,{'9' * 400},1]]", "[1,2,3,4]", "1;2;3;4",
    '["a"]', "[[[]]]", '"', '"a', "😀", "é", "\ud83d", "a\nb", "~", "~root/x", "$HOME", "%s%n", "{0}", "*", "a/b/../c",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 2, 1e308, -1e308, 0.5, float("nan"), float("inf"), 2**31, 2**63, 10**400, "", "x", "1",
    "nan", "\ud800", "../../etc/passwd", "x" * 100_000, [], {}, [None], [[]], [0] * 5000, {"a": {"b": []}}, {"": 1},
    [[0, 0]], [[0, 0, 0]], [0, 0, 0, 0, 0, 0], [1e308] * 6, [float("nan")] * 6, ["a"] * 6, {"counts": "a", "size": [1]},
    {"counts": [1e9], "size": [10**6, 10**6]}, {"counts": "PPYo" * 999, "size": [48, 60]}, {"counts": [-1, 5]},
)  # fmt: skip
HEADER = ("image", "label", "defect", "split", "lot", "unit", "probability", "box", "generated", "made_from", "mask")


def formats() -> ModuleType:
    """Returns the module that writes one set of photographs in each annotation format."""
    place = Path(__file__).parents[1] / "unit" / "data" / "sources" / "formats.py"
    spec = importlib.util.spec_from_file_location("formats", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["formats"] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


class WrongError(Exception):
    """Something was taken that is not right."""


def right(listing: Any) -> None:
    """Looks whether what a source lists is possible.

    Raises:
        WrongError: It is not.
    """
    from knowngood.data.records import SCHEMA, SPLITS

    frame = listing.frame
    if dict(frame.schema) != SCHEMA:
        raise WrongError(f"the table has the columns {dict(frame.schema)}")
    for row in frame.iter_rows(named=True):
        if row["label"] not in (None, 0, 1) or row["split"] not in (None, *SPLITS):
            raise WrongError(f"label {row['label']!r}, split {row['split']!r}")
        if row["probability"] is not None and not 0 <= row["probability"] <= 1:
            raise WrongError(f"probability {row['probability']!r}")
        if not row["image"] or not row["path"] or not Path(row["path"]).is_absolute():
            raise WrongError(f"image {row['image']!r} at {row['path']!r}")
        if row["label"] == 0 and row["defect"] is not None:
            raise WrongError(f"a good image with defect {row['defect']!r}")
        for box in row["box"] or ():
            if len(box) != 4 or not all(map(math.isfinite, box)) or box[0] >= box[2] or box[1] >= box[3]:
                raise WrongError(f"box {box}")
    if frame["image"].n_unique() != frame.height:
        raise WrongError("two images of one name")


class Tables:
    """Sound tables and annotation files in a folder, and what reads them.

    Args:
        folder: Empty; a set in each format is written into it.
        seed: Of the inputs.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.seed = seed
        writers = formats()
        photos = writers.photographs(folder / "photographs", good=2, bad=2)
        self.sets: list[tuple[str, Path, list[Path]]] = []
        for number, (source, write, _) in enumerate(writers.WRITERS.values()):
            root = write(photos, folder / str(number))
            files = [f for f in sorted(root.rglob("*")) if f.suffix in (".json", ".xml", ".txt", ".yaml")]
            self.sets.append((source, root, files))
        self.folder = folder / "tables"
        self.folder.mkdir()
        for photo in photos:
            (self.folder / photo.name).write_bytes(photo.file.read_bytes())
        self.names = [photo.name for photo in photos]
        self.others = [file.read_bytes() for *_, files in self.sets for file in files]

    def rows(self) -> list[list[str]]:
        """Returns the cells of a sound manifest, its header first."""
        made: list[list[str]] = [list(HEADER)]
        for number, name in enumerate(self.names):
            bad = name.startswith("bad")
            box = "[[8, 10, 20, 16]]" if bad else ""
            cells = [name, "bad" if bad else "good", "scratch" if bad else "", "train", f"L{number % 2}", f"u{number}"]
            made.append([*cells, "0.9" if bad else "0.1", box, "false", "", ""])
        return made

    def attack(self, number: int) -> tuple[str, str]:
        """Tries one input.

        Returns:
            Its kind, and "accepted" or "refused".

        Raises:
            Exception: Whatever else comes of it; the input has failed.
        """
        dice = random.Random(f"{self.seed}:{number}")
        way = dice.choice(list(_WAYS))
        return _WAYS[way](self, dice)

    def _manifest(self, dice: random.Random) -> tuple[str, str]:
        rows, kind = self.rows(), dice.choice(("cell", "cell", "cell", "bytes", "shape", "about"))
        sound = [list(row) for row in rows]
        changed: int | None = None
        must_refuse = False
        text = None
        if kind == "cell":
            changed, column = dice.randrange(1, len(rows)), dice.randrange(len(HEADER))
            rows[changed][column] = dice.choice(CELLS)
        elif kind == "shape":
            rows, must_refuse = _misshapen(rows, dice)
        text = _csv(rows, dice.choice(",;\t") if kind != "cell" else ",")
        data = text.encode(dice.choice(("utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252")), "replace")
        if kind == "bytes":
            data = BYTES[dice.choice(list(BYTES))](data, dice, self.others)
        elif kind == "about":
            about = dice.choice((DEEP, '{"notes":' * 9999, '{"licence": 1, "notes": [[], {}]}', "NaN", "\0", "[1]"))
            (self.folder / "about.json").write_text(about)
        file = self.folder / "manifest.csv"
        file.write_bytes(data)
        try:
            return f"manifest, {kind}", self._read_manifest(file, sound, changed, must_refuse)
        finally:
            (self.folder / "about.json").unlink(missing_ok=True)

    def _read_manifest(self, file: Path, sound: list[list[str]], changed: int | None, must_refuse: bool) -> str:
        from knowngood.data.sources.manifest import ManifestSource

        listing = _refused(lambda: _listed(ManifestSource(), file))
        if listing is None:
            return "refused"
        right(listing)
        if must_refuse:
            raise WrongError("a table of an impossible shape was taken")
        if changed is not None:
            for row, cells in zip(listing.frame.iter_rows(named=True), sound[1:], strict=True):
                name, label = cells[0], int(cells[1] == "bad")
                if name != sound[changed][0] and (row["image"], row["label"], row["unit"]) != (name, label, cells[5]):
                    raise WrongError(f"a cell of row {changed} has changed {row}")
        return "accepted"

    def _parquet(self, dice: random.Random) -> tuple[str, str]:
        from knowngood.data.sources.manifest import ManifestSource

        rows = self.rows()
        frame = pl.DataFrame({name: [row[n] for row in rows[1:]] for n, name in enumerate(rows[0])})
        kind = dice.choice(("type", "bytes"))
        if kind == "type":
            name = dice.choice(HEADER)
            frame = frame.with_columns(pl.Series(name, *_column(dice, frame.height), strict=False))
        stream = io.BytesIO()
        frame.write_parquet(stream)
        data = stream.getvalue()
        if kind == "bytes":
            data = BYTES[dice.choice(list(BYTES))](data, dice, [data])
        file = self.folder / "table.parquet"
        file.write_bytes(data)
        listing = _refused(lambda: _listed(ManifestSource(), file))
        if listing is not None:
            right(listing)
        return f"parquet, {kind}", "refused" if listing is None else "accepted"

    def _verdicts(self, dice: random.Random) -> tuple[str, str]:
        from knowngood.data.labels import VERDICTS, read_verdicts

        rows = [["image", "verdict", "defect"]]
        rows += [[name, dice.choice(VERDICTS), "scratch"] for name in self.names]
        sound = [list(row) for row in rows]
        kind, changed, must_refuse = dice.choice(("cell", "bytes", "shape")), 0, False
        if kind == "cell":
            changed, column = dice.randrange(1, len(rows)), dice.randrange(3)
            rows[changed][column] = dice.choice(CELLS)
        elif kind == "shape":
            rows, must_refuse = _misshapen(rows, dice)
        data = _csv(rows, ",").encode("utf-8", "replace")
        if kind == "bytes":
            data = BYTES[dice.choice(list(BYTES))](data, dice, self.others)
        file = self.folder / "verdicts.csv"
        file.write_bytes(data)
        frame = _refused(lambda: read_verdicts(file))
        if frame is None:
            return f"verdicts, {kind}", "refused"
        if must_refuse:
            raise WrongError("a table of an impossible shape was taken")
        if not set(frame["verdict"].to_list()) <= set(VERDICTS) or frame["image"].null_count():
            raise WrongError(f"verdicts {frame.to_dicts()}")
        found = dict(frame.select("image", "verdict").iter_rows())
        for number, (name, verdict, _) in enumerate(sound[1:], 1):
            if kind == "cell" and number != changed and found.get(name) != verdict:
                raise WrongError(f"a cell of row {changed} has changed the verdict on {name}")
        return f"verdicts, {kind}", "accepted"

    def _lists(self, dice: random.Random) -> tuple[str, str]:
        """Tries lists of photographs to score, and sample submissions."""
        from knowngood.errors import ImageError
        from knowngood.recipe.inputs import stream
        from knowngood.recipe.submission import read_sample

        rows = [["image", "label"], *([name, "0"] for name in self.names)]
        for _ in range(dice.randint(1, 2)):
            rows[dice.randrange(len(rows))][dice.randrange(2)] = dice.choice(CELLS)
        data = _csv(rows, ",").encode("utf-8", "replace")
        if dice.random() < 0.4:
            data = BYTES[dice.choice(list(BYTES))](data, dice, self.others)
        file = self.folder / "list.csv"
        file.write_bytes(data)
        if dice.random() < 0.3:
            sample = _refused(lambda: read_sample(file))
            if sample is not None and (len(sample.columns) != 2 or not all(sample.ids)):
                raise WrongError(f"sample {sample}")
            return "sample submission", "refused" if sample is None else "accepted"
        items = _refused(lambda: list(stream([file]).items))
        for item in items or ():
            if not item.name:
                raise WrongError("a photograph without a name")
            if "://" not in item.name:  # nothing outside of this machine is asked for
                with contextlib.suppress(ImageError):
                    item.read()
        return "list of photographs", "refused" if items is None else "accepted"

    def _audit(self, dice: random.Random) -> tuple[str, str]:
        from knowngood.data.labels import read_audit

        columns: dict[str, list[object]] = {"image": list(self.names), "outlier": [True, False] * 2}
        columns |= {"suspect": [True] * 4, "suspect_score": [0.5] * 4}
        stream = io.BytesIO()
        frame = pl.DataFrame(columns)
        if dice.random() < 0.6:
            name = dice.choice(list(columns))
            frame = frame.with_columns(pl.Series(name, *_column(dice, frame.height), strict=False))
        frame.write_parquet(stream)
        data = stream.getvalue()
        if dice.random() < 0.6:
            data = BYTES[dice.choice(list(BYTES))](data, dice, [data])
        file = self.folder / "audit.parquet"
        file.write_bytes(data)
        found = _refused(lambda: read_audit(file, list(columns)))
        if found is not None:
            kinds = {name: found.schema[name].base_type() for name in columns}
            plain = (pl.Boolean, pl.Null)
            if kinds["image"] != pl.String or kinds["outlier"] not in plain or kinds["suspect"] not in plain:
                raise WrongError(f"an audit with the columns {kinds}")
        return "audit", "refused" if found is None else "accepted"

    def _annotations(self, dice: random.Random) -> tuple[str, str]:
        from knowngood.data.sources import SOURCES

        source, root, files = dice.choice(self.sets)
        file = dice.choice(files)
        sound = file.read_bytes()
        kind = dice.choice(("value", "value", "bytes"))
        data = _other_value(file, sound, dice) if kind == "value" else b""
        if kind == "bytes":
            data = BYTES[dice.choice(list(BYTES))](sound, dice, self.others)
        file.write_bytes(data)
        try:
            listing = _refused(lambda: _listed(SOURCES.get(source)(), root))
            if listing is not None:
                right(listing)
            return f"{source}, {kind}", "refused" if listing is None else "accepted"
        finally:
            file.write_bytes(sound)


_WAYS: dict[str, Callable[[Tables, random.Random], tuple[str, str]]] = {
    "manifest": Tables._manifest,
    "parquet": Tables._parquet,
    "verdicts": Tables._verdicts,
    "lists": Tables._lists,
    "audit": Tables._audit,
    "annotations": Tables._annotations,
    "more annotations": Tables._annotations,
}


def _refused(read: Callable[[], Any]) -> Any:
    """Returns what is read, or None where it is refused with an error of ours."""
    from knowngood.errors import KnownGoodError

    try:
        return read()
    except KnownGoodError as error:
        if len(str(error)) > 20_000:
            raise WrongError(f"a message of {len(str(error)):,} letters") from error
        return None


def _listed(source: Any, place: Path) -> Any:
    """Returns what a source lists, with the checks that every table of records goes through."""
    from knowngood.data.records import validate

    listing = source.read(place)
    validate(listing.frame)
    return listing


def _csv(rows: list[list[str]], separator: str) -> str:
    return "".join(separator.join('"' + cell.replace('"', '""') + '"' for cell in row) + "\r\n" for row in rows)


def _misshapen(rows: list[list[str]], dice: random.Random) -> tuple[list[list[str]], bool]:
    """Returns a table that is out of shape, and whether it must be refused."""
    way = dice.randrange(6)
    if way == 0:  # a column stands twice
        column = dice.randrange(len(rows[0]))
        return [[*row, row[column]] for row in rows], True
    if way == 1:  # a row has a cell too many
        rows[dice.randrange(1, len(rows))].append("more")
        return rows, True
    if way == 2:
        return rows[:1], False
    if way == 3:
        return [row[: dice.randrange(len(row) + 1)] for row in rows], False
    if way == 4:  # a row stands twice: two images of one name
        return [*rows, rows[1]], True
    return [[*row, *(f"c{n}" if not k else "" for n in range(2000))] for k, row in enumerate(rows)], False


def _column(dice: random.Random, height: int) -> tuple[list[Any], Any]:
    """Returns values and type of a column that nobody expects."""
    values, kind = dice.choice((
        ([b"x"], pl.Binary), ([[1]], pl.List(pl.Int8)), ([{"a": 1}], pl.Struct({"a": pl.Int8})), ([None], pl.Null),
        ([2**63], pl.UInt64), ([1e308], pl.Float64), ([float("nan")], pl.Float32), (["a"], pl.Categorical),
        ([True], pl.Boolean), ([10**12], pl.Datetime("us")), ([5], pl.Duration("ms")), ([1], pl.Date),
        ([[[["a"]]]], pl.List(pl.List(pl.List(pl.String)))), (["\0"], pl.String), (["x" * 10**6], pl.String),
        ([[[0.0, 0.0, 1.0, 1.0]]], pl.List(pl.List(pl.Float64))), ([DEEP], pl.String),
        ([f"[[0,0,{'9' * 400},1]]"], pl.String),
    ))  # fmt: skip
    return values * height, kind


def _other_value(file: Path, sound: bytes, dice: random.Random) -> bytes:
    """Returns the text of an annotation file with one value that nobody expects."""
    if file.suffix == ".json":
        document = json.loads(sound)
        place, key = _place_in(document, dice)
        if place is None:
            return json.dumps(dice.choice(VALUES)).encode()
        if dice.random() < 0.1:
            del place[key]
        elif dice.random() < 0.05:
            return sound.replace(b"[", DEEP.encode(), 1)
        else:
            place[key] = copy.deepcopy(dice.choice(VALUES))
        return json.dumps(document).encode()
    text = sound.decode()
    if file.suffix == ".xml":
        return _other_xml(text, dice).encode("utf-8", "replace")
    words = text.split(" ")
    words[dice.randrange(len(words))] = dice.choice(CELLS)
    return " ".join(words).encode("utf-8", "replace")


def _place_in(document: Any, dice: random.Random) -> tuple[Any, Any]:
    """Returns a random place in a document: what holds it, and its key."""
    places: list[tuple[Any, Any]] = []
    waiting = [document]
    while waiting:
        one = waiting.pop()
        inside = list(one.items()) if isinstance(one, dict) else list(enumerate(one)) if isinstance(one, list) else []
        places += [(one, key) for key, _ in inside]
        waiting += [value for _, value in inside]
    return dice.choice(places) if places else (None, None)


def _other_xml(text: str, dice: random.Random) -> str:
    way = dice.randrange(5)
    if way == 0:
        bomb = "".join(f'<!ENTITY b{n} "{f"&b{n - 1};" * 10}">' for n in range(1, 12))
        return f'<!DOCTYPE a [<!ENTITY b0 "x">{bomb}]>' + text.replace("<object>", "<object>&b11;", 1)
    if way == 1:
        return text.replace(">", ">" + "<a>" * dice.choice((100, 300, 100_000)), 1)
    cells = [c for c in CELLS if not set(c) & set('<&"\x00\x1b')]
    found = list(re.finditer(r'(?<=>)[^<]+(?=<)|(?<=")[^"]*(?=")', text))
    if not found:
        return text[::-1]
    one = dice.choice(found)
    return text[: one.start()] + dice.choice(cells) + text[one.end() :]
