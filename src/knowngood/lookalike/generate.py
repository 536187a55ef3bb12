"""Writes a look-alike set: pictures, masks, twins, and the manifest that says what everything is."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl

from knowngood.data.loading import refuse_in_data
from knowngood.data.processes import by_processes, write_png
from knowngood.errors import ConfigError, StorageError
from knowngood.files import check_writable, clean, scratch_file, storage_errors, whole_file, write_json
from knowngood.lookalike.config import GENERATOR_VERSION, TapeConfig
from knowngood.lookalike.scene import U8
from knowngood.lookalike.units import Drawn, draw_unit
from knowngood.progress import reporter

MANIFEST, FACTS = "manifest.parquet", "tape.json"
FOLDERS = ("images", "masks", "parts", "twins")
CHUNK = 50
_JOURNAL = ".tape.journal"  # rows of the pictures that are whole, a chunk a line, while the set is drawn
_BALLAST_BYTES = 4 << 20  # given up when the disk is full, so that the manifest of what is whole still fits
_Chunk = tuple[str, int, int]


def generate(out: Path, config: TapeConfig, *, workers: int | None = None, force: bool = False) -> Path:
    """Draws a look-alike set into a folder.

    The same configuration gives the same bytes with any number of workers; image k does not depend on how many
    are drawn. When the disk is full or Ctrl-C is pressed, the manifest lists the pictures that are whole. The same
    call goes on from there, and from where a killed one was.

    Args:
        out: Folder to write; must be empty or not there.
        config: What to draw.
        workers: Processes; by default one a processor core.
        force: Replace a set that is in `out`.

    Returns:
        Path of manifest.parquet.

    Raises:
        ConfigError: `out` is not empty, nothing is asked for, or `workers` is below 1.
        StorageError: The disk is full, or `out` may not be written.
    """
    out = Path(out)
    workers = (os.cpu_count() or 1) if workers is None else workers
    check_writable(out, folder=True, flag="OUT")
    clean(out)
    _check(out, config, workers, force)
    rows = _unfinished(out, config)
    ballast = scratch_file(out / "ballast")
    with storage_errors(out):
        if not rows:
            _clear(out)
        out.mkdir(parents=True, exist_ok=True)
        _write_facts(out, config, sum(map(len, rows.values())), complete=False)  # from now on the folder is known
        ballast.write_bytes(b"\1" * _BALLAST_BYTES)
    try:
        with storage_errors(out), (out / _JOURNAL).open("a", encoding="utf-8") as journal:
            journal.write("\n")  # ends a line that a kill cut off
            for chunk, done, problem in _drawn(out, config, workers, [c for c in _chunks(config) if c not in rows]):
                rows[chunk] = done
                if problem is not None:
                    raise _refused(out, problem)
                journal.write(json.dumps([chunk, done]) + "\n")
                journal.flush()
    except BaseException:  # a full disk, Ctrl-C: what is whole stays usable
        ballast.unlink(missing_ok=True)
        _finish(out, config, rows, complete=False)
        raise
    ballast.unlink(missing_ok=True)
    return _finish(out, config, rows, complete=True)


def summary(manifest: Path) -> dict[str, dict[str, int]]:
    """Counts what a set holds.

    Args:
        manifest: Path that `generate` returned.

    Returns:
        For each split: images, labelled good, labelled bad, bad hidden among the good, abnormal.
    """
    table = pl.read_parquet(manifest)
    result = {}
    for split in table["split"].unique(maintain_order=True):
        part = table.filter(pl.col("split") == split)
        bad = part["label"] == "bad"
        result[str(split)] = {
            "images": part.height,
            "good": int((~bad).sum()),
            "bad": int(bad.sum()),
            "hidden bad": int((~bad & (part["true_label"] == "bad")).sum()),
            "abnormal": part.height - part["abnormal"].null_count(),
        }
    return result


def is_complete(folder: Path, config: TapeConfig) -> bool:
    """Returns whether a folder holds the whole set of a configuration, of this version."""
    facts = _facts(folder, config)
    return bool(facts and facts.get("complete") and (folder / MANIFEST).is_file())


def _facts(folder: Path, config: TapeConfig) -> dict[str, Any] | None:
    """Returns what a folder says of its set, or None when that is of another configuration or version."""
    try:
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    same = facts.get("config") == config.model_dump(mode="json") and facts.get("version") == GENERATOR_VERSION
    return facts if same else None


def _may_go_on(out: Path, config: TapeConfig) -> bool:
    facts = _facts(out, config)
    return bool(facts and not facts.get("complete"))


def _unfinished(out: Path, config: TapeConfig) -> dict[_Chunk, list[Row]]:
    """Returns the rows of the chunks that an interrupted call of the same configuration has finished."""
    facts = _facts(out, config)
    if facts is None or facts.get("complete"):
        return {}
    listed = [row for done in _journal(out) for row in done]
    with contextlib.suppress(OSError, pl.exceptions.PolarsError):
        listed += pl.read_parquet(out / MANIFEST).iter_rows()
    there = {str(row[0]): row for row in listed if (out / str(row[0])).is_file()}
    rows = {chunk: [there.get(name) for name in names_of(*chunk)] for chunk in _chunks(config)}
    return {chunk: [row for row in kept if row] for chunk, kept in rows.items() if all(kept)}


def _journal(out: Path) -> Iterator[list[Row]]:
    """Yields the rows of each chunk that a killed call had finished; a line that the kill cut off is passed over."""
    try:
        lines = (out / _JOURNAL).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        try:
            _, done = json.loads(line)
            rows = [tuple(row) for row in done]
        except (ValueError, TypeError):
            continue
        if all(len(row) == len(SCHEMA) for row in rows):
            yield rows


def _check(out: Path, config: TapeConfig, workers: int, force: bool) -> None:
    refuse_in_data(out)
    if workers < 1:
        raise ConfigError(f"--workers is {workers}.", expected="1 or more")
    if config.train + config.test == 0:
        raise ConfigError("--train and --test are both 0: there is nothing to draw.", fix="Ask for some images.")
    with storage_errors(out):
        if out.exists() and not out.is_dir():
            raise ConfigError(f"{out} is a file.", expected="a folder", fix="Choose another place.")
        if out.is_dir() and any(out.iterdir()) and not force and not _may_go_on(out, config):
            raise ConfigError(
                f"{out} is not empty.",
                expected="an empty folder, or none",
                fix="Choose another place, or give --force to replace the set that is there.",
            )


def _clear(out: Path) -> None:
    """Removes an earlier set, and nothing that is not one."""
    for name in (MANIFEST, FACTS, _JOURNAL):
        (out / name).unlink(missing_ok=True)
    for name in FOLDERS:
        if (out / name).is_dir():
            shutil.rmtree(out / name)


def _chunks(config: TapeConfig) -> Iterator[_Chunk]:
    for split, total in (("train", config.train), ("test", config.test)):
        for start in range(0, total, CHUNK):
            yield split, start, min(start + CHUNK, total)


def _drawn(
    out: Path, config: TapeConfig, workers: int, missing: list[_Chunk]
) -> Iterator[tuple[_Chunk, list[Row], int | None]]:
    """Yields each chunk as it is written, whatever the order; never more than a few are under way."""
    to, total = reporter(), sum(stop - start for _, start, stop in missing)
    task = to.start("Drawing look-alike parts", total)
    try:
        for chunk, (done, problem) in by_processes(partial(write_chunk, out, config), missing, workers):
            to.advance(task, len(done))
            yield chunk, done, problem
    finally:
        to.finish(task)


def _finish(out: Path, config: TapeConfig, rows: dict[_Chunk, list[Row]], complete: bool) -> Path:
    ordered = [row for chunk in _chunks(config) for row in rows.get(chunk, ())]
    frame = pl.DataFrame(ordered, schema=SCHEMA, orient="row")
    with contextlib.nullcontext() if complete else contextlib.suppress(StorageError):
        with whole_file(out / MANIFEST) as scratch:
            frame.write_parquet(scratch)
        _write_facts(out, config, frame.height, complete)
        (out / _JOURNAL).unlink(missing_ok=True)
    return out / MANIFEST


def _write_facts(out: Path, config: TapeConfig, images: int, complete: bool) -> None:
    facts = {
        "what": "a look-alike of real parts, drawn by knowngood; no photograph",
        "version": GENERATOR_VERSION,
        "complete": complete,
        "images": images,
        "config": config.model_dump(mode="json"),
    }
    write_json(out / FACTS, facts)


def _refused(out: Path, problem: int) -> StorageError:
    full = problem in (errno.ENOSPC, errno.EDQUOT)
    return StorageError(
        f"{'The disk is full' if full else os.strerror(problem)}: the set in {out} is not complete.",
        expected=f"{MANIFEST} there lists the pictures that are whole",
        fix=f"Free some space on the disk of {out}, or ask for fewer images; the same command goes on then.",
    )


SCHEMA: dict[str, pl.DataType] = {
    "image": pl.String(),  # below the manifest's folder
    "label": pl.String(),  # good or bad, as labelled; label noise included
    "true_label": pl.String(),  # good or bad, as it is
    "defect": pl.String(),  # type of the worst defect; null where the label is good
    "true_defect": pl.String(),  # the same whatever the label; null for good units
    "defects": pl.String(),  # every defect that was drawn, as JSON: type, severity, box
    "severity": pl.Float32(),  # of the worst one, 0 to 1; of good units, of a fault below the border
    "box": pl.String(),  # of each defect of a truly bad unit, as JSON
    "mask": pl.String(),  # of all its defects, 0 or 255
    "lead_mask": pl.String(),  # 255 lead, 128 body, 64 tape and walls, 0 floor
    "twin": pl.String(),  # the same picture without its defects
    "split": pl.String(),
    "lot": pl.String(),
    "machine": pl.String(),
    "product": pl.String(),
    "abnormal": pl.String(),  # burnt_out, wrong_cell, empty_frame, blurred; null for the rest
}
Row = tuple[object, ...]
_PHOTO, _MAP = 2, 3  # compression


def write_chunk(out: Path, config: TapeConfig, chunk: tuple[str, int, int]) -> tuple[list[Row], int | None]:
    """Draws and writes some units.

    Args:
        out: Folder of the set.
        config: Of the set.
        chunk: Split ("train" or "test"), first index, index after the last.

    Returns:
        One row a unit that is whole, in the order of `SCHEMA`, and the operating system's error number if it
        refused to write.
    """
    cv2.setNumThreads(1)
    split, start, stop = chunk
    rows: list[Row] = []
    for index in range(start, stop):
        try:
            rows.append(_write_unit(out, draw_unit(index, split, config), split, index, config))
        except OSError as error:
            return rows, error.errno
    return rows, None


def names_of(split: str, start: int, stop: int) -> list[str]:
    """Returns the image names of some units, as in the manifest."""
    return [f"images/{_name(split, index)}" for index in range(start, stop)]


def _name(split: str, index: int) -> str:
    return f"{split}/{index // 1000:05d}/{index:08d}.png"


def _write_unit(out: Path, unit: Drawn, split: str, index: int, config: TapeConfig) -> Row:
    plan, name = unit.plan, _name(split, index)
    defects = unit.defects if plan.bad else ()
    files: dict[str, U8] = {}
    if defects and config.masks:
        files["masks"] = np.any([d.mask for d in defects], axis=0).astype(np.uint8) * np.uint8(255)
    if config.masks:
        files["parts"] = unit.parts
    if config.twins and unit.defects:
        files["twins"] = unit.twin
    for folder, pixels in {**files, "images": unit.image}.items():  # the picture last: with it the unit is whole
        write_png(out / folder / name, pixels, _PHOTO if folder in ("images", "twins") else _MAP)
    kind = defects[0].kind if defects else None
    every = [{"defect": d.kind, "severity": round(d.severity, 4), "box": list(d.box)} for d in unit.defects]
    return (
        f"images/{name}",
        "bad" if plan.labelled_bad else "good",
        "bad" if plan.bad else "good",
        kind if plan.labelled_bad else None,
        kind,
        json.dumps(every) if every else None,
        plan.severity,
        json.dumps([list(d.box) for d in defects]) if defects else None,
        f"masks/{name}" if "masks" in files else None,
        f"parts/{name}" if "parts" in files else None,
        f"twins/{name}" if "twins" in files else None,
        split,
        unit.lot,
        unit.machine,
        unit.product,
        plan.abnormal,
    )
