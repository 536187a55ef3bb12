"""From a path to records: choose the source, list the images, then open every file once."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import polars as pl

from knowngood.data.images import SUFFIXES, read_bytes, verify
from knowngood.data.records import Records
from knowngood.data.sources import SOURCES, Source, TakesNames, no_such
from knowngood.data.sources.folder import no_good_folder, sets_below
from knowngood.data.sources.manifest import column_of
from knowngood.data.sources.walking import Walker, folders_in, is_hidden
from knowngood.data.units import OFF, units_named
from knowngood.data.words import LabelNames, label_names, meaning_of
from knowngood.errors import ConfigError, DataError, ImageError
from knowngood.progress import track
from knowngood.scale.mapping import elsewhere, mapped, pieces

WORKERS = 2
_Inspected = tuple[str | None, int | None, int | None, str | None, str | None]


def load(
    data: str | Path,
    source: str | None = None,
    *,
    good: Iterable[str] | str = (),
    bad: Iterable[str] | str = (),
    unit_from: str | None = None,
) -> Records:
    """Reads a data set: finds its layout, lists its images and opens each of them once.

    Args:
        data: Folder, manifest file, or the word that a source answers to ("elpv").
        source: Name of a registered source; by default the first that recognises `data`.
        good: Names of folders, or values of a label column, that mean good; text may hold several with commas.
        bad: The same for bad.
        unit_from: What says which photographs show one part: a column of the manifest or a regex on the names of the
            images, see `knowngood.data.units.with_units`.

    Returns:
        One row an image; a file that cannot be used has its reason in `error`. Rows may be unlabelled.

    Raises:
        DataError: There is no such path, nothing in it, no layout that is known, or a label is doubtful; or `unit_from`
            matches nothing.
        ConfigError: `unit_from` is no regex, or `good` or `bad` is given for a source whose labels do not come from
            names.
        UnknownNameError: No source has that name.
    """
    path = Path(data)
    name, reader = _reader(path, source, label_names(good, bad))
    listing = reader.read(path)
    frame = inspected(listing.frame)
    records = Records(
        frame,
        name,
        listing.root or Path(os.path.abspath(path)),
        listing.licence,
        listing.notes,
        folders=listing.folders,
        passed_over=listing.passed_over,
    )
    if unit_from in (None, OFF):
        return records
    return units_named(records, str(unit_from), column_of(path, str(unit_from), len(records)))


def loaded(
    data: str | Path | Records,
    source: str | None = None,
    *,
    good: Iterable[str] | str = (),
    bad: Iterable[str] | str = (),
    unit_from: str | None = None,
    out: str | Path | None = None,
) -> Records:
    """Returns records as they are, or what `load` reads, after a look that `out` is not in the data.

    Args:
        data: As for `load`, or records.
        source: As for `load`.
        good: As for `load`.
        bad: As for `load`.
        unit_from: As for `load`.
        out: Where the results are to be written, if anywhere.

    Raises:
        ConfigError: `out` lies in the data, or as for `load`.
        DataError: As for `load`.
    """
    if out is not None and not isinstance(data, Records):
        refuse_in_data(out, [data])
    records = data if isinstance(data, Records) else load(data, source, good=good, bad=bad, unit_from=unit_from)
    if out is not None:
        _refuse_among(out, records)
    return records


def refuse_in_data(out: str | Path, places: Iterable[str | Path] = (), *, classes: bool = False) -> None:
    """Checks whether results may be written to `out`, so that they never become photographs, or a class, of a set.

    A folder may not be a given place, lie in one that has class folders, or beside photographs; nor may it lie in or be
    any other folder that has a class folder such as good/. A file may lie in the root of a set, not among photographs.

    Args:
        out: File or folder that is to be written.
        places: The folders of photographs that were given.
        classes: Whether their folders are classes; found out by their names by default.

    Raises:
        ConfigError: It may not.
    """
    target = Path(os.path.realpath(out))
    is_file = target.suffix.lower() in _FILES and not target.is_dir()
    folder = target.parent if is_file else target
    for there in (Path(os.path.realpath(place)) for place in places):
        if not there.is_dir() or (folder != there and there not in folder.parents):
            continue
        within_a_class = folder != there if is_file else True
        among = _between(folder if is_file else folder.parent, there)
        if (not is_file and folder == there) or any(map(_holds_photographs, among)):
            raise _in_data(out, there)
        if within_a_class and (classes or _is_set(there)):
            raise _in_data(out, there)
    if is_file and _holds_photographs(folder) and _is_set(folder.parent):
        raise _in_data(out, folder.parent)
    for one in () if is_file else (folder, folder.parent):
        if _is_set(one):
            raise _in_data(out, one)


_FILES = (".csv", ".parquet", ".json", ".html", ".txt")  # endings by which a place is a file, not a folder
_BY_FOLDERS = ("folder", "mvtec", "contest")  # sources to which a new folder is a new class


def _refuse_among(out: str | Path, records: Records) -> None:
    """Does what `refuse_in_data` does for a set that was read, such as one that a table lists.

    Raises:
        ConfigError: `out` lies in the set.
    """
    if records.source in _BY_FOLDERS and records.folders:
        refuse_in_data(out, [records.root], classes=True)
        return
    target = Path(os.path.realpath(out))
    folder = target.parent if target.suffix.lower() in _FILES and not target.is_dir() else target
    root = Path(os.path.realpath(records.root))
    holds = {os.path.realpath(os.path.dirname(path)) for path in records.frame["path"].unique().to_list()}
    for one in (folder, *folder.parents):
        if one == root or root not in one.parents:
            break
        if str(one) in holds:
            raise _in_data(out, one)


def _between(folder: Path, top: Path) -> list[Path]:
    """Returns a folder and those above it, up to `top`."""
    return [one for one in (folder, *folder.parents) if one == top or top in one.parents]


def _is_set(folder: Path) -> bool:
    """Returns whether a folder has a class folder that is surely of good units and holds a photograph."""
    for child in folders_in(folder):
        meaning = meaning_of(child.name)
        if meaning.kind == "good" and meaning.sure and next(Walker(sniff=False).images(child), None) is not None:
            return True
    return False


def _holds_photographs(folder: Path) -> bool:
    try:
        names = os.listdir(folder)
    except OSError:
        return False
    return any(os.path.splitext(name)[1].lower() in SUFFIXES and not is_hidden(name) for name in names)


def _in_data(out: str | Path, there: Path) -> ConfigError:
    place = there.parent / f"{there.name}-results"
    same = Path(os.path.realpath(out)) == there
    place = place if same else place / Path(out).name
    return ConfigError(
        f"{str(out)!r} {'is' if same else 'lies inside of'} the data folder {str(there)!r}.",
        expected="another place: what is written there would be read as photographs, or as a class, the next time",
        fix=f"--out {place}",
    )


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


def _reader(path: Path, source: str | None, names: LabelNames) -> tuple[str, Source]:
    if source is not None:
        reader = _named(SOURCES.get(source)(), names)
        if names and not isinstance(reader, TakesNames):
            raise _has_labels(source)
        if not path.exists() and not reader.recognises(path):
            raise no_such(path)
        if not reader.recognises(path):
            raise _not_recognised(path, source)
        return source, reader
    others = []
    for name, kind in SOURCES.items():
        reader = _named(kind(), names)
        if reader.recognises(path):
            if not names or isinstance(reader, TakesNames):
                return name, reader
            others.append(name)  # a layout with labels of its own: the names say to read it as plain folders
    if others:
        raise _has_labels(others[0])
    if not path.exists():
        raise no_such(path)
    raise _not_recognised(path, None)


def _named(reader: Source, names: LabelNames) -> Source:
    if isinstance(reader, TakesNames):
        reader.names = names
    return reader


def _has_labels(source: str) -> ConfigError:
    return ConfigError(
        f"--good and --bad are given, and the source {source} has labels of its own.",
        expected="them with folders or tables only",
        fix="Leave them out, or read the set as plain folders with --source folder.",
    )


def _not_recognised(path: Path, source: str | None) -> DataError:
    if path.is_file() and path.suffix.lower() in SUFFIXES:
        return DataError(
            f"{str(path)!r} is a single image.",
            expected="a data set",
            fix="Name the folder that holds good/.",
        )
    if path.is_dir() and source in (None, "folder"):
        deeper = sets_below(path)
        if deeper:
            return DataError(
                f"{str(path)!r} has no layout that is known; it {_seen(path)}.",
                expected="a folder that holds good/ itself",
                fix=f"Give the set below it: {', '.join(str(one) for one in deeper[:3])}{' ...' if deeper[3:] else ''}",
            )
        if any(next(Walker().images(one), None) for one in folders_in(path)):
            return _without_good(path)
    layouts = [f"  {name}: {kind.summary}" for name, kind in SOURCES.items() if source in (None, name)]
    reason = f"does not have the layout {source}" if source else "has no layout that is known"
    return DataError(
        f"{str(path)!r} {reason}; it {_seen(path)}.",
        expected="one of\n" + "\n".join(layouts),
        fix="Put the good images into a folder named good beside one folder for each defect.",
    )


def _without_good(path: Path) -> DataError:
    """Returns the error for folders of photographs none of which is known as that of good units."""
    error = no_good_folder(path)
    return DataError(f"{error.what} It {_seen(path)}.", expected=error.expected, fix=error.fix)


def _seen(path: Path) -> str:
    """Returns half a sentence on what lies at a path."""
    if path.is_file():
        return f"is a file of {path.stat().st_size} bytes"
    try:
        inside = sorted(p for p in path.iterdir() if not is_hidden(p.name, folder=p.is_dir()))
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
