"""Five parallel laser lines that mark a diode's cathode."""

from __future__ import annotations

import numpy as np

from knowngood.data.tape.scene import F32, Box, Scene
from knowngood.data.tape.texture import field, grain, streaks


def cathode_lines(
    scene: Scene, band: Box, count: int, thickness: float, rng: np.random.Generator
) -> tuple[tuple[slice, slice], F32]:
    """Returns where the lines lie and what they add.

    Args:
        scene: Gives the part's frame and the lot's level.
        band: From the first line's middle to the last one's, in the part's frame.
        count: Number of lines.
        thickness: Of a line, pixels.
        rng: Stream of the layer.

    Returns:
        Rows and columns of the image, and grey levels to add there, float32.
    """
    x0, y0, x1, y1 = band
    at = scene.part.window(band, 3)
    u, v = scene.part.grid
    height, width = u[at].shape
    pitch = (y1 - y0) / (count - 1)
    over_left, over_right = rng.uniform(0.0, 3.0), rng.uniform(-1.0, 1.5)
    waver = field(rng, height, width, 2, 5) * np.float32(0.12)
    place = (v[at] + waver - np.float32(y0)) / np.float32(pitch)
    nearest = np.clip(np.round(place), 0, count - 1)
    distance = np.abs(place - nearest) * np.float32(pitch)
    rough = grain(rng, height, width, 1.4) * np.float32(0.16) + streaks(rng, height, width, 6) * np.float32(0.12)
    lines = np.clip(np.float32(thickness / 2 + 0.5) + rough - distance, 0, 1)
    ends = np.clip(u[at] - np.float32(x0 - over_left), 0, 1) * np.clip(np.float32(x1 + over_right) - u[at], 0, 1)
    strength = rng.uniform(0.85, 1.1, count).astype(np.float32)[nearest.astype(np.int32)]
    beads = 1 + np.float32(0.22) * streaks(rng, height, width, 3) + np.float32(0.14) * streaks(rng, height, width, 11)
    haze = np.clip(1 - np.maximum(np.maximum(np.float32(y0) - v[at], v[at] - np.float32(y1)), 0) / 3, 0, 1)
    level = np.float32(scene.lot.line_level)
    return at, (lines * strength * beads + haze * np.float32(0.10)) * ends * level
