"""Scores folders of photographs: one bad file costs one row, a killed run goes on, a second run scores what is new."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import polars as pl

from knowngood.data.loading import refuse_in_data
from knowngood.data.pages import file_of, pages_of
from knowngood.data.records import PassedOver
from knowngood.data.tabular import read_frame
from knowngood.errors import CalibrationError, ConfigError, DataError
from knowngood.files import check_writable, storage_errors
from knowngood.metrics.thresholds import moved
from knowngood.progress import reporter
from knowngood.recipe.bundle import Recipe
from knowngood.recipe.engine import Profile, Scored
from knowngood.recipe.inputs import photographs_in, stream
from knowngood.recipe.session import AUTO, Session, announce, has_cascade, open_session
from knowngood.recipe.submission import as_submission, plain_sample, read_sample
from knowngood.tables import write_table

if TYPE_CHECKING:
    from knowngood.recipe.signing import Keys

CHUNK = 128  # rows between two flushes of the journal
PART = 4096  # rows that are put into one compact table
SCHEMA = {
    "image": pl.String(),
    "defect_score": pl.Float64(),
    "decision": pl.String(),
    "reason": pl.String(),
    "error": pl.String(),
    "sha256": pl.String(),
    "recipe": pl.String(),
    "runtime": pl.String(),
}
COLUMNS = tuple(SCHEMA)
Row = dict[str, Any]


def predict(  # noqa: PLR0913  (named, and each with a default)
    recipe: Recipe | str | Path,
    images: str | Path | Sequence[str | Path],
    *,
    out: str | Path | None = None,
    sample: str | Path | None = None,
    submission: bool = False,
    fresh: bool = False,
    runtime: str = AUTO,
    cascade: bool = True,
    any_product: bool = False,
    accept_below: float | None = None,
    reject_from: float | None = None,
    signed_by: Keys | None = None,
    profile: Profile | None = None,
    passed_over: PassedOver | None = None,
) -> pl.DataFrame:
    """Scores photographs, a row each.

    Args:
        recipe: A loaded recipe or its folder.
        images: Files, folders (searched through), archives, tables, URLs, or "-" for paths on standard input; see
            `knowngood.recipe.inputs.stream`.
        out: .csv or .parquet to write; rows of an earlier run with the same recipe and the same bytes are kept.
        sample: A contest's sample submission; `out` then has its columns and its ids, with defect scores.
        submission: Write `out` as a contest wants it, id,label, without a sample.
        fresh: Score everything again.
        runtime: What computes the scores: "torch", "openvino", "onnxruntime", or "auto" for the quickest that the
            recipe has an export for.
        cascade: Use the recipe's cascade where it has one, `runtime` is "auto" and no other cuts are tried.
        any_product: Decide by the score alone what does not look like the photographs that the recipe learned from;
            otherwise it is "review", its score is kept, and `reason` says why.
        accept_below: Another threshold, for a try; see `Recipe.with_thresholds`. The column recipe says so.
        reject_from: Another upper threshold, for a try.
        signed_by: Public keys of which one must have signed the recipe, as in `Recipe.load`.
        profile: Receives how busy each stage was.
        passed_over: Receives the files that are no photographs, by reason.

    Returns:
        A row a photograph, sorted by image. Columns image, defect_score (0..1, null where decision is "error"),
        decision ("accept", "review", "reject" or "error"), reason (why a person must look whatever the score, such as
        "not this product: ..."; null where the score decides), error, sha256, recipe (revision of what decided),
        runtime (what computed it).

    Raises:
        DataError: No photograph is found.
        ConfigError: The cuts are no pair in [0, 1].
        RecipeError: The recipe or its export cannot be loaded, or is not signed.
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
        refuse_in_data(target, folders_among(images))
    wanted = None if sample is None else read_sample(Path(sample))
    if signed_by is not None and isinstance(recipe, Recipe):
        raise ConfigError("A loaded recipe was verified when it was loaded.", fix="Recipe.load(folder, signed_by=KEYS)")
    loaded = recipe if isinstance(recipe, Recipe) else Recipe.load(recipe, signed_by=signed_by)
    session = deciding_session(loaded, runtime, accept_below, reject_from, cascade=cascade, any_product=any_product)
    say_unchecked(loaded, any_product)
    found = stream(images)
    known = _Known() if target is None or fresh else _known(target, session.revision)
    journal = None if target is None else target.with_name(f".{target.name}.journal")
    stages = profile or Profile()
    task = reporter().start("score", found.total)
    try:
        with (
            _appending(journal, target) as log,
            contextlib.closing(session.stream(found.items, known.has, profile=stages)) as scored,
        ):
            frame = _table(session, stages, scored, known, log, task)
    finally:
        reporter().finish(task)
    if passed_over is not None:
        passed_over.update(found.passed_over)
    if known.used:
        reporter().say(f"{known.used} of {len(frame)} photographs were scored before (--fresh scores them again)")
    if not frame["image"].is_sorted():
        frame = frame.sort("image")
    if target is not None:
        if wanted is None and submission:
            wanted = plain_sample(frame["image"])
        table = frame if wanted is None else as_submission(frame, wanted)
        write_table(table, target, protect=wanted is None)  # a contest wants its ids as they are
        assert journal is not None
        journal.unlink(missing_ok=True)
    return frame


