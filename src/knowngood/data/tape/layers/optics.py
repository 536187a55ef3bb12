"""From the scene to the camera: uneven dark-field light, soft focus, bloom, line jitter, noise, dead pixels, 8 bits."""

from __future__ import annotations

import cv2
import numpy as np

from knowngood.data.tape.lots import Lot, Machine
from knowngood.data.tape.scene import F32, U8
from knowngood.data.tape.texture import field, streaks

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
