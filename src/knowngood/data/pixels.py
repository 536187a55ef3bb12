"""Decoded photographs at the network's size: fitted once, kept in one uint8 file, read many times."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from knowngood.data.images import decode
from knowngood.data.preprocessing import Preprocessing
from knowngood.data.records import Records
from knowngood.errors import ImageError
from knowngood.files import storage_errors, whole_file, write_json
from knowngood.progress import track

GREY_MODES = frozenset({"1", "L", "LA", "I", "F", "I;16", "I;16B", "I;16L", "I;16N"})
Pixels = npt.NDArray[np.uint8]
AS_IT_IS = Preprocessing()
_BLANK = 3  # grey levels between the darkest and the brightest, but for a thousandth of the pixels at either end


class Prepares(Protocol):
    """Changes a photograph before it is fitted to a network's size."""

    @property
    def made_by(self) -> list[object]:
        """What the key of a cache gets."""
        ...

    def apply(self, image: Pixels) -> Pixels:
        """Returns the changed photograph, (H, W) or (H, W, 3) uint8."""
        ...


def fit(image: Pixels, height: int, width: int, channels: int) -> Pixels:
    """Returns a photograph at the network's size.

    Resizing is antialiased bilinear on uint8 (equal to Pillow's), stretched to the size; colour becomes luminance
    (ITU-R 601) for a grey network, grey is repeated for a colour one.

    Args:
        image: (H, W) or (H, W, 3) uint8.
        height: Output height in pixels.
        width: Output width in pixels.
        channels: 1 or 3.

    Returns:
        (channels, height, width) uint8.
    """
    import torch
    from torch.nn import functional

    if image.ndim == 3 and channels == 1:
        image = np.rint(image @ np.array([0.299, 0.587, 0.114], np.float32)).astype(np.uint8)
    planes = np.ascontiguousarray(image[None] if image.ndim == 2 else image.transpose(2, 0, 1))
    if planes.shape[1:] != (height, width):
        resized = functional.interpolate(
            torch.from_numpy(planes.copy())[None], (height, width), mode="bilinear", antialias=True
        )
        planes = resized[0].numpy()
    return np.repeat(planes, 3, axis=0) if channels == 3 and len(planes) == 1 else planes


def blank_reason(image: Pixels) -> str | None:
    """Returns why a photograph shows nothing, "blank photograph: ...", or None.

    Args:
        image: (H, W) or (H, W, 3) uint8.
    """
    low, high = np.quantile(image[:: max(1, image.shape[0] // 128), :: max(1, image.shape[1] // 128)], [0.001, 0.999])
    if high - low > _BLANK:
        return None
    what = "black" if high <= _BLANK else "white" if low >= 255 - _BLANK else f"grey level {(low + high) / 2:.0f}"
    return f"blank photograph: all of it is {what}"


def needs_colour(records: Records, sample: int = 64) -> bool:
    """Says whether any of the photographs has colour: by mode first, then by looking at some that might."""
    maybe = records.frame.filter(~records.frame["mode"].is_in(list(GREY_MODES)))
    step = max(1, maybe.height // sample)
    for path in maybe["path"].to_list()[::step]:
        try:
            if decode(path).ndim == 3:
                return True
        except ImageError:
            continue
    return False


@dataclass(frozen=True)
class PixelStore:
    """Fitted photographs of one size in the order of a records table.

    Attributes:
        pixels: (N, C, H, W) uint8, mapped from disk.
        failed: Row to message, for photographs that could not be decoded (their pixels are 0).
    """

    pixels: Pixels
    failed: dict[int, str]

    def __len__(self) -> int:
        return len(self.pixels)


def store_pixels(
    records: Records,
    folder: Path,
    height: int,
    width: int,
    channels: int,
    preprocessing: Prepares = AS_IT_IS,
) -> PixelStore:
    """Decodes and fits every photograph once; a second call with the same contents only opens the file.

    Raises:
        StorageError: The folder's disk is full.
    """
    names = [digest or path for digest, path in records.frame.select("sha256", "path").iter_rows()]
    key = hashlib.sha256(json.dumps([names, height, width, channels, *preprocessing.made_by]).encode()).hexdigest()[:24]
    data, facts = folder / f"{key}.u8", folder / f"{key}.json"
    shape = (len(names), channels, height, width)
    if not (data.is_file() and facts.is_file()):
        failed = _fill(records.frame["path"].to_list(), data, shape, preprocessing)
        write_json(facts, {"shape": shape, "failed": failed})
    known = json.loads(facts.read_text(encoding="utf-8"))["failed"]
    mapped = np.memmap(data, np.uint8, "r", shape=shape) if names else np.empty(shape, np.uint8)
    return PixelStore(mapped, {int(row): message for row, message in known.items()})


def fitted(
    paths: Sequence[str], height: int, width: int, channels: int, preprocessing: Prepares = AS_IT_IS
) -> Iterator[Pixels | ImageError]:
    """Yields each photograph at the network's size, or the error that came instead, in order, decoded in threads."""

    def one(path: str) -> Pixels | ImageError:
        try:
            return fit(preprocessing.apply(decode(path)), height, width, channels)
        except ImageError as error:
            return error

    with ThreadPoolExecutor(2) as pool:
        for start in range(0, len(paths), 64):  # bounded: a slow consumer must not fill the memory
            yield from pool.map(one, paths[start : start + 64])


def _fill(paths: list[str], data: Path, shape: tuple[int, int, int, int], preprocessing: Prepares) -> dict[int, str]:
    failed: dict[int, str] = {}
    with storage_errors(data), whole_file(data) as scratch, scratch.open("wb") as handle:
        found = fitted(paths, shape[2], shape[3], shape[1], preprocessing)
        for row, result in enumerate(track(found, "decode", total=len(paths))):
            if isinstance(result, ImageError):
                failed[row] = str(result)
                handle.write(bytes(shape[1] * shape[2] * shape[3]))
            else:
                handle.write(result.tobytes())
    return failed
