"""Decoded photographs at the network's size: fitted once, kept in one uint8 file, read many times."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from knowngood.data.images import ImageSource, decoding, refuse_extremes
from knowngood.data.preprocessing import Preprocessing
from knowngood.data.records import Records
from knowngood.errors import ImageError
from knowngood.files import cache_key, storage_errors, whole_file, write_json
from knowngood.progress import track
from knowngood.wording import counted

GREY_MODES = frozenset({"1", "L", "LA", "I", "F", "I;16", "I;16B", "I;16L", "I;16N"})
Pixels = npt.NDArray[np.uint8]
AS_IT_IS = Preprocessing()
BLANK = "blank photograph"  # how a reason begins
MIN_SIDE = 8  # pixels: nothing can be inspected in less
_STRIPE = 1 << 20  # pixels that are converted at once
_SQUARE, _NOISE, _BLANK, _BLACK, _WHITE = 8, 32, 0.99, 3, 250  # see `blank_reason`


class Prepares(Protocol):
    """Changes a photograph before it is fitted to a network's size."""

    @property
    def cache_key(self) -> list[object]:
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
        (channels, height, width) uint8, contiguous.

    Raises:
        ImageError: The photograph has a side below `MIN_SIDE` pixels, or extreme proportions: resizing one of 1 pixel
            by millions would take gigabytes.
    """
    import torch
    from torch.nn import functional

    tall, wide = image.shape[:2]
    refuse_extremes(tall, wide, "The photograph")
    if min(tall, wide) < MIN_SIDE:
        raise ImageError(
            f"The photograph is too small to inspect: {wide} x {tall} pixels.",
            expected=f"at least {MIN_SIDE} pixels a side",
            fix="Leave it out, or photograph the part larger.",
        )
    if image.ndim == 3 and channels == 1:
        image = luminance(image)
    planes = image[None] if image.ndim == 2 else image.transpose(2, 0, 1)
    if planes.shape[1:] != (height, width):
        taken = planes if planes.flags.writeable else planes.copy()  # torch warns of the others
        resized = functional.interpolate(
            torch.from_numpy(taken)[None], (height, width), mode="bilinear", antialias=True
        )
        planes = resized[0].numpy()
    planes = np.ascontiguousarray(planes)
    return np.repeat(planes, 3, axis=0) if channels == 3 and len(planes) == 1 else planes


def luminance(image: Pixels) -> Pixels:
    """Returns the luminance (ITU-R 601) of an RGB photograph: (H, W) uint8, computed in stripes."""
    made = np.empty(image.shape[:2], np.uint8)
    rows = max(1, _STRIPE // image.shape[1])
    for start in range(0, len(image), rows):
        part = image[start : start + rows].astype(np.float32)
        grey = part[..., 0] * np.float32(0.299) + part[..., 1] * np.float32(0.587) + part[..., 2] * np.float32(0.114)
        made[start : start + rows] = np.rint(grey)
    return made


def blank_reason(image: Pixels) -> str | None:
    """Says why nothing can be seen in a photograph, or None where something can.

    A photograph is blank where 99 % of its pixels are within one level of the middle one, in every channel; or, so that
    the noise of a camera does not count, 99 % of the means of squares of 8 x 8 pixels are. A part on black tape, or
    before a bright light, takes more than 1 % of the picture.

    Args:
        image: (H, W) or (H, W, 3) uint8.

    Returns:
        What is wrong, as a clause ("99.9 % of it is white (level 255): burnt out").
    """
    planes = (image,) if image.ndim == 2 else tuple(image[..., channel] for channel in range(3))
    found = [_one_level(plane) for plane in planes]
    if any(one is None for one in found):
        return None
    levels, shares = zip(*(one for one in found if one is not None), strict=True)
    amount = "all of it" if min(shares) == 1 else f"{math.floor(min(shares) * 1000) / 10:g} % of it"
    shown = "/".join(str(level) for level in levels) if len(set(levels)) > 1 else str(levels[0])
    if max(levels) <= _BLACK:
        return f"{amount} is black (level {shown}): no light, a closed shutter, or transparency everywhere"
    if min(levels) >= _WHITE:
        return f"{amount} is white (level {shown}): burnt out"
    return f"{amount} is at one level ({shown})"


def _one_level(plane: Pixels) -> tuple[int, float] | None:
    """Returns the level that 99 % of a channel (H, W) has, and the share that has it; None where there is none."""
    import cv2

    few = plane[:: max(1, plane.shape[0] // 64), :: max(1, plane.shape[1] // 64)]
    if (np.abs(few - np.median(few)) > _NOISE).mean() > 0.1:
        return None  # nearly all photographs: a look at some pixels is enough
    plane = np.ascontiguousarray(plane)
    rows, columns = (max(1, side // _SQUARE) for side in plane.shape)
    whole = plane[: _SQUARE * rows, : _SQUARE * columns]
    for values in (plane, cv2.resize(whole, (columns, rows), interpolation=cv2.INTER_AREA)):
        counts = cv2.calcHist([values], [0], None, [256], [0, 256]).ravel()
        level = int(np.searchsorted(np.cumsum(counts), values.size / 2))
        share = float(counts[max(0, level - 1) : level + 2].sum()) / values.size
        if share >= _BLANK:
            return level, share
    return None


def depth_of(source: ImageSource) -> int:
    """Returns how many bits the samples of one photograph take: 8, 10, 12, 14 or 16.

    8 is a file of up to 8 bits. The others are files of 16 bits, by their highest sample: 10 where it is below 1024,
    and so on. One dark picture looks like fewer bits; `depth_of_set` asks many.

    Args:
        source: Path or bytes of a file, or an array, which has 8.

    Raises:
        ImageError: It cannot be decoded.
    """
    with decoding(source) as decoded:
        return decoded.facts.bit_depth


def depth_of_set(depths: Iterable[int | None]) -> int | None:
    """Returns how many bits the samples of a set of photographs take: the most that one of them does.

    Args:
        depths: Of each photograph, from `depth_of` or `Decoded.facts`; None where it cannot be read.

    Returns:
        8, 10, 12, 14 or 16; 10, 12 and 14 are 16-bit files whose samples are right-aligned, nearly black once their
        high bytes are kept. None where no photograph can be read.
    """
    return max((depth for depth in depths if depth is not None), default=None)


def needs_colour(records: Records, sample: int = 64) -> bool:
    """Returns whether any of the photographs has colour: by mode first, then by looking at some that might."""
    maybe = records.frame.filter(~records.frame["mode"].is_in(list(GREY_MODES)))
    step = max(1, maybe.height // sample)
    for path in maybe["path"].to_list()[::step]:
        try:
            with decoding(path) as decoded:
                if decoded.pixels.ndim == 3:
                    return True
        except Exception:  # it costs its own row when it is prepared
            continue
    return False


def unexpected(name: str, error: Exception) -> ImageError:
    """Returns the error of one photograph in whose place something failed that nobody foresaw, such as memory."""
    what = str(error).strip() or "no more memory" if isinstance(error, MemoryError) else str(error).strip()
    return ImageError(
        f"{name!r} cannot be prepared: {type(error).__name__}{': ' if what else ''}{what}.",
        fix="Leave it out, and report it if its pixels are sound.",
    )


@dataclass(frozen=True)
class Prepared:
    """One photograph at the network's size, with what was seen of it at its own.

    Attributes:
        pixels: (C, H, W) uint8.
        blank: Why nothing can be seen in it, or None.
        bit_depth: Bits that its samples take, see `depth_of`.
    """

    pixels: Pixels
    blank: str | None
    bit_depth: int


@dataclass(frozen=True)
class PixelStore:
    """Fitted photographs of one size in the order of a records table.

    Attributes:
        pixels: (N, C, H, W) uint8, mapped from disk.
        failed: Row to message, for photographs that could not be decoded (their pixels are 0).
        blank: Row to reason, for photographs that show nothing.
        bit_depth: Bits that the samples of the set take, see `depth_of_set`; None where none could be decoded.
        depths: (N,) uint8, bits that the samples of each photograph take, see `depth_of`; 0 where that is unknown.
    """

    pixels: Pixels
    failed: dict[int, str]
    blank: dict[int, str] = field(default_factory=dict)
    bit_depth: int | None = None
    depths: npt.NDArray[np.uint8] = field(default_factory=lambda: np.empty(0, np.uint8))

    def __len__(self) -> int:
        return len(self.pixels)

    def warnings(self, records: Records) -> list[str]:
        """Returns sentences on what a training on these photographs should not pass over.

        Args:
            records: The table that the store was made of.
        """
        names = records.frame["image"].to_list()
        sentences = []
        if self.failed:
            first = next(iter(self.failed.values())).splitlines()[0]
            verb = "is" if len(self.failed) == 1 else "are"
            sentences.append(
                f"{counted(len(self.failed), 'image')} cannot be decoded and {verb} left out; the first: {first}"
            )
        if self.blank:
            shown = ", ".join(f"{names[row]} ({why})" for row, why in list(self.blank.items())[:3])
            several = counted(len(self.blank), "image shows nothing and is", "images show nothing and are")
            sentences.append(f"Warning: {several} in the training all the same: {shown}")
        if self.bit_depth is not None and 8 < self.bit_depth < 16:
            sentences.append(f"Warning: {depth_advice(self.bit_depth)}")
        return sentences


def depth_advice(bits: int) -> str:
    """Returns what it means that the samples of a set of 16-bit files take fewer bits, and what to do."""
    return (
        f"the 16-bit images hold samples of {bits} bits only, right-aligned or badly underexposed: they are read as "
        f"nearly black pictures of {2 ** (bits - 8)} levels. Export them with the full range of 16 bits (multiplied by "
        f"{2 ** (16 - bits)}), or as 8 bits, and photographs that are inspected later alike."
    )


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
    key = cache_key(names, height, width, channels, *preprocessing.cache_key)
    data, facts = folder / f"{key}.u8", folder / f"{key}.json"
    shape = (len(names), channels, height, width)
    if not (data.is_file() and facts.is_file()):
        found = _fill(records.frame["path"].to_list(), data, shape, preprocessing)
        write_json(facts, {"shape": shape, **found})
    known = json.loads(facts.read_text(encoding="utf-8"))
    mapped = np.memmap(data, np.uint8, "r", shape=shape) if names else np.empty(shape, np.uint8)
    failed, blank = ({int(row): why for row, why in known.get(kind, {}).items()} for kind in ("failed", "blank"))
    depths = np.array(known.get("depths", [0] * len(names)), np.uint8)  # version 0.1 did not keep them
    return PixelStore(mapped, failed, blank, known.get("bit_depth"), depths)


def fitted(
    paths: Sequence[str], height: int, width: int, channels: int, preprocessing: Prepares = AS_IT_IS
) -> Iterator[Pixels | ImageError]:
    """Yields each photograph at the network's size, or the error that came instead, in order, decoded in threads."""
    for one in prepared(paths, height, width, channels, preprocessing):
        yield one if isinstance(one, ImageError) else one.pixels


