"""Transformed copies of a photograph with mask and boxes: one seed a copy, so that copy k can be made alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Generator, Tensor

from knowngood.data.augmentation import (
    Parameters,
    Policy,
    draw,
    geometry,
    policy_named,
    resampled,
    transformed,
)
from knowngood.data.config import AugmentConfig, names_in
from knowngood.data.images import decode, read_mask
from knowngood.data.made_sets import name_of, notes_of
from knowngood.data.processes import write_png
from knowngood.errors import DataError, ImageError
from knowngood.files import storage_errors, write_json


def seed_of(*parts: int) -> int:
    """Returns a seed, 0 .. 2^63 - 1, that belongs to these numbers in this order; others give an independent one.

    Args:
        *parts: At least 0 each, for example the seed of a set and the number of an image.
    """
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))


Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Box = Sequence[float]  # x0, y0, x1, y1 in pixels, half-open
_PER_SIDE = 16  # points a side that stand for a box without a mask


def defect_points(mask: Bools | None, boxes: Sequence[Box]) -> list[Floats]:
    """Returns what must stay in the picture: (P, 2) points (x, y) in pixels for each box, else for the whole mask.

    Args:
        mask: (H, W), or None.
        boxes: May be empty. A box with mask pixels in it is as its mask says, any other a grid of points.
    """
    if not boxes:
        whole = _pixels(mask, None) if mask is not None else np.empty((0, 2))
        return [whole] if len(whole) else []
    return [own if len(own := _pixels(mask, box)) else _grid(box) for box in boxes]


def moved_points(points: Floats, matrix: Tensor, size: tuple[int, int]) -> Floats:
    """Returns where points (P, 2) in pixels go under a matrix (3, 3) from output to input coordinates."""
    height, width = size
    scale = np.array([width, height], np.float64) / 2
    inverse = np.linalg.inv(matrix.numpy().astype(np.float64))
    centred = points / scale - 1
    moved = centred @ inverse[:2, :2].T + inverse[:2, 2]
    return np.asarray((moved + 1) * scale, np.float64)


def share_inside(defects: Sequence[Floats], matrix: Tensor | None, size: tuple[int, int]) -> float:
    """Returns the share, 0..1, of the defect that keeps least of itself in the picture of `size` (height, width)."""
    if matrix is None:
        return 1.0
    return min((float(_within(moved_points(points, matrix, size), size).mean()) for points in defects), default=1.0)


def moved_mask(mask: Bools, matrix: Tensor | None, *, mirrored: bool = True) -> Bools:
    """Returns a mask (H, W) moved with its picture, nearest neighbour.

    Args:
        mask: (H, W).
        matrix: (3, 3) from output to input coordinates; None moves nothing.
        mirrored: Whether what the picture's edge mirrors back into it is marked too, since it is to be seen there.
    """
    if matrix is None:
        return mask
    values = torch.from_numpy(mask.astype(np.float32))[None, None]
    moved = resampled(values, matrix[None], "nearest", "reflection" if mirrored else "zeros")[0, 0].numpy() > 0.5
    if mask.any() and not moved.any():  # a defect of a few pixels can fall between the samples
        points = moved_points(_pixels(mask, None), matrix, mask.shape)
        x, y = points[_within(points, mask.shape)].astype(int).T
        moved[y, x] = True
    return np.asarray(moved, np.bool_)


def moved_boxes(boxes: Sequence[Box], mask: Bools | None, matrix: Tensor | None, size: tuple[int, int]) -> list[Box]:
    """Returns the boxes of the moved defects, whole pixels, clipped to the picture; one that left it is gone.

    Args:
        boxes: Of the photograph.
        mask: (H, W) of its defects; a box with mask pixels in it is that of its moved pixels, else of its corners.
        matrix: (3, 3) from output to input coordinates; None moves nothing.
        size: Height and width.
    """
    if matrix is None:
        return [list(box) for box in boxes]
    made = (_moved_box(box, mask, matrix, size) for box in boxes)
    return [box for box in made if box is not None]


def _moved_box(box: Box, mask: Bools | None, matrix: Tensor, size: tuple[int, int]) -> Box | None:
    x0, y0, x1, y1 = box
    if len(_pixels(mask, box)):
        assert mask is not None
        part = np.zeros_like(mask)
        rows, columns = _slices(box)
        part[rows, columns] = mask[rows, columns]
        y, x = np.nonzero(moved_mask(part, matrix, mirrored=False))
        return [int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1] if len(x) else None
    corners = np.array([(x0, y0), (x1, y0), (x0, y1), (x1, y1)], np.float64)
    moved = moved_points(corners, matrix, size)
    low = np.maximum(np.floor(moved.min(axis=0) + 1e-3), 0)
    high = np.minimum(np.ceil(moved.max(axis=0) - 1e-3), [size[1], size[0]])
    return [int(low[0]), int(low[1]), int(high[0]), int(high[1])] if (low < high).all() else None


def _within(points: Floats, size: tuple[int, int]) -> Bools:
    return np.asarray(((points >= 0) & (points < [size[1], size[0]])).all(axis=1), np.bool_)


def _pixels(mask: Bools | None, box: Box | None) -> Floats:
    """Returns the centres (P, 2) of the mask's pixels, inside of a box only where one is given."""
    if mask is None:
        return np.empty((0, 2))
    rows, columns = (slice(0, None), slice(0, None)) if box is None else _slices(box)
    y, x = np.nonzero(mask[rows, columns])
    return np.stack([x + columns.start + 0.5, y + rows.start + 0.5], axis=1)


