"""From the scene to the camera: uneven dark-field light, soft focus, bloom, gain, noise, dead pixels, 8 bits."""

from __future__ import annotations

import cv2
import numpy as np

from knowngood.data.tape.lots import Lot, Machine
from knowngood.data.tape.scene import F32, U8
from knowngood.data.tape.texture import field

_WELL = 320.0  # grey levels at which the sensor itself stops counting, before bloom
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
    slope = np.float32(np.cos(machine.light)) * xs + np.float32(np.sin(machine.light)) * ys
    vignette = (xs * xs + ys * ys) * np.float32(-0.035)
    wander = field(rng, height, width, 3, 3) * np.float32(0.02)
    level = lot.brightness * machine.gain * float(np.exp(rng.normal(0, 0.035)))
    return (1 + slope * np.float32(machine.uneven) + vignette + wander) * np.float32(level)


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


def sensor_noise(height: int, width: int, rng: np.random.Generator) -> F32:
    """Returns (height, width) float32, standard normal."""
    return rng.standard_normal((height, width), dtype=np.float32)
