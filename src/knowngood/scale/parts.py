"""The work on disk: photographs listed in parts, a document that says what they belong to, a file of rows a part."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import polars as pl
from pydantic import BaseModel, ConfigDict, ValidationError

from knowngood.errors import ConfigError, DataError
from knowngood.files import storage_errors, write_json
from knowngood.tables import write_table

JOB, LIST, ROWS = "job.json", "list", "rows"
TRIES = 6  # workers that may be lost over a part: one that kills every worker must come to an end
FORMAT = 2


class Job(BaseModel):
    """What the parts in a folder belong to.

    Attributes:
        format: Of the folder.
        made_by: What makes the rows, with its revision, in words.
        listed: SHA-256 over the list of all photographs, in order.
        images: How many are worked on.
        part_size: Of these a part; the last has fewer.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = FORMAT
    made_by: str
    listed: str
    images: int
    part_size: int

    @property
    def parts(self) -> int:
        """How many parts there are."""
        return -(-self.images // self.part_size)

    def size(self, number: int) -> int:
        """Returns how many photographs of a part are worked on."""
        return min(self.part_size, self.images - number * self.part_size)


def prepared(
    out: Path,
    made_by: str,
    part_size: int,
    listed: Callable[[], Iterable[tuple[pl.DataFrame, int]]],
    *,
    fresh: bool = False,
    replace: bool = False,
) -> Job:
    """Writes the list of photographs, or finds that of an earlier run.

    Args:
        out: Folder of the parts.
        made_by: What makes the rows, with its revision, in words.
        part_size: Photographs a part.
        listed: For each part its list, and how many photographs of it are worked on: `part_size`, but in the last.
        fresh: Whether what an earlier run left is thrown away.
        replace: Whether that is done where it belongs to other work.

    Raises:
        ConfigError: The folder holds something else, or parts of other work.
        StorageError: It cannot be written.
    """
    before = earlier(out)
    if before is not None and fresh:
        emptied(out)
        before = None
    digest, count = hashlib.sha256(), 0
    for number, (frame, images) in enumerate(listed()):
        for row in frame.iter_rows():
            digest.update(b"\0".join([*map(_plain, row), b""]))
        count += images
        if before is None:
            write_table(frame, list_file(out, number))
    job = Job(made_by=made_by, listed=digest.hexdigest(), images=count, part_size=part_size)
    if before is None:
        write_json(out / JOB, job.model_dump())
    elif before != job:
        if replace:
            return prepared(out, made_by, part_size, listed, fresh=True)
        raise _another(out, before, job)
    return job


def list_of(out: Path, number: int) -> pl.DataFrame:
    """Returns the list of a part, numbered from 0.

    Raises:
        DataError: It cannot be read.
    """
    path = list_file(out, number)
    try:
        return pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"The list {path} cannot be read: {error}.", fix="--fresh makes it again.") from error


def list_file(out: Path, number: int) -> Path:
    """Returns where the list of a part is."""
    return out / LIST / f"{number:07}.parquet"


def rows_file(out: Path, number: int) -> Path:
    """Returns where the rows of a part are, once it is whole."""
    return out / ROWS / f"{number:07}.parquet"


def attempts_file(out: Path, number: int) -> Path:
    """Returns where the workers of a part are noted while the work goes on."""
    return out / ROWS / f".{number:07}.attempts.tmp"


def missing(out: Path, job: Job) -> list[int]:
    """Returns the parts that have no rows yet."""
    whole = {path.name for path in (out / ROWS).glob("*.parquet")}
    return [number for number in range(job.parts) if rows_file(out, number).name not in whole]


def note_attempt(out: Path, number: int) -> None:
    """Notes the workers that begin a part, a process number a line; `remove_partial` forgets them.

    Raises:
        DataError: It has cost too many of them.
        StorageError: It cannot be written.
    """
    path = attempts_file(out, number)
    with storage_errors(rows_file(out, number)):
        path.parent.mkdir(exist_ok=True)
        with path.open("a+") as handle:
            handle.write(f"{os.getpid()}\n")
            handle.seek(0)
            times = len(handle.readlines())
    if times > TRIES:
        raise DataError(
            f"Part {number} has cost {TRIES} workers; its photographs are named in {list_file(out, number)}.",
            expected="photographs that a worker survives, and enough memory for it",
            fix="More --worker-cores make fewer workers share a machine's memory; the same command tries again.",
        )


def remove_partial(out: Path) -> None:
    """Removes what killed workers left half written."""
    for path in (out / ROWS).glob(".*.tmp"):
        path.unlink(missing_ok=True)


def earlier(out: Path) -> Job | None:
    """Returns what an earlier run wrote, None where there was none or its list was not finished.

    Raises:
        ConfigError: The folder holds something else.
    """
    path = out / JOB
    if path.is_file():
        try:
            return Job.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise ConfigError(
                f"{path} is not what knowngood wrote.", fix="Give another --out, or remove that folder yourself."
            ) from error
    with storage_errors(out):
        strange = [one.name for one in out.iterdir() if one.name != LIST] if out.exists() else []
    if strange:
        raise ConfigError(
            f"{out} is not empty: it has {strange[0]}.",
            expected="a new folder, or one of an earlier --engine ray",
            fix="Give another --out.",
        )
    return None


def emptied(out: Path) -> None:
    """Removes an earlier run, its document last, so that a kill in between leaves a folder that is known to be ours."""
    with storage_errors(out):
        for kind in (ROWS, LIST):
            for path in (out / kind).glob("*.parquet"):
                path.unlink()
        remove_partial(out)
        for folder in (out / ROWS, out / LIST):
            if folder.is_dir():
                folder.rmdir()
        (out / JOB).unlink()


def _plain(value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogateescape")


def _another(out: Path, before: Job, now: Job) -> ConfigError:
    reasons = [
        (before.made_by != now.made_by, f"were made by {before.made_by}, this is {now.made_by}"),
        (
            before.part_size != now.part_size,
            f"have {before.part_size} photographs each, --part-size is {now.part_size}",
        ),
        (True, f"are of another list of photographs ({before.images} then, {now.images} now)"),
    ]
    return ConfigError(
        f"The parts in {out} {next(text for differs, text in reasons if differs)}.",
        expected="the same work, photographs and part size",
        fix="Give another --out; --fresh throws the parts away and begins again.",
    )
