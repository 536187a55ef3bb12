"""The CAM history of a training as pictures: a strip of epochs, a strip of stages, and an animation."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from knowngood import wording
from knowngood.cam.history import CamFrame
from knowngood.files import whole_file
from knowngood.recipe.maps import Map, at_size
from knowngood.report.page import Section, render
from knowngood.report.pictures import Pixels, as_colour, beside, data_uri, framed, scale_of, sized, under, words

_CELL, _TILE = 112, 200  # pixels of the longer side of a picture in a strip, and in the animation
_COLUMNS, _FRAMES = 13, 60  # epochs shown at most; the first and the last always are
_PAUSE, _LAST_PAUSE = 700, 2000  # milliseconds
_EMBEDDED = 4_000_000  # bytes of an animation that the page takes in; a larger one stays beside it
_NOTE = (
    "Grad-CAM. Every picture is scaled to itself: compare places, not colours. Under each: the raw score, bad "
    "minus good; none: no place with evidence for bad."
)


@dataclass(frozen=True)
class CamHistory:
    """Photographs and their maps, epoch by epoch.

    Attributes:
        names: Of the photographs.
        photographs: (H, W) or (H, W, 3) uint8 each.
        frames: One an epoch, in order.
        kept: Epoch whose weights the recipe has.
    """

    names: Sequence[str]
    photographs: Sequence[Pixels]
    frames: Sequence[CamFrame]
    kept: int

    @property
    def last(self) -> str:
        """The last stage."""
        return list(self.frames[0].maps)[-1]


def write_cam_history(history: CamHistory, folder: Path) -> None:
    """Writes epochs.png (rows: photographs), stages.png (rows: stages of each) and epochs.gif.

    Raises:
        StorageError: They cannot be written.
    """
    _write(folder / "epochs.png", epoch_strip(history))
    _write(folder / "stages.png", stage_strip(history))
    pictures = [Image.fromarray(still(history, frame)) for frame in _some(history.frames, _FRAMES)]
    pauses = [_PAUSE] * (len(pictures) - 1) + [_LAST_PAUSE]
    with whole_file(folder / "epochs.gif") as scratch:
        pictures[0].save(scratch, "GIF", save_all=True, append_images=pictures[1:], duration=pauses, loop=0)


def epoch_strip(history: CamHistory) -> Pixels:
    """Returns the last stage: a row a photograph, a column an epoch."""
    frames = _some(history.frames, _COLUMNS)
    rows = []
    for index, photograph in enumerate(history.photographs):
        small = _small(photograph, _CELL)
        cells = [small, *(_cell(small, frame, history.last, index) for frame in frames)]
        name = words(history.names[index], sum(cell.shape[1] for cell in cells), 13)
        rows.append(under([name, beside(_headed(history, cells, frames) if index == 0 else cells)], 2))
    return _noted(f"Grad-CAM of {history.last}, epoch by epoch", rows)


def stage_strip(history: CamHistory) -> Pixels:
    """Returns every stage: for each photograph a row a stage, a column an epoch."""
    frames = _some(history.frames, _COLUMNS)
    blocks = []
    for index, photograph in enumerate(history.photographs):
        small = _small(photograph, _CELL)
        rows = []
        for place, stage in enumerate(history.frames[0].maps):
            left = small if place == 0 else np.full_like(small, 255)
            cells = [_labelled(left, stage), *(_cell(small, frame, stage, index) for frame in frames)]
            rows.append(beside(_headed(history, cells, frames) if place == 0 else cells))
        blocks.append(under([words(history.names[index], rows[0].shape[1], 14), *rows]))
    return _noted("Grad-CAM of each stage, epoch by epoch", blocks)


def still(history: CamHistory, frame: CamFrame) -> Pixels:
    """Returns one picture of the animation: all photographs at one epoch, its number on top."""
    tiles = []
    for index, photograph in enumerate(history.photographs):
        small = _small(photograph, _TILE)
        tile = _cell(small, frame, history.last, index)
        tiles.append(under([tile, words(history.names[index], tile.shape[1], 12)], 0))
    across = min(4, len(tiles))
    tall = max(len(tile) for tile in tiles)
    tiles = [np.pad(tile, ((0, tall - len(tile)), (0, 0), (0, 0)), constant_values=255) for tile in tiles]
    rows = [beside(tiles[start : start + across]) for start in range(0, len(tiles), across)]
    grid = under(rows)
    head = f"{_epoch(history, frame)} of {history.frames[-1].epoch}" if frame.epoch else _epoch(history, frame)
    width = max(grid.shape[1], 260)
    return framed(under([words(f"{history.last}, {head}", width, 18), grid, words(_NOTE, width, 12)]))


def cam_history_section(history: CamHistory, folder: Path) -> Section:
    """Makes the report's section.

    Args:
        history: As written.
        folder: Where `write_cam_history` wrote; named in the page.
    """
    encoded = (folder / "epochs.gif").read_bytes()
    moving = None
    if len(encoded) <= _EMBEDDED:
        moving = "data:image/gif;base64," + base64.b64encode(encoded).decode("ascii")
    body = render(
        "sections/cam_history.html",
        strip=data_uri(epoch_strip(history)),
        moving=moving,
        folder=folder.name,
        count=wording.counted(len(history.names), "photograph"),
        kept=history.kept,
    )
    lead = "Grad-CAMs of these photographs before training and after each epoch, with the averaged weights."
    return Section("cam-history", "CAM history", body, lead)


def _some(frames: Sequence[CamFrame], most: int) -> list[CamFrame]:
    places = np.unique(np.linspace(0, len(frames) - 1, min(most, len(frames))).round().astype(int))
    return [frames[place] for place in places.tolist()]


def _small(photograph: Pixels, side: int) -> Pixels:
    return as_colour(sized(photograph, side / max(photograph.shape[:2])))


def _cell(small: Pixels, frame: CamFrame, stage: str, index: int) -> Pixels:
    """Returns one overlay with its raw score under it."""
    values: Map = frame.maps[stage][index]
    painted = scale_of([values]).over(small, at_size(values, *small.shape[:2]))
    nothing = "" if values.max() > 0 else ", none"
    return _labelled(painted, f"{frame.raw_scores[index]:+.2f}{nothing}")


def _labelled(picture: Pixels, caption: str) -> Pixels:
    return under([picture, words(caption, picture.shape[1], 12)], 1)


def _headed(history: CamHistory, cells: Sequence[Pixels], frames: Sequence[CamFrame]) -> list[Pixels]:
    heads = ["photograph", *(_epoch(history, frame) for frame in frames)]
    made = [words(head, cell.shape[1], 12) for head, cell in zip(heads, cells, strict=True)]
    tall = max(len(head) for head in made)
    made = [np.pad(head, ((tall - len(head), 0), (0, 0), (0, 0)), constant_values=255) for head in made]
    return [under([head, cell], 1) for head, cell in zip(made, cells, strict=True)]


def _epoch(history: CamHistory, frame: CamFrame) -> str:
    caption = f"epoch {frame.epoch}" if frame.epoch else "before training"
    return f"{caption} (kept)" if frame.epoch == history.kept else caption


def _noted(title: str, rows: Sequence[Pixels]) -> Pixels:
    width = max(320, *(row.shape[1] for row in rows))
    return framed(under([words(title, width, 18), *rows, words(_NOTE, width, 13)], 8))


def _write(target: Path, picture: Pixels) -> None:
    with whole_file(target) as scratch:
        Image.fromarray(picture).save(scratch, "PNG")
