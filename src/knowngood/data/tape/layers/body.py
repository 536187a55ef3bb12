"""The moulded body: a flat dark plate, a pale thin outline that comes and goes, and a ghost of its lower edge."""

from __future__ import annotations

import numpy as np

from knowngood.data.tape.scene import F32, Box, Scene
from knowngood.data.tape.texture import box_alpha, field, grain


def draw_body(scene: Scene, level: float, rng: np.random.Generator) -> None:
    """Covers the floor with the body.

    Args:
        scene: To draw on; its `body` says where.
        level: Grey level of the mould compound.
        rng: Stream of the layer.
    """
    x0, y0, x1, y1 = scene.body
    ghost_at = (
        x0 - 3.0,
        y0 + float(rng.uniform(-1.5, 1.5)),
        x1 + float(rng.uniform(4, 7)),
        y1 + float(rng.uniform(1, 3)),
    )
    at = scene.part.window((x0 - 8, y0 - 8, x1 + 8, y1 + 8))
    height, width = scene.image[at].shape
    wander = field(rng, height, width, 7, 9)
    if scene.lot.double_edge:
        edge = _outline(scene, ghost_at, at, 1.0) * np.clip(wander * 0.5 + 0.3, 0, 1)
        scene.image[at] += edge * np.float32(scene.lot.outline * 0.8)
    scene.image[at] += _flash(scene, at, wander, rng)
    alpha = box_alpha(scene.part, scene.body, at, 1.2)
    surface = np.float32(level) + field(rng, height, width, 4, 6) * np.float32(0.9)
    surface += grain(rng, height, width, 1.8) * np.float32(1.2)
    surface += rng.standard_normal((height, 1), dtype=np.float32) * np.float32(0.45)
    scene.image[at] += (surface - scene.image[at]) * alpha
    flash = np.clip(wander - np.float32(0.4), 0, 1) * np.float32(0.5)
    breaks = np.clip(np.float32(0.75) + np.float32(0.35) * field(rng, height, width, 9, 16) + flash, 0.1, 1.6)
    sides = _side_weights(scene, at, rng)
    scene.image[at] += _outline(scene, scene.body, at, 1.0) * breaks * sides * np.float32(scene.lot.outline)


def _flash(scene: Scene, at: tuple[slice, slice], wander: F32, rng: np.random.Generator) -> F32:
    """Thin ragged film of mould compound that sticks out along the long edges."""
    u, v = scene.part.grid
    x0, y0, x1, y1 = scene.body
    width = wander.shape[1]
    ragged = field(rng, 1, width, 1, max(4, width // 6)) * np.float32(1.3) + np.float32(2.2)
    beyond = np.maximum(np.float32(y0) - v[at], v[at] - np.float32(y1))
    film = np.clip(ragged - beyond, 0, 1) * ((u[at] > x0) & (u[at] < x1 + 3))
    return np.asarray(film * np.clip(wander, 0, 1.5) * np.float32(9), np.float32)


def _outline(scene: Scene, box: Box, at: tuple[slice, slice], width: float) -> F32:
    u, v = scene.part.grid
    x0, y0, x1, y1 = box
    dx = np.abs(u[at] - np.float32((x0 + x1) / 2)) - np.float32((x1 - x0) / 2)
    dy = np.abs(v[at] - np.float32((y0 + y1) / 2)) - np.float32((y1 - y0) / 2)
    return np.asarray(np.clip(np.float32(0.5 + width / 2) - np.abs(np.maximum(dx, dy)), 0, 1), np.float32)


def _side_weights(scene: Scene, at: tuple[slice, slice], rng: np.random.Generator) -> F32:
    """The light comes from the sides, so left and right edges shine more than the long ones."""
    u, v = scene.part.grid
    x0, y0, x1, y1 = scene.body
    left, right, top, bottom = rng.uniform([0.7, 0.7, 0.3, 0.2], [1.3, 1.3, 1.0, 0.8])
    x, y = u[at], v[at]
    weights = np.where(y < (y0 + y1) / 2, np.float32(top), np.float32(bottom))
    weights = np.where(x < x0 + 2, np.float32(left), weights)
    return np.where(x > x1 - 2, np.float32(right), weights)
