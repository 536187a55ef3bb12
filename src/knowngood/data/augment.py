"""A larger training set: transformed copies of the rarer class, in a folder that is a data source of its own."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from knowngood.data.augmentation import policy_named
from knowngood.data.config import AugmentConfig
from knowngood.data.copies import Job, Original, make_chunk
from knowngood.data.loading import loaded
from knowngood.data.made_sets import MANIFEST, MadeSet, chunked, copied_rows, counts_of, name_of, original_rows
from knowngood.data.records import BAD, GOOD, Records
from knowngood.data.splits import split
from knowngood.data.units import with_units
from knowngood.errors import ConfigError, DataError
from knowngood.files import check_writable
from knowngood.parameters import configured
from knowngood.progress import reporter
from knowngood.wording import counted

MADE_BY, VERSION = "knowngood augment", 1
CHUNK = 50
_IN_ITS_STEAD = 3  # originals that a copy may be made of, in case that the first cannot be decoded


@dataclass(frozen=True)
class Augmented:
    """An augmented set.

    Attributes:
        folder: With manifest.parquet, about.json, the copies and their masks; a data source as it is.
        made: How many copies.
        cut: How many of them have less of their defect in the picture than was asked for.
        counts: Split to the number of good, bad and generated images (which are counted as good or bad too).
        notes: What the reader of the set should know.
    """

    folder: Path
    made: int
    cut: int
    counts: dict[str, dict[str, int]]
    notes: tuple[str, ...]

    @property
    def manifest(self) -> Path:
        """Path of the table."""
        return self.folder / MANIFEST


def augment(  # noqa: PLR0913  (a keyword a field of AugmentConfig)
    data: str | Path | Records,
    out: str | Path,
    config: AugmentConfig | None = None,
    *,
    source: str | None = None,
    good: Sequence[str] = (),
    bad: Sequence[str] = (),
    force: bool = False,
    workers: int | None = None,
    total: int | None = None,
    class_: Literal["minority", "good", "bad"] = "minority",
    augment: str = "study",
    rotate: float | None = None,
    shift: float | None = None,
    zoom: float | None = None,
    brightness: float | None = None,
    contrast: float | None = None,
    saturation: float | None = None,
    inside: float = 0.9,
    test: float = 0.25,
    val: float = 0.1,
    calibration: float = 0.2,
    resplit: bool = False,
    unit_from: str | None = None,
    seed: int = 0,
) -> Augmented:
    """Writes transformed copies of training images until the set has the wanted number of images.

    The set is split first, as a training with the same seed would split it; only training images are copied. The
    manifest lists the originals where they are, with their splits, and the copies with `generated` true. Copy k
    depends on the set, the seed and k alone. A call that was killed goes on when it is made again.

    Args:
        data: Folder, manifest, the word of a source, or records; the splits that they come with are kept.
        out: Folder to write, empty or not there.
        config: What to do; keywords below, its fields, beat it where they differ from their defaults.
        source: Data source, when it should not be guessed.
        good: Names of folders, or values of a label column, that mean good.
        bad: The same for bad.
        force: Replace the augmented set that is in `out`.
        workers: Processes; by default one a processor core.

    Raises:
        ConfigError: `out` holds something else, the total is reached already, or a range is impossible.
        DataError: The set cannot be split, or has no training image of the class.
        StorageError: The disk is full; what was made is kept.
    """
    config = configured(AugmentConfig, config, locals())
    out, workers = Path(out), (os.cpu_count() or 1) if workers is None else workers
    if workers < 1:
        raise ConfigError(f"--workers is {workers}.", expected="1 or more")
    if not policy_named(config.augment, config.ranges()):
        raise ConfigError("--augment none makes no copies that differ.", fix="--augment study")
    check_writable(out, folder=True)  # before anything is computed
    records = with_units(
        loaded(data, source, good=good, bad=bad, unit_from=config.unit_from, out=out), config.unit_from
    )
    made_set = MadeSet(out, MADE_BY, "augmented set", ("augmented*",))
    made_set.check_place(records)
    if records.licence:
        reporter().say(f"Licence of the data, and of copies: {records.licence}")
    divided = split(records, config, seed=config.seed).usable()
    jobs = list(_jobs(divided, config))
    about = _about(divided, config, len(records) - len(divided))
    folder = _copies_folder(divided)
    if not made_set.open(about, force):
        chunks = chunked(jobs, CHUNK)
        made_set.make_all(chunks, partial(make_chunk, out, folder, made_set.notes, config), workers, "Making copies")
        _finish(made_set, folder, divided, config, jobs, about)
    return _read(made_set)


def _jobs(records: Records, config: AugmentConfig) -> Iterator[Job]:
    """Yields what to make: every training image of the class in turn, in an order that the seed decides."""
    frame = records.frame.filter((pl.col("split") == "train") & pl.col("label").is_not_null())
    counts = {name: int((frame["label"] == label).sum()) for name, label in (("bad", BAD), ("good", GOOD))}
    name = min(counts, key=lambda each: counts[each]) if config.class_ == "minority" else config.class_
    chosen = frame.filter((pl.col("label") == (BAD if name == "bad" else GOOD)) & ~pl.col("generated")).sort("image")
    total = config.total or round(len(records) * 4 / 3)
    if total <= len(records):
        raise ConfigError(
            f"--total {total} is reached already: the set has {counted(len(records), 'image')}.",
            expected=f"more than {len(records)} (the study made 40,000 of 30,000)",
        )
    if not chosen.height:
        raise DataError(f"No {name} image is in the training split.", fix="Divide anew with --resplit, or add some.")
    columns = chosen.select("image", "path", "sha256", "mask", "box").iter_rows()
    originals = [Original(image, path, sha, mask, box or []) for image, path, sha, mask, box in columns]
    order = np.random.default_rng([config.seed, len(originals)]).permutation(len(originals))
    stead = min(_IN_ITS_STEAD, len(originals))
    for number in range(total - len(records)):
        places = [order[(number + step) % len(originals)] for step in range(stead)]
        yield Job(number, tuple(originals[place] for place in places))


def _copies_folder(records: Records) -> str:
    """Returns a folder name that no original's name begins with: a set may be augmented twice."""
    names, folder = records.frame["image"].to_list(), "augmented"
    while any(name.startswith(f"{folder}/") for name in names):
        folder += "_again"
    return folder


