"""Scores folders of photographs: one bad file costs one row, a killed run goes on, a second run scores what is new."""

from __future__ import annotations

import contextlib
import hashlib
import io
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
from knowngood.recipe.submission import as_submission, plain_sample, read_sample

CHUNK = 128
COLUMNS = ("image", "defect_score", "decision", "error", "sha256", "recipe")
Row = dict[str, Any]


def predict(
    recipe: Recipe | str | Path,
    images: str | Path | Sequence[str | Path],
    *,
    out: str | Path | None = None,
    sample: str | Path | None = None,
    submission: bool = False,
    fresh: bool = False,
) -> pl.DataFrame:
    """Scores photographs, a row each.

    Args:
        recipe: A loaded recipe or its folder.
        images: Files and folders (searched through).
        out: .csv or .parquet to write; rows of an earlier run with the same recipe and the same bytes are kept.
        sample: A contest's sample submission; `out` then has its columns and its ids, with defect scores.
        submission: Write `out` as a contest wants it, id,label, without a sample.
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
    if (sample is not None or submission) and target is None:
        raise ConfigError("A submission is asked for, and no --out says where it goes.", fix="--out submission.csv")
    wanted = None if sample is None else read_sample(Path(sample))
    loaded = recipe if isinstance(recipe, Recipe) else Recipe.load(recipe)
    paths = pictures([images] if isinstance(images, (str, Path)) else images)
    revision = loaded.manifest.revision
    known = {} if target is None or fresh else _known(target, revision)
    rows: list[Row] = []
    journal = None if target is None else target.with_name(f".{target.name}.journal")
    task = reporter().start("score", len(paths))
    try:
        with _appending(journal, target) as log:
            for start in range(0, len(paths), CHUNK):
                chunk = _score(loaded, paths[start : start + CHUNK], known, revision)
                if log is not None:
                    log.write("".join(json.dumps(row) + "\n" for row in chunk))
                    log.flush()
                rows += chunk
                reporter().advance(task, len(chunk))
    finally:
        reporter().finish(task)
    reused = sum(known.get((row["image"], row["sha256"])) is row for row in rows)
    if reused:
        reporter().say(f"{reused} of {len(rows)} photographs were scored before (--fresh scores them again)")
    frame = pl.DataFrame(rows, schema=_SCHEMA).sort("image")
    if target is not None:
        if wanted is None and submission:
            wanted = plain_sample(frame["image"])
        write_table(frame if wanted is None else as_submission(frame, wanted), target)
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


def write_table(frame: pl.DataFrame, target: Path) -> None:
    """Writes a table whole, as CSV if `target` ends in .csv, else as Parquet.

    Raises:
        StorageError: It cannot be written; what was there before is unchanged.
    """
    encoded = io.BytesIO()  # polars, writing to the disk itself, says of a full one "invalid thrift"
    if target.suffix.lower() == ".csv":
        frame.write_csv(encoded)
    else:
        frame.write_parquet(encoded)
    with whole_file(target) as scratch:
        scratch.write_bytes(encoded.getbuffer())


def _score(recipe: Recipe, paths: list[Path], known: dict[tuple[str, str], Row], revision: str) -> list[Row]:
    rows: list[Row | None] = []
    fresh: list[bytes] = []
    slots: list[tuple[int, str, str]] = []
    for path in paths:
        name = os.fsencode(path).decode("utf-8", "backslashreplace")
        try:
            data = read_bytes(path)
        except ImageError as error:
            rows.append(_row(Prediction(name, None, None, error.what), None, revision))
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
def _appending(journal: Path | None, target: Path | None) -> Iterator[IO[str] | None]:
    if journal is None or target is None:
        yield None
        return
    with storage_errors(target):
        journal.parent.mkdir(parents=True, exist_ok=True)
        with journal.open("a", encoding="utf-8") as handle:
            handle.write("\n")  # ends a line that a kill cut off
            yield handle
