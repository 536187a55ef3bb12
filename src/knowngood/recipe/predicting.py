"""Scores folders of photographs: one bad file costs one row, a killed run goes on, a second run scores what is new."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import polars as pl

from knowngood.data.images import read_bytes
from knowngood.data.sources.walking import Walker
from knowngood.errors import ConfigError, DataError, ImageError
from knowngood.files import storage_errors, whole_file
from knowngood.progress import reporter
from knowngood.recipe.bundle import Prediction, Recipe

CHUNK = 128
COLUMNS = ("image", "defect_score", "decision", "error", "sha256", "recipe")
Row = dict[str, Any]


def predict(
    recipe: Recipe | str | Path,
    images: str | Path | Sequence[str | Path],
    *,
    out: str | Path | None = None,
    sample: str | Path | None = None,
    fresh: bool = False,
) -> pl.DataFrame:
    """Scores photographs, a row each.

    Args:
        recipe: A loaded recipe or its folder.
        images: Files and folders (searched through).
        out: .csv or .parquet to write; rows of an earlier run with the same recipe and the same bytes are kept.
        sample: A contest's sample submission; `out` then has its columns and its ids, with defect scores.
        fresh: Score everything again.

    Returns:
        Columns image, defect_score (0..1), decision, error, sha256, recipe; a row a photograph, sorted by image.

    Raises:
        DataError: No photograph is found.
        RecipeError: The recipe cannot be loaded.
        StorageError: `out` cannot be written; scores so far are kept beside it and used by the next run.
    """
    target = None if out is None else Path(out)
    if target is not None and target.suffix.lower() not in (".csv", ".parquet"):
        raise ConfigError(f"{target} ends in {target.suffix!r}.", expected=".csv or .parquet", fix="Rename --out.")
    loaded = recipe if isinstance(recipe, Recipe) else Recipe.load(recipe)
    paths = pictures([images] if isinstance(images, (str, Path)) else images)
    revision = loaded.manifest.revision
    known = {} if target is None or fresh else _known(target, revision)
    rows: list[Row] = []
    journal = None if target is None else target.with_name(f".{target.name}.journal")
    task = reporter().start("score", len(paths))
    try:
        with _appending(journal) as log:
            for start in range(0, len(paths), CHUNK):
                chunk = _score(loaded, paths[start : start + CHUNK], known, revision)
                if log is not None:
                    log.write("".join(json.dumps(row) + "\n" for row in chunk))
                    log.flush()
                rows += chunk
                reporter().advance(task, len(chunk))
    finally:
        reporter().finish(task)
    frame = pl.DataFrame(rows, schema=_SCHEMA).sort("image")
    if target is not None:
        write_scores(frame, target, None if sample is None else Path(sample))
        assert journal is not None
        journal.unlink(missing_ok=True)
    return frame


_SCHEMA = {
    "image": pl.String(),
    "defect_score": pl.Float64(),
    "decision": pl.String(),
    "error": pl.String(),
    "sha256": pl.String(),
    "recipe": pl.String(),
}


def pictures(places: Iterable[str | Path]) -> list[Path]:
    """Returns the files named, and the pictures (by their endings) in the folders named, sorted, each once.

    Raises:
        DataError: A place does not exist, or there is no picture at all.
    """
    found: dict[Path, None] = {}
    for place in map(Path, places):
        if place.is_dir():
            found.update(dict.fromkeys(Walker().images(place)))
        elif place.exists():
            found[place] = None
        else:
            raise DataError(f"There is no {place}.", expected="image files or folders", fix="Check the path.")
    if not found:
        raise DataError(
            f"No picture in {', '.join(map(str, places))}.",
            expected="files ending in .png, .jpg, .bmp, .tif ...",
            fix="Give a folder with photographs, or name the files.",
        )
    return list(found)


def write_scores(frame: pl.DataFrame, target: Path, sample: Path | None = None) -> None:
    """Writes scores whole: as they are, or in the columns and with the ids of a sample submission.

    Raises:
        DataError: The sample names images that were not scored.
    """
    if sample is not None:
        frame = _as_submission(frame, sample)
    with whole_file(target) as scratch:
        if target.suffix.lower() == ".parquet":
            frame.write_parquet(scratch)
        else:
            frame.write_csv(scratch)


def _score(recipe: Recipe, paths: list[Path], known: dict[tuple[str, str], Row], revision: str) -> list[Row]:
    rows: list[Row | None] = []
    fresh: list[bytes] = []
    slots: list[tuple[int, str, str]] = []
    for path in paths:
        name = os.fsencode(path).decode("utf-8", "backslashreplace")
        try:
            data = read_bytes(path)
        except ImageError as error:
            rows.append(_row(Prediction(name, None, None, str(error)), None, revision))
            continue
        digest = hashlib.sha256(data).hexdigest()
        before = known.get((name, digest))
        if before is None:
            slots.append((len(rows), name, digest))
            fresh.append(data)
        rows.append(before)
    made = recipe.predict(fresh, [name for _, name, _ in slots])
    for (slot, _, digest), prediction in zip(slots, made, strict=True):
        rows[slot] = _row(prediction, digest, revision)
    return [row for row in rows if row is not None]


def _row(prediction: Prediction, digest: str | None, revision: str) -> Row:
    return asdict(prediction) | {"sha256": digest, "recipe": revision}


def _known(target: Path, revision: str) -> dict[tuple[str, str], Row]:
    """Returns rows of earlier runs that are still good: from the finished file and from a killed run's journal."""
    rows: list[Row] = []
    if target.is_file():
        try:
            frame = pl.read_parquet(target) if target.suffix == ".parquet" else pl.read_csv(target, infer_schema=False)
            if set(COLUMNS) <= set(frame.columns):
                rows += frame.select(COLUMNS).cast(_SCHEMA).to_dicts()  # type: ignore[arg-type]
        except pl.exceptions.PolarsError:
            pass  # not ours: it is replaced, as --out asks
    journal = target.with_name(f".{target.name}.journal")
    if journal.is_file():
        rows += _journal_rows(journal)
    return {(r["image"], r["sha256"]): r for r in rows if r["sha256"] and r["recipe"] == revision}


