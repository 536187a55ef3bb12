"""Writes generated images as a data source; a killed call resumes, and every image can be generated again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from knowngood.data.made_sets import (
    LISTED,
    MANIFEST,
    MadeSet,
    chunked,
    counts_of,
    name_of,
    notes_of,
    original_rows,
    typed,
)
from knowngood.data.processes import write_png
from knowngood.data.records import BAD, Records
from knowngood.errors import ConfigError, DataError
from knowngood.files import storage_errors, whole_file, write_json
from knowngood.synthesis.generators import ImageGenerator, Made

MADE_BY, VERSION = "knowngood synthesize", 2
TRAINING_IMAGES = "training_images.parquet"
_AS_0_1 = "taught.parquet"  # the name of that file in sets and runs of version 0.1
CHUNK = 50
SCHEMA: dict[str, pl.DataType] = {
    **LISTED,
    "generator": pl.String(),
    "seed": pl.Int64(),
    "number": pl.Int64(),  # with the seed it decides everything that was drawn
    "facts": pl.String(),  # JSON: how it was made
}
_PHOTO, _MASK = 2, 3  # compression


class _Job(NamedTuple):
    number: int


@dataclass(frozen=True)
class GeneratedSet:
    """A written set of made images.

    Attributes:
        folder: With manifest.parquet, about.json, training_images.parquet, the images and masks/; a data source.
        generator: Name of what made them.
        made: How many.
        counts: Split to the number of good, bad and generated images.
        notes: What the reader of the set should know.
    """

    folder: Path
    generator: str
    made: int
    counts: dict[str, dict[str, int]]
    notes: tuple[str, ...]

    @property
    def manifest(self) -> Path:
        """Path of the table."""
        return self.folder / MANIFEST


def write_set(
    name: str,
    generator: ImageGenerator,
    out: str | Path,
    count: int,
    seed: int,
    *,
    beside: Records | None = None,
    force: bool = False,
) -> GeneratedSet:
    """Writes the images 0 to count - 1 of a generator as a set that `load`, `train` and `compare` take.

    Every image is marked generated and is of the split train. A call that was killed resumes when it is repeated.

    Args:
        name: Of the generator.
        generator: Opened with `seed`.
        out: Folder to write, empty or not there.
        count: How many images.
        seed: That the generator was opened with.
        beside: Photographs with splits to list in the manifest too, where they are: a set to train on as it is.
        force: Replace the generated set that is in `out`.

    Raises:
        ConfigError: `out` holds something else, or lies inside of the data.
        DataError: The generator made something that its contract does not allow.
        StorageError: The disk is full; what was made is kept.
    """
    if count < 1:
        raise ConfigError(f"--count is {count}.", expected="1 or more")
    made_set = MadeSet(Path(out), MADE_BY, "generated set", ("made*",))
    if beside is not None:
        made_set.check_place(beside)
    about = _about(name, generator, count, seed, beside)
    if not made_set.open(about, force):
        jobs = [_Job(number) for number in range(count)]
        folder = _folder(beside)
        work = partial(_make_chunk, made_set, folder, generator)
        made_set.make_all(chunked(jobs, CHUNK), work, 1, f"Making images ({name})")
        _finish(made_set, name, generator, seed, made_set.rows(chunked(jobs, CHUNK)), about, beside)
    about = made_set.about() or {}
    return GeneratedSet(made_set.out, name, about["made"], about["counts"], tuple(about["notes"]))


def training_images_of(place: Path) -> pl.DataFrame | None:
    """Returns the training images of a set's generator (image, sha256, label), or None where they are not recorded."""
    folder = place if place.is_dir() else place.parent
    file = next((folder / name for name in (TRAINING_IMAGES, _AS_0_1) if (folder / name).is_file()), None)
    return None if file is None else pl.read_parquet(file)


def _folder(beside: Records | None) -> str:
    """Returns a folder name that no photograph's name begins with: a set may be added to twice."""
    names, folder = [] if beside is None else beside.frame["image"].to_list(), "made"
    while any(known.startswith(f"{folder}/") for known in names):
        folder += "_again"
    return folder


def _about(name: str, generator: ImageGenerator, count: int, seed: int, beside: Records | None) -> dict[str, Any]:
    identity = hashlib.sha256(json.dumps(generator.identity, sort_keys=True).encode()).hexdigest()
    rows = [] if beside is None else beside.frame.select("image", "sha256", "label", "split").sort("image").rows()
    note = f"Its generated images were made by {name} and are no photographs; the manifest says how each was made."
    if beside is None:
        note += " Photographs are not listed in it."
    return {
        "version": VERSION,
        "config": {"generator": name, "seed": seed, "count": count},
        "data": {"generator": identity, "beside": hashlib.sha256(json.dumps(rows).encode()).hexdigest()},
        "training_images": {
            "bad": int((generator.training_images["label"] == BAD).sum()),
            "good": int((generator.training_images["label"] != BAD).sum()),
        },
        "licence": None if beside is None else beside.licence,
        "notes": list(dict.fromkeys([*(beside.notes if beside is not None else ()), note, *generator.notes])),
    }


def _make_chunk(made_set: MadeSet, folder: str, generator: ImageGenerator, chunk: Sequence[_Job]) -> int:
    numbers = [job.number for job in chunk]
    made = generator.make(numbers)
    if len(made) != len(numbers):
        raise DataError(f"The generator was asked for {len(numbers)} images and made {len(made)}.")
    with storage_errors(made_set.out):
        rows = [_written(made_set.out, name_of(folder, number), one, number) for number, one in zip(numbers, made)]  # noqa: B905
        write_json(notes_of(made_set.notes, chunk), rows)
    return len(chunk)


def _written(out: Path, name: str, made: Made, number: int) -> dict[str, Any]:
    if made.mask is not None:
        write_png(out / "masks" / name, made.mask.astype(np.uint8) * np.uint8(255), _MASK)
    write_png(out / name, made.pixels, _PHOTO)
    return {
        "image": name,
        "label": "bad" if made.label == BAD else "good",
        "defect": made.defect,
        "mask": f"masks/{name}" if made.mask is not None else None,
        "box": json.dumps([list(box) for box in made.boxes]) if made.boxes else None,
        "made_from": made.parents[0] if made.parents else None,
        "also_from": json.dumps(made.parents[1:]) if made.parents[1:] else None,
        "number": number,
        "facts": json.dumps(made.facts),
    }


def _finish(
    made_set: MadeSet,
    name: str,
    generator: ImageGenerator,
    seed: int,
    rows: Sequence[dict[str, Any]],
    about: dict[str, Any],
    beside: Records | None,
) -> None:
    wanted = {column: dtype for column, dtype in SCHEMA.items() if column in rows[0]}
    made = pl.DataFrame(list(rows), schema=wanted).with_columns(
        split=pl.lit("train"), generated=pl.lit(True), generator=pl.lit(name), seed=pl.lit(seed)
    )
    parts = [typed(made, SCHEMA)]
    if beside is not None:
        known = beside.frame.select("lot", "machine", "product", made_from="image")
        joined = made.join(known, on="made_from", how="left", maintain_order="left")
        parts = [original_rows(beside, SCHEMA), typed(joined, SCHEMA)]
    with whole_file(made_set.out / TRAINING_IMAGES) as scratch:
        generator.training_images.write_parquet(scratch)
    frame = pl.concat(parts)
    made_set.finish(frame, about | {"made": len(rows), "counts": counts_of(frame)})
