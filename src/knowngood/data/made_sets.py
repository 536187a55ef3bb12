"""The folder of a set that a program makes: resumed after a kill, and a data source only once it is complete."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, TypeVar

import polars as pl

from knowngood.data.processes import by_processes
from knowngood.data.records import BAD, GOOD, SPLITS, Records
from knowngood.data.sources.manifest import ABOUT
from knowngood.errors import ConfigError
from knowngood.files import storage_errors, whole_file, write_json
from knowngood.progress import reporter

MANIFEST, NOTES = "manifest.parquet", ".making"


class Numbered(Protocol):
    """Something to make."""

    @property
    def number(self) -> int:
        """Which of the set it is."""
        ...


J = TypeVar("J", bound=Numbered)


@dataclass(frozen=True)
class MadeSet:
    """A folder with manifest.parquet, about.json, folders of images and masks/.

    Attributes:
        out: The folder.
        made_by: What about.json says of who made it: sets of others are never replaced.
        kind: What such a set is called in messages: "augmented set".
        folders: Patterns of the folders of images in it.
    """

    out: Path
    made_by: str
    kind: str
    folders: tuple[str, ...]

    @property
    def notes(self) -> Path:
        """Folder with a file for each chunk that is whole."""
        return self.out / NOTES

    def check_place(self, records: Records) -> None:
        """Refuses a folder whose images would be read as photographs of `records`.

        Raises:
            ConfigError: It is a file, or lies inside of the data.
        """
        if self.out.exists() and not self.out.is_dir():
            raise ConfigError(f"{self.out} is a file.", expected="a folder", fix="Choose another --out.")
        place, root = self.out.resolve(), records.root.resolve()
        walked = records.source != "manifest"  # a table lists its images, whatever else lies beside them
        if place == root or (walked and root.is_dir() and root in place.parents):
            raise ConfigError(
                f"{self.out} lies inside of the data {root}: the copies would be read as photographs.",
                fix="Choose an --out beside the data.",
            )

    def about(self) -> dict[str, Any] | None:
        """Returns what about.json says, or None where there is no such set."""
        try:
            found = json.loads((self.out / ABOUT).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) and found.get("made_by") == self.made_by else None

    def open(self, about: dict[str, Any], force: bool) -> bool:
        """Returns whether the set is whole already; if not, leaves the folder ready to start or to resume.

        Args:
            about: What about.json is to say; `config`, `data` and `version` decide whether a set is the same one.
            force: Replace whatever set of this kind is there.

        Raises:
            ConfigError: The folder holds something else, or another set.
            StorageError: It cannot be written.
        """
        found = self.about()
        if found is None and self.out.is_dir() and any(self.out.iterdir()):
            raise ConfigError(
                f"{self.out} is not empty and holds no {self.kind}.",
                expected=f"an empty folder or none (--force replaces {self.kind}s, not other files)",
                fix="Choose another --out.",
            )
        if found is not None and not force:
            self._check_same(found, about)
            done = bool(found.get("complete")) and (self.out / MANIFEST).is_file()
            reporter().say(f"the set in {self.out} is {'finished already' if done else 'continued'}")
            return done
        with storage_errors(self.out):
            if found is not None:
                self._clear()
            self.out.mkdir(parents=True, exist_ok=True)
        write_json(self.out / ABOUT, about | {"made_by": self.made_by, "complete": False})
        return False

    def make_all(
        self, chunks: Sequence[Sequence[J]], work: Callable[[Sequence[J]], int], workers: int, title: str
    ) -> None:
        """Makes the chunks that have no notes yet; `work` makes one, writes its notes last and says how many."""
        missing = [chunk for chunk in chunks if not notes_of(self.notes, chunk).is_file()]
        to, total = reporter(), sum(map(len, missing))
        task = to.start(title, total)
        try:
            for _, made in by_processes(work, missing, min(workers, max(1, len(missing)))):
                to.advance(task, made)
        finally:
            to.finish(task)

    def rows(self, chunks: Sequence[Sequence[J]]) -> list[dict[str, Any]]:
        """Returns the notes of all chunks, in their order."""
        rows: list[dict[str, Any]] = []
        for chunk in chunks:
            rows += json.loads(notes_of(self.notes, chunk).read_text(encoding="utf-8"))
        return rows

    def finish(self, frame: pl.DataFrame, about: dict[str, Any]) -> None:
        """Writes the manifest and says in about.json that the set is whole."""
        with whole_file(self.out / MANIFEST) as scratch:
            frame.write_parquet(scratch)
        write_json(self.out / ABOUT, about | {"made_by": self.made_by, "complete": True})
        shutil.rmtree(self.notes, ignore_errors=True)

    def _check_same(self, found: dict[str, Any], about: dict[str, Any]) -> None:
        changed = [name for name in about["config"] if found.get("config", {}).get(name) != about["config"][name]]
        if changed or any(found.get(name) != about[name] for name in ("data", "version")):
            what = f"other options ({', '.join(changed)})" if changed else "other images, labels or splits"
            raise ConfigError(
                f"{self.out} holds a set of {what}.", fix="Choose another --out, or replace it with --force."
            )

    def _clear(self) -> None:
        """Removes an earlier set, and nothing that is not one; what says that it is one goes last."""
        (self.out / MANIFEST).unlink(missing_ok=True)
        images = [folder for pattern in self.folders for folder in self.out.glob(pattern)]
        for folder in (*images, self.out / "masks", self.notes):
            shutil.rmtree(folder, ignore_errors=True)
        (self.out / ABOUT).unlink(missing_ok=True)


def chunked(jobs: Sequence[J], size: int) -> list[list[J]]:
    """Returns the jobs in pieces of `size`, in their order."""

    def pieces() -> Iterator[list[J]]:
        waiting = iter(jobs)
        while chunk := list(islice(waiting, size)):
            yield chunk

    return list(pieces())


def notes_of(notes: Path, chunk: Sequence[Numbered]) -> Path:
    """Returns where the notes on a chunk lie."""
    return notes / f"{chunk[0].number:08d}-{chunk[-1].number:08d}.json"


def name_of(folder: str, number: int) -> str:
    """Returns an image's name below the set's folder."""
    return f"{folder}/{number // 1000:05d}/{number:08d}.png"


LISTED: dict[str, pl.DataType] = {  # what every set that a program makes says of its images
    "image": pl.String(),  # absolute path of an original, or path of a made one below the manifest's folder
    "known_as": pl.String(),  # what the set that it was made of calls an original
    "label": pl.String(),
    "defect": pl.String(),
    "probability": pl.Float32(),
    "split": pl.String(),
    "lot": pl.String(),
    "unit": pl.String(),
    "machine": pl.String(),
    "product": pl.String(),
    "mask": pl.String(),
    "box": pl.String(),  # JSON
    "generated": pl.Boolean(),
    "made_from": pl.String(),  # of made ones: what the original is known as
    "also_from": pl.String(),  # JSON: further originals that it shows parts of
}
SCHEMA: dict[str, pl.DataType] = {
    **LISTED,
    "source_sha256": pl.String(),  # of copies: of the original's file
    "seed": pl.Int64(),
    "number": pl.Int64(),  # with the seed it decides what was drawn
    "transforms": pl.String(),  # JSON: [[name, [parameters]], ...] in the order of the policy
    "defect_inside": pl.Float64(),  # share of the mask or box that is left in the picture
}
Schema = Mapping[str, pl.DataType]
_KEPT = ("defect", "probability", "lot", "unit", "machine", "product")


def original_rows(records: Records, schema: Schema = SCHEMA) -> pl.DataFrame:
    """Returns the rows of a set as it was, each named by the path of its file."""
    frame = records.frame
    made = frame.select(
        *_KEPT,
        "split",
        "mask",
        "generated",
        "made_from",
        image="path",
        known_as="image",
        label=word_of("label"),
        box=as_json(frame["box"]),
        also_from=as_json(frame["also_from"]),
    )
    return typed(made, schema)


def copied_rows(records: Records, rows: Sequence[dict[str, Any]], seed: int) -> pl.DataFrame:
    """Returns the rows of the copies: what is known of the originals, and how each was made (notes of `make_chunk`)."""
    made_rows = pl.DataFrame(
        {
            **{name: [row[name] for row in rows] for name in ("image", "mask", "made_from", "source_sha256", "number")},
            "box": [None if row["box"] is None else json.dumps(row["box"]) for row in rows],
            "transforms": [json.dumps(row["transforms"]) for row in rows],
            "defect_inside": [row["defect_inside"] for row in rows],
        },
        schema_overrides={name: SCHEMA[name] for name in ("mask", "box", "defect_inside")},
    )
    known = records.frame.select(*_KEPT, made_from="image", label=word_of("label"))
    made = made_rows.join(known, on="made_from", how="left", maintain_order="left")
    return typed(made.with_columns(split=pl.lit("train"), generated=pl.lit(True), seed=pl.lit(seed)))


def as_json(cells: pl.Series) -> pl.Series:
    """Returns a column of lists as JSON text."""
    return pl.Series([None if cell is None else json.dumps(cell) for cell in cells.to_list()], dtype=pl.String)


def word_of(column: str) -> pl.Expr:
    """Returns "good" or "bad" for a column of labels."""
    label = pl.col(column)
    return pl.when(label == BAD).then(pl.lit("bad")).when(label == GOOD).then(pl.lit("good"))


def typed(frame: pl.DataFrame, schema: Schema = SCHEMA) -> pl.DataFrame:
    """Returns a table with exactly these columns; those that are not there are null."""
    there = set(frame.columns)
    return frame.select(
        (pl.col(name) if name in there else pl.lit(None)).cast(dtype).alias(name) for name, dtype in schema.items()
    )


def counts_of(frame: pl.DataFrame) -> dict[str, dict[str, int]]:
    """Returns for each split how many rows are good, bad, and generated."""
    counts = {}
    for name in SPLITS:
        part = frame.filter(pl.col("split") == name)
        if part.height:
            by = {kind: int((part["label"] == kind).sum()) for kind in ("good", "bad")}
            counts[name] = by | {"generated": int(part["generated"].sum())}
    return counts
