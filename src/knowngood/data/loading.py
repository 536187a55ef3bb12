"""From a path to records: choose the source, list the images, then open every file once."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import polars as pl

from knowngood.data.images import SUFFIXES, read_bytes, verify
from knowngood.data.records import Records
from knowngood.data.sources import SOURCES, Source, no_such
from knowngood.data.sources.manifest import column_of
from knowngood.data.units import OFF, units_named
from knowngood.errors import DataError, ImageError
from knowngood.progress import track
from knowngood.scale.mapping import elsewhere, mapped, pieces

WORKERS = 2
_Inspected = tuple[str | None, int | None, int | None, str | None, str | None]


def load(data: str | Path, source: str | None = None, *, unit_from: str | None = None) -> Records:
    """Reads a data set: finds its layout, lists its images and opens each of them once.

    Args:
        data: Folder, manifest file, or the word that a source answers to ("elpv").
        source: Name of a registered source; by default the first that recognises `data`.
        unit_from: What says which photographs show one part: a column of the manifest or a regex on the names of the
            images, see `knowngood.data.units.with_units`.

    Returns:
        One row an image; a file that cannot be used has its reason in `error`. Rows may be unlabelled.

    Raises:
        ConfigError: `unit_from` is no regex.
        DataError: There is no such path, nothing in it, or no layout that is known; or `unit_from` matches nothing.
        UnknownNameError: No source has that name.
    """
    path = Path(data)
    name, reader = _reader(path, source)
    listing = reader.read(path)
    frame = inspected(listing.frame)
    root = listing.root or Path(os.path.abspath(path))
    records = Records(frame, name, root, listing.licence, listing.notes)
    if unit_from in (None, OFF):
        return records
    return units_named(records, str(unit_from), column_of(path, str(unit_from), len(records)))


def inspected(frame: pl.DataFrame) -> pl.DataFrame:
    """Opens every image file once to fill sha256, width, height, mode and error.

    Args:
        frame: Table with the columns of `SCHEMA`.

    Returns:
        The same rows with those columns filled.
    """
    results = chain.from_iterable(mapped(_inspect_all, pieces(frame["path"].to_list())))
    rows = list(track(results, "Reading images", frame.height))
    for row, path in enumerate(frame["path"]):
        if rows[row][0] is None and elsewhere():  # perhaps only unseen by a machine of a cluster
            rows[row] = _inspect(path)
    names = ("sha256", "width", "height", "mode", "error")
    return frame.with_columns(
        pl.Series(name, [row[i] for row in rows], dtype=frame.schema[name]) for i, name in enumerate(names)
    )


def _inspect_all(paths: Sequence[str]) -> list[_Inspected]:
    with ThreadPoolExecutor(WORKERS) as pool:
        return list(pool.map(_inspect, paths))


def _inspect(path: str) -> _Inspected:
    digest = None
    try:
        data = read_bytes(path)
        digest = hashlib.sha256(data).hexdigest()
        facts = verify(data, name=path)
    except ImageError as error:
        return digest, None, None, None, error.what
    return digest, facts.width, facts.height, facts.mode, None


def _reader(path: Path, source: str | None) -> tuple[str, Source]:
    if source is not None:
        reader = SOURCES.get(source)()
        if not path.exists() and not reader.recognises(path):
            raise no_such(path)
        if not reader.recognises(path):
            raise _not_recognised(path, source)
        return source, reader
    for name, kind in SOURCES.items():
        reader = kind()
        if reader.recognises(path):
            return name, reader
    if not path.exists():
        raise no_such(path)
    raise _not_recognised(path, None)


def _not_recognised(path: Path, source: str | None) -> DataError:
    if path.is_file() and path.suffix.lower() in SUFFIXES:
        return DataError(
            f"{str(path)!r} is a single image.",
            expected="a data set",
            fix="Name the folder that holds good/.",
        )
    layouts = [f"  {name}: {kind.summary}" for name, kind in SOURCES.items() if source in (None, name)]
    reason = f"does not have the layout {source}" if source else "has no layout that is known"
    return DataError(
        f"{str(path)!r} {reason}; it {_seen(path)}.",
        expected="one of\n" + "\n".join(layouts),
        fix="Put the good images into a folder named good beside one folder for each defect.",
    )


def _seen(path: Path) -> str:
    """Says in half a sentence what lies at a path."""
    if path.is_file():
        return f"is a file of {path.stat().st_size} bytes"
    try:
        inside = sorted(path.iterdir())
    except OSError as error:
        return f"cannot be listed ({error.strerror})"
    if not inside:
        return "is an empty folder"
    folders = [p.name for p in inside if p.is_dir()]
    kinds = Counter(p.suffix.lower() or "no suffix" for p in inside if not p.is_dir())
    shown = ", ".join(folders[:8]) + (" ..." if len(folders) > 8 else "")
    files = ", ".join(f"{count} files ({kind})" for kind, count in kinds.most_common(4))
    parts = [f"the folders {shown}" if folders else "no folders", files or "no files"]
    return "holds " + " and ".join(parts)
