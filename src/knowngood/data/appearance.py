"""What a photograph looks like as a whole, in some 400 numbers, without a network and in half a millisecond.

Three parts: *layout*, where edges lie and which way they run; *cells*, how strong details of each size are in each of
16 parts of the photograph; and *texture*, the same over all of it, with how uneven that is and how it varies. All are
of a photograph as networks receive it, so that every runtime can compute them. They are meant to tell products apart,
not good parts from bad ones.

Reference:
    Layout: Dalal and Triggs 2005, histograms of oriented gradients, here of the photograph at mean 0 and deviation 1.
    Texture: Bruna and Mallat 2013, scattering networks: moduli of a wavelet transform, averaged, and those of the
    moduli again; here with Haar wavelets and in logarithms.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

SIDE = 128  # pixels of the square that is described
_GRID, _ANGLES = 4, 8  # cells a side, and directions in 180 degrees, of the layout
_SCALES, _AGAIN, _IN_CELLS = 5, 3, 4  # of the texture; of these are transformed a second time; are kept of each cell
_FLOOR = 0.1  # grey levels: differences below it are noise of no meaning
CELLS, IN_CELL = _GRID * _GRID, 3 * _IN_CELLS
LAYOUT = CELLS * _ANGLES  # numbers of the layout, at the front of a descriptor
BY_CELL = CELLS * IN_CELL  # numbers that follow it, those of a cell together


def describe(fitted: Pixels) -> Floats:
    """Returns the descriptor of a photograph, (D,) float32: `LAYOUT` numbers, `BY_CELL` of cells, the rest of texture.

    Args:
        fitted: (C, H, W) uint8 with C of 1 or 3, H and W of any size; D is 386 for one channel and 390 for three.
    """
    if len(fitted) == 1 or (np.array_equal(fitted[0], fitted[1]) and np.array_equal(fitted[1], fitted[2])):
        grey = _at_side(fitted[0])
        colour = [math.log(_FLOOR)] * 4 if len(fitted) == 3 else []
    else:
        red, green, blue = (_at_side(plane) for plane in fitted)
        grey = 0.299 * red + 0.587 * green + 0.114 * blue
        colour = [math.log(one + _FLOOR) for difference in (red - grey, blue - grey) for one in _size_of(difference)]
    return np.concatenate([_layout(grey), _texture(grey), colour]).astype(np.float32)


def jittered(fitted: Pixels, random: np.random.Generator) -> Pixels:
    """Returns a photograph (C, H, W) as the next camera might have taken it: moved, turned and lit a little otherwise.

    At most 4 degrees, 4 % of each side, 3 % of size and 25 % of brightness.
    """
    height, width = fitted.shape[1:]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), random.uniform(-4, 4), random.uniform(0.97, 1.03))
    turn[:, 2] += random.uniform(-0.04, 0.04, 2) * (width, height)
    light = float(random.uniform(0.8, 1.25))
    planes = [cv2.warpAffine(plane, turn, (width, height), borderMode=cv2.BORDER_REFLECT_101) for plane in fitted]
    return np.stack([cv2.convertScaleAbs(plane, alpha=light) for plane in planes]).astype(np.uint8, copy=False)


def _at_side(plane: Pixels) -> Floats:
    small = cv2.resize(np.ascontiguousarray(plane), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.float32)


def _size_of(values: Floats) -> tuple[float, float]:
    return float(np.abs(values).mean()), float(values.std())


def _layout(grey: Floats) -> npt.NDArray[np.float64]:
    """Returns a histogram of directions for each cell, gradients shared out between the two nearest directions."""
    side = SIDE // 2
    small = cv2.resize(grey, (side, side), interpolation=cv2.INTER_AREA)
    small = (small - small.mean()) / (small.std() + 4)
    across = cv2.Sobel(small, cv2.CV_32F, 1, 0, scale=0.125)
    down = cv2.Sobel(small, cv2.CV_32F, 0, 1, scale=0.125)
    strength, angle = cv2.cartToPolar(across, down)
    place = angle * (_ANGLES / math.pi)
    lower = np.floor(place)
    share = strength * (place - lower)
    first = lower.astype(np.int64) % _ANGLES
    cells = _cells(side)
    made = np.bincount((cells + first).ravel(), (strength - share).ravel(), LAYOUT)
    made += np.bincount((cells + (first + 1) % _ANGLES).ravel(), share.ravel(), LAYOUT)
    return np.sqrt(np.maximum(made, 0) * (_GRID * _GRID / side**2))


def _cells(side: int) -> npt.NDArray[np.int64]:
    number = np.arange(side) * _GRID // side
    return (number[:, None] * _GRID + number) * _ANGLES


def _texture(grey: Floats) -> npt.NDArray[np.float64]:
    """Returns the numbers of the cells, then those of the whole."""
    made: list[npt.NDArray[np.floating]] = []
    by_cell: list[npt.NDArray[np.floating]] = []
    for scale in range(_SCALES):
        grey, bands = _haar(grey)
        if scale < _IN_CELLS:
            side = bands.shape[-1] // _GRID
            parts = bands.reshape(3, _GRID, side, _GRID, side).mean((2, 4)).reshape(3, CELLS)
            by_cell.append(np.log(parts + _FLOOR))
        mean = np.log(bands.mean((1, 2)) + _FLOOR)
        power = np.log(np.sqrt((bands * bands).mean((1, 2))) + _FLOOR)
        made += [mean, power - mean]
        if scale < _AGAIN:
            while bands.shape[-1] > SIDE // 8:
                bands = _halved(bands)
            for _ in range(2):
                bands, again = _haar(bands)
                made += [np.log(again[part].mean((1, 2)) + _FLOOR) - mean for part in (0, 1)]
    return np.concatenate([np.concatenate(by_cell).T.ravel(), *made]).astype(np.float64)


def _haar(values: Floats) -> tuple[Floats, Floats]:
    """Returns (..., h/2, w/2) averages and the moduli (3, ..., h/2, w/2) of differences down, across and diagonal."""
    a, b = values[..., 0::2, 0::2], values[..., 0::2, 1::2]
    c, d = values[..., 1::2, 0::2], values[..., 1::2, 1::2]
    above, below, left, right = a + b, c + d, a - b, c - d
    bands = np.stack([above - below, left + right, left - right])
    return (above + below) * np.float32(0.25), np.abs(bands) * np.float32(0.25)


def _halved(values: Floats) -> Floats:
    return np.asarray(
        (values[..., 0::2, 0::2] + values[..., 0::2, 1::2] + values[..., 1::2, 0::2] + values[..., 1::2, 1::2])
        * np.float32(0.25)
    )