def _about(records: Records, config: AugmentConfig, unreadable: int) -> dict[str, Any]:
    columns = ["image", "sha256", "label", "split", "mask", "box"]
    rows = records.frame.select(columns).sort("image").rows()
    note = "Part of the training images are transformed copies; the manifest says of what and how."
    notes = list(dict.fromkeys([*records.notes, note]))
    if unreadable:
        notes.append(f"{counted(unreadable, 'image')} that cannot be read left out.")
    return {
        "version": VERSION,
        "config": config.model_dump(mode="json"),
        "data": {
            "source": records.source,
            "root": str(records.root),
            "images": len(records),
            "sha256": hashlib.sha256(json.dumps(rows).encode()).hexdigest(),
        },
        "licence": records.licence,
        "notes": notes,
    }


def _finish(
    made_set: MadeSet, folder: str, records: Records, config: AugmentConfig, jobs: Sequence[Job], about: dict[str, Any]
) -> None:
    rows = made_set.rows(chunked(jobs, CHUNK))
    assert [row["image"] for row in rows] == [name_of(folder, job.number) for job in jobs]
    trouble = list(dict.fromkeys(message for row in rows for message in row["passed_over"]))
    cut = sum(row["defect_inside"] is not None and row["defect_inside"] < config.inside for row in rows)
    blind = sum(row["defect_inside"] is None for row in rows)
    notes = list(about["notes"])
    if trouble:
        notes.append(f"{counted(len(trouble), 'training image')} could not be copied; the first: {trouble[0]}")
    if cut:
        have = counted(cut, "copy has", "copies have")
        notes.append(f"{have} less than {config.inside:.0%} of the defect in the picture: defect_inside.")
    if blind and any(label == BAD for label in _labels_of(records, rows)):
        are = counted(blind, "copy is", "copies are")
        notes.append(f"{are} of images without mask and box: nobody saw whether the defect stayed inside.")
    frame = pl.concat([original_rows(records), copied_rows(records, rows, config.seed)])
    made_set.finish(frame, about | {"made": len(rows), "cut": cut, "counts": counts_of(frame), "notes": notes})


def _labels_of(records: Records, rows: Sequence[dict[str, Any]]) -> set[int | None]:
    labels = dict(records.frame.select("image", "label").iter_rows())
    return {labels[row["made_from"]] for row in rows}


def _read(made_set: MadeSet) -> Augmented:
    about = made_set.about()
    assert about is not None
    return Augmented(made_set.out, about["made"], about["cut"], about["counts"], tuple(about["notes"]))
