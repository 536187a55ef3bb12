"""Photographs of one part: pairs that agree in fine detail once one is shifted and turned onto the other.

Different parts of one product share their outlines, and one part may be lit and framed in several ways, so neither
plain likeness nor a fixed threshold decides. Each photograph is reduced to its fine structure with the local contrast
taken out; candidates are its neighbours in two coarse descriptors; each is registered, which gives a correlation.
Photographs are taken for one part when they form an *isolated cluster*: inside it all are linked by differences (1 -
correlation) at least `ISOLATION` times smaller than the difference to any photograph outside. Look-alikes never form
one, since each of them is about as near to many others.

On magnetic tiles under six exposures, look-alikes in carrier tape and solar cells: `benchmarks/repeated_parts.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from knowngood.data.duplicates import WORKERS, Ids, leave_individual
from knowngood.progress import track
from knowngood.scale.mapping import mapped

Bytes: TypeAlias = npt.NDArray[np.uint8]
Floats: TypeAlias = npt.NDArray[np.float32]

ISOLATION = 2.5
SAME = 0.1  # largest difference (1 - correlation) inside a cluster that counts as one part
MOST_OF_ONE = 16  # photographs of one part; larger clusters are rather a product that few photographs show
ALIKE = 0.05  # difference below which photographs may well show one part although others are nearly as alike ...
_FROM_AFAR = 0.3  # ... if that is at most this share of the difference to photographs that are not among the nearest
_NEAREST, _FARTHER, _FAR = 8, 80, 4  # neighbours by each descriptor; ranks from which so many others are drawn
_FLATTEST = 4.0  # grey levels of fine structure; less has nothing to register
_EXACT = 0.01  # smaller differences count as none
_MARGIN = 0.12  # share of each side by which a photograph may be shifted
_TURNS = (-3.0, -1.5, 1.5, 3.0)  # degrees
_WORTH_TURNING = 0.4  # difference up to which a pair may be one part that lies askew
_TURNED = 3  # nearest pairs of each photograph
_BLOCK = 2048
_GRID, _WINDOW = 6, 3  # a picture is divided into 6 x 6 areas, of which a window of 3 x 3 is left out
_BESIDE = 0.6  # largest share of the strangers' difference that a pair of one part may have without any window
_CLOSE = 0.03  # difference of copies, which need no such proof
_STRANGERS, _LINKS = 3, 2


@dataclass(frozen=True)
class Likeness:
    """Registered pairs of a set of N photographs.

    Attributes:
        pairs: int64 (P, 2), each pair once, the smaller row first.
        difference: float32 (P,), 1 - correlation after registration, 0..2; 1 or more means nothing in common.
        afar: float32 (N,), difference to the second-nearest of a few photographs that are not among the neighbours.
        fine: Fine structure of each photograph, None of flat ones.
    """

    pairs: Ids
    difference: Floats
    afar: Floats
    fine: Sequence[Floats | None] = ()


def likeness(detail: Sequence[Bytes | None], proposed: Iterable[tuple[int, int]] = ()) -> Likeness:
    """Registers every photograph with its nearest neighbours, and with those that somebody proposes.

    Args:
        detail: For each of N photographs a grey picture (H, W), from `thumbnails(..., detail=True)`, or None.
        proposed: Further pairs of rows to register, for example by their names.

    Returns:
        Pairs in a fixed order; equal sets give equal results. A flat photograph is in none.
    """
    fine = [None if one is None else fine_structure(one) for one in detail]
    rows = np.array([row for row, one in enumerate(fine) if one is not None], np.int64)
    afar = np.ones(len(detail), np.float32)
    near, far = _neighbours([detail[row] for row in rows], [fine[row] for row in rows])
    sound = set(rows.tolist())
    wanted = {(int(rows[i]), int(rows[j])) for i, j in near | far}
    wanted |= {(min(p), max(p)) for p in proposed if p[0] != p[1] and set(p) <= sound}
    pairs = np.array(sorted(wanted), np.int64).reshape(-1, 2)
    difference = _differences(fine, pairs)
    difference = _turned_where_it_matters(fine, pairs, difference)
    found = {(int(i), int(j)): float(d) for (i, j), d in zip(pairs, difference, strict=True)}
    others: dict[int, list[float]] = {}
    for i, j in sorted(far):
        d = found[int(rows[i]), int(rows[j])]
        others.setdefault(int(rows[i]), []).append(d)
        others.setdefault(int(rows[j]), []).append(d)
    for row, values in others.items():
        afar[row] = sorted(values)[min(1, len(values) - 1)]
    return Likeness(pairs, difference, afar, fine)


def fine_structure(grey: Bytes) -> Floats | None:
    """Returns what is left of a picture (H, W) without lighting and contrast, float32; None where it is flat."""
    picture = grey.astype(np.float32)
    band = cv2.GaussianBlur(picture, (0, 0), 0.8) - cv2.GaussianBlur(picture, (0, 0), 4)
    if float(np.percentile(np.abs(band), 99)) * 2 < _FLATTEST:
        return None
    return np.asarray(band / (np.sqrt(cv2.GaussianBlur(band * band, (0, 0), 6)) + 1), np.float32)


def _differences(fine: Sequence[Floats | None], pairs: Ids, turns: Sequence[float] = (0.0,)) -> Floats:
    """Returns 1 - correlation (P,) of registered pairs (P, 2), the least over some turns of one of the two."""
    result = np.ones(len(pairs), np.float32)

    def one(k: int) -> None:
        left, right = fine[pairs[k, 0]], fine[pairs[k, 1]]
        if left is not None and right is not None:
            result[k] = 1 - max(_registered(left, right, turn) for turn in turns)

    with ThreadPoolExecutor(WORKERS) as pool:
        for _ in track(pool.map(one, range(len(pairs)), chunksize=256), "Looking for repeated parts", len(pairs)):
            pass
    return result


def _turned_where_it_matters(fine: Sequence[Floats | None], pairs: Ids, difference: Floats) -> Floats:
    """Lets parts lie askew: turns the nearest pairs of each photograph, and then all pairs of clusters that this made.

    Turning everything would cost five times as much; turning the nearest pairs alone would set them apart from others
    that nobody turned.
    """
    before = isolated(Likeness(pairs, difference, np.ones(len(fine), np.float32)), len(fine))
    least: dict[int, list[int]] = {}
    for k in np.argsort(difference, kind="stable"):
        for row in pairs[k]:
            if len(nearest := least.setdefault(int(row), [])) < _TURNED:
                nearest.append(int(k))
    first = np.array(sorted({k for ks in least.values() for k in ks}), np.int64)
    first = first[(difference[first] > _EXACT) & (difference[first] <= _WORTH_TURNING)]
    joined = before[pairs[first, 0]] == before[pairs[first, 1]]
    difference = _with_turns(fine, pairs, difference, first[~joined])
    after = isolated(Likeness(pairs, difference, np.ones(len(fine), np.float32)), len(fine))
    new = (np.bincount(after, minlength=len(fine))[after] > 1) & (after != before)
    rest = np.flatnonzero(new[pairs].any(axis=1) & (difference <= _WORTH_TURNING))
    return _with_turns(fine, pairs, difference, np.setdiff1d(rest, first))


def _with_turns(fine: Sequence[Floats | None], pairs: Ids, difference: Floats, which: Ids) -> Floats:
    result = difference.copy()
    result[which] = np.minimum(result[which], _differences(fine, pairs[which], _TURNS))
    return result


def isolated(found: Likeness, rows: int, *, isolation: float = ISOLATION, same: float = SAME) -> Ids:
    """Numbers photographs so that those of one part have equal numbers, int64 (N,); see the module.

    Args:
        found: From `likeness`.
        rows: N.
        isolation: How many times farther than the links inside the nearest photograph outside is.
        same: Largest link inside.
    """
    parent = np.arange(rows)
    members: list[list[int]] = [[row] for row in range(rows)]
    inside = np.zeros(rows)
    labels = np.arange(rows, dtype=np.int64)

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = int(parent[row])
        return row

    for k in np.argsort(found.difference, kind="stable"):
        left, right = root(int(found.pairs[k, 0])), root(int(found.pairs[k, 1]))
        if left == right:
            continue
        gap = float(found.difference[k])
        for cluster in (left, right):  # larger clusters come later and take their parts over
            size = len(members[cluster])
            apart = gap >= isolation * max(inside[cluster], _EXACT)
            if 1 < size <= MOST_OF_ONE and inside[cluster] <= same and apart:
                labels[members[cluster]] = min(members[cluster])
        members[left] = members[left] + members[right]
        members[right] = []
        parent[right] = left
        inside[left] = gap
    return labels


def all_over(found: Likeness, groups: Ids) -> Ids:
    """Divides groups (N,) into those whose photographs agree all over, and not in one spot alone.

    Parts without a texture of their own agree as soon as two of them have a similar defect at one place. A pair of one
    part agrees better than strangers do whichever window of the picture is left out.

    Args:
        found: From `likeness`, with the fine structure.
        groups: int64 (N,), equal numbers are thought to show one part.
    """
    known: dict[int, list[tuple[float, int]]] = {}
    for (i, j), gap in zip(found.pairs.tolist(), found.difference.tolist(), strict=True):
        known.setdefault(i, []).append((gap, j))
        known.setdefault(j, []).append((gap, i))
    members: dict[int, list[int]] = {}
    for row, group in enumerate(groups.tolist()):
        members.setdefault(group, []).append(row)
    labels = np.arange(len(groups), dtype=np.int64)
    for group, rows in members.items():
        for place, row in enumerate(rows[1:], 1):
            others = sorted((gap, other) for gap, other in known.get(row, []) if groups[other] == group and other < row)
            tried = [other for _, other in others[:_LINKS]] or rows[place - 1 : place]
            strangers = [other for _, other in sorted(known.get(row, [])) if groups[other] != group][:_STRANGERS]
            gaps = {other: gap for gap, other in others}
            for other in tried:
                close = gaps.get(other, 1.0) <= _CLOSE
                if labels[row] != labels[other] and (close or _agree(found.fine, row, other, strangers)):
                    labels[labels == labels[row]] = labels[other]
    return labels


def _agree(fine: Sequence[Floats | None], row: int, other: int, strangers: Sequence[int]) -> bool:
    """Returns whether a pair agrees better than strangers do whichever window of the picture is left out."""
    own = _without_a_window(fine[row], fine[other])
    beside = [_without_a_window(fine[row], fine[stranger]) for stranger in strangers]
    nearest = np.max(beside, axis=0) if beside else np.zeros_like(own)
    return bool((1 - own <= _BESIDE * (1 - nearest)).all())


def _without_a_window(left: Floats | None, right: Floats | None) -> Floats:
    """Returns the correlations (W,) of two registered pictures without each of W windows of a quarter of the area."""
    if left is None or right is None:
        return np.zeros((_GRID - _WINDOW + 1) ** 2, np.float32)
    best, one, two = -2.0, left, right
    for turn in (0.0, *_TURNS):
        whole, piece = _window(left, right, turn)
        _, value, _, (x, y) = cv2.minMaxLoc(cv2.matchTemplate(whole, piece, cv2.TM_CCOEFF_NORMED))
        if value > best:
            best, one, two = value, whole[y : y + piece.shape[0], x : x + piece.shape[1]], piece
        if 1 - best <= _EXACT:
            break
    sums = [_without_each_window(product) for product in (one, two, one * one, two * two, one * two)]
    mean_one, mean_two, one_one, two_two, both = sums
    spread = np.maximum(one_one - mean_one**2, 1e-6) * np.maximum(two_two - mean_two**2, 1e-6)
    return np.asarray((both - mean_one * mean_two) / np.sqrt(spread), np.float32).ravel()


def _without_each_window(picture: Floats) -> Floats:
    """Returns the means of a picture (H, W) without one of its windows each, (G - w + 1, G - w + 1)."""
    areas = cv2.resize(np.ascontiguousarray(picture), (_GRID, _GRID), interpolation=cv2.INTER_AREA)
    windows = np.lib.stride_tricks.sliding_window_view(areas, (_WINDOW, _WINDOW))
    return np.asarray((areas.sum() - windows.sum(axis=(2, 3))) / (_GRID**2 - _WINDOW**2), np.float32)


def alike(found: Likeness) -> Ids:
    """Returns the pairs (M, 2) that may well show one part, whether or not others are nearly as alike."""
    if not len(found.pairs):
        return found.pairs
    afar = np.minimum(found.afar[found.pairs[:, 0]], found.afar[found.pairs[:, 1]])
    return found.pairs[(found.difference <= ALIKE) & (found.difference <= _FROM_AFAR * afar)]


def _registered(left: Floats, right: Floats, turn: float = 0.0) -> float:
    """Returns the largest correlation of the middle of one with a window of the other, which is shifted over it."""
    best = float(np.max(cv2.matchTemplate(*_window(left, right, turn), cv2.TM_CCOEFF_NORMED)))
    return best if np.isfinite(best) else 0.0


def _window(left: Floats, right: Floats, turn: float) -> tuple[Floats, Floats]:
    """Returns the larger picture, and the middle of the smaller one, turned by some degrees."""
    whole, piece = (left, right) if left.size >= right.size else (right, left)
    height, width = min(whole.shape[0], piece.shape[0]), min(whole.shape[1], piece.shape[1])
    down, across = max(2, round(height * _MARGIN)), max(2, round(width * _MARGIN))
    top, start = (piece.shape[0] - height) // 2 + down, (piece.shape[1] - width) // 2 + across
    if turn:
        piece = _turned(piece, turn)
    return whole, np.ascontiguousarray(piece[top : top + height - 2 * down, start : start + width - 2 * across])


def _turned(picture: Floats, degrees: float) -> Floats:
    height, width = picture.shape
    turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1)
    return np.asarray(cv2.warpAffine(picture, turn, (width, height), borderMode=cv2.BORDER_REFLECT), np.float32)


_Pairs: TypeAlias = set[tuple[int, int]]


def _neighbours(detail: Sequence[Bytes], fine: Sequence[Floats]) -> tuple[_Pairs, _Pairs]:
    """Returns pairs of near photographs by two descriptors, and of each with a few that are farther away."""
    near: _Pairs = set()
    far: _Pairs = set()
    if len(fine) < 2:
        return near, far
    with ThreadPoolExecutor(WORKERS) as pool:
        coarse = np.stack(list(pool.map(_coarse, detail)))
        spectra = np.stack(list(pool.map(_spectrum, fine)))
    for described in (coarse, spectra):
        rows = described - described.mean(axis=1, keepdims=True)
        rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)
        individual = leave_individual(rows)
        starts = range(0, len(rows), _BLOCK)
        for found in mapped(partial(_nearest, individual), starts):
            for own, order in found:
                near |= {(min(own, other), max(own, other)) for other in order[:_NEAREST]}
                far |= {(min(own, other), max(own, other)) for other in order[_NEAREST:]}
    return near, far - near


def _nearest(individual: Floats, start: int) -> list[tuple[int, list[int]]]:
    """Returns for each row of a block its nearest others, and after them a few of those that follow."""
    block = individual[start : start + _BLOCK] @ individual.T
    count = min(_FARTHER, block.shape[1] - 1)
    found = []
    for number, row in enumerate(block):
        own = start + number
        row[own] = -np.inf
        top = np.argpartition(-row, count - 1)[:count]
        top = top[np.lexsort((top, -row[top]))]
        rest = top[2 * _NEAREST :]
        drawn = rest[:: max(1, len(rest) // _FAR)][:_FAR]
        found.append((own, [*map(int, top[:_NEAREST]), *map(int, drawn)]))
    return found


def _coarse(grey: Bytes) -> Floats:
    """Returns 16 x 16 numbers: structure of the size of 2 to 8 pixels, where it lies."""
    picture = grey.astype(np.float32)
    band = cv2.GaussianBlur(picture, (0, 0), 2) - cv2.GaussianBlur(picture, (0, 0), 8)
    band /= np.sqrt(cv2.GaussianBlur(band * band, (0, 0), 12)) + 1
    return np.asarray(cv2.resize(band, (16, 16), interpolation=cv2.INTER_AREA), np.float32).ravel()


def _spectrum(fine: Floats, side: int = 64, kept: int = 20) -> Floats:
    """Returns the log magnitudes of the low frequencies, which do not depend on where a part lies."""
    reduced = cv2.resize(fine, None, fx=0.75, fy=0.75, interpolation=cv2.INTER_AREA)[:side, :side]
    square = np.zeros((side, side), np.float32)
    square[: reduced.shape[0], : reduced.shape[1]] = reduced
    found = np.abs(np.fft.rfft2(square))
    return np.asarray(np.log1p(np.vstack([found[:kept], found[-kept:]])[:, :kept]).ravel(), np.float32)
