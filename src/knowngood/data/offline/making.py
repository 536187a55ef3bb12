"""Makes the copies of one chunk and says how each was made; what a worker process does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Generator, Tensor

from knowngood.data.augmentations import names_in
from knowngood.data.augmentations.policy import Parameters, Policy, draw, geometry, policy_named, transformed
from knowngood.data.images import decode, read_mask
from knowngood.data.offline.config import AugmentConfig
from knowngood.data.offline.folder import name_of, notes_of
from knowngood.data.offline.placing import defect_points, moved_boxes, moved_mask, share_inside
from knowngood.data.processes import write_png
from knowngood.errors import DataError, ImageError
from knowngood.files import storage_errors, write_json
from knowngood.seeding import seed_of

TRIES = 50  # draws for a defect that will not stay in the picture; then the best of them is taken, and said
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
