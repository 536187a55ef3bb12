"""Laying a piece of one photograph into another so that no seam shows: Poisson or feathered."""

from __future__ import annotations

from typing import Any, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_matrix
from scipy.sparse.linalg import splu

from knowngood.synthesis.config import Blend

Pixels: TypeAlias = npt.NDArray[np.uint8]
Bools: TypeAlias = npt.NDArray[np.bool_]
Floats: TypeAlias = npt.NDArray[np.float64]
_STEPS = ((0, 1), (1, 0), (0, -1), (-1, 0))


def blended(host: Pixels, piece: Pixels, inside: Bools, how: Blend, feather: float = 3.0) -> Pixels:
    """Returns the host with the piece laid in.

    Args:
        host: uint8 (H, W) or (H, W, 3).
        piece: Of the same shape; looked at near `inside` only.
        inside: bool (H, W), where the piece is laid.
        how: "poisson" keeps the piece's differences between neighbours and takes the brightness at its edge from the
            host; "feather" keeps its values but for one brightness, and mixes over the edge.
        feather: Width in pixels over which "feather" mixes, inwards.

    Returns:
        uint8, outside of `inside` equal to the host.
    """
    if not inside.any():
        return host.copy()
    planes = [host[..., None], piece[..., None]] if host.ndim == 2 else [host, piece]
    below, above = (plane.astype(np.float64) for plane in planes)
    laid = above + (_membrane if how == "poisson" else _offset)(below - above, inside)
    share = inside.astype(np.float64) if how == "poisson" else _ramp(inside, feather)
    mixed = below + share[..., None] * (laid - below)
    return np.asarray(np.clip(np.rint(mixed), 0, 255), np.uint8).reshape(host.shape)


def ring_of(inside: Bools, width: int = 3) -> Bools:
    """Returns bool (H, W): the pixels outside of a region that are at most `width` away from it."""
    kernel = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
    return np.asarray(cv2.dilate(inside.astype(np.uint8), kernel) > 0, np.bool_) & ~inside


def grown(inside: Bools, width: int) -> Bools:
    """Returns a region with all that is at most `width` pixels away from it."""
    return inside | ring_of(inside, width) if width else inside


def _offset(difference: Floats, inside: Bools) -> Floats:
    """Returns (1, 1, C): what brings the piece to the host's brightness around the region, or in it where it is all."""
    ring = ring_of(inside)
    return np.asarray(np.median(difference[ring if ring.any() else inside], axis=0), np.float64)[None, None]


def _ramp(inside: Bools, width: float) -> Floats:
    """Returns (H, W) from 0 outside over the edge to 1, `width` pixels inside; thin regions stay visible."""
    padded = np.pad(inside.astype(np.uint8), 1, mode="edge")  # the picture's own edge is no seam
    depth = cv2.distanceTransform(padded, cv2.DIST_L2, 5)[1:-1, 1:-1].astype(np.float64)
    reach = max(1.0, min(width, float(depth.max())))
    return np.asarray(np.minimum(depth / reach, 1.0), np.float64)


def _membrane(difference: Floats, inside: Bools) -> Floats:
    """Returns (H, W, C): inside, the smooth function that equals `difference` on the pixels around; 0 elsewhere.

    The picture's own edge holds nothing fast, so that a region may touch it; a part of the region that nothing
    surrounds gets the difference of the means.

    Reference:
        Perez et al. 2003, "Poisson image editing", equation 2 with the piece's own gradient as guidance: what is added
        to the piece is harmonic. OpenCV's seamlessClone needs colour and a frame of pixels around the region.
    """
    corrected = np.zeros_like(difference)
    count, places = cv2.connectedComponents(inside.astype(np.uint8), connectivity=4)
    for part in range(1, count):
        region = places == part
        surrounded = (ring_of(region, 1) & _beside(region)).any()
        mean = np.broadcast_to(difference[region].mean(axis=0), (int(region.sum()), difference.shape[2]))
        corrected[region] = _harmonic(difference, region) if surrounded else mean
    return corrected


def _beside(region: Bools) -> Bools:
    kernel = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    return np.asarray(cv2.dilate(region.astype(np.uint8), kernel) > 0, np.bool_)


def _harmonic(boundary: Floats, region: Bools) -> Floats:
    """Solves Laplace's equation on a region (P pixels) with the values around it; returns (P, C)."""
    ys, xs = np.nonzero(region)
    size, (height, width) = len(ys), region.shape
    number = np.full(region.shape, -1, np.int64)
    number[ys, xs] = np.arange(size)
    own, right = np.zeros(size), np.zeros((size, boundary.shape[2]))
    rows: list[npt.NDArray[Any]] = [np.arange(size)]
    columns: list[npt.NDArray[Any]] = [np.arange(size)]
    for down, across in _STEPS:
        y, x = ys + down, xs + across
        there = np.flatnonzero((y >= 0) & (y < height) & (x >= 0) & (x < width))
        own[there] += 1
        neighbour = number[y[there], x[there]]
        known, free = there[neighbour < 0], there[neighbour >= 0]
        right[known] += boundary[y[known], x[known]]
        rows.append(free)
        columns.append(neighbour[neighbour >= 0])
    values = np.concatenate([own, *(np.full(len(each), -1.0) for each in rows[1:])])
    matrix = coo_matrix((values, (np.concatenate(rows), np.concatenate(columns))), shape=(size, size))
    return np.asarray(splu(matrix.tocsc()).solve(right), np.float64)