def prepared(
    paths: Sequence[str], height: int, width: int, channels: int, preprocessing: Prepares = AS_IT_IS
) -> Iterator[Prepared | ImageError]:
    """Yields what `fitted` does, with what was seen of each photograph at its own size."""

    def one(path: str) -> Prepared | ImageError:
        try:
            with decoding(path) as decoded:
                shown = preprocessing.apply(decoded.pixels)
                return Prepared(fit(shown, height, width, channels), blank_reason(shown), decoded.facts.bit_depth)
        except ImageError as error:
            return error
        except Exception as error:  # MemoryError too: one photograph never costs the others
            return unexpected(path, error)

    with ThreadPoolExecutor(2) as pool:
        for start in range(0, len(paths), 64):  # bounded: a slow consumer must not fill the memory
            yield from pool.map(one, paths[start : start + 64])


def _fill(paths: list[str], data: Path, shape: tuple[int, int, int, int], preprocessing: Prepares) -> dict[str, object]:
    """Writes the pixels and returns what is to be remembered of the photographs."""
    failed: dict[int, str] = {}
    blank: dict[int, str] = {}
    depths: list[int] = []  # 0 where a photograph cannot be decoded
    with storage_errors(data), whole_file(data) as scratch, scratch.open("wb") as handle:
        found = prepared(paths, shape[2], shape[3], shape[1], preprocessing)
        for row, result in enumerate(track(found, "decode", total=len(paths))):
            if isinstance(result, ImageError):
                failed[row] = str(result)
                handle.write(bytes(shape[1] * shape[2] * shape[3]))
                depths.append(0)
                continue
            handle.write(result.pixels.tobytes())
            depths.append(result.bit_depth)
            if result.blank is not None:
                blank[row] = result.blank
    return {
        "failed": failed,
        "blank": blank,
        "bit_depth": depth_of_set(depth or None for depth in depths),
        "depths": depths,
    }
