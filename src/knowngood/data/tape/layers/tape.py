"""The carrier tape: dark bands above and below the pocket, bright edges between, and the grain of the plastic."""

from __future__ import annotations

import numpy as np

from knowngood.data.tape.scene import F32, Scene
from knowngood.data.tape.texture import field, grain, profile, streaks

Stops = tuple[tuple[float, float], ...]


def draw_tape(scene: Scene, stops: Stops, bow: float, reach: float, rng: np.random.Generator) -> None:
    """Fills the picture with the tape's levels along its width, bowed, with plastic's grain.

    Args:
        scene: To draw on.
        stops: (v in the pocket's frame, grey level), rising.
        bow: Share by which the edges draw near at 100 pixels from the middle.
        reach: How far up and down the stops are looked up.
        rng: Stream of the layer.
    """
    u, v = scene.pocket.grid
    waver = field(rng, 1, scene.width, 1, 7) * np.float32(0.3)
    position = v * (1 + np.float32(bow) * np.square(u / np.float32(100))) + waver
    scene.image = profile(position, stops, (-reach, reach))
    shine = field(rng, 1, scene.width, 1, 22) * np.float32(0.13)
    scene.image += np.maximum(scene.image - np.float32(46), 0) * shine
    scene.image += plastic(scene, rng)


def plastic(scene: Scene, rng: np.random.Generator) -> F32:
    """Returns the fine grain of the moulded plastic: clouds, scan lines and grains, (H, W) float32."""
    height, width = scene.height, scene.width
    result = field(rng, height, width, 6, 6) * np.float32(1.5)
    result += grain(rng, height, width, 2.2) * np.float32(1.1)
    result += rng.standard_normal((height, 1), dtype=np.float32) * np.float32(0.4)
    result += streaks(rng, height, width, 22) * np.float32(0.9 * scene.scan)
    return result


def draw_crackle(scene: Scene, strength: float, rng: np.random.Generator) -> None:
    """Draws the dark scales that some floors show: the borders of a jittered lattice of cells.

    Args:
        scene: To draw on.
        strength: Grey levels that a crack is darker.
        rng: Stream of the layer.
    """
    u, v = scene.pocket.grid
    pitch = np.float32(rng.uniform(13, 19))
    warp = grain(rng, scene.height, scene.width, 9) * np.float32(3.2)
    row = (v + warp) / (pitch * np.float32(0.9))
    index = np.floor(row)
    jitter = np.mod(np.sin(index * np.float32(12.9898)) * np.float32(437.585), 1)
    column = (u - warp) / (pitch * np.float32(1.7)) + jitter * np.float32(3)
    horizontal = np.abs(row - index - np.float32(0.5))
    vertical = np.abs(column - np.floor(column) - np.float32(0.5))
    crack = np.clip((horizontal - np.float32(0.44)) * np.float32(16), 0, 1)
    crack = np.maximum(crack, np.clip((vertical - np.float32(0.465)) * np.float32(28), 0, 1))
    patchy = np.clip(field(rng, scene.height, scene.width, 12, 12) + np.float32(0.7), 0, 1.2)
    scene.image -= crack * patchy * np.float32(strength)
