"""Scores folders of photographs: one bad file costs one row, a killed run goes on, a second run scores what is new."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import IO, Any

import polars as pl

from knowngood.data.sources.walking import Walker
from knowngood.errors import ConfigError, DataError
from knowngood.files import check_writable, storage_errors
from knowngood.progress import reporter
from knowngood.recipe.bundle import Recipe
from knowngood.recipe.cascade.opening import opened
from knowngood.recipe.engine.items import stream
from knowngood.recipe.engine.pipeline import Engine, Scored
from knowngood.recipe.engine.profile import Profile
from knowngood.recipe.runtimes.choosing import AUTO
from knowngood.recipe.submission import as_submission, plain_sample, read_sample
from knowngood.tables import write_table

CHUNK = 128  # rows between two flushes of the journal
PART = 4096  # rows that are put into one compact table
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
    runtime: str = AUTO,
    cascade: bool = True,
    profile: Profile | None = None,
) -> pl.DataFrame:
    """Scores photographs, a row each.

    Args:
        recipe: A loaded recipe or its folder.
        images: Files, folders (searched through), archives, tables, URLs, or "-" for paths on standard input; see
            `knowngood.recipe.engine.items.stream`.
        out: .csv or .parquet to write; rows of an earlier run with the same recipe and the same bytes are kept.
        sample: A contest's sample submission; `out` then has its columns and its ids, with defect scores.
        submission: Write `out` as a contest wants it, id,label, without a sample.
        fresh: Score everything again.
        runtime: What computes the scores: "torch", "openvino", "onnxruntime", or "auto" for the quickest that the
            recipe has an export for.
        cascade: Use the recipe's cascade where it has one and `runtime` is "auto".
        profile: Is told how busy each stage was.

    Returns:
        Columns image, defect_score (0..1), decision, error, sha256, recipe; a row a photograph, sorted by image.

    Raises:
        DataError: No photograph is found.
        RecipeError: The recipe or its export cannot be loaded.
        MissingExtraError: The runtime asked for is not installed.
        StorageError: `out` cannot be written; scores so far are kept beside it and used by the next run.
    """
    target = None if out is None else Path(out)
    if target is not None and target.suffix.lower() not in (".csv", ".parquet"):
        raise ConfigError(f"{target} ends in {target.suffix!r}.", expected=".csv or .parquet", fix="Rename --out.")
    if (sample is not None or submission) and target is None:
        raise ConfigError("A submission is asked for, and no --out says where it goes.", fix="--out submission.csv")
    if target is not None:
        check_writable(target, folder=False)
    wanted = None if sample is None else read_sample(Path(sample))
    scoring = opened(recipe, runtime, cascade=cascade)
    found = stream(images)
    known = _Known() if target is None or fresh else _known(target, scoring.revision)
    journal = None if target is None else target.with_name(f".{target.name}.journal")
    engine = Engine(scoring, profile=profile)
    task = reporter().start("score", found.total)
    try:
        with _appending(journal, target) as log, contextlib.closing(engine.run(found.items, known.has)) as scored:
            frame = _table(engine, scored, known, log, task)
    finally:
        reporter().finish(task)
    if known.used:
        reporter().say(f"{known.used} of {len(frame)} photographs were scored before (--fresh scores them again)")
    if not frame["image"].is_sorted():
        frame = frame.sort("image")
    if target is not None:
        if wanted is None and submission:
            wanted = plain_sample(frame["image"])
        write_table(frame if wanted is None else as_submission(frame, wanted), target)
        assert journal is not None
        journal.unlink(missing_ok=True)
    return frame


def _table(engine: Engine, scored: Iterator[Scored], known: _Known, log: IO[str] | None, task: int) -> pl.DataFrame:
    """Returns the rows, kept compactly, and logs them as they come."""
    parts: list[pl.DataFrame] = [pl.DataFrame(schema=SCHEMA)]
    rows: list[Row] = []
    revision = engine.scoring.revision
    while chunk := list(islice(scored, CHUNK)):
        with engine.profile.of("write"):
            made = [known.row(one) if one.known else row_of(one, revision) for one in chunk]
            if log is not None:
                log.write("".join(json.dumps(row) + "\n" for row in made))
                log.flush()
            rows += made
            if len(rows) >= PART:
                parts.append(pl.DataFrame(rows, schema=SCHEMA))
                rows = []
        reporter().advance(task, len(chunk))
    parts.append(pl.DataFrame(rows, schema=SCHEMA))
    return pl.concat(parts)


SCHEMA = {
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


def row_of(scored: Scored, revision: str) -> Row:
    """Returns the row of a photograph, with the columns of `SCHEMA`.

    Args:
        scored: What the engine says of it.
        revision: Of recipe and graph.
    """
    return asdict(scored.prediction) | {"sha256": scored.digest, "recipe": revision}


class _Known:
    """Rows of earlier runs that are still good: a table, and where in it a name with these bytes is.

    Args:
        frame: Columns `COLUMNS`; of rows for the same photograph the last counts.

    Attributes:
        used: How many rows were taken over.
    """

    def __init__(self, frame: pl.DataFrame | None = None) -> None:
        self.frame = pl.DataFrame(schema=SCHEMA) if frame is None else frame
        self.used = 0
        self._place = {
            _key(name, digest): row for row, (name, digest) in enumerate(self.frame["image", "sha256"].iter_rows())
        }

    def has(self, name: str, digest: str) -> bool:
        """Says whether a photograph was scored before."""
        return _key(name, digest) in self._place

    def row(self, scored: Scored) -> Row:
        """Returns the row of one that was."""
        self.used += 1
        assert scored.digest is not None
        return self.frame.row(self._place[_key(scored.prediction.image, scored.digest)], named=True)


def _key(name: str, digest: str) -> bytes:
    return hashlib.blake2b(f"{digest}{name}".encode(), digest_size=16).digest()


def _known(target: Path, revision: str) -> _Known:
    """Returns rows of earlier runs that are still good: from the finished file and from a killed run's journal."""
    parts = [pl.DataFrame(schema=SCHEMA)]
    if target.is_file():
        try:
            frame = pl.read_parquet(target) if target.suffix == ".parquet" else pl.read_csv(target, infer_schema=False)
            if set(COLUMNS) <= set(frame.columns):
                parts.append(frame.select(COLUMNS).cast(SCHEMA))  # type: ignore[arg-type]
        except pl.exceptions.PolarsError:
            pass  # not ours: it is replaced, as --out asks
    journal = target.with_name(f".{target.name}.journal")
    if journal.is_file():
        rows = _journal_rows(journal)
        while some := list(islice(rows, PART)):
            parts.append(pl.DataFrame(some, schema=SCHEMA))
    kept = pl.concat(parts).filter(pl.col("sha256").is_not_null() & (pl.col("recipe") == revision))
    return _Known(kept)


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
