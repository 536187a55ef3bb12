"""Soft random fields and edges, the material that every layer is made of."""

from __future__ import annotations

import cv2
import numpy as np

from knowngood.lookalike.lots import Lot, Machine
from knowngood.lookalike.scene import F32, U8, Box, Frame


def field(rng: np.random.Generator, height: int, width: int, rows: int, columns: int) -> F32:
    """Returns a smooth random field with about unit variance.

    Args:
        rng: Stream of the layer.
        height: Of the field, pixels.
        width: Of the field, pixels.
        rows: Number of independent values down the field.
        columns: Number of independent values across it.

    Returns:
        (height, width) float32.
    """
    coarse = rng.standard_normal((max(rows, 1), max(columns, 1)), dtype=np.float32)
    if (rows, columns) == (height, width):
        return coarse
    if 8 * rows < height and 8 * columns < width:  # what is so soft may be cubic at a quarter and linear from there
        coarse = cv2.resize(coarse, (width // 4, height // 4), interpolation=cv2.INTER_CUBIC)
        return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.float32)


def grain(rng: np.random.Generator, height: int, width: int, size: float = 1.0) -> F32:
    """Returns a random field whose grains are `size` pixels wide; (height, width) float32, unit variance at 1."""
    return field(rng, height, width, max(2, round(height / size)), max(2, round(width / size)))


def streaks(rng: np.random.Generator, height: int, width: int, length: float) -> F32:
    """Returns a line scan's traces: each row its own, `length` pixels long; (height, width) float32, unit variance."""
    coarse = rng.standard_normal((height, max(2, round(width / length))), dtype=np.float32) * np.float32(1.22)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


def box_alpha(frame: Frame, box: Box, at: tuple[slice, slice], soft: float = 1.0, rounding: float = 0.0) -> F32:
    """Returns how much of each pixel a box of a frame covers.

    Args:
        frame: The frame of `box`.
        box: In that frame's pixels.
        at: Rows and columns of the image to answer for.
        soft: Width of the edge, pixels.
        rounding: Radius of the corners, pixels.

    Returns:
        float32 in [0, 1].
    """
    u, v = frame.grid
    x0, y0, x1, y1 = box
    dx = np.abs(u[at] - np.float32((x0 + x1) / 2)) - np.float32((x1 - x0) / 2)
    dy = np.abs(v[at] - np.float32((y0 + y1) / 2)) - np.float32((y1 - y0) / 2)
    outside = np.maximum(dx, dy)
    if rounding:
        dx, dy = dx + np.float32(rounding), dy + np.float32(rounding)
        corner = np.hypot(np.maximum(dx, 0), np.maximum(dy, 0)) - np.float32(rounding)
        outside = np.maximum(corner, outside)
    return np.asarray(np.clip(np.float32(0.5) - outside / np.float32(soft), 0, 1), np.float32)


def profile(position: F32, stops: tuple[tuple[float, float], ...], reach: tuple[float, float]) -> F32:
    """Looks grey levels up along one direction.

    Args:
        position: Where each pixel lies along it.
        stops: (position, level), positions rising.
        reach: Positions from and to which the table is made.

    Returns:
        Levels, float32, shape of `position`.
    """
    low, high = reach
    steps = max(256, round((high - low) * 4))
    places, levels = zip(*stops, strict=True)
    ramp = np.interp(np.linspace(low, high, steps), places, levels).astype(np.float32)
    index = (position - np.float32(low)) * np.float32((steps - 1) / (high - low))
    return np.asarray(ramp[np.clip(index, 0, steps - 1).astype(np.int32)], np.float32)


_WELL = 320.0  # grey levels at which the sensor itself stops counting, before bloom
_REACH = 0.8  # pixels that a scan line may lie beside its place, at most
_BLACK = 16.0  # black level: no light still reads so much


def light_field(height: int, width: int, lot: Lot, machine: Machine, rng: np.random.Generator) -> F32:
    """Returns how strongly each place is lit.

    Args:
        height: Of the picture, pixels.
        width: Of the picture, pixels.
        lot: Gives brightness.
        machine: Gives gain, direction and unevenness.
        rng: Stream of the layer.

    Returns:
        (height, width) float32 around 1.
    """
    xs = np.linspace(-1, 1, width, dtype=np.float32)
    ys = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    across = xs * np.float32(np.cos(machine.light) * machine.uneven) - xs * xs * np.float32(0.035)
    down = ys * np.float32(np.sin(machine.light) * machine.uneven) - ys * ys * np.float32(0.035)
    light = field(rng, height, width, 3, 3) * np.float32(0.02)
    level = lot.brightness * machine.gain * float(np.exp(rng.normal(0, 0.035)))
    light += across
    light += 1 + down
    light *= np.float32(level)
    return light


def expose(scene: F32, light: F32, machine: Machine, focus: float = 1.0) -> F32:
    """Returns what the lens throws on the sensor, without noise; the same for a unit and its twin.

    Args:
        scene: (H, W) float32 grey levels before the camera.
        light: (H, W) float32.
        machine: Gives the blur.
        focus: Times the machine's blur.

    Returns:
        (H, W) float32; may pass 255.
    """
    lit = np.minimum((scene - np.float32(_BLACK)) * light + np.float32(_BLACK), np.float32(_WELL))
    sharp = cv2.GaussianBlur(lit, (0, 0), machine.blur * focus)
    small = cv2.resize(np.maximum(sharp - 200, 0), None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    glow = cv2.GaussianBlur(small, (0, 0), 1.6)
    bloom = cv2.resize(glow, (scene.shape[1], scene.shape[0]), interpolation=cv2.INTER_LINEAR)
    return np.asarray(sharp + bloom * np.float32(0.22), np.float32)


def line_jitter(height: int, width: int, rng: np.random.Generator, scan: float) -> F32:
    """Returns how far each place of each scan line lies beside its own place, pixels.

    Args:
        height: Of the picture, pixels.
        width: Of the picture, pixels.
        rng: Stream of the camera.
        scan: How strongly the lines show, 1 = as on the diodes.

    Returns:
        (height, width) float32 in [-0.8, 0.8].
    """
    rows = rng.standard_normal((height, 1), dtype=np.float32) * np.float32(0.10)
    jitter = (rows + streaks(rng, height, width, 9) * np.float32(0.20)) * np.float32(scan)
    return np.clip(jitter, -_REACH, _REACH)


def scanned(exposed: F32, jitter: F32) -> F32:
    """Returns the picture as scan lines that do not quite lie below each other: edges fray sideways.

    Args:
        exposed: (H, W) float32 from `expose`.
        jitter: (H, W) float32 from `line_jitter`; the same for a unit and its twin.

    Returns:
        (H, W) float32; each pixel lies between itself and a neighbour in its row.
    """
    result = exposed.copy()
    step = exposed[:, 1:] - exposed[:, :-1]
    result[:, :-1] += np.maximum(jitter[:, :-1], 0) * step
    result[:, 1:] += np.minimum(jitter[:, 1:], 0) * step
    return result


def read_out(exposed: F32, noise: F32, machine: Machine) -> U8:
    """Returns the picture: noise that grows with the signal, dead pixels, 8 bits.

    Args:
        exposed: (H, W) float32 from `expose`.
        noise: (H, W) float32, standard normal; the same draw for a unit and its twin.
        machine: Gives noise and dead pixels.

    Returns:
        (H, W) uint8.
    """
    height, width = exposed.shape
    sigma = np.float32(machine.noise) * np.sqrt(np.float32(0.55) + np.maximum(exposed, 0) * np.float32(0.45 / 50))
    picture = np.clip(np.rint(exposed + noise * sigma), 0, 255).astype(np.uint8)
    for row, column, level in machine.dead:
        at = int(row * (height - 1)), int(column * (width - 1))
        picture[at] = np.uint8(level * 140)
    return np.asarray(picture, np.uint8)


def sensor_noise(height: int, width: int, rng: np.random.Generator, softness: tuple[float, float]) -> F32:
    """Returns noise of unit variance that neighbours share, as cameras and resampling leave it.

    Args:
        height: Of the picture, pixels.
        width: Of the picture, pixels.
        rng: Stream of the layer.
        softness: Sigma of what neighbours share, across and down, pixels.

    Returns:
        (height, width) float32.
    """
    noise = rng.standard_normal((height, width), dtype=np.float32)
    kernels = [cv2.getGaussianKernel(5, sigma) for sigma in softness]
    kernels = [kernel / np.linalg.norm(kernel) for kernel in kernels]
    return np.asarray(cv2.sepFilter2D(noise, cv2.CV_32F, *kernels), np.float32)
