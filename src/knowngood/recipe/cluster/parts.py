"""The work on disk: photographs listed in parts, a document that says what they belong to, a file of rows a part."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TypeVar

import polars as pl
from pydantic import BaseModel, ConfigDict, ValidationError

from knowngood.errors import ConfigError, DataError
from knowngood.files import storage_errors, write_json
from knowngood.progress import track
from knowngood.recipe.engine.archives import members
from knowngood.recipe.engine.items import Item, item_at, stream
from knowngood.recipe.engine.remote import is_url
from knowngood.recipe.predicting import write_table

JOB, LIST, ROWS = "job.json", "list", "rows"
TRIES = 6  # workers that may be lost over a part: one that kills every worker must come to an end
FORMAT = 1
_LISTED = {"image": pl.String(), "place": pl.Binary(), "member": pl.Int64()}
T = TypeVar("T")


class Job(BaseModel):
    """What the parts in a folder belong to.

    Attributes:
        format: Of the folder.
        recipe: Revision of recipe and graph.
        listed: SHA-256 over names and places of all photographs, in order.
        images: How many there are.
        part_size: Photographs a part; the last has fewer.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int
    recipe: str
    listed: str
    images: int
    part_size: int

    @property
    def parts(self) -> int:
        """How many parts there are."""
        return -(-self.images // self.part_size)

    def size(self, number: int) -> int:
        """Returns how many photographs a part has."""
        return min(self.part_size, self.images - number * self.part_size)


def prepared(
    out: Path, images: str | Path | Sequence[str | Path], recipe: str, part_size: int, *, fresh: bool = False
) -> Job:
    """Writes the list of photographs, or finds that of an earlier run.

    Args:
        out: Folder of the parts.
        images: As in `knowngood.predict`.
        recipe: Revision of recipe and graph.
        part_size: Photographs a part.
        fresh: Whether what an earlier run left is thrown away.

    Raises:
        ConfigError: The folder holds something else, or another recipe's or list's parts.
        DataError: There is no photograph.
        StorageError: It cannot be written.
    """
    before = _before(out)
    if before is not None and fresh:
        _emptied(out)
        before = None
    place = out if before is None else None
    digest, count = hashlib.sha256(), 0
    items = track(stream(images, contents=False).items, "list")
    for number, some in enumerate(_pieces(items, part_size)):
        rows = [(one.name, _stored(one.place), one.member) for one in some]
        for name, where, member in rows:
            digest.update(b"\0".join((name.encode("utf-8", "surrogateescape"), where, str(member).encode(), b"")))
        count += len(rows)
        if place is not None:
            write_table(pl.DataFrame(rows, schema=_LISTED, orient="row"), _file(place, LIST, number))
    job = Job(format=FORMAT, recipe=recipe, listed=digest.hexdigest(), images=count, part_size=part_size)
    if before is None:
        write_json(out / JOB, job.model_dump())
    elif before != job:
        raise _another(out, before, job)
    return job


def items_of(out: Path, number: int) -> Iterator[Item]:
    """Yields the photographs of a part.

    Args:
        out: Folder of the parts.
        number: Of the part, from 0.

    Raises:
        DataError: An archive, or the list itself, cannot be read here.
    """
    path = _file(out, LIST, number)
    try:
        listed = pl.read_parquet(path).rows()
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"The list {path} cannot be read: {error}.", fix="--fresh makes it again.") from error
    at = 0
    while at < len(listed):
        name, where, member = listed[at]
        place = os.fsdecode(where)
        if member is None:
            yield item_at(name, place)
            at += 1
            continue
        for number_there, (_, read) in enumerate(members(Path(place), member), member):
            if number_there == listed[at][2]:
                yield Item(listed[at][0], read, place, number_there)
                at += 1
                if at == len(listed) or listed[at][1] != where or listed[at][2] is None:
                    break
        else:
            raise DataError(
                f"The archive {place} has fewer photographs than were listed.", fix="--fresh lists it anew."
            )


def rows_file(out: Path, number: int) -> Path:
    """Returns where the rows of a part are, once it is whole."""
    return _file(out, ROWS, number)


def begun_file(out: Path, number: int) -> Path:
    """Returns where the workers of a part are noted while the work goes on."""
    return out / ROWS / f".{number:07}.begun.tmp"


def missing(out: Path, job: Job) -> list[int]:
    """Returns the parts that have no rows yet."""
    whole = {path.name for path in (out / ROWS).glob("*.parquet")}
    return [number for number in range(job.parts) if rows_file(out, number).name not in whole]


def begun(out: Path, number: int) -> None:
    """Notes the workers that begin a part, a process number a line; `swept` forgets.

    Raises:
        DataError: It has cost too many of them.
        StorageError: It cannot be written.
    """
    path = begun_file(out, number)
    with storage_errors(rows_file(out, number)):
        path.parent.mkdir(exist_ok=True)
        with path.open("a+") as handle:
            handle.write(f"{os.getpid()}\n")
            handle.seek(0)
            times = len(handle.readlines())
    if times > TRIES:
        raise DataError(
            f"Part {number} has cost {TRIES} workers; its photographs are named in {_file(out, LIST, number)}.",
            expected="photographs that a worker survives, and enough memory for it",
            fix="More --worker-cores make fewer workers share a machine's memory; the same command tries again.",
        )


def swept(out: Path) -> None:
    """Removes what killed workers left half written."""
    for path in (out / ROWS).glob(".*.tmp"):
        path.unlink(missing_ok=True)


def _file(out: Path, kind: str, number: int) -> Path:
    return out / kind / f"{number:07}.parquet"


def _stored(place: str | Path) -> bytes:
    """Returns a place so that every machine and every file name is served: absolute, as bytes."""
    return os.fsencode(place if is_url(place) else os.path.abspath(place))


def _pieces(items: Iterator[T], size: int) -> Iterator[list[T]]:
    while some := list(islice(items, size)):
        yield some


def _before(out: Path) -> Job | None:
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


def _emptied(out: Path) -> None:
    """Removes an earlier run, its document last, so that a kill in between leaves a folder that is known to be ours."""
    with storage_errors(out):
        for kind in (ROWS, LIST):
            for path in (out / kind).glob("*.parquet"):
                path.unlink()
        swept(out)
        if (out / ROWS).is_dir():
            (out / ROWS).rmdir()
        (out / JOB).unlink()


def _another(out: Path, before: Job, now: Job) -> ConfigError:
    told = [
        (before.recipe != now.recipe, f"were scored by recipe {before.recipe}, this is {now.recipe}"),
        (
            before.part_size != now.part_size,
            f"have {before.part_size} photographs each, --part-size is {now.part_size}",
        ),
        (True, f"are of another list of photographs ({before.images} then, {now.images} now)"),
    ]
    return ConfigError(
        f"The parts in {out} {next(text for differs, text in told if differs)}.",
        expected="the same recipe, photographs and part size",
        fix="Give another --out; --fresh throws the parts away and scores everything again.",
    )
