"""Masks of photographs: which file belongs to which image by their names, and which image looks like a mask."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from knowngood.data.images import SUFFIXES, decode
from knowngood.data.pages import file_of, split_page
from knowngood.data.words import folded, is_container, meaning_of, split_of
from knowngood.errors import ImageError

UNFIT = "masks that fit no image"
OF_GOOD = "masks of good images, which have no defect"
AMBIGUOUS = "masks that fit several images"
FURTHER = "further masks of an image that has one"
OTHER_SIZE = "masks of another size than their image"
UNSCORED = "masks, which are not scored"

_MARK = (
    r"(?:defect[-_ .]?)?(?:masks?|maske|gt|labels?|seg|segm|segmentation|ground[-_ .]?truth|annos?|annot|annotations?"
    r"|bin|binary|bw)"
)
_SUFFIX = re.compile(rf"^(.*?[^-_ .])[-_ .]+{_MARK}(?:[-_ .]?\d{{1,3}})?$", re.IGNORECASE)
_PREFIX = re.compile(rf"^{_MARK}[-_ .]+(.+)$", re.IGNORECASE)
_HUMP = re.compile(r"^(.*[a-z0-9])(?:GT|Mask|Label|Seg)$")
_IMAGE_SUFFIX = re.compile(r"^(.*?[^-_ .])[-_ .]+(?:image|img|photo|rgb|orig|original|raw)$", re.IGNORECASE)
_ENDING = re.compile(r"\.(?:png|jpe?g|bmp|tiff?|gif)$", re.IGNORECASE)  # of b001.png_mask.png
_FEW = 8  # grey levels of a mask at most, where it is saved without loss
_NEAR, _APART, _SHARE = 12, 100, 0.97  # of a mask saved as JPEG: almost all pixels lie near two far levels
_LOOKED_AT = 250_000  # pixels


@dataclass(frozen=True)
class Look:
    """What an image looks like.

    Attributes:
        mask: It has few grey levels, as masks have.
        size: Height and width in pixels; None when it cannot be read.
    """

    mask: bool
    size: tuple[int, int] | None


def look_at(path: Path) -> Look:
    """Opens an image and says whether it looks like a mask: a few levels, or nearly so after JPEG."""
    try:
        pixels = decode(path)
    except ImageError:
        return Look(False, None)
    height, width = pixels.shape[:2]
    step = max(1, int((height * width / _LOOKED_AT) ** 0.5))
    some = pixels[::step, ::step]
    size = (int(height), int(width))
    if some.ndim == 3:
        codes = some.reshape(-1, 3).astype(np.int64) @ np.array([65536, 256, 1])
        return Look(len(np.unique(codes)) <= _FEW, size)
    counts = np.bincount(some.ravel(), minlength=256)
    there = np.flatnonzero(counts)
    if len(there) <= _FEW:
        return Look(True, size)
    low, high = int(there[0]), int(there[-1])
    near = counts[low : low + _NEAR + 1].sum() + counts[max(0, high - _NEAR) : high + 1].sum()
    return Look(high - low >= _APART and near >= _SHARE * counts.sum(), size)


def marked_core(stem: str) -> str | None:
    """Returns the name of the image that the name of a mask speaks of ("b001" of "b001_GT", "mask-b001"), or None
    where nothing in the name marks a mask."""
    core = stem
    while True:
        found = _SUFFIX.match(core) or _PREFIX.match(core) or _HUMP.match(core)
        if found is None:
            break
        core = found.group(1)
    return None if core == stem else _ENDING.sub("", core)


def masks_in(folder: Path) -> Callable[[Path], bool]:
    """Returns what says whether a file below `folder` is a mask: in a folder that is surely named after masks, or named
    after a photograph beside it and with few grey levels.

    Files may be asked for in any order; only those with a mask's name are opened.
    """
    named: dict[Path, bool] = {}

    def in_masks(place: Path) -> bool:
        if place not in named:
            meaning = meaning_of(place.name)
            own = meaning.kind == "masks" and meaning.generic  # others may name a defect
            named[place] = place != folder and (own or in_masks(place.parent))
        return named[place]

    def is_mask(file: Path) -> bool:
        if in_masks(file.parent):
            return True
        core, usual = marked_core(_stem(file)), _usual(file_of(file))
        if core is None or not any((file.parent / f"{core}{ending}").is_file() for ending in usual):
            return False
        return look_at(file).mask

    return is_mask


def _usual(file: Path) -> list[str]:
    return [
        file.suffix,
        *(end for ending in sorted(SUFFIXES) for end in (ending, ending.upper()) if end != file.suffix),
    ]


@dataclass(frozen=True)
class Wanted:
    """An image that masks are looked for.

    Attributes:
        file: Its path.
        masked: Whether it may have a mask: bad, or of unknown label.
    """

    file: Path
    masked: bool


@dataclass(frozen=True)
class Matched:
    """Which masks belong to which images.

    Attributes:
        of: Row of the image to its mask.
        left: Masks that nobody uses, each with the reason.
    """

    of: dict[int, Path]
    left: list[tuple[Path, str]]


def match_masks(root: Path, images: Sequence[Wanted], masks: Iterable[Path]) -> Matched:
    """Gives images their masks by the names of files and folders.

    A mask has the stem of its image, with or without a mark (`_mask`, `-gt`, `mask_` ...). Its folders below the root,
    without those that are named after masks, may not contradict the image's: "masks/chip/1_gt.png" and "masks/1.png"
    can belong to "train/chip/1.png", "masks/scratch/1.png" cannot. A mask that fits several images equally well is
    given to none.

    Args:
        root: Of the set.
        images: Photographs, in the order of the rows.
        masks: Files that are masks.
    """
    places = [_place(one.file, root) for one in images]
    known = {part for place in places for part in place if split_of(part) is None}
    by_name: dict[tuple[str, int | None], list[int]] = {}  # by name, and by page of a TIFF file
    for row, one in enumerate(images):
        stem, page = folded(_stem(one.file)), split_page(one.file)[1]
        by_name.setdefault((stem, page), []).append(row)
        short = _IMAGE_SUFFIX.match(stem)
        if short is not None:
            by_name.setdefault((short.group(1), page), []).append(row)
    claims: dict[int, list[tuple[int, bool, Path]]] = {}
    left: list[tuple[Path, str]] = []
    for file in masks:
        place, fits = _place(file, root), []
        marked = False
        stem, page = _stem(file), split_page(file)[1]
        for name, marked in ((stem, False), (marked_core(stem), True)):  # noqa: B007  (used below)
            rows = [] if name is None else by_name.get((folded(name), page), [])
            fits = [(_closeness(place, places[row], known), row) for row in rows]
            fits = [(close, row) for close, row in fits if close is not None and images[row].file != file]
            if fits:
                break
        wanted = [(close, row) for close, row in fits if images[row].masked and close is not None]
        best = max((close for close, _ in wanted), default=None)
        rows = [row for close, row in wanted if close == best]
        if len(rows) == 1:
            claims.setdefault(rows[0], []).append((-(best or 0), marked, file))
        else:
            left.append((file, AMBIGUOUS if rows else OF_GOOD if fits else UNFIT))
    of = {}
    for row, several in claims.items():
        first, *others = sorted(several)
        of[row] = first[2]
        left += [(file, FURTHER) for _, _, file in others]
    return Matched(of, left)


def _stem(file: Path) -> str:
    """Returns the name of a file without its ending, and without its page."""
    return Path(split_page(file)[0]).stem


def _place(file: Path, root: Path) -> tuple[str, ...]:
    """Returns the folders of a file below the root as masks and images share them."""
    parts: list[str] = []
    for name in file.relative_to(root).parts[:-1]:
        split, meaning = split_of(name), meaning_of(name)
        if split is not None:
            parts.append(split)
        elif is_container(name) or (meaning.kind == "masks" and meaning.sure):
            continue
        elif meaning.kind == "good" and meaning.sure:
            parts.append("good")
        elif meaning.kind == "bad" and meaning.generic:
            parts.append("bad")
        else:
            parts.append(folded(marked_core(name) or name))
    return tuple(parts)


def _closeness(mask: tuple[str, ...], image: tuple[str, ...], known: set[str]) -> int | None:
    """Returns how many folders a mask shares with an image, -1 for a tree of other names, None for a contradiction."""
    rest = iter(image)
    if all(part in rest for part in mask):
        return len(mask)
    return None if known.intersection(mask) else -1