def _table(
    session: Session, stages: Profile, scored: Iterator[Scored], known: _Known, log: IO[str] | None, task: int
) -> pl.DataFrame:
    """Returns the rows, kept compactly, and logs them as they come."""
    parts: list[pl.DataFrame] = [pl.DataFrame(schema=SCHEMA)]
    rows: list[Row] = []
    while chunk := list(islice(scored, CHUNK)):
        with stages.of("write"):
            made = [known.row(one) if one.known else row_of(one, session) for one in chunk]
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


def folders_among(images: str | Path | Sequence[str | Path]) -> list[str | Path]:
    """Returns those of the places that are folders of this machine."""
    places = [images] if isinstance(images, (str, Path)) else images
    return [place for place in places if "://" not in str(place) and Path(place).is_dir()]


def pictures(places: Iterable[str | Path], passed_over: PassedOver | None = None) -> list[Path]:
    """Returns the files named, and the photographs in the folders named, sorted, each once.

    Files that could be photographs of a kind that is not read are among them; masks and documents are not.

    Args:
        places: Files and folders.
        passed_over: Receives what is passed over.

    A TIFF file of several pages comes as one path a page.

    Raises:
        DataError: A place does not exist, or there is no picture at all.
    """
    found: dict[Path, None] = {}
    for place in map(Path, places):
        if place.is_dir():
            counted = PassedOver() if passed_over is None else passed_over
            found.update(dict.fromkeys(one.path for one in photographs_in(place, counted)))
        elif file_of(place).exists():
            found.update(dict.fromkeys(pages_of(place)[0]))
        else:
            raise DataError(f"There is no {place}.", expected="image files or folders", fix="Check the path.")
    if not found:
        raise DataError(
            f"No picture in {', '.join(map(str, places))}.",
            expected="files ending in .png, .jpg, .bmp, .tif ...",
            fix="Give a folder with photographs, or name the files.",
        )
    return list(found)


def say_unchecked(recipe: Recipe, any_product: bool = False) -> None:
    """Says once that a recipe takes photographs of any product, where nobody has asked for that."""
    if recipe.input_check is None and not any_product:
        reporter().say(
            f"{recipe.manifest.name} was trained before recipes knew their own photographs: another product gets a "
            "score and a decision like its own (training again mends that)"
        )


def row_of(scored: Scored, session: Session) -> Row:
    """Returns the row of a photograph, with the columns of `SCHEMA`.

    Args:
        scored: What the engine says of it.
        session: What decided.
    """
    return asdict(scored.prediction) | {
        "sha256": scored.digest,
        "recipe": session.revision,
        "runtime": session.label,
    }


def deciding_session(
    recipe: Recipe,
    runtime: str,
    accept_below: float | None,
    reject_from: float | None,
    *,
    cascade: bool = True,
    any_product: bool = False,
) -> Session:
    """Opens what decides and reports it: the recipe as it is or, with other cuts, a try and what it would let through.

    Scores of a try are those of the runtime that would decide anyway. A cascade has a rule for its own threshold alone
    and is left out of it.

    Raises:
        ConfigError: The cuts are no pair in [0, 1].
    """
    if accept_below is None and reject_from is None:
        session = open_session(recipe, runtime, cascade=cascade, any_product=any_product)
        announce(session)
        return session
    session = open_session(recipe, runtime, cascade=False)
    cuts = moved(session.thresholds, accept_below, reject_from)
    made = session.with_cuts(cuts)
    made = made.of_any_product() if any_product else made
    announce(made)
    if has_cascade(recipe) and runtime == AUTO:
        reporter().say("the cascade is left out: its rule holds for its own threshold alone")
    try:
        sentence = recipe.certified_at(cuts).sentence
        on = "" if session.exporter is None else " (Counted on the scores of the recipe itself, not of its export.)"
        reporter().say(f"A try: {sentence}{on}")
    except CalibrationError as error:
        reporter().say(f"A try, not certified: {error.what}")
    return made


class _Known:
    """Rows of earlier runs that are still good: a table, and where in it a name with these bytes is.

    Photographs that could not be read then are read again.

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
            frame = pl.read_parquet(target) if target.suffix == ".parquet" else read_frame(target)
            if set(COLUMNS) <= set(frame.columns):
                parts.append(frame.select(COLUMNS).cast(SCHEMA))  # type: ignore[arg-type]
        except (DataError, pl.exceptions.PolarsError):
            pass  # not ours: it is replaced, as --out asks
    journal = target.with_name(f".{target.name}.journal")
    if journal.is_file():
        rows = _journal_rows(journal)
        while some := list(islice(rows, PART)):
            parts.append(pl.DataFrame(some, schema=SCHEMA))
    readable = pl.col("sha256").is_not_null() & pl.col("defect_score").is_not_null()
    kept = pl.concat(parts).filter(readable & (pl.col("recipe") == revision))
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