def _slices(box: Box) -> tuple[slice, slice]:
    x0, y0, x1, y1 = box
    return slice(max(0, int(y0)), int(np.ceil(y1))), slice(max(0, int(x0)), int(np.ceil(x1)))


def _grid(box: Box) -> Floats:
    x0, y0, x1, y1 = box
    steps = (np.arange(_PER_SIDE) + 0.5) / _PER_SIDE
    x, y = np.meshgrid(x0 + steps * (x1 - x0), y0 + steps * (y1 - y0))
    return np.stack([x.ravel(), y.ravel()], axis=1)


TRIES = 50  # draws for a defect that will not stay in the picture; then the best of them is taken and reported
_PHOTO, _MASK = 2, 3  # compression


class Original(NamedTuple):
    """A training image that copies are made of."""

    image: str
    path: str
    sha256: str
    mask: str | None
    boxes: list[list[float]]


class Job(NamedTuple):
    """One copy to make.

    Attributes:
        number: Decides, with the seed, what is drawn.
        originals: The image to copy, and others in case that it cannot be decoded.
    """

    number: int
    originals: tuple[Original, ...]


class Copy(NamedTuple):
    """A copy in memory.

    Attributes:
        pixels: (H, W) or (H, W, 3) uint8.
        mask: (H, W) bool, or None.
        boxes: In pixels, half-open.
        parameters: Of the policy's transforms.
        inside: Share, 0..1, of the defect that is left least in the picture; None without mask and box.
    """

    pixels: npt.NDArray[np.uint8]
    mask: npt.NDArray[np.bool_] | None
    boxes: list[Sequence[float]]
    parameters: Parameters
    inside: float | None


def make_chunk(out: Path, folder: str, notes: Path, config: AugmentConfig, chunk: Sequence[Job]) -> int:
    """Makes and writes some copies, and last the notes on them: a chunk with notes is whole.

    Args:
        out: Folder of the set.
        folder: Name of the folder of copies in it.
        notes: Folder of the notes, one JSON file a chunk.
        config: Of the set.
        chunk: What to make.

    Returns:
        How many.

    Raises:
        DataError: An image and those in its stead cannot be decoded, or no draw leaves its defect in the picture.
        StorageError: The disk is full.
    """
    policy, threads = policy_named(config.augment, config.ranges()), torch.get_num_threads()
    torch.set_num_threads(1)  # a sum over several threads can differ in its last bit
    try:
        with storage_errors(out):
            rows = [_make(out, folder, config, policy, job) for job in chunk]
            write_json(notes_of(notes, chunk), rows)
    finally:
        torch.set_num_threads(threads)
    return len(chunk)


