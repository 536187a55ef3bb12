"""Writes the files of some units, and their rows of the manifest; what a worker process does."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import polars as pl

from knowngood.data.processes import write_png
from knowngood.data.tape.config import TapeConfig
from knowngood.data.tape.drawing import Drawn, draw_unit
from knowngood.data.tape.scene import U8

SCHEMA: dict[str, pl.DataType] = {
    "image": pl.String(),  # below the manifest's folder
    "label": pl.String(),  # good or bad, as somebody said
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