def _journal_rows(journal: Path) -> Iterator[Row]:
    with journal.open(encoding="utf-8", errors="replace") as handle:
        for line in handle:
            try:
                row = json.loads(line)
            except ValueError:
                continue  # the line that the kill cut off
            if isinstance(row, dict) and set(row) == set(COLUMNS):
                yield row


@contextlib.contextmanager
def _appending(journal: Path | None) -> Iterator[IO[str] | None]:
    if journal is None:
        yield None
        return
    with storage_errors(journal):
        journal.parent.mkdir(parents=True, exist_ok=True)
        with journal.open("a", encoding="utf-8") as handle:
            yield handle


def _as_submission(frame: pl.DataFrame, sample: Path) -> pl.DataFrame:
    with sample.open(newline="", encoding="utf-8-sig") as handle:
        rows = list(csv.reader(handle))
    if not rows or len(rows[0]) < 2:
        raise DataError(f"{sample} is no sample submission.", expected="a CSV with an id and a label column")
    header, ids = rows[0][:2], [row[0] for row in rows[1:] if row]
    by_name: dict[str, float | None] = {}
    for name, score in frame.select("image", "defect_score").iter_rows():
        by_name[Path(name).name] = by_name[Path(name).stem] = score
    missing = [i for i in ids if by_name.get(i) is None]
    if missing:
        raise DataError(
            f"{len(missing)} of the {len(ids)} ids in {sample} have no score, first {missing[0]!r}.",
            expected="a readable photograph for every id",
            fix="Give the folder with all test images.",
        )
    return pl.DataFrame({header[0]: ids, header[1]: [by_name[i] for i in ids]})