def copy_of(
    pixels: npt.NDArray[np.uint8],
    mask: npt.NDArray[np.bool_] | None,
    boxes: Sequence[Sequence[float]],
    policy: Policy,
    config: AugmentConfig,
    number: int,
) -> Copy:
    """Returns one transformed copy; image, mask and boxes are moved alike.

    Args:
        pixels: (H, W) or (H, W, 3) uint8.
        mask: (H, W) of its defects, or None.
        boxes: Of its defects, pixels, half-open; may be empty.
        policy: Transforms.
        config: Seed, and the share of a defect that must stay inside.
        number: Of the copy; with the seed it decides all that is drawn.
    """
    size = (pixels.shape[0], pixels.shape[1])
    defects = defect_points(mask, boxes)
    parameters, matrix, inside = _drawn(policy, config, number, size, defects)
    planes = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    values = transformed(torch.from_numpy(np.ascontiguousarray(planes))[None], policy, parameters)[0]
    new = values.round().clamp(0, 255).to(torch.uint8).numpy()
    return Copy(
        np.ascontiguousarray(new[0] if pixels.ndim == 2 else new.transpose(1, 2, 0)),
        None if mask is None else moved_mask(mask, matrix),
        moved_boxes(boxes, mask, matrix, size),
        parameters,
        inside if defects else None,
    )


def _drawn(
    policy: Policy, config: AugmentConfig, number: int, size: tuple[int, int], defects: Sequence[Any]
) -> tuple[Parameters, Tensor | None, float]:
    """Draws until enough of every defect stays in the picture; else returns the draw that keeps most."""
    generator, best = Generator().manual_seed(seed_of(config.seed, number)), None
    for _ in range(TRIES):
        parameters = draw(policy, 1, generator)
        matrices = geometry(policy, parameters, size[1] / size[0])
        matrix = None if matrices is None else matrices[0]
        inside = share_inside(defects, matrix, size)
        if best is None or inside > best[2]:
            best = (parameters, matrix, inside)
        if inside >= config.inside:
            break
    assert best is not None
    return best


def _make(out: Path, folder: str, config: AugmentConfig, policy: Policy, job: Job) -> dict[str, Any]:
    original, pixels, mask, passed_over = _decoded(job)
    made = copy_of(pixels, mask, original.boxes, policy, config, job.number)
    if made.inside == 0:
        raise DataError(
            f"In {TRIES} draws the defect of {original.image!r} never stayed in the picture.",
            expected="transforms small enough for defects near the edge",
            fix="Smaller --shift, --rotate and --zoom.",
        )
    name = name_of(folder, job.number)
    if made.mask is not None:
        write_png(out / "masks" / name, made.mask.astype(np.uint8) * np.uint8(255), _MASK)
    write_png(out / name, made.pixels, _PHOTO)
    drawn = zip(names_in(config.augment), made.parameters, strict=True)
    return {
        "image": name,
        "mask": f"masks/{name}" if made.mask is not None else None,
        "box": [list(box) for box in made.boxes] if original.boxes else None,
        "made_from": original.image,
        "source_sha256": original.sha256,
        "number": job.number,
        "transforms": [[each, [round(float(v), 6) for v in values[0]]] for each, values in drawn],
        "defect_inside": made.inside,
        "passed_over": passed_over,
    }


def _decoded(
    job: Job,
) -> tuple[Original, npt.NDArray[np.uint8], npt.NDArray[np.bool_] | None, list[str]]:
    """Returns the first original that can be used, decoded with its mask, and why others could not."""
    passed_over: list[str] = []
    for original in job.originals:
        try:
            pixels = decode(original.path)
            return original, pixels, _mask(original, pixels.shape[:2]), passed_over
        except ImageError as error:
            passed_over.append(error.what)
    raise DataError(
        f"{len(passed_over)} training images in a row cannot be used; the first: {passed_over[0]}",
        fix="Run `knowngood check` on the data.",
    )


def _mask(original: Original, shape: tuple[int, ...]) -> npt.NDArray[np.bool_] | None:
    if original.mask is None:
        return None
    return read_mask(original.mask, (shape[0], shape[1]))
